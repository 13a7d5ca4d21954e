//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use crate::blocks::{Backward, Forward, Source, SourceGradients};
use crate::containers::ChildrenPacked;
use crate::loss::{Loss, Outputs, TargetRows};
use crate::network::plan::{Parts, Planned};
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, Schedule};
use crate::{Error, Runtime};
use bptt_kernels::team::{Pass as Threads, Team};

/// A pass over a schedule, or over a stretch of one, in memory that holds what `planned` booked.
pub(super) struct Run<'a> {
    pub planned: &'a Planned,
    pub packed: &'a ChildrenPacked,
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

/// What a decoder has read of its encoder, and where the gradients with respect to it are added. Without
/// an encoder there is nothing.
#[derive(Default)]
pub(super) struct FromEncoder<'a> {
    pub source: Source<'a>,
    pub dsource: SourceGradients<'a>,
}

/// What a backward pass begins from, and where the gradients of the parameters go.
pub(super) struct From<'a> {
    pub encoder: FromEncoder<'a>,
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
        source: Source<'_>,
        compute: Compute,
    ) -> Result<(), Error> {
        let Self { planned, packed, step, noise, mode, .. } = *self;
        let Parts { state, last, own, y, x_of_passes, .. } = planned.parts.granted(memory);
        let x = in_order(&planned.schedule, self.x, x_of_passes);
        let pass = &planned.pass;
        let [work, _] = pass.work();
        team.pass(work, |threads: &mut Threads<'_>| {
            let forward = Forward {
                packed,
                x,
                source,
                y,
                y_stride: planned.output,
                memory: own,
                state,
                last,
                step,
                noise,
                mode,
                threads,
            };
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
        let From { loss, targets, loss_so_far, has_last_gradient, .. } = from;
        let From { encoder, gradients, accumulate, .. } = from;
        let (pass, size) = (&self.planned.pass, self.planned.output);
        let Parts { y, dy, tail, .. } = self.planned.parts.granted(memory);
        let dy = match pass.reads_output() {
            true => {
                dy.copy_from_slice(y);
                dy
            }
            false => y,
        };
        let sums = Sums { gradients: &mut *gradients, accumulate };
        let outputs = Outputs { y: dy, size, targets, loss_so_far };
        let value = self.gradient(loss, outputs, tail, team, sums)?;
        let sums = Sums { gradients, accumulate };
        self.backward_of_outputs(memory, team, has_last_gradient, sums, encoder)?;
        Ok(value)
    }

    /// Runs a backward pass through all blocks, from the last to the first. The gradient with respect to the outputs lies where they are, or in a region of its own if the
    /// backward pass reads them.
    pub(super) fn backward_of_outputs(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        has_last_gradient: bool,
        sums: Sums<'_>,
        encoder: FromEncoder<'_>,
    ) -> Result<(), Error> {
        let Self { planned, packed, step, .. } = *self;
        let Sums { gradients, accumulate } = sums;
        let FromEncoder { source, dsource } = encoder;
        let Parts { state, dstate, dlast, own, y, dy, dx, x_of_passes, .. } =
            planned.parts.granted(memory);
        let x = match (planned.schedule.given(), self.x) {
            (None, x) => x,
            // The forward pass has left them there.
            (Some(_), Input::Features(_)) => Input::Features(x_of_passes),
            (Some(_), Input::Tokens(_)) => Input::Tokens(bytemuck::cast_slice(x_of_passes)),
        };
        let (pass, size) = (&planned.pass, planned.output);
        let (y, dy): (&[f32], &[f32]) = if pass.reads_output() { (y, dy) } else { (&[], y) };
        let [_, work] = pass.work();
        team.pass(work, |threads: &mut Threads<'_>| {
            pass.backward(Backward {
                packed,
                x,
                source,
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
                dsource,
                gradients: &mut gradients[..packed.len()],
                accumulate,
                threads,
            })
        })
    }

    /// Copies ∂L/∂x to the rows of the caller's arrays, if these are others.
    pub(super) fn give_input_gradients(&self, memory: &mut [f32]) {
        let Parts { dx, dx_of_caller, .. } = self.planned.parts.granted(memory);
        if let Some(given) = self.planned.schedule.given()
            && !dx.is_empty()
        {
            dx_of_caller.fill(0.0);
            scatter(given, dx, dx_of_caller, dx.len() / given.len());
        }
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
