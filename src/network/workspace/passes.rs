//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use super::{Holds, Workspace};
use crate::blocks::{Backward, Forward};
use crate::loss::{Loss, Outputs, TargetRows};
use crate::network::packing::Packing;
use crate::network::plan::{Parts, Planned};
use crate::regularisation::{Mode, Noise};
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
    pub mode: Mode,
    pub runtime: Runtime,
}

/// What a forward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compute {
    /// All activations.
    All,
    /// All activations again, from the outputs and the regions that blocks keep.
    Again,
    /// The state after the last step; outputs that it does not need may be left unwritten.
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
        let Self { planned, packing, step, noise, mode, .. } = *self;
        let Parts { state, last, own, y, x_of_passes, .. } = planned.parts.granted(memory);
        let x = in_order(&planned.schedule, self.x, x_of_passes);
        let pass = &planned.pass;
        let [work, _] = pass.work();
        team.pass(work, |threads: &mut Threads<'_>| {
            let packed = packing.blocks();
            let (y_stride, memory) = (planned.output, own);
            let forward =
                Forward { packed, x, y, y_stride, memory, state, last, step, noise, mode, threads };
            match compute {
                Compute::All => pass.forward(forward),
                Compute::Again => pass.recompute(forward),
                Compute::State => pass.advance(forward),
            }
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
        let Parts { state, dstate, dlast, own, y, dy, dx, x_of_passes, tail, .. } =
            planned.parts.granted(memory);
        let sums = Sums { gradients: &mut *gradients, accumulate };
        let x = match (planned.schedule.given(), self.x) {
            (None, x) => x,
            // The forward pass has left them there.
            (Some(_), Input::Features(_)) => Input::Features(x_of_passes),
            (Some(_), Input::Tokens(_)) => Input::Tokens(bytemuck::cast_slice(x_of_passes)),
        };
        let (pass, size) = (&planned.pass, planned.output);
        // The gradient with respect to the output overwrites it, unless the pass reads it.
        let (y, dy): (&[f32], _) = match pass.reads_output() {
            true => {
                dy.copy_from_slice(y);
                (y, dy)
            }
            false => (&[], y),
        };
        let outputs = Outputs { y: &mut *dy, size, targets, loss_so_far };
        let value = self.gradient(loss, outputs, tail, team, sums)?;
        let [_, work] = pass.work();
        team.pass(work, |threads: &mut Threads<'_>| {
            pass.backward(Backward {
                packed: packing.blocks(),
                x,
                y,
                y_stride: size,
                dy,
                dy_stride: size,
                memory: own,
                state,
                step,
                dlast: has_last_gradient.then_some(&*dlast),
                dstate,
                dx: (!dx.is_empty()).then_some(dx),
                gradients: &mut gradients[..packing.of_blocks()],
                accumulate,
                threads,
            })
        })?;
        Ok(value)
    }
}

impl Workspace {
    /// Runs a forward pass over the whole schedule, which is not divided, for this purpose.
    pub(in super::super) fn forward(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
        mode: Mode,
    ) -> Result<(), Error> {
        self.check_input(x)?;
        self.holds = Holds::Nothing;
        self.begin_learned(packing)?;
        let Self { plans, memory, team, step, noise, runtime, .. } = self;
        let planned = plans.first();
        let (step, noise, runtime) = (*step, *noise, *runtime);
        let run = Run { planned, packing, x, step, noise, mode, runtime };
        run.forward(memory, team, Compute::All)?;
        (self.holds, self.version) = (Holds::Forward, packing.version);
        Ok(())
    }

    /// Copies the outputs to the rows of the caller's arrays, if these are others.
    pub(in super::super) fn give_outputs(&mut self) {
        let Self { plans, memory, .. } = self;
        let planned = plans.first();
        let Some(given) = planned.schedule.given() else { return };
        let Parts { y, y_of_caller, .. } = planned.parts.granted(memory);
        scatter(given, y, y_of_caller, planned.output);
        planned.schedule.fill_padding(y_of_caller, planned.output);
    }

    /// Returns the loss of the outputs, which it may overwrite. `x` is the input of the forward pass.
    pub(in super::super) fn loss(
        &mut self,
        packing: &Packing,
        x: Input<'_>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        self.holds = Holds::LastState;
        let mode = self.mode(false);
        let Self { plans, memory, team, step, noise, runtime, .. } = self;
        let (planned, step, noise, runtime) = (plans.first(), *step, *noise, *runtime);
        let run = Run { planned, packing, x, step, noise, mode, runtime };
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
        let run = Run { planned, packing, x, step, noise, mode: Mode::TRAINING, runtime };
        let value = run.backward(memory, team, from)?;
        let Parts { dx, dx_of_caller, .. } = planned.parts.granted(memory);
        if let Some(given) = planned.schedule.given()
            && !dx.is_empty()
        {
            dx_of_caller.fill(0.0);
            scatter(given, dx, dx_of_caller, dx.len() / given.len());
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
