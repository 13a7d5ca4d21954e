//! Training passes of a clockwork layer.

mod backward;
mod forward;

use super::groups::{Clocked, Gathered};
use super::packed::ClockworkPacked;
use crate::blocks::{Backward, Forward, LeftBy, Pass, Plan, Wanted};
use crate::memory::{Region, regions};
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::gemm::{self, weight_gradients};
use bptt_kernels::recurrence::clocked_scratch_len;
use bptt_kernels::tuning::{CHUNK_ROWS, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that a pass books.
    struct Regions {
        /// `b + U x` of each group at the steps at which it moves. The backward pass replaces these
        /// values with ∂L/∂z.
        kept,
        /// The inputs of several moves of a group, gathered.
        inputs,
        /// The states that a group reads at several moves, gathered.
        states,
        scratch,
    }
}

/// A planned pass of a clockwork.
///
/// # Memory
///
/// In f32, with each part rounded up to 16:
///
/// - `⌈τ / kᵢ⌉ B Hᵢ` for each group, one after the other;
/// - if a period is above 1, room for m moves of the group with the shortest such period k, whose
///   first unit is f: `mBI` for their inputs and `mB (H − f)` for the states that they read, with
///   `m = min(⌈τ / k⌉, max(1, ⌊192 / B⌋))`;
/// - the same scratch as for any recurrent layer, but with the largest Hᵢ in place of GH, and with
///   B rows of H for a step.
#[derive(Debug)]
pub(super) struct ClockworkPass {
    clocked: Clocked,
    schedule: Schedule,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

impl ClockworkPass {
    pub(super) fn planned(clocked: Clocked, plan: &mut Plan<'_>) -> Result<Self, Error> {
        if !plan.schedule.is_dense() {
            let (what, given) = ("lengths of a clockwork's sequences", "different".into());
            return Err(Error::Value { what, given, expected: "one length".into() });
        }
        let (schedule, isa, wanted) = (plan.schedule.clone(), plan.runtime.isa(), plan.gradients);
        let (rows, threads) = (schedule.checked_rows()?, plan.runtime.checked_threads()?);
        let step_rows = schedule.step_rows();
        let Gathered { inputs, states } = clocked.gathered(step_rows)?;
        let widest = clocked.groups.iter().map(|group| group.units).fold(0, usize::max);
        let needs = [
            gemm::team_scratch_len(threads, rows, clocked.input.max(widest))?,
            clocked_scratch_len(schedule.batch(), clocked.hidden)?,
            weight_gradients::scratch_len(isa, threads, rows, &[clocked.input, clocked.hidden])?,
        ];
        let dims: Regions<&[usize]> = Regions {
            kept: &[clocked.most_kept(step_rows)?],
            inputs: &[inputs],
            states: &[states],
            scratch: &[needs.into_iter().fold(0, usize::max)],
        };
        let regions = dims.booked(plan.layout)?;
        Ok(Self { clocked, schedule, isa, wanted, regions })
    }

    /// Returns the number of rows, τB.
    fn rows(&self) -> usize {
        self.schedule.start(self.schedule.steps())
    }

    /// Returns the number of steps in a stretch of time.
    fn stretch(&self) -> usize {
        (CHUNK_ROWS / self.schedule.batch()).max(1)
    }
}

impl Pass for ClockworkPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let packed = forward.packed.as_form::<ClockworkPacked>()?;
        self.run_forward(packed, forward)
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let packed = backward.packed.as_form::<ClockworkPacked>()?;
        self.run_backward(packed, backward)
    }

    fn work(&self) -> [usize; 2] {
        let (rows, stretch) = (self.rows(), self.schedule.start(self.stretch()));
        let work = self.clocked.multiply_adds(rows);
        let short = self.clocked.multiply_adds(stretch.min(rows)) < STRETCH_WORTH_CALLING;
        [if short { 0 } else { work }, work.saturating_mul(2)]
    }

    /// Finds `gates` after a forward pass, and `preactivation_gradients` after a backward pass:
    /// `[moves, B, units]` for each group, one group after the other, at the steps at which the
    /// group moved.
    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Region> {
        match (name, left_by) {
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward) => Some(
                self.regions.kept.first(self.clocked.kept_len(step, self.schedule.step_rows())),
            ),
            _ => None,
        }
    }
}
