//! The interface between a pass over time and one of its steps: the products whose sums the pass
//! computes, and the methods that turn these sums into states. Knows rows and units; must not know
//! cells.

use crate::cells::MOST_SUMS;
use crate::gemm::layout::Span;
use crate::gemm::prefetch::Prefetches;
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::gemm::tile::Grid;
use crate::rows::Rows;
use crate::simd::Simd;

/// A product of a step: `rows` times `weights`.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// The left operand, one row for each sequence.
    pub rows: Rows,
    pub weights: &'a PackedMatrix,
}

/// Some units of one row, at most a vector of them.
#[derive(Clone, Copy)]
pub(crate) struct Units {
    pub row: usize,
    pub first: usize,
    /// Lanes of a vector that hold units.
    pub lanes: usize,
}

/// The units from `first` up to `end`, of `rows` rows from `row` on.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub row: usize,
    pub rows: usize,
    pub first: usize,
    pub end: usize,
}

/// One step, or one stage of a step, for some rows.
///
/// # Safety
/// For as long as it is used, an implementation promises, for the rows of its
/// [`batch`](Self::batch) and the units of its [`weights`](Self::weights):
///
/// 1. the weights of all terms are packed for the instruction set that the step runs on, with
///    [`SUMS`](Self::SUMS) outputs for each unit, at most [`MOST_SUMS`];
/// 2. the rows of each term are readable for the depth of its weights;
/// 3. the rows of [`start`](Self::start) are readable for the weights' outputs;
/// 4. the [`scratch`](Self::scratch) is writable for [`lhs_len`](crate::gemm::layout::lhs_len) of
///    the batch and the depth of each term, one after the other; a batch of one needs none;
/// 5. nothing that is read is written meanwhile, except by the step's own methods, and what these
///    write for the units or the row that they are handed is nobody else's: calls for different
///    units may run at the same time;
/// 6. [`rows`](Self::rows) keeps all of this for the rows that it is given, and steps for rows that
///    do not overlap share no scratch;
/// 7. batch, weights, terms and scratch are the same whenever they are asked for.
pub(crate) unsafe trait Step: Copy {
    /// Sums of each unit. A group has whole units.
    const SUMS: usize;
    /// Whether a batch of one with few units has a kernel of its own, in which the sums stay in
    /// registers. That kernel is compiled for each cell.
    const SHORT: bool = false;

    fn batch(&self) -> usize;
    /// The weights whose outputs are swept, with [`SUMS`](Self::SUMS) outputs for each unit.
    fn weights(&self) -> &PackedMatrix;
    /// The maximum number of products.
    fn terms(&self) -> usize;
    /// The products, in the order in which they are added. Without any, the sums are the values of
    /// [`start`](Self::start).
    fn term(&self, index: usize) -> Option<Term<'_>>;
    /// The values that the sums start from, in the order of the weights' outputs; `None` is zero.
    fn start(&self) -> Option<Rows>;
    /// Memory for the packed left operands.
    fn scratch(&self) -> *mut f32;
    /// Returns what to prefetch in these columns, for the rows from `row` on.
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches;

    /// Returns the step for `rows` rows of the batch, from `row` on.
    ///
    /// # Panics
    /// If they are not rows of the batch.
    fn rows(self, row: usize, rows: usize) -> Self;

    /// Hands the sums of some units to the cell, which computes their results.
    ///
    /// # Safety
    /// 1. The row is of the batch and the units are of the weights, at most a vector.
    /// 2. No call for any of them runs meanwhile.
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, sums: [S::V; MOST_SUMS]);

    /// Whether [`prepare`](Self::prepare) and [`complete`](Self::complete) have anything to do.
    #[inline(always)]
    fn is_noisy(&self) -> bool {
        false
    }

    /// Changes the sums of a block of units, one vector each, before the cell gets them.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), for the block; and the rows of the grid, from its first one on,
    /// have been filled with whole vectors, which may be read and written.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, _simd: S, _at: Block, _sums: Grid) {}

    /// Changes the results of the cell for a block of units.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), for the block, for all units of which `finish` has been called.
    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, _simd: S, _at: Block) {}

    /// Whether the stage ends with a kernel for each row, which needs all units of the row.
    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        false
    }

    /// Runs that kernel for a row.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), for all units of the row, for all of which `finish` has been
    /// called.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, _simd: S, _row: usize) {}
}

/// The steps of a pass, in the order in which they are taken. A step has one or two stages, each
/// with sweeps of its own; the second stage needs all units of the first.
///
/// # Safety
/// An implementation promises for each index below [`count`](Self::count):
///
/// 1. its steps keep the promises of [`Step`] while no other step is taken, and have the rows of
///    the batch that [`rows`](Self::rows) says;
/// 2. what a step or a stage reads of other steps or stages comes from those before it, and from
///    the same row.
pub(crate) unsafe trait Steps: Sync {
    type First: Step;
    type Second: Step;
    /// Whether steps have second stages.
    const TWO: bool;

    fn count(&self) -> usize;

    /// Returns the rows of the batch for which a step is.
    ///
    /// # Panics
    /// If `index` is not below the count.
    fn rows(&self, index: usize) -> Span;

    /// Returns the rows of part `part` of `parts` of the batch, each of which has about the same
    /// share of the work. The parts do not overlap, and together they are the whole batch.
    fn part(&self, parts: usize, part: usize) -> Span;

    /// Returns the first stage of a step.
    ///
    /// # Panics
    /// If `index` is not below the count.
    fn first(&self, index: usize) -> Self::First;

    /// Returns the second stage of a step, or of some of its rows; `None` if it has none.
    fn second(step: Self::First) -> Option<Self::Second>;
}
