//! The plan of a network's training passes: a pass for each block, and the layout of the workspace.

use super::Network;
use crate::blocks::{Pass, Plan, Wanted};
use crate::error::product;
use crate::memory::{Layout, Region, regions};
use crate::params::Manifest;
use crate::sequence::{InputSize, Schedule, checked_rows};
use crate::{Error, Runtime};
use std::ops::Range;
use std::sync::Arc;

regions! {
    /// The regions that a network books for one block.
    pub(super) struct Parts {
        /// The state before the first step.
        state,
        /// The state after the last step.
        last,
        /// The gradient with respect to `state`.
        dstate,
        /// The gradient with respect to `last`.
        dlast,
        /// The memory that the block's pass has booked.
        own,
        /// The output, `[rows, outputs]`, which its gradient may overwrite.
        y,
    }
}

/// A planned pass of a block.
#[derive(Debug)]
pub(super) struct Step {
    pub pass: Box<dyn Pass>,
    /// The regions of its parts, counted from `start`.
    pub parts: Parts<Region>,
    /// Where its parts begin in the memory of the workspace.
    pub start: usize,
    /// Features in a row of its output.
    pub output: usize,
    /// The range of its state in the state of all blocks.
    pub state: Range<usize>,
}

/// The planned passes of a network.
#[derive(Debug)]
pub(super) struct Planned {
    pub schedule: Schedule,
    pub rows: usize,
    pub steps: Vec<Step>,
    /// The gradients that each block computes.
    pub wanted: Vec<Wanted>,
    /// Two regions for gradients with respect to the outputs of blocks; the blocks alternate
    /// between them.
    pub turns: [Region; 2],
    /// The region of ∂L/∂x, or an empty one.
    pub dx: Region,
    /// The tensors of the state of all blocks.
    pub state: Arc<Manifest>,
    pub layout: Layout,
}

const WHAT: &str = "the workspace";

impl Planned {
    pub(super) fn new(
        network: &Network,
        schedule: Schedule,
        runtime: Runtime,
        options: Wanted,
    ) -> Result<Self, Error> {
        let (rows, batch) = (checked_rows(schedule)?, schedule.batch());
        let whole = |error: Error| error.of_whole(WHAT);
        let (state, states) =
            network.declared(|block, manifest| block.state(batch, manifest)).map_err(whole)?;
        let mut layout = Layout::in_lines(WHAT);
        let (mut steps, mut wanted) = (Vec::new(), Vec::new());
        for (nth, (block, state)) in network.blocks().zip(states).enumerate() {
            let gradients = Wanted { input: nth > 0 || options.input, ..options };
            let mut own = Layout::in_lines(WHAT);
            let mut plan = Plan { schedule, runtime, gradients, layout: &mut own };
            let pass = block.plan(&mut plan).map_err(whole)?;
            let output = block.output_size();
            let parts: Parts<&[usize]> = Parts {
                state: &[state.len()],
                last: &[state.len()],
                dstate: &[state.len()],
                dlast: &[state.len()],
                own: &[own.floats()],
                y: &[rows, output],
            };
            let (start, mut within) = (layout.floats(), Layout::in_lines(WHAT));
            let parts = parts.booked(&mut within)?;
            layout.book(&[within.floats()])?;
            steps.push(Step { pass, parts, start, output, state });
            wanted.push(gradients);
        }
        // The gradient with respect to the last output overwrites it, unless the backward pass
        // reads that output. Then it needs one of the two regions as well.
        let reads = steps[steps.len() - 1].pass.reads_output();
        let but_last = &steps[..steps.len() - usize::from(!reads)];
        // The gradients of the other outputs go to one of two regions in turns, from the last
        // block. Each region is as wide as the widest output that uses it.
        let widths = |turn: usize| but_last.iter().rev().skip(turn).step_by(2).map(|s| s.output);
        let widest = |turn: usize| widths(turn).max().unwrap_or(0);
        let turns = [layout.book(&[rows, widest(0)])?, layout.book(&[rows, widest(1)])?];
        if let InputSize::Features(size) = network.input() {
            // The input is not in the workspace, but its length has to fit as well.
            product("the input", &[rows, size])?;
        }
        let dx = match (network.input(), options.input) {
            (InputSize::Features(size), true) => layout.book(&[rows, size])?,
            _ => Region::default(),
        };
        let state = Arc::new(state);
        Ok(Self { schedule, rows, steps, wanted, turns, dx, state, layout })
    }

    /// Returns the work of the forward and of the backward pass through all blocks, in
    /// multiply-adds.
    pub(super) fn work(&self) -> [usize; 2] {
        [0, 1].map(|way| {
            let works = self.steps.iter().map(|step| step.pass.work()[way]);
            works.fold(0, usize::saturating_add)
        })
    }
}
