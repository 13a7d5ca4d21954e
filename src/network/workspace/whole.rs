//! Passes over a whole schedule, with the encoder before and after those of the decoder, if there is one.
//! Knows where their memory lies; must not know what a block keeps.

use super::encoding::{AskedOfEncoder, Encoding};
use super::passes::{Compute, From, Run, Sums, scatter};
use super::{Holds, Workspace};
use crate::loss::{Loss, TargetRows};
use crate::network::packing::Packing;
use crate::network::plan::Parts;
use crate::regularisation::Mode;
use crate::sequence::{Inputs, Schedule};
use crate::{Accumulate, Error};
use bptt_kernels::team::Team;

/// What a run of a workspace needs.
struct Lent<'a> {
    run: Run<'a>,
    encoder: Encoding<'a>,
    schedule: &'a Schedule,
    memory: &'a mut [f32],
    team: &'a mut Team,
    gradients: &'a mut [f32],
}

impl Workspace {
    /// Returns the run over the whole schedule, which is not divided, and what it needs.
    fn lend<'a>(
        &'a mut self,
        packing: &'a Packing,
        inputs: Inputs<'a>,
        mode: Mode,
    ) -> Result<Lent<'a>, Error> {
        let Self { plans, memory, gradients, team, schedule, learned, .. } = self;
        let (noise, runtime) = (self.noise, self.runtime);
        let (planned, packed, x) = (plans.first(), packing.blocks(), inputs.x);
        let run = Run { planned, packed, x, step: self.step, noise, mode, runtime };
        let asked = AskedOfEncoder { source: inputs.source, noise, mode, runtime };
        let (encoder, memory) = Encoding::of(plans, packing, asked, learned, memory)?;
        let gradients = gradients.as_mut_slice();
        Ok(Lent { run, encoder, schedule, memory, team, gradients })
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
        let Lent { run, mut encoder, memory, team, .. } = self.lend(packing, inputs, mode)?;
        encoder.forward(run.planned.parts.state.of_mut(memory), team)?;
        run.forward(memory, team, encoder.source(), Compute::All)?;
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
        let Lent { run, schedule, memory, team, .. } = self.lend(packing, inputs, mode)?;
        run.value(memory, team, loss, TargetRows::of(schedule), 0.0)
    }

    /// Returns the loss, and runs a backward pass over the whole schedule, which is not divided.
    pub(in super::super) fn backward(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
        how: Accumulate,
    ) -> Result<f64, Error> {
        self.holds = Holds::Nothing;
        let has_last_gradient = self.has_last_gradient;
        let Lent { run, mut encoder, schedule, memory, team, gradients } =
            self.lend(packing, inputs, Mode::TRAINING)?;
        let (of_blocks, of_encoder) = gradients.split_at_mut(run.packed.len());
        let accumulate = how == Accumulate::Yes;
        encoder.clear_gradients();
        let from = From {
            loss,
            targets: TargetRows::of(schedule),
            loss_so_far: 0.0,
            has_last_gradient,
            gradients: of_blocks,
            accumulate,
            encoder: encoder.with_gradients(),
        };
        let value = run.backward(memory, team, from)?;
        let sums = Sums { gradients: of_encoder, accumulate };
        encoder.backward(run.planned.parts.dstate.of(memory), team, sums)?;
        run.give_input_gradients(memory);
        self.sum_learned(packing, how)?;
        self.holds = Holds::Backward;
        Ok(value)
    }
}
