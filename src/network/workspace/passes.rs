//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use super::{Holds, Workspace};
use crate::blocks::{Backward, Forward};
use crate::loss::Loss;
use crate::memory::Rest;
use crate::network::packing::Packing;
use crate::network::plan::{Parts, Step};
use crate::sequence::Input;
use crate::{Accumulate, Error};
use bptt_kernels::team::Pass as Threads;

impl Workspace {
    /// Runs a forward pass through all blocks, from the first to the last.
    pub(in super::super) fn forward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
    ) -> Result<(), Error> {
        x.check(self.planned.rows, self.network.input())?;
        let [work, _] = self.planned.work();
        let Self { planned, memory, step, noise, team, .. } = self;
        self.holds = Holds::Nothing;
        team.pass(work, |threads: &mut Threads<'_>| -> Result<(), Error> {
            for (nth, block) in planned.steps.iter().enumerate() {
                let (before, rest) = memory.split_at_mut(block.start);
                let x = match nth.checked_sub(1) {
                    None => x,
                    Some(previous) => {
                        let Step { parts, start, .. } = &planned.steps[previous];
                        Input::Features(parts.y.of(&before[*start..]))
                    }
                };
                let Parts { state, last, own, y, .. } = block.parts.granted(rest);
                block.pass.forward(Forward {
                    packed: packing.block(nth),
                    x,
                    y,
                    y_stride: block.output,
                    memory: own,
                    state,
                    last,
                    step: *step,
                    noise: noise.of_block(nth),
                    threads: &mut *threads,
                })?;
            }
            Ok(())
        })?;
        (self.holds, self.version) = (Holds::Forward, packing.version);
        Ok(())
    }

    /// Returns the loss of the outputs, which it may overwrite.
    pub(in super::super) fn loss(&mut self, loss: &dyn Loss) -> Result<f64, Error> {
        self.holds = Holds::LastState;
        let Step { parts, start, output, .. } = &self.planned.steps[self.planned.steps.len() - 1];
        let y = parts.y.of_mut(&mut self.memory[*start..]);
        loss.value(self.runtime, y, *output)
    }

    /// Returns the loss, and runs a backward pass through all blocks, from the last to the first.
    pub(in super::super) fn backward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        self.holds = Holds::Nothing;
        let [_, work] = self.planned.work();
        let Self { planned, memory, gradients, step, team, runtime, .. } = self;
        let (steps, has_last) = (&planned.steps, self.has_last_gradient);
        let mut rest = Rest::all(memory);
        let blocks = rest.grant_up_to(planned.turns[0].range().start);
        // `now` holds the gradient with respect to the outputs of the current block, `next`
        // receives the gradient with respect to its inputs.
        let [mut now, mut next] = planned.turns.map(|turn| rest.grant(turn));
        let dx_of_all = rest.grant(planned.dx);
        // The gradient with respect to the last output overwrites that output, or goes to `now`.
        let last = &steps[steps.len() - 1];
        let y = last.parts.y.of_mut(&mut blocks[last.start..]);
        let in_place = !last.pass.reads_output();
        let value = if in_place {
            std::mem::swap(&mut now, &mut next);
            loss.gradient(*runtime, y, last.output)?
        } else {
            let dy = &mut now[..y.len()];
            dy.copy_from_slice(y);
            loss.gradient(*runtime, dy, last.output)?
        };
        // Whether the gradient with respect to the current block's outputs is in `now`.
        let mut dy_in_now = !in_place;
        team.pass(work, |threads: &mut Threads<'_>| -> Result<(), Error> {
            for (nth, block) in steps.iter().enumerate().rev() {
                let (before, own) = blocks.split_at_mut(block.start);
                let Parts { state, dstate, dlast, own, y, .. } = block.parts.granted(own);
                let (dy, y): (&[f32], &[f32]) = match dy_in_now {
                    true => (&now[..planned.rows * block.output], y),
                    false => (y, &[]),
                };
                let (x, dx) = match nth.checked_sub(1) {
                    None => (x, (!dx_of_all.is_empty()).then_some(&mut *dx_of_all)),
                    Some(previous) => {
                        let Step { parts, start, output, .. } = &steps[previous];
                        let x = Input::Features(parts.y.of(&before[*start..]));
                        (x, Some(&mut next[..planned.rows * output]))
                    }
                };
                block.pass.backward(Backward {
                    packed: packing.block(nth),
                    x,
                    y,
                    y_stride: block.output,
                    dy,
                    dy_stride: block.output,
                    memory: own,
                    state,
                    step: *step,
                    dlast: has_last.then_some(&*dlast),
                    dstate,
                    dx,
                    gradients: &mut gradients.as_mut_slice()[packing.ranges()[nth].clone()],
                    accumulate: accumulate == Accumulate::Yes,
                    threads: &mut *threads,
                })?;
                std::mem::swap(&mut now, &mut next);
                dy_in_now = true;
            }
            Ok(())
        })?;
        self.holds = Holds::Backward;
        Ok(value)
    }
}
