//! What a pass over time knows of a step: the products whose sums it takes, and what becomes
//! of these. Knows rows and units; must not know cells.

use crate::cells::MOST_SUMS;
use crate::fetch::Fetches;
use crate::pack::{Columns, PackedMatrix};
use crate::simd::Simd;
use crate::tile::Grid;

/// A product of a step.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// The left operand: for each row of the batch one of the weights' depth.
    pub rows: *const f32,
    /// Floats from one row to the next.
    pub stride: usize,
    pub weights: &'a PackedMatrix,
}

/// Where a step's sums start: for each row of the batch one laid out as the weights'
/// outputs.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub start: *const f32,
    /// Floats from one row to the next; 0 where all start from the same.
    pub stride: usize,
}

/// Some units of a row, a vector of them or less.
#[derive(Clone, Copy)]
pub(crate) struct Units {
    pub row: usize,
    pub first: usize,
    /// How many lanes are units.
    pub lanes: usize,
}

/// Some units, from the first to the end, of some rows.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub row: usize,
    pub rows: usize,
    pub first: usize,
    pub end: usize,
}

/// One step over some rows, as pointers that have been checked.
pub(crate) trait Step: Copy {
    /// Sums of a unit; a group has whole units.
    const SUMS: usize;
    /// Whether a batch of one with few units has a kernel of its own, where the sums stay in
    /// registers: that is code for each cell.
    const SHORT: bool = false;

    fn batch(&self) -> usize;
    /// The weights whose outputs are swept; they are [`SUMS`](Self::SUMS) for each unit.
    fn weights(&self) -> &PackedMatrix;
    /// The most products of a step.
    fn terms(&self) -> usize;
    /// The products, with weights of the same outputs, in the order in which they are
    /// summed; without one the sums are what they start from.
    fn term(&self, index: usize) -> Option<Term<'_>>;
    /// Where the sums start, or zero.
    fn origin(&self) -> Option<Origin>;
    /// Room for the left operands, packed: one after the other, each [`left_len`](crate::layout::left_len) long.
    fn scratch(&self) -> *mut f32;
    /// What to fetch of the rows from `row` in these columns.
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches;
    /// The step of some of the rows, with room that no others use.
    fn rows(self, row: usize, rows: usize) -> Self;

    /// Makes of the sums of some units what the cell makes of them.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind, of which the units are some.
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, sums: [S::V; MOST_SUMS]);

    /// Whether there is something to be seen to before the cell and after it.
    #[inline(always)]
    fn is_noisy(&self) -> bool {
        false
    }

    /// Sees to the sums of a block of units, a vector each, before the cell has them.
    #[inline(always)]
    fn prepare<S: Simd>(&self, _s: S, _at: Block, _sums: Grid) {}

    /// Sees to what the cell has made.
    #[inline(always)]
    fn complete<S: Simd>(&self, _s: S, _at: Block) {}

    /// Whether a stage ends with a kernel for each row, which needs all of its units.
    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        false
    }

    /// That kernel.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), of all units of a row.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, _s: S, _row: usize) {}
}

/// The steps of a pass, in the order in which they are taken. A step has one stage or
/// two: sweeps of their own, of which the second needs all units of the first.
pub(crate) trait Steps: Sync {
    type First: Step;
    type Second: Step;
    /// Whether there are second stages.
    const TWO: bool;

    fn count(&self) -> usize;
    fn first(&self, index: usize) -> Self::First;
    fn second(&self, index: usize) -> Option<Self::Second>;
}
