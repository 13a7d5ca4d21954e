//! Makes a block of every scanned layer: a layer only describes itself as a [`ScanLayer`], and
//! everything else follows from that.

use super::packed::ScanPacked;
use super::pass::ScanPass;
use super::spec::{ScanLayer, Sections};
use super::steps::ScanSteps;
use crate::blocks::{Block, Config, Packed, Pass, Plan, Steps, StreamPlan};
use crate::error::check_len;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use rand_core::Rng;

impl Block for ScanLayer {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.input)
    }

    fn output_size(&self) -> usize {
        self.hidden
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        self.check()?;
        manifest.declare("weight_ih", &[self.gate_row(), self.input])?;
        manifest.declare("bias", &[self.gate_row()])?;
        match (self.own.name(), self.geometry().learned) {
            (Some(name), 1) => manifest.declare(name, &[self.hidden]),
            (Some(name), vectors) => manifest.declare(name, &[vectors, self.hidden]),
            (None, _) => Ok(()),
        }
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        let name = if self.geometry().cells { "c" } else { "h" };
        manifest.declare(name, &[batch, self.hidden])
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let sections = self.sections()?;
        let all = sections.weight_ih.through(sections.own).len();
        check_len("parameters", parameters.len(), all)?;
        let Sections { weight_ih, own, .. } = sections.granted(parameters);
        for gate in weight_ih.chunks_exact_mut(self.hidden * self.input) {
            init.fill(gate, self.hidden, self.input, rng)?;
        }
        self.own.draw(own, rng);
        Ok(())
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        Ok(Box::new(ScanPacked::zeros(self.clone(), format, runtime.isa())?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(ScanPass::planned(self.clone(), plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        Ok(Box::new(ScanSteps::planned(self.clone(), batch, runtime, plan.layout)?))
    }
}

/// Makes blocks of layers that have a method `scan`, which returns their [`ScanLayer`].
macro_rules! scan_blocks {
    ($($layer:ty;)+) => {
        $(impl $crate::blocks::Block for $layer {
            fn config(&self) -> $crate::blocks::Config {
                self.scan().config()
            }

            fn input(&self) -> $crate::InputSize {
                self.scan().input()
            }

            fn output_size(&self) -> usize {
                self.scan().output_size()
            }

            fn parameters(&self, manifest: &mut $crate::Manifest) -> Result<(), $crate::Error> {
                self.scan().parameters(manifest)
            }

            fn state(
                &self,
                batch: usize,
                manifest: &mut $crate::Manifest,
            ) -> Result<(), $crate::Error> {
                self.scan().state(batch, manifest)
            }

            fn initialise(
                &self,
                parameters: &mut [f32],
                init: $crate::Init,
                rng: &mut dyn rand_core::Rng,
            ) -> Result<(), $crate::Error> {
                self.scan().initialise(parameters, init, rng)
            }

            fn pack(
                &self,
                format: $crate::Format,
                runtime: $crate::Runtime,
            ) -> Result<Box<dyn $crate::blocks::Packed>, $crate::Error> {
                self.scan().pack(format, runtime)
            }

            fn plan(
                &self,
                plan: &mut $crate::blocks::Plan<'_>,
            ) -> Result<Box<dyn $crate::blocks::Pass>, $crate::Error> {
                self.scan().plan(plan)
            }

            fn stream(
                &self,
                plan: &mut $crate::blocks::StreamPlan<'_>,
            ) -> Result<Box<dyn $crate::blocks::Steps>, $crate::Error> {
                self.scan().stream(plan)
            }
        })+
    };
}
pub(super) use scan_blocks;
