//! The sums of one group of columns for a block of rows, on the stack. A recurrent step keeps
//! its pre-activations here between the product and the cell; a product keeps its sums here
//! between two blocks of depth. Knows rows and vectors; must not know what the sums mean.

#[cfg(test)]
mod tests;

use crate::gemm::layout::{GROUP, PANEL, ROW_BLOCK};
use crate::gemm::tile::Grid;
use crate::rows::RowsMut;
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Room for the sums, as vectors `[panel][row][2]`.
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

    /// Returns vector `vec` of row `row`.
    ///
    /// # Safety
    /// `row < ROW_BLOCK`, `vec < GROUP`, and this vector has been written.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, row: usize, vec: usize) -> V {
        // SAFETY: row and vec are in range, so the vector lies in the array; it has been written.
        unsafe { *self.sums.as_ptr().cast::<V>().add(Self::at(row, vec)) }
    }

    /// Returns the address of vector `vec` of row `row`, as floats.
    ///
    /// # Safety
    /// `row < ROW_BLOCK` and `vec < GROUP`.
    #[inline(always)]
    pub(crate) unsafe fn place(&mut self, row: usize, vec: usize) -> *mut f32 {
        // SAFETY: row and vec are in range, so the vector lies in the array.
        unsafe { self.sums.as_mut_ptr().cast::<V>().add(Self::at(row, vec)).cast() }
    }

    /// Returns the grid to which a group's product writes its sums, in whole vectors.
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

/// The scratch for vectors of the instruction set `S`.
pub(crate) type For<S> = Scratch<<S as Simd>::V>;
