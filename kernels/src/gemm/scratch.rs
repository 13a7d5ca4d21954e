//! The sums of one group of columns for a block of rows, on the stack: where a
//! recurrent step keeps its pre-activations between the product and the cell, and a
//! product its sums between two blocks of depth.

#[cfg(test)]
mod tests;

use crate::gemm::layout::{GROUP, PANEL, ROW_BLOCK};
use crate::gemm::tile::Grid;
use crate::rows::RowsMut;
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// `[panel][row][2]` vectors.
pub(crate) struct Scratch<V> {
    sums: MaybeUninit<[[[V; PANEL]; ROW_BLOCK]; GROUP / PANEL]>,
}

impl<V: Copy> Scratch<V> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { sums: MaybeUninit::uninit() }
    }

    #[inline(always)]
    fn at(row: usize, vec: usize) -> usize {
        debug_assert!(row < ROW_BLOCK && vec < GROUP);
        (vec / PANEL * ROW_BLOCK + row) * PANEL + vec % PANEL
    }

    /// # Safety
    /// `row < ROW_BLOCK`, `vec < GROUP`, and the place has been written.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, row: usize, vec: usize) -> V {
        // SAFETY: the place lies in the array, since row and vec do, and has been written.
        unsafe { *self.sums.as_ptr().cast::<V>().add(Self::at(row, vec)) }
    }

    /// A place, as floats.
    ///
    /// # Safety
    /// `row < ROW_BLOCK` and `vec < GROUP`.
    #[inline(always)]
    pub(crate) unsafe fn place(&mut self, row: usize, vec: usize) -> *mut f32 {
        // SAFETY: the place lies in the array, since row and vec do.
        unsafe { self.sums.as_mut_ptr().cast::<V>().add(Self::at(row, vec)).cast() }
    }

    /// The grid that a group's product fills, in whole vectors.
    #[inline(always)]
    pub(crate) fn grid(&mut self) -> Grid {
        let lanes = size_of::<V>() / size_of::<f32>();
        let mut offset = [0; GROUP];
        for vec in 0..GROUP {
            offset[vec] = Self::at(0, vec) * lanes;
        }
        let rows = RowsMut::new(self.sums.as_mut_ptr().cast(), PANEL * lanes);
        Grid { rows, offset, roomy: true }
    }
}

const _: () = assert!(cfg!(miri) || size_of::<Scratch<[f32; 16]>>() == 48 << 10);

/// Marks that a scratch is made for `S`'s vectors.
pub(crate) type For<S> = Scratch<<S as Simd>::V>;
