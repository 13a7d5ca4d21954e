//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use super::{Holds, Workspace};
use crate::blocks::{Backward, Forward};
use crate::loss::{Loss, Outputs, TargetRows};
use crate::memory::{Region, Rest};
use crate::network::packing::Packing;
use crate::network::plan::{Parts, Planned, Step};
use crate::regularisation::Noise;
use crate::sequence::{Input, Schedule};
use crate::{Accumulate, Error, Runtime};
use bptt_kernels::team::{Pass as Threads, Team};

/// A pass over a schedule, or over a stretch of one, in memory that holds what `planned` booked.
pub(super) struct Run<'a> {
    pub planned: &'a Planned,
    pub packing: &'a Packing,
    /// The input in the order of the caller.
    pub x: Input<'a>,
    /// The steps that the sequences have taken before the pass.
    pub step: u64,
    pub noise: Noise,
    pub runtime: Runtime,
}

/// What a forward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compute {
    /// All activations.
    All,
    /// All activations again, from the outputs and the regions that blocks keep.
    Again,
    /// The state after the last step, for which the blocks after the last one with a state are not
    /// needed.
    State,
}

/// What a backward pass begins from, and where the gradients of the parameters go.
pub(super) struct From<'a> {
    pub loss: &'a dyn Loss,
    pub targets: TargetRows<'a>,
    pub loss_so_far: f64,
    /// Whether the regions `dlast` hold a gradient.
    pub has_last_gradient: bool,
    pub gradients: &'a mut [f32],
    pub accumulate: bool,
}

/// Where the gradients of the parameters go.
pub(super) struct Sums<'a> {
    /// Those of all blocks.
    pub gradients: &'a mut [f32],
    pub accumulate: bool,
}

impl Run<'_> {
    /// Runs a forward pass through the blocks, from the first to the last.
    pub(super) fn forward(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        compute: Compute,
    ) -> Result<(), Error> {
        let Self { planned, packing, step, noise, .. } = *self;
        let [work, _] = planned.work();
        let mut rest = Rest::all(memory);
        let memory = rest.grant_up_to(planned.turns[0].range().start);
        let x = in_order(&planned.schedule, self.x, rest.grant(planned.other.x));
        let blocks = match compute {
            Compute::State => planned.stateful(),
            _ => planned.steps.len(),
        };
        team.pass(work, |threads: &mut Threads<'_>| -> Result<(), Error> {
            for (nth, block) in planned.steps[..blocks].iter().enumerate() {
                let (before, rest) = memory.split_at_mut(block.start);
                let x = match nth.checked_sub(1) {
                    None => x,
                    Some(previous) => {
                        let Step { parts, start, .. } = &planned.steps[previous];
                        Input::Features(parts.y.of(&before[*start..]))
                    }
                };
                let Parts { state, last, own, y, .. } = block.parts.granted(rest);
                let forward = Forward {
                    packed: packing.block(planned.first + nth),
                    x,
                    y,
                    y_stride: block.output,
                    memory: own,
                    state,
                    last,
                    step,
                    noise: noise.of_block(planned.first + nth),
                    threads: &mut *threads,
                };
                match compute {
                    Compute::Again => block.pass.recompute(forward)?,
                    _ => block.pass.forward(forward)?,
                }
            }
            Ok(())
        })
    }

    /// Returns the loss, and runs a backward pass through all blocks, from the last to the first.
    /// The memory holds a forward pass.
    pub(super) fn backward(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        from: From<'_>,
    ) -> Result<f64, Error> {
        let Self { planned, packing, step, .. } = *self;
        let From { loss, targets, loss_so_far, has_last_gradient, gradients, accumulate } = from;
        let sums = Sums { gradients: &mut *gradients, accumulate };
        let [_, work] = planned.work();
        let steps = &planned.steps;
        let mut rest = Rest::all(memory);
        let blocks = rest.grant_up_to(planned.turns[0].range().start);
        // `now` holds the gradient with respect to the outputs of the current block, `next`
        // receives the gradient with respect to its inputs.
        let [mut now, mut next] = planned.turns.map(|turn| rest.grant(turn));
        let dx_of_all = rest.grant(planned.dx);
        let x_in_order = rest.grant(planned.other.x);
        let behind =
            rest.grant(planned.tail.as_ref().map_or(Region::default(), |tail| tail.region));
        let x = match (planned.schedule.given(), self.x) {
            (None, x) => x,
            // The forward pass has left them there.
            (Some(_), Input::Features(_)) => Input::Features(x_in_order),
            (Some(_), Input::Tokens(_)) => Input::Tokens(bytemuck::cast_slice(x_in_order)),
        };
        // The gradient with respect to the last output overwrites that output, or goes to `now`.
        let last = &steps[steps.len() - 1];
        let (y, size) = (last.parts.y.of_mut(&mut blocks[last.start..]), last.output);
        let in_place = !last.pass.reads_output();
        let y = if in_place {
            std::mem::swap(&mut now, &mut next);
            y
        } else {
            let dy = &mut now[..y.len()];
            dy.copy_from_slice(y);
            dy
        };
        let outputs = Outputs { y, size, targets, loss_so_far };
        let value = self.gradient(loss, outputs, behind, team, sums)?;
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
                let number = planned.first + nth;
                block.pass.backward(Backward {
                    packed: packing.block(number),
                    x,
                    y,
                    y_stride: block.output,
                    dy,
                    dy_stride: block.output,
                    memory: own,
                    state,
                    step,
                    dlast: has_last_gradient.then_some(&*dlast),
                    dstate,
                    dx,
                    gradients: &mut gradients[packing.ranges()[number].clone()],
                    accumulate,
                    threads: &mut *threads,
                })?;
                std::mem::swap(&mut now, &mut next);
                dy_in_now = true;
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl Workspace {
    /// Runs a forward pass over the whole schedule, which is not divided.
    pub(in super::super) fn forward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
    ) -> Result<(), Error> {
        self.check_input(x)?;
        self.holds = Holds::Nothing;
        self.begin_learned(packing)?;
        let Self { plans, memory, team, step, noise, runtime, .. } = self;
        let planned = plans.first();
        let (step, noise, runtime) = (*step, *noise, *runtime);
        let run = Run { planned, packing, x, step, noise, runtime };
        run.forward(memory, team, Compute::All)?;
        (self.holds, self.version) = (Holds::Forward, packing.version);
        Ok(())
    }

    /// Copies the outputs to the rows of the caller's arrays, if these are others.
    pub(in super::super) fn give_outputs(&mut self) {
        let Self { plans, memory, .. } = self;
        let planned = plans.first();
        let Step { parts, start, output, .. } = &planned.steps[planned.steps.len() - 1];
        let Some(given) = planned.schedule.given() else { return };
        let mut rest = Rest::all(memory);
        let blocks = rest.grant_up_to(planned.turns[0].range().start);
        let (y, to) = (parts.y.of(&blocks[*start..]), rest.grant(planned.other.y));
        scatter(given, y, to, *output);
        planned.schedule.fill_padding(to, *output);
    }

    /// Returns the loss of the outputs, which it may overwrite. `x` is the input of the forward pass.
    pub(in super::super) fn loss(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        self.holds = Holds::LastState;
        let Self { plans, memory, team, step, noise, runtime, .. } = self;
        let (planned, step, noise, runtime) = (plans.first(), *step, *noise, *runtime);
        let run = Run { planned, packing, x, step, noise, runtime };
        run.value(memory, team, loss, TargetRows::of(&self.schedule), 0.0)
    }

    /// Returns the loss, and runs a backward pass over the whole schedule, which is not divided.
    pub(in super::super) fn backward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        self.holds = Holds::Nothing;
        let Self { plans, memory, gradients, team, step, noise, runtime, .. } = self;
        let planned = plans.first();
        let (step, noise, runtime) = (*step, *noise, *runtime);
        let from = From {
            loss,
            targets: TargetRows::of(&self.schedule),
            loss_so_far: 0.0,
            has_last_gradient: self.has_last_gradient,
            gradients: gradients.as_mut_slice(),
            accumulate: accumulate == Accumulate::Yes,
        };
        let run = Run { planned, packing, x, step, noise, runtime };
        let value = run.backward(memory, team, from)?;
        let dx = planned.other.dx;
        if let Some(given) = planned.schedule.given()
            && !dx.is_empty()
        {
            let (before, to) = memory.split_at_mut(dx.range().start);
            let (from, to) = (planned.dx.of(before), &mut to[..dx.len()]);
            to.fill(0.0);
            scatter(given, from, to, dx.len() / planned.schedule.given_rows());
        }
        self.sum_learned(packing, accumulate)?;
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
pub(super) fn scatter(rows: &[usize], from: &[f32], to: &mut [f32], width: usize) {
    for (from, &row) in from.chunks_exact(width).zip(rows) {
        to[row * width..][..width].copy_from_slice(from);
    }
}
