//! Makes a block of every recurrent layer: a [`Layer`] only describes itself as a [`Recurrent`],
//! and everything else follows from that.

use super::leak::Leak;
use super::packed::RecurrentPacked;
use super::pass::RecurrentPass;
use super::sections::{All, Extra};
use super::spec::{Kind, Recurrent, Sizes};
use super::steps::RecurrentSteps;
use crate::blocks::{Block, Config, Packed, Pass, Plan, Steps, StreamPlan};
use crate::error::check_len;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use bptt_kernels::checked_len;
use rand_core::Rng;
use std::fmt::Debug;

/// A recurrent layer. It only has to implement `recurrent`; all of [`Block`] follows from that.
pub trait Layer: Debug + Send + Sync + 'static {
    /// Returns the description of the layer.
    fn recurrent(&self) -> Recurrent;

    /// Returns I, the number of features in a row of the input.
    fn input_size(&self) -> usize {
        self.recurrent().sizes.input
    }

    /// Returns H, the number of units.
    fn hidden_size(&self) -> usize {
        self.recurrent().sizes.hidden
    }
}

/// Returns `layer`, or an error if its parameters do not fit the address space.
pub(super) fn checked<L: Layer>(layer: L) -> Result<L, Error> {
    layer.recurrent().check()?;
    Ok(layer)
}

impl Layer for Recurrent {
    fn recurrent(&self) -> Recurrent {
        self.clone()
    }
}

impl<L: Layer> Block for L {
    fn config(&self) -> Config {
        self.recurrent().config
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.input_size())
    }

    fn output_size(&self) -> usize {
        self.recurrent().sizes.output
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let layer = self.recurrent();
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes, layer.geometry());
        let rows = checked_len("the parameters", &[geometry.gates, hidden])?;
        manifest.declare("weight_ih", &[rows, input])?;
        match layer.delays.len() {
            1 => manifest.declare("weight_hh", &[rows, output])?,
            delays => manifest.declare("weight_hh", &[delays, rows, output])?,
        }
        manifest.declare("bias", &[rows])?;
        let Extra { bias, diagonal, gain, gain_extra } = layer.extra();
        let diagonal_name =
            if matches!(layer.kind, Kind::Leaky(_)) { "rho" } else { "weight_peephole" };
        for (name, vectors) in
            [("bias_hn", bias), (diagonal_name, diagonal), ("gain", gain), ("gain_hn", gain_extra)]
        {
            match vectors {
                0 => {}
                1 => manifest.declare(name, &[hidden])?,
                vectors => manifest.declare(name, &[vectors, hidden])?,
            }
        }
        if geometry.projects {
            manifest.declare("weight_hr", &[output, hidden])?;
        }
        Ok(())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        let layer = self.recurrent();
        let Sizes { input, hidden, output } = layer.sizes;
        match layer.history() {
            1 => manifest.declare("h", &[batch, output])?,
            history => manifest.declare("h", &[history, batch, output])?,
        }
        if layer.geometry().cells {
            manifest.declare("c", &[batch, hidden])?;
        }
        if layer.late {
            manifest.declare("x", &[batch, input])?;
        }
        Ok(())
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        self.recurrent().draw(parameters, init, rng)
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        Ok(Box::new(RecurrentPacked::zeros(self.recurrent(), format, runtime.isa())?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(RecurrentPass::planned(self.recurrent(), plan)?))
    }

    fn output_in_state(&self) -> Option<usize> {
        let layer = self.recurrent();
        // The state begins with the outputs of the last steps, the oldest first.
        Some((layer.history() - 1) * layer.sizes.output)
    }

    fn as_recurrent(&self) -> Option<Recurrent> {
        Some(self.recurrent())
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        Ok(Box::new(RecurrentSteps::planned(self.recurrent(), batch, runtime, plan.layout)?))
    }
}

impl Recurrent {
    /// Draws U and W, gate by gate, and P; sets the gains, the forget bias and ρ. All other
    /// parameters stay zero.
    fn draw(&self, parameters: &mut [f32], init: Init, rng: &mut dyn Rng) -> Result<(), Error> {
        let (sections, Sizes { input, hidden, output }) = (self.sections()?, self.sizes);
        check_len("parameters", parameters.len(), sections.len())?;
        let gates = self.geometry().gates;
        let (all, extra) = sections.granted(parameters);
        let All { weight_ih: u, weight_hh: w, bias, weight_hr: p, .. } = all;
        for gate in 0..gates {
            init.fill(&mut u[gate * hidden * input..][..hidden * input], hidden, input, rng)?;
            for delay in 0..self.delays.len() {
                let first = (delay * gates + gate) * hidden * output;
                init.fill(&mut w[first..][..hidden * output], hidden, output, rng)?;
            }
        }
        if !p.is_empty() {
            init.fill(p, output, hidden, rng)?;
        }
        [extra.gain, extra.gain_extra].into_iter().for_each(|gain| gain.fill(1.0));
        match self.kind {
            Kind::Lstm { coupled, forget_bias, .. } => {
                let forget = usize::from(!coupled) * hidden;
                bias[forget..forget + hidden].fill(forget_bias);
            }
            Kind::Leaky(Leak::Learned { initial }) => {
                extra.diagonal.fill((initial / (1.0 - initial)).ln());
            }
            _ => {}
        }
        Ok(())
    }
}
