//! Forward and backward passes through the blocks of a network, one after the other, in the memory
//! of a workspace.

use super::encoder::EncoderRun;
use super::{Holds, Workspace};
use crate::blocks::{Backward, Forward, Source, SourceGradients};
use crate::containers::ChildrenPacked;
use crate::loss::{Loss, Outputs, TargetRows};
use crate::network::begins::Learned;
use crate::network::packing::Packing;
use crate::network::plan::{EncoderPlan, Parts, Planned};
use crate::params::Sequences;
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, Inputs, Schedule};
use crate::{Accumulate, Error, Runtime};
use bptt_kernels::team::{Pass as Threads, Team};

/// A pass over a schedule, or over a stretch of one, in memory that holds what `planned` booked.
pub(super) struct Run<'a> {
    pub planned: &'a Planned,
    pub packed: &'a ChildrenPacked,
    pub encoder: Option<EncoderOf<'a>>,
    /// The input in the order of the caller.
    pub x: Input<'a>,
    /// The steps that the sequences have taken before the pass.
    pub step: u64,
    pub noise: Noise,
    pub mode: Mode,
    pub runtime: Runtime,
}

/// The encoder of a run.
#[derive(Clone, Copy)]
pub(super) struct EncoderOf<'a> {
    pub packing: &'a Packing,
    /// Its input, in the order of the caller.
    pub x: Input<'a>,
    /// The sequences whose state its bridge makes.
    pub begins: &'a Learned,
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
        let Self { planned, packed, step, noise, mode, .. } = *self;
        let Parts { state, last, own, y, x_of_passes, encoder, .. } = planned.parts.granted(memory);
        let x = in_order(&planned.schedule, self.x, x_of_passes);
        let source = match self.encoder_run()? {
            Some((plan, run)) => {
                run.forward(encoder, state, team)?;
                plan.source(encoder)
            }
            None => Source::default(),
        };
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

    /// Returns the run of the encoder, with its plan, if there is one.
    fn encoder_run(&self) -> Result<Option<(&'_ EncoderPlan, EncoderRun<'_>)>, Error> {
        let (Some(plan), Some(EncoderOf { packing, x, begins })) =
            (&self.planned.encoder, self.encoder)
        else {
            return Ok(None);
        };
        let Some(packed) = packing.encoder() else { return Ok(None) };
        let Planned { state, schedule, .. } = self.planned;
        let decoder = Sequences::new("state", state, schedule.batch())?.of_learned();
        let (noise, mode, runtime) = (self.noise.of_encoder(), self.mode, self.runtime);
        Ok(Some((plan, EncoderRun { plan, packed, x, noise, mode, runtime, begins, decoder })))
    }

    /// Returns the loss, and runs a backward pass through all blocks, from the last to the first.
    /// The memory holds a forward pass.
    pub(super) fn backward(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        from: From<'_>,
    ) -> Result<f64, Error> {
        let From { loss, targets, loss_so_far, has_last_gradient, gradients, accumulate } = from;
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
        self.backward_of_outputs(memory, team, has_last_gradient, Sums { gradients, accumulate })?;
        Ok(value)
    }

    /// Runs a backward pass through all blocks, from the last to the first, and through the encoder.
    /// The gradient with respect to the outputs lies where they are, or in a region of its own if the
    /// backward pass reads them.
    pub(super) fn backward_of_outputs(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        has_last_gradient: bool,
        sums: Sums<'_>,
    ) -> Result<(), Error> {
        let Self { planned, packed, step, .. } = *self;
        let Sums { gradients, accumulate } = sums;
        let Parts { state, dstate, dlast, own, y, dy, dx, x_of_passes, encoder, .. } =
            planned.parts.granted(memory);
        let x = match (planned.schedule.given(), self.x) {
            (None, x) => x,
            // The forward pass has left them there.
            (Some(_), Input::Features(_)) => Input::Features(x_of_passes),
            (Some(_), Input::Tokens(_)) => Input::Tokens(bytemuck::cast_slice(x_of_passes)),
        };
        let (pass, size) = (&planned.pass, planned.output);
        let (y, dy): (&[f32], &[f32]) = if pass.reads_output() { (y, dy) } else { (&[], y) };
        let encoder_run = self.encoder_run()?;
        let (source, dsource) = match &encoder_run {
            Some((plan, _)) => plan.with_gradients(encoder),
            None => (Source::default(), SourceGradients::default()),
        };
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
                dstate: &mut *dstate,
                dx: (!dx.is_empty()).then_some(dx),
                dsource,
                gradients: &mut gradients[..packed.len()],
                accumulate,
                threads,
            })
        })?;
        let Some((_, run)) = encoder_run else { return Ok(()) };
        let of_encoder = packed.len()..packed.len() + run.packed.len();
        let sums = Sums { gradients: &mut gradients[of_encoder], accumulate };
        run.backward(encoder, dstate, team, sums)
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

/// What a run of a workspace needs.
struct Lent<'a> {
    run: Run<'a>,
    schedule: &'a Schedule,
    memory: &'a mut [f32],
    team: &'a mut Team,
    gradients: &'a mut [f32],
}

impl Workspace {
    /// Returns the run over the whole schedule, which is not divided, and what it needs.
    fn lend<'a>(&'a mut self, packing: &'a Packing, inputs: Inputs<'a>, mode: Mode) -> Lent<'a> {
        let Self { plans, memory, gradients, team, schedule, learned: begins, .. } = self;
        let encoder = inputs.source.map(|x| EncoderOf { packing, x, begins });
        let run = Run {
            planned: plans.first(),
            packed: packing.blocks(),
            encoder,
            x: inputs.x,
            step: self.step,
            noise: self.noise,
            mode,
            runtime: self.runtime,
        };
        Lent { run, schedule, memory, team, gradients: gradients.as_mut_slice() }
    }

    /// Runs a forward pass over the whole schedule, which is not divided, for this purpose.
    pub(in super::super) fn forward(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        mode: Mode,
    ) -> Result<(), Error> {
        self.check_inputs(inputs)?;
        self.holds = Holds::Nothing;
        self.begin_learned(packing)?;
        let Lent { run, memory, team, .. } = self.lend(packing, inputs, mode);
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

    /// Returns the loss of the outputs, which it may overwrite. `inputs` are those of the forward pass.
    pub(in super::super) fn loss(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        self.holds = Holds::LastState;
        let mode = self.mode(false);
        let Lent { run, schedule, memory, team, .. } = self.lend(packing, inputs, mode);
        run.value(memory, team, loss, TargetRows::of(schedule), 0.0)
    }

    /// Returns the loss, and runs a backward pass over the whole schedule, which is not divided.
    pub(in super::super) fn backward(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        self.holds = Holds::Nothing;
        let has_last_gradient = self.has_last_gradient;
        let Lent { run, schedule, memory, team, gradients } =
            self.lend(packing, inputs, Mode::TRAINING);
        let from = From {
            loss,
            targets: TargetRows::of(schedule),
            loss_so_far: 0.0,
            has_last_gradient,
            gradients,
            accumulate: accumulate == Accumulate::Yes,
        };
        let value = run.backward(memory, team, from)?;
        run.give_input_gradients(memory);
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
