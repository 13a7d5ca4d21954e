//! The plan of a network's training passes: the pass of its blocks, and the layout of the workspace.

use super::Network;
use crate::blocks::{Keeps, Pass, Plan, Wanted};
use crate::error::product;
use crate::memory::{Layout, Region, regions};
use crate::params::{Manifest, Sequences};
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Runtime};
use std::ops::Range;
use std::sync::Arc;

regions! {
    /// The regions of a workspace.
    pub(super) struct Parts {
        /// The state before the first step.
        state,
        /// The state after the last step.
        last,
        /// The gradient with respect to `state`.
        dstate,
        /// The gradient with respect to `last`.
        dlast,
        /// The memory that the pass of the blocks has booked.
        own,
        /// The output, `[rows, outputs]`, which its gradient may overwrite.
        y,
        /// The gradient with respect to the output, if the backward pass reads the output.
        dy,
        /// ∂L/∂x, `[rows, features]`, or an empty region.
        dx,
        /// The input in the order of the passes, `[rows, features]`, or tokens. This and the next two
        /// are empty if the caller's arrays have that order, too.
        x_of_passes,
        /// The output in the order of the caller, `[given rows, outputs]`.
        y_of_caller,
        /// ∂L/∂x in the order of the caller, `[given rows, features]`.
        dx_of_caller,
    }
}

/// An order of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The longest first, as in the passes.
    OfPasses,
    /// As the caller gave the lengths.
    OfCaller,
}

/// A state that a workspace holds, or a gradient with respect to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The state before the first step.
    State,
    /// The state after the last step.
    Last,
    /// The gradient with respect to the state before the first step.
    StateGradient,
    /// The gradient with respect to the state after the last step.
    LastGradient,
}

/// What the passes of a network are planned for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub runtime: Runtime,
    /// The gradients that the caller asks for.
    pub gradients: Wanted,
    /// Whether the schedule is a stretch of a longer one, whose inputs, outputs and ∂L/∂x the caller
    /// sees as a whole.
    pub is_stretch: bool,
    /// Whether blocks compute again what they keep.
    pub recompute: bool,
}

/// The planned pass of a network.
#[derive(Debug)]
pub(super) struct Planned {
    pub schedule: Schedule,
    pub rows: usize,
    /// The pass of the blocks.
    pub pass: Box<dyn Pass>,
    /// The gradients that it computes.
    pub wanted: Wanted,
    pub parts: Parts<Region>,
    /// Features in a row of the output.
    pub output: usize,
    /// The tensors of the state of all blocks, for all rows that a step may have.
    pub state: Arc<Manifest>,
    /// The tensors of the state of the caller's sequences: the same, unless there are resets.
    pub given_state: Arc<Manifest>,
    pub layout: Layout,
}

const WHAT: &str = "the workspace";

impl Planned {
    pub(super) fn new(
        network: &Network,
        schedule: Schedule,
        options: Options,
    ) -> Result<Self, Error> {
        let Options { runtime, gradients, is_stretch, recompute } = options;
        let (rows, batch) = (schedule.checked_rows()?, schedule.batch());
        let whole = |error: Error| error.of_whole(WHAT);
        let state = network.state_manifest(batch).map_err(whole)?;
        if !schedule.is_dense() {
            Sequences::new("state of sequences of different lengths", &state, batch)?;
        }
        if schedule.has_resets() && network.reads_step() {
            return Err(Error::Mismatch {
                what: "resets",
                given: "sequences that take steps of their own from there on".into(),
                expected: "none, since a block reads the number of steps, which is one for all"
                    .into(),
            });
        }
        let state = Arc::new(state);
        let given_state = match schedule.sequences() {
            same if same == batch => state.clone(),
            fewer => Arc::new(network.state_manifest(fewer).map_err(whole)?),
        };
        let mut own = Layout::in_lines(WHAT);
        let (schedule_of_pass, layout) = (schedule.clone(), &mut own);
        let plan = &mut Plan { schedule: schedule_of_pass, runtime, gradients, recompute, layout };
        let pass = network.blocks.plan_outermost(plan).map_err(whole)?;
        let (features, width) = match network.input() {
            InputSize::Features(size) => (size, size),
            InputSize::Tokens(_) => (0, 1),
        };
        let (output, given) = (network.output_size(), schedule.given_rows());
        // The input is not in the workspace, but its length has to fit as well.
        product("the input", &[given.max(rows), width])?;
        let dx = features * usize::from(gradients.input);
        let other = usize::from(!schedule.is_dense());
        // A stretch has its results copied to where those of all stretches are.
        let of_caller = other * usize::from(!is_stretch);
        let dims: Parts<&[usize]> = Parts {
            state: &[state.len()],
            last: &[state.len()],
            dstate: &[state.len()],
            dlast: &[state.len()],
            own: &[own.floats()],
            y: &[rows, output],
            dy: &[usize::from(pass.reads_output()), rows, output],
            dx: &[rows, dx],
            x_of_passes: &[other, rows, width],
            y_of_caller: &[of_caller, given, output],
            dx_of_caller: &[of_caller, given, dx],
        };
        let mut layout = Layout::in_lines(WHAT);
        let parts = dims.booked(&mut layout)?;
        let wanted = gradients;
        Ok(Self { schedule, rows, pass, wanted, parts, output, state, given_state, layout })
    }

    /// Returns where a state lies in the memory of the pass.
    pub(super) fn place(&self, place: Place) -> Range<usize> {
        let region = match place {
            Place::State => self.parts.state,
            Place::Last => self.parts.last,
            Place::StateGradient => self.parts.dstate,
            Place::LastGradient => self.parts.dlast,
        };
        region.range()
    }

    /// Copies the state at `place` to or from the order of the caller's sequences. The rows that
    /// begin at a reset, or end at one, are none of the caller's: they are left as they are.
    pub(super) fn copy_state(&self, place: Place, from: &[f32], to: &mut [f32], order: Order) {
        if self.schedule.is_dense() {
            return to.copy_from_slice(from);
        }
        let (batch, sequences) = (self.schedule.batch(), self.schedule.sequences());
        for tensor in self.state.tensors() {
            let width = tensor.shape()[tensor.shape().len() - 1];
            let range = tensor.range();
            let given_start = range.start / batch * sequences;
            for index in 0..range.len() / width {
                let (nth, row) = (index / batch, index % batch);
                let sequence = match place {
                    Place::State | Place::StateGradient => self.schedule.begins(row),
                    Place::Last | Place::LastGradient => self.schedule.ends(row),
                };
                let Some(n) = sequence else { continue };
                let in_passes = range.start + index * width;
                let given = given_start + (nth * sequences + n) * width;
                let (from_at, to_at) = match order {
                    Order::OfPasses => (given, in_passes),
                    Order::OfCaller => (in_passes, given),
                };
                to[to_at..to_at + width].copy_from_slice(&from[from_at..from_at + width]);
            }
        }
    }

    /// Whether there is a state.
    pub(super) fn has_state(&self) -> bool {
        !self.state.is_empty()
    }

    /// Returns where that lies in the memory from which the blocks compute again what they keep, or
    /// `None` if they cannot.
    pub(super) fn keeps(&self) -> Option<Vec<Region>> {
        if !self.has_state() {
            return Some(Vec::new());
        }
        let Keeps { regions, output } = self.pass.keeps()?;
        let output = output.then_some(self.parts.y);
        let own = regions.into_iter().map(|region| region.within(self.parts.own));
        Some(output.into_iter().chain(own).collect())
    }
}
