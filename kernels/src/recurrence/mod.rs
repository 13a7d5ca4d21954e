//! Passes over time: in each step products with packed weights, whose sums a cell turns
//! into states while they are at hand. Knows steps, rows, groups of units and threads;
//! must not know a cell's equations: a cell says what its [`Step`] is and which are the
//! [`Steps`] of its passes.

mod sweep;

use crate::fetch::Fetches;
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::simd::Simd;
use crate::team::Phases;
use crate::tile;
pub(crate) use sweep::Row;
use sweep::{Pack, Sweep};

/// The most sums that a unit has.
pub(crate) const MOST_SUMS: usize = 4;
/// The most products of a step.
const MOST_TERMS: usize = 2;

/// A product of a step.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// The left operand: for each row of the batch one of the weights' depth.
    pub rows: *const f32,
    pub weights: &'a PackedMatrix,
}

/// The products of a step, in the order in which they are summed.
pub(crate) type Terms<'a> = [Option<Term<'a>>; MOST_TERMS];

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

/// One step over some rows, as pointers that have been checked.
pub(crate) trait Step: Copy {
    /// Sums of a unit; a divisor of [`tile::GROUP`].
    const SUMS: usize;

    fn batch(&self) -> usize;
    /// The weights whose outputs are swept; they are [`SUMS`](Self::SUMS) for each unit.
    fn weights(&self) -> &PackedMatrix;
    /// The products, with weights of the same outputs; without one the sums are what they
    /// start from.
    fn terms(&self) -> Terms<'_>;
    /// Where the sums start, or zero.
    fn origin(&self) -> Option<Origin>;
    /// Room for the left operands, packed: one after the other, each [`left::len`] long.
    fn scratch(&self) -> *mut f32;
    /// What to fetch of the rows from `row` in these columns.
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches;
    /// The step of some of the rows. Its scratch begins where that of the rows before
    /// ends.
    fn rows(self, row: usize, rows: usize) -> Self;

    /// Makes of the sums of some units what the cell makes of them.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind, of which the units are some.
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, sums: [S::V; MOST_SUMS]);
}

/// The steps of a pass, in the order in which they are taken.
pub(crate) trait Steps: Sync {
    type Step: Step;

    fn count(&self) -> usize;
    fn step(&self, index: usize) -> Self::Step;
}

/// A checked pass. Either parts of the batch go through all steps each on its own, or in
/// each step the left operands are packed, in parts, and then the groups of units are
/// swept.
pub(crate) struct Passage<T> {
    pub steps: T,
    /// Parts of the batch, or 0: see [`parts`].
    pub parts: usize,
}

impl<T: Steps> Phases for Passage<T> {
    fn phases(&self) -> usize {
        let steps = self.steps.count();
        if self.parts > 0 { steps.min(1) } else { 2 * steps }
    }

    fn tasks(&self, phase: usize) -> usize {
        if self.parts > 0 {
            return self.parts;
        }
        let step = self.steps.step(phase / 2);
        if phase.is_multiple_of(2) { packing(&step) } else { step.weights().groups() }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 4 == 3
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, phase: usize, task: usize) {
        if self.parts == 0 {
            let step = &self.steps.step(phase / 2);
            if phase.is_multiple_of(2) {
                s.call(Pack { step, part: task });
            } else {
                sweep(s, step, task, self.backwards(phase));
            }
            return;
        }
        for index in 0..self.steps.count() {
            let step = self.steps.step(index);
            let (row, rows) = tile::cut(step.batch(), self.parts, task);
            let step = &step.rows(row, rows);
            for part in 0..packing(step) {
                s.call(Pack { step, part });
            }
            let (groups, backwards) = (step.weights().groups(), index % 2 == 1);
            for group in 0..groups {
                let group = if backwards { groups - 1 - group } else { group };
                sweep(s, step, group, backwards);
            }
        }
    }
}

/// Tasks of packing a step's left operands. A single row lies as it would be packed.
#[inline(always)]
fn packing(step: &impl Step) -> usize {
    let any = step.terms().iter().any(Option::is_some);
    if any { left::batch_parts(step.batch()) } else { 0 }
}

/// The sums of one group of units, and what becomes of them.
#[inline(always)]
fn sweep<S: Simd, T: Step>(s: S, step: &T, group: usize, backwards: bool) {
    if step.batch() == 1 {
        s.call(Row { step, group, backwards });
    } else {
        s.call(Sweep { step, group, backwards });
    }
}

/// Bytes of weights up to which a core keeps them in its own cache over the steps.
const OWN_CACHE: usize = 1 << 20;
/// Rows below which a thread's tiles are too flat to be fast.
const OWN_ROWS: usize = 6;
/// Multiply-adds that take about as long as threads take to meet.
const WORTH_MEETING: usize = 1 << 17;

/// In how many parts the batch goes through all steps, each part on its own: rows do not
/// know of each other, so threads that split them meet once, not in every step. 0 where
/// the units of each step are split instead: all threads then read a part of the weights
/// each, where splitting rows has each read them all.
#[inline]
pub(crate) fn parts(threads: usize, steps: usize, batch: usize, weights: &PackedMatrix) -> usize {
    if threads == 1 {
        return 1;
    }
    let step = batch * weights.row_terms();
    let rows_alone = batch >= threads * OWN_ROWS && weights.bytes() <= OWN_CACHE;
    match rows_alone {
        true if step.saturating_mul(steps) >= WORTH_MEETING => threads,
        false if step >= WORTH_MEETING => 0,
        _ => 1,
    }
}
