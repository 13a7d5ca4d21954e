//! Training passes of a clockwork layer.

mod backward;
mod forward;

use super::groups::{Clocked, Gathered};
use super::moves::most_together;
use super::packed::ClockworkPacked;
use crate::blocks::recurrent::ago;
use crate::blocks::{Backward, Forward, Found, LeftBy, Pass, Plan, Wanted};
use crate::memory::{Region, regions};
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::gemm::{self, weight_gradients};
use bptt_kernels::recurrence::{MoveRows, RaggedMoves, clocked_scratch_len};
use bptt_kernels::tuning::STRETCH_WORTH_CALLING;

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
/// - `rᵢ Hᵢ` for each group, one after the other. rᵢ is the number of rows of the steps 0, kᵢ, 2kᵢ,
///   …: `⌈τ / kᵢ⌉ B` if all sequences have the same length;
/// - if a period is above 1, room for m rows of the group with the shortest such period, which has
///   r rows and whose first unit is f: `mI` for their inputs and `m (H − f)` for the states that
///   they read, with `m = min(r, max(1, ⌊192 / B⌋) B)`;
/// - the same scratch as for any recurrent layer, but with the largest Hᵢ in place of GH, and with
///   B rows of H for a step.
#[derive(Debug)]
pub(super) struct ClockworkPass {
    clocked: Clocked,
    schedule: Schedule,
    /// What is computed once of sequences of different lengths.
    ragged: Option<Ragged>,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

/// Where sequences of different lengths have their rows.
#[derive(Debug)]
struct Ragged {
    moves: RaggedMoves,
    /// If a group moves at each step, where each row finds the state before it: see [`ago`].
    ago: Vec<usize>,
}

impl ClockworkPass {
    pub(super) fn planned(clocked: Clocked, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let (schedule, isa, wanted) = (plan.schedule.clone(), plan.runtime.isa(), plan.gradients);
        let (rows, threads) = (schedule.checked_rows()?, plan.runtime.checked_threads()?);
        let ragged = match schedule.is_dense() {
            true => None,
            false => Some(Ragged::new(&schedule, &clocked)?),
        };
        let move_rows = move_rows(&schedule, ragged.as_ref());
        let Gathered { inputs, states } = clocked.gathered(move_rows)?;
        let widest = clocked.groups.iter().map(|group| group.units).fold(0, usize::max);
        let needs = [
            gemm::team_scratch_len(threads, rows, clocked.input.max(widest))?,
            clocked_scratch_len(schedule.batch(), clocked.hidden)?,
            weight_gradients::scratch_len(isa, threads, rows, &[clocked.input, clocked.hidden])?,
        ];
        let dims: Regions<&[usize]> = Regions {
            kept: &[clocked.most_kept(move_rows)?],
            inputs: &[inputs],
            states: &[states],
            scratch: &[needs.into_iter().fold(0, usize::max)],
        };
        let regions = dims.booked(plan.layout)?;
        Ok(Self { clocked, schedule, ragged, isa, wanted, regions })
    }

    /// Returns the number of rows, τB if the sequences have the same length.
    fn rows(&self) -> usize {
        self.schedule.rows()
    }

    /// Returns the rows of all steps and of the groups' moves.
    fn move_rows(&self) -> MoveRows<'_> {
        move_rows(&self.schedule, self.ragged.as_ref())
    }
}

fn move_rows<'a>(schedule: &Schedule, ragged: Option<&'a Ragged>) -> MoveRows<'a> {
    match ragged {
        Some(ragged) => ragged.moves.move_rows(),
        None => MoveRows::dense(schedule.steps(), schedule.batch()),
    }
}

impl Ragged {
    fn new(schedule: &Schedule, clocked: &Clocked) -> Result<Self, Error> {
        let moves = RaggedMoves::new(schedule.step_rows(), &clocked.groups)?;
        let always = clocked.groups[0].period == 1;
        Ok(Self { moves, ago: if always { ago(schedule, 1, 1) } else { Vec::new() } })
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
        let (rows, stretch) = (self.rows(), most_together(self.schedule.batch()));
        let work = self.clocked.multiply_adds(rows);
        let short = self.clocked.multiply_adds(stretch.min(rows)) < STRETCH_WORTH_CALLING;
        [if short { 0 } else { work }, work.saturating_mul(2)]
    }

    /// Finds `gates` after a forward pass, and `preactivation_gradients` after a backward pass:
    /// `[moves, B, units]` for each group, one group after the other, at the steps at which the
    /// group moved.
    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Found> {
        match (name, left_by) {
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward) => {
                let len = self.clocked.kept_len(step, self.move_rows());
                Some(Found::Memory(self.regions.kept.first(len)))
            }
            _ => None,
        }
    }
}
