//! What a pass over time knows of a step: the products whose sums it takes, and what becomes
//! of these. Knows rows and units; must not know cells.

use crate::cells::MOST_SUMS;
use crate::gemm::prefetch::Prefetches;
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::gemm::tile::Grid;
use crate::rows::Rows;
use crate::simd::Simd;

/// A product of a step.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// The left operand.
    pub rows: Rows,
    pub weights: &'a PackedMatrix,
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

/// One step over some rows.
///
/// # Safety
/// For as long as it is used an implementation promises, of the rows of its
/// [`batch`](Self::batch) and the units of its [`weights`](Self::weights):
///
/// 1. all terms' weights are packed for the instruction set that the step is taken on, with
///    [`SUMS`](Self::SUMS) outputs for each unit, at most [`MOST_SUMS`];
/// 2. the rows of each term are readable for its weights' depth;
/// 3. those of the [`start_of_sums`](Self::origin) are readable for the weights' outputs;
/// 4. the [`scratch`](Self::scratch) is writable for
///    [`lhs_len`](crate::gemm::layout::left_len) of the batch and the depth of each term, one after
///    the other; a batch of one needs none;
/// 5. nothing of what is read is written meanwhile, but by the step's own methods, and what
///    these write is, of the units or the row that they are handed, nobody else's: calls for
///    different units may run at a time;
/// 6. [`rows`](Self::rows) keeps all of this for the rows that it is given, and steps of rows
///    that do not meet share no scratch;
/// 7. batch, weights, terms and scratch are the same whenever they are asked for.
pub(crate) unsafe trait Step: Copy {
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
    /// The products, in the order in which they are summed; without one the sums are what
    /// they start from.
    fn term(&self, index: usize) -> Option<Term<'_>>;
    /// Where the sums start, laid out as the weights' outputs, or zero.
    fn start(&self) -> Option<Rows>;
    /// Room for the left operands, packed.
    fn scratch(&self) -> *mut f32;
    /// What to fetch of the rows from `row` in these columns.
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches;

    /// The step of some of the rows.
    ///
    /// # Panics
    /// Where they are not rows of the batch.
    fn rows(self, row: usize, rows: usize) -> Self;

    /// Makes of the sums of some units what the cell makes of them.
    ///
    /// # Safety
    /// 1. The row is of the batch and the units are of the weights, at most a vector.
    /// 2. No call for any of them runs meanwhile.
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, sums: [S::V; MOST_SUMS]);

    /// Whether there is something to be seen to before the cell and after it.
    #[inline(always)]
    fn is_noisy(&self) -> bool {
        false
    }

    /// Sees to the sums of a block of units, a vector each, before the cell has them.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), of the block; and the grid's rows, from its first, have
    /// been filled with whole vectors, which may be read and written.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, _simd: S, _at: Block, _sums: Grid) {}

    /// Sees to what the cell has made.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), of the block, and that has been called for it.
    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, _simd: S, _at: Block) {}

    /// Whether a stage ends with a kernel for each row, which needs all of its units.
    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        false
    }

    /// That kernel.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), of all units of a row, and that has been called for them.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, _simd: S, _row: usize) {}
}

/// The steps of a pass, in the order in which they are taken. A step has one stage or
/// two: sweeps of their own, of which the second needs all units of the first.
///
/// # Safety
/// An implementation promises of each index below [`count`](Self::count):
///
/// 1. its steps keep what [`Step`] asks while no other is taken, and all have one batch;
/// 2. what a step or stage reads of others are those before it, of the same row.
pub(crate) unsafe trait Steps: Sync {
    type First: Step;
    type Second: Step;
    /// Whether there are second stages.
    const TWO: bool;

    fn count(&self) -> usize;

    /// # Panics
    /// Where the index is not below the count.
    fn first(&self, index: usize) -> Self::First;

    /// The second stage of a step, or of some of its rows; nothing where it has none.
    fn second(step: Self::First) -> Option<Self::Second>;
}
