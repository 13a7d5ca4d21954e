//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use super::{Holds, Workspace};
use crate::blocks::{Backward, Forward};
use crate::loss::{Loss, Outputs, TargetRows};
use crate::memory::Rest;
use crate::network::packing::Packing;
use crate::network::plan::{Other, Parts, Step};
use crate::sequence::{Input, Schedule};
use crate::{Accumulate, Error};
use bptt_kernels::team::Pass as Threads;

impl Workspace {
    /// Runs a forward pass through all blocks, from the first to the last.
    pub(in super::super) fn forward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
    ) -> Result<(), Error> {
        self.check_input(x)?;
        let [work, _] = self.planned.work();
        let Self { planned, memory, step, noise, team, .. } = self;
        self.holds = Holds::Nothing;
        let mut rest = Rest::all(memory);
        let memory = rest.grant_up_to(planned.turns[0].range().start);
        let x = in_order(&planned.schedule, x, rest.grant(planned.other.x));
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

    /// Copies the outputs to the rows of the caller's arrays, if these are others.
    pub(in super::super) fn give_outputs(&mut self) {
        let Self { planned, memory, .. } = self;
        let Step { parts, start, output, .. } = &planned.steps[planned.steps.len() - 1];
        let Some(given) = planned.schedule.given() else { return };
        let mut rest = Rest::all(memory);
        let blocks = rest.grant_up_to(planned.turns[0].range().start);
        let (y, to) = (parts.y.of(&blocks[*start..]), rest.grant(planned.other.y));
        scatter(given, y, to, *output);
        planned.schedule.fill_padding(to, *output);
    }

    /// Returns the loss of the outputs, which it may overwrite.
    pub(in super::super) fn loss(&mut self, loss: &dyn Loss) -> Result<f64, Error> {
        self.holds = Holds::LastState;
        let Step { parts, start, output, .. } = &self.planned.steps[self.planned.steps.len() - 1];
        let y = parts.y.of_mut(&mut self.memory[*start..]);
        let targets = TargetRows::of(&self.planned.schedule);
        loss.value(self.runtime, Outputs { y, size: *output, targets })
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
        let Other { x: x_in_order, dx: dx_given, .. } = planned.other;
        let x = match (planned.schedule.given(), x) {
            (None, x) => x,
            // The forward pass has left them there.
            (Some(_), Input::Features(_)) => Input::Features(rest.grant(x_in_order)),
            (Some(_), Input::Tokens(_)) => {
                Input::Tokens(bytemuck::cast_slice(rest.grant(x_in_order)))
            }
        };
        let dx_given = rest.grant(dx_given);
        let targets = TargetRows::of(&planned.schedule);
        // The gradient with respect to the last output overwrites that output, or goes to `now`.
        let last = &steps[steps.len() - 1];
        let y = last.parts.y.of_mut(&mut blocks[last.start..]);
        let in_place = !last.pass.reads_output();
        let value = if in_place {
            std::mem::swap(&mut now, &mut next);
            loss.gradient(*runtime, Outputs { y, size: last.output, targets })?
        } else {
            let dy = &mut now[..y.len()];
            dy.copy_from_slice(y);
            loss.gradient(*runtime, Outputs { y: dy, size: last.output, targets })?
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
        if let Some(given) = planned.schedule.given()
            && !dx_given.is_empty()
        {
            dx_given.fill(0.0);
            scatter(given, dx_of_all, dx_given, dx_given.len() / planned.schedule.given_rows());
        }
        self.holds = Holds::Backward;
        Ok(value)
    }
}

/// Returns the input in the order of the passes, for which it is copied to `to` if the caller's is
/// another.
fn in_order<'a>(schedule: &Schedule, x: Input<'a>, to: &'a mut [f32]) -> Input<'a> {
    match (schedule.given(), x) {
        (None, x) => x,
        (Some(given), Input::Features(x)) => {
            if !given.is_empty() {
                let width = to.len() / given.len();
                for (to, &row) in to.chunks_exact_mut(width).zip(given) {
                    to.copy_from_slice(&x[row * width..][..width]);
                }
            }
            Input::Features(to)
        }
        (Some(given), Input::Tokens(tokens)) => {
            let to: &mut [u32] = bytemuck::cast_slice_mut(to);
            to.iter_mut().zip(given).for_each(|(to, &row)| *to = tokens[row]);
            Input::Tokens(to)
        }
    }
}

/// Copies each row of `from` to its row of `to`; rows have `width` floats.
fn scatter(rows: &[usize], from: &[f32], to: &mut [f32], width: usize) {
    for (from, &row) in from.chunks_exact(width).zip(rows) {
        to[row * width..][..width].copy_from_slice(from);
    }
}
