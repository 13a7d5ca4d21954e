//! The sums of one group of columns for a block of rows, on the stack: where a
//! recurrent step keeps its pre-activations between the product and the cell, and a
//! product its sums between two blocks of depth.

use crate::simd::Simd;
use crate::tile::{GROUP, Grid, PANEL, cut};
use std::mem::MaybeUninit;

/// Rows handled at a time: their sums (48 KiB at the most) stay close while the
/// panels of a group pass over them.
pub(crate) const ROWS: usize = 96;

/// `[panel][row][2]` vectors.
pub(crate) struct Scratch<V> {
    sums: MaybeUninit<[[[V; PANEL]; ROWS]; GROUP / PANEL]>,
}

impl<V: Copy> Scratch<V> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { sums: MaybeUninit::uninit() }
    }

    #[inline(always)]
    fn at(row: usize, vec: usize) -> usize {
        debug_assert!(row < ROWS && vec < GROUP);
        (vec / PANEL * ROWS + row) * PANEL + vec % PANEL
    }

    /// # Safety
    /// `row < ROWS`, `vec < GROUP`, and the place has been written.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, row: usize, vec: usize) -> V {
        // SAFETY: the place lies in the array and is initialised, says the caller.
        unsafe { *self.sums.as_ptr().cast::<V>().add(Self::at(row, vec)) }
    }

    /// A place, as floats.
    ///
    /// # Safety
    /// `row < ROWS` and `vec < GROUP`.
    #[inline(always)]
    pub(crate) unsafe fn place(&mut self, row: usize, vec: usize) -> *mut f32 {
        // SAFETY: the place lies in the array, says the caller.
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
        Grid { start: self.sums.as_mut_ptr().cast(), stride: PANEL * lanes, offset, roomy: true }
    }
}

/// The batch cut into blocks of at most [`ROWS`] rows of about equal height.
#[inline(always)]
pub(crate) fn row_blocks(batch: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = batch.div_ceil(ROWS);
    (0..blocks).map(move |block| row_block(batch, block))
}

/// One of them: its first row, and how many.
#[inline(always)]
pub(crate) fn row_block(batch: usize, block: usize) -> (usize, usize) {
    cut(batch, batch.div_ceil(ROWS), block)
}

const _: () = assert!(size_of::<Scratch<[f32; 16]>>() == 48 << 10);

/// Marks that a scratch is made for `S`'s vectors.
pub(crate) type For<S> = Scratch<<S as Simd>::V>;
