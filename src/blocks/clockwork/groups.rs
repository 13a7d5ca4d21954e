//! What the passes, the streams and the packing of a clockwork share: how much memory the groups
//! need, and the product with the input at the steps at which a group moves. Knows groups and
//! steps; must not know states.

#[cfg(test)]
mod tests;

use super::moves::{Moves, most_together};
use crate::error::product;
use crate::{Error, Isa};
use bptt_kernels::cells::Activation;
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, Group, MoveRows};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{KernelError, PackedMatrix};
use std::ops::Range;
use std::sync::Arc;

/// The groups of a layer, the shortest period first, and what they have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clocked {
    pub groups: Arc<[Group]>,
    /// The non-linearity φ.
    pub activation: Activation,
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

    /// Returns the most floats that a pass keeps: `[moves, B, units]` for each group, or only the
    /// rows that moves have. These depend on the step at which the pass begins. They are the most
    /// where all groups move at the first step, since no step has more rows than the one before.
    pub(super) fn most_kept(&self, rows: MoveRows<'_>) -> Result<usize, Error> {
        let schedule = rows.schedule();
        product("the workspace", &[schedule.start(schedule.steps()), self.hidden])?;
        Ok(self.kept_len(0, rows))
    }

    /// Returns the floats that a pass keeps if it begins after `start` steps of the sequences.
    pub(super) fn kept_len(&self, start: u64, rows: MoveRows<'_>) -> usize {
        let groups = Moves::of_groups(self.at(start), rows);
        groups.map(|moves| moves.all_rows() * moves.group().units).sum()
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

    /// Returns the floats of gathered inputs and of gathered states that passes over these rows
    /// need. A group that moves at every step needs none; of the others the one with the shortest
    /// period has the most rows, and the most where it moves at the first step.
    pub(super) fn gathered(&self, rows: MoveRows<'_>) -> Result<Gathered<usize>, Error> {
        let Some(moves) = Moves::of_groups(self.at(0), rows).find(|m| m.group().period > 1) else {
            return Ok(Gathered { inputs: 0, states: 0 });
        };
        let most = moves.all_rows().min(most_together(rows.schedule().batch()));
        let len = |width| product("the workspace", &[most, width]);
        Ok(Gathered { inputs: len(self.input)?, states: len(self.hidden - moves.group().first)? })
    }
}

/// The product of all groups with the input, in a stretch of a pass.
pub(super) struct InputProduct<'a> {
    pub isa: Isa,
    pub clock: Clock<'a>,
    /// The rows of the whole pass, for which `x` and `z` have room.
    pub rows: MoveRows<'a>,
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
        let Self { isa, clock, rows, stretch, x, bias, gathered, scratch, .. } = self;
        let mut rest = self.z;
        for (moves, weights) in Moves::of_groups(clock, rows).zip(weights) {
            let &Group { units, first, .. } = moves.group();
            let (z, tail) = rest.split_at_mut(moves.all_rows() * units);
            rest = tail;
            let start = Start::Bias(&bias[first..][..units]);
            for run in moves.runs(moves.within(&stretch), true) {
                let a = moves.rows_in(&run, weights.depth(), x, gathered);
                let rows = moves.rows(&run);
                let c = &mut z[rows.start * units..rows.end * units];
                let (rows, stride) = (rows.len(), units);
                Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, threads)?;
            }
        }
        Ok(())
    }
}
