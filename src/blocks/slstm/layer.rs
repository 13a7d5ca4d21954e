//! Makes a block of an sLSTM layer: its parameters, its state, and what runs it.

use super::packed::SlstmPacked;
use super::pass::SlstmPass;
use super::spec::{ForgetGate, Sections, Sizes, Slstm};
use super::steps::SlstmSteps;
use crate::blocks::{Block, Config, Packed, Pass, Plan, Steps, StreamPlan};
use crate::error::check_len;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use rand_core::Rng;

impl Block for Slstm {
    fn config(&self) -> Config {
        self.described()
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.sizes().input)
    }

    fn output_size(&self) -> usize {
        self.sizes().hidden
    }

    fn output_in_state(&self) -> Option<usize> {
        Some(0)
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        self.sections()?;
        let Sizes { input, hidden, units, .. } = self.sizes();
        manifest.declare("weight_ih", &[4 * hidden, input])?;
        manifest.declare("weight_hh", &[4 * hidden, units])?;
        manifest.declare("bias", &[4 * hidden])
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        let shape = [batch, self.sizes().hidden];
        manifest.declare("h", &shape)?;
        // They mean something only together, so nothing else than a pass sets them.
        manifest.declare_zero("c", &shape)?;
        manifest.declare_zero("n", &shape)?;
        manifest.declare_zero("m", &shape)
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let (sections, Sizes { input, hidden, units, .. }) = (self.sections()?, self.sizes());
        check_len("parameters", parameters.len(), sections.weight_ih.through(sections.bias).len())?;
        let Sections { weight_ih, weight_hh, bias } = sections.granted(parameters);
        for gate in weight_ih.chunks_exact_mut(hidden * input) {
            init.fill(gate, hidden, input, rng)?;
        }
        for of_head in weight_hh.chunks_exact_mut(units * units) {
            init.fill(of_head, units, units, rng)?;
        }
        if self.forget() == ForgetGate::Logistic {
            for (unit, bias) in bias[hidden..2 * hidden].iter_mut().enumerate() {
                *bias = 3.0 + 3.0 * ((unit % units) as f32 + 0.5) / units as f32;
            }
        }
        Ok(())
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        Ok(Box::new(SlstmPacked::zeros(*self, format, runtime.isa())?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(SlstmPass::planned(*self, plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(SlstmSteps::planned(*self, plan)?))
    }
}
