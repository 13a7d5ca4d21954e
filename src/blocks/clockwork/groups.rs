//! What the passes, the streams and the packing of a clockwork share: how much memory the groups
//! need, and the product with the input at the steps at which a group moves. Knows groups and
//! steps; must not know states.

#[cfg(test)]
mod tests;

use crate::error::product;
use crate::{Error, Isa};
use bptt_kernels::cells::Activations;
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, Group, StepRows};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::tuning::{CHUNK_ROWS, ROWS_ALONE};
use bptt_kernels::{KernelError, PackedMatrix};
use std::ops::Range;
use std::sync::Arc;

/// The groups of a layer, the shortest period first, and what they have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clocked {
    pub groups: Arc<[Group]>,
    /// The non-linearity φ.
    pub activations: Activations,
    /// Features in a row of the input, I.
    pub input: usize,
    /// Units in all groups together, H.
    pub hidden: usize,
}

/// A group, and where its rows of U, its W and its biases lie in these parameters of the layer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub group: Group,
    pub u: Range<usize>,
    pub w: Range<usize>,
    pub b: Range<usize>,
}

/// The rows that a group reads at several moves, copied next to each other: rows of the input and
/// rows of the states. `T` is the memory for them, or its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered<T> {
    pub inputs: T,
    pub states: T,
}

/// Returns the number of floats in W: each group has a row for each of its units, over all units
/// from its own first unit on.
pub(super) fn recurrent_len(
    what: &'static str,
    groups: &[Group],
    hidden: usize,
) -> Result<usize, KernelError> {
    groups.iter().try_fold(0, |before: usize, group| {
        let len = bptt_kernels::checked_len(what, &[group.units, hidden - group.first])?;
        let end = before.checked_add(len).ok_or(KernelError::TooLarge { what })?;
        bptt_kernels::checked_len(what, &[end])
    })
}

/// Returns the most moves whose rows are gathered at once, for a group with this `period` in a pass
/// over `steps` steps.
fn most_gathered(steps: usize, batch: usize, period: usize) -> usize {
    (CHUNK_ROWS / batch).max(1).min(steps.div_ceil(period))
}

impl Clocked {
    /// Returns the clock of a pass that begins after `start` steps of the sequences.
    pub(super) fn at(&self, start: u64) -> Clock<'_> {
        Clock { groups: &self.groups, start }
    }

    /// Returns the groups in their order, with the places of their parameters.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let (input, hidden) = (self.input, self.hidden);
        let mut end = 0;
        self.groups.iter().map(move |&group| {
            let Group { units, first, .. } = group;
            let (start, b) = (end, first..first + units);
            end += units * (hidden - first);
            Place { group, u: b.start * input..b.end * input, w: start..end, b }
        })
    }

    /// Returns the most floats that a pass keeps: `[moves, B, units]` for each group. How often a
    /// group moves in a pass depends on the step at which the pass begins; this is the most for any
    /// beginning.
    pub(super) fn most_kept(&self, schedule: StepRows<'_>) -> Result<usize, Error> {
        let what = "the workspace";
        self.groups.iter().try_fold(0, |before: usize, group| {
            let moves = schedule.steps().div_ceil(group.period);
            let len = product(what, &[moves, schedule.batch(), group.units])?;
            before.checked_add(len).ok_or(Error::TooLarge { what })
        })
    }

    /// Returns the floats that a pass keeps if it begins after `start` steps of the sequences.
    pub(super) fn kept_len(&self, start: u64, schedule: StepRows<'_>) -> usize {
        let (clock, steps, batch) = (self.at(start), schedule.steps(), schedule.batch());
        let groups = self.groups.iter().enumerate();
        groups.map(|(at, group)| clock.moves(at, steps) * batch * group.units).sum()
    }

    /// Returns the multiply-adds of `rows` rows. As each group moves at only some steps, this is an
    /// average over the steps.
    pub(super) fn multiply_adds(&self, rows: usize) -> usize {
        let Self { input, hidden, .. } = *self;
        let row: f64 = self
            .groups
            .iter()
            .map(|group| {
                group.units as f64 * (input + hidden - group.first) as f64 / group.period as f64
            })
            .sum();
        // The conversion saturates at the largest `usize`.
        (row * rows as f64) as usize
    }

    /// Returns the floats of gathered inputs and of gathered states that passes over `schedule`
    /// need. A group that moves at every step needs none.
    pub(super) fn gathered(&self, schedule: StepRows<'_>) -> Result<Gathered<usize>, Error> {
        let Some(group) = self.groups.iter().find(|group| group.period > 1) else {
            return Ok(Gathered { inputs: 0, states: 0 });
        };
        let (steps, batch) = (schedule.steps(), schedule.batch());
        let moves = most_gathered(steps, batch, group.period);
        let len = |width| product("the workspace", &[moves, batch, width]);
        Ok(Gathered { inputs: len(self.input)?, states: len(self.hidden - group.first)? })
    }
}

/// Splits the `moves` of a group into runs whose rows are handled together. The rows of a run are
/// gathered, unless it is a single move or the group moves at every step: then they lie together
/// already. With `alone`, and a batch so large that gathering does not pay, each run is a single
/// move.
pub(super) fn runs(
    moves: Range<usize>,
    group: &Group,
    batch: usize,
    alone: bool,
) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
    let together = match group.period {
        1 => moves.len().max(1),
        _ if alone && batch >= ROWS_ALONE => 1,
        _ => (CHUNK_ROWS / batch).max(1),
    };
    let end = moves.end;
    moves.step_by(together).map(move |first| first..end.min(first + together))
}

/// Copies the rows that a group reads at these `moves`: `from` holds a block of rows for every
/// step, and `to` receives the blocks of the moves, one after the other.
pub(super) fn gather(
    clock: &Clock<'_>,
    group: usize,
    moves: Range<usize>,
    from: &[f32],
    to: &mut [f32],
) {
    let len = to.len() / moves.len();
    for (nth, to) in moves.zip(to.chunks_exact_mut(len)) {
        to.copy_from_slice(&from[clock.step_of(group, nth) * len..][..len]);
    }
}

/// The product of all groups with the input, in a stretch of a pass.
pub(super) struct InputProduct<'a> {
    pub isa: Isa,
    pub clock: Clock<'a>,
    /// The steps and sequences of the whole pass, for which `x` and `z` have room.
    pub schedule: StepRows<'a>,
    /// The steps to compute.
    pub stretch: Range<usize>,
    /// The input of all steps of the pass, `[τ, B, I]`.
    pub x: &'a [f32],
    /// b, `[H]`.
    pub bias: &'a [f32],
    /// Where the results go: `[moves, B, units]` for each group, one group after the other.
    pub z: &'a mut [f32],
    /// Memory for the inputs of moves that are gathered.
    pub gathered: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl InputProduct<'_> {
    /// Computes `z = b + U x` for each group at the steps at which it moves.
    pub(super) fn run<'w>(
        self,
        weights: impl Iterator<Item = &'w PackedMatrix>,
        threads: &mut Threads<'_>,
    ) -> Result<(), KernelError> {
        let Self { isa, clock, schedule, stretch, x, bias, gathered, scratch, .. } = self;
        let (steps, batch) = (schedule.steps(), schedule.batch());
        let mut rest = self.z;
        for ((at, group), weights) in clock.groups.iter().enumerate().zip(weights) {
            let (move_len, row) = (batch * group.units, batch * weights.depth());
            let (z, tail) = rest.split_at_mut(clock.moves(at, steps) * move_len);
            rest = tail;
            let bias = &bias[group.first..][..group.units];
            let moves = clock.moves(at, stretch.start)..clock.moves(at, stretch.end);
            for run in runs(moves, group, batch, true) {
                let first = clock.step_of(at, run.start);
                let a = if run.len() == 1 || group.period == 1 {
                    &x[first * row..][..run.len() * row]
                } else {
                    let gathered = &mut gathered[..run.len() * row];
                    gather(&clock, at, run.clone(), x, gathered);
                    gathered
                };
                let c = &mut z[run.start * move_len..run.end * move_len];
                let (rows, start, stride) = (run.len() * batch, Start::Bias(bias), group.units);
                Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, threads)?;
            }
        }
        Ok(())
    }
}
