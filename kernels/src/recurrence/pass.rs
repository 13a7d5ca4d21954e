//! The phases of a pass over time: its steps one after another, on one thread or on several. Knows
//! steps, stages and tasks; must not know what a step computes.

use super::dims::Recurrent;
use super::row::Row;
use super::schedule::StepRows;
use super::step::{Step, Steps};
use super::sweep::{Pack, Sweep};
use crate::cache::own_cache;
use crate::gemm::lhs;
use crate::gemm::rhs::PackedMatrix;
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tuning::{OWN_ROWS, STEP_WORTH_SPLITTING};
use std::ops::Range;

/// A pass that has been checked. Either each part of the batch goes through all steps on its own,
/// or each stage of each step has three phases: one packs the left operands, one sweeps the groups
/// of units, and one goes over rows.
pub(crate) struct StepPhases<T> {
    pub steps: T,
    /// The number of parts of the batch, or 0 if the units of each step are split instead: see
    /// [`parts`].
    pub parts: usize,
}

impl<T: Steps> StepPhases<T> {
    /// Phases of a step: in each stage one packs, one sweeps, and one goes over rows. A phase
    /// without tasks is empty.
    const PHASES: usize = if T::TWO { 6 } else { 3 };
}

// SAFETY: the numbers of phases and tasks follow from the steps, which do not change. A task writes
// its part of the packed operands, the units of its group, its row, or, where the batch is split,
// its own rows.
unsafe impl<T: Steps> Phases for StepPhases<T> {
    fn phases(&self) -> usize {
        let steps = self.steps.count();
        if self.parts > 0 { steps.min(1) } else { Self::PHASES * steps }
    }

    #[inline(always)]
    fn tasks(&self, phase: usize) -> usize {
        if self.parts > 0 {
            return self.parts;
        }
        let index = phase / Self::PHASES;
        match phase % Self::PHASES {
            part @ 0..3 => tasks(&self.steps.first(index), part),
            part => T::second(self.steps.first(index)).map_or(0, |step| tasks(&step, part - 3)),
        }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 3 == 1 && phase / Self::PHASES % 2 == 1
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, phase: usize, task: usize) {
        if self.parts == 0 {
            let index = phase / Self::PHASES;
            let at = PartTask { part: phase % 3, task, backwards: self.backwards(phase) };
            if phase % Self::PHASES < 3 {
                part(simd, &self.steps.first(index), at);
            } else if const { T::TWO }
                && let Some(step) = T::second(self.steps.first(index))
            {
                part(simd, &step, at);
            }
            return;
        }
        let mine = self.steps.part(self.parts, task);
        for index in 0..self.steps.count() {
            // Rows of this part that the step is for, which may be all, some or none.
            let rows = self.steps.rows(index);
            let (first, end) = (rows.first.max(mine.first), rows.end().min(mine.end()));
            if first >= end {
                continue;
            }
            let step = self.steps.first(index).rows(first - rows.first, end - first);
            whole(simd, &step, index % 2 == 1);
            if const { T::TWO }
                && let Some(second) = T::second(step)
            {
                whole(simd, &second, index % 2 == 1);
            }
        }
    }
}

/// Returns the number of tasks in part `part` of a stage: see [`PartTask::part`].
#[inline(always)]
fn tasks(step: &impl Step, part: usize) -> usize {
    match part {
        _ if step.batch() == 0 => 0,
        0 => packing(step),
        1 => step.weights().groups(),
        _ if step.ends_with_rows() => step.batch(),
        _ => 0,
    }
}

/// A task in one part of a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartTask {
    /// The part: 0 packs, 1 sweeps, and 2 goes over rows.
    pub part: usize,
    /// The number of the task in this part.
    pub task: usize,
    /// Whether the sweep goes from the last group to the first.
    pub backwards: bool,
}

/// Runs one task of a stage: packs a part of the left operands, sweeps a group, or ends a row.
#[inline(always)]
pub(super) fn part<S: Simd>(
    simd: S,
    step: &impl Step,
    PartTask { part, task, backwards }: PartTask,
) {
    match part {
        0 => simd.call(Pack { step, part: task }),
        1 => sweep(simd, step, task, backwards),
        _ => simd.call(End { step, row: task }),
    }
}

/// Runs a whole stage of a step on this thread.
#[inline(always)]
pub(super) fn whole<S: Simd>(simd: S, step: &impl Step, backwards: bool) {
    for part in 0..packing(step) {
        simd.call(Pack { step, part });
    }
    let groups = step.weights().groups();
    for group in 0..groups {
        let group = if backwards { groups - 1 - group } else { group };
        sweep(simd, step, group, backwards);
    }
    if step.ends_with_rows() {
        for row in 0..step.batch() {
            simd.call(End { step, row });
        }
    }
}

/// The kernel that ends a stage for one row: see [`Step::end_row`].
struct End<'a, T> {
    step: &'a T,
    row: usize,
}

impl<T: Step> Kernel for End<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.row < self.step.batch(), "a row of the batch");
        // SAFETY: the row is one of the batch; sweeps have finished its units, in the phase before
        // or in `whole`, and no other task has it.
        unsafe { self.step.end_row(simd, self.row) };
    }
}

/// Returns the number of tasks that pack the left operands of a step. A single row is not packed:
/// it already lies in memory as the kernels read it.
#[inline(always)]
pub(super) fn packing(step: &impl Step) -> usize {
    // A plain loop, since `any` is not always inlined.
    for index in 0..step.terms() {
        if step.term(index).is_some() {
            return lhs::batch_parts(step.batch());
        }
    }
    0
}

/// Sweeps one group of units: computes their sums, and finishes them.
#[inline(always)]
fn sweep<S: Simd, T: Step>(simd: S, step: &T, group: usize, backwards: bool) {
    if step.batch() == 1 {
        simd.call(Row { step, group, backwards });
    } else {
        simd.call(Sweep { step, group, backwards });
    }
}

/// Returns in how many parts the batch goes through all steps, each part on its own; with 1 part,
/// one thread does all.
///
/// Rows do not depend on each other, so threads that split the batch wait for each other once, and
/// not in every step. But each of them reads all weights, which its core keeps from step to step only if
/// they fit its own cache. So 0 is returned where the units of each step are to be split instead: then
/// each thread reads only a part of the weights.
#[inline]
pub(super) fn parts(
    threads: usize,
    schedule: StepRows<'_>,
    stretch: &Range<usize>,
    recurrent: &Recurrent<'_>,
) -> usize {
    if threads == 1 || stretch.is_empty() {
        return 1;
    }
    let steps = stretch.len();
    // The rows of a step, on average.
    let batch = match schedule.is_dense() {
        true => schedule.batch(),
        false => (schedule.start(stretch.end) - schedule.start(stretch.start)) / steps,
    };
    let all = || recurrent.weights.iter().chain(recurrent.second);
    // Unlike the lengths of slices, these numbers may be larger than a word of 32 bits.
    let sum = |sum: usize, part| sum.saturating_add(part);
    let step = batch.saturating_mul(all().map(PackedMatrix::row_terms).fold(0, sum));
    let bytes = all().map(PackedMatrix::bytes).fold(0, sum);
    let rows_alone = batch >= threads * OWN_ROWS && bytes <= own_cache();
    match rows_alone {
        true if step.saturating_mul(steps) >= STEP_WORTH_SPLITTING => threads,
        false if step >= STEP_WORTH_SPLITTING => 0,
        _ => 1,
    }
}
