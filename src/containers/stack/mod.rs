//! A stack of blocks, each of which reads the outputs of the one before it, as a block. Must not know
//! what a block computes.

mod blocks;
mod pass;
mod steps;

use super::ChildrenPacked;
use crate::blocks::{Block, Config, Packed, Pass, Plan, SourceSize, Steps, StreamPlan};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
pub use blocks::Stack;
use pass::StackPass;
use rand_core::Rng;
use std::ops::Range;
pub(crate) use steps::StackSteps;

impl Stack {
    /// Allocates room for the packed parameters of the blocks.
    pub(crate) fn packed(&self, format: Format, runtime: Runtime) -> Result<ChildrenPacked, Error> {
        self.check()?;
        // The gradient of a block's input is that of the outputs of the block before it.
        let blocks = self.blocks().enumerate().map(|(nth, block)| (block, nth > 0));
        ChildrenPacked::zeros(blocks, format, runtime)
    }

    /// Plans the pass of the `blocks` with these numbers, of a whole network, whose noise has the seeds
    /// of the network. Its parameters are those of all blocks.
    pub(crate) fn plan_outermost(
        &self,
        blocks: Range<usize>,
        plan: &mut Plan<'_>,
    ) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(StackPass::planned(self, blocks, plan)?))
    }

    /// Plans the steps of a stream through the blocks.
    pub(crate) fn steps(&self, plan: &mut StreamPlan<'_>) -> Result<StackSteps, Error> {
        StackSteps::planned(self, plan)
    }
}

impl Block for Stack {
    fn config(&self) -> Config {
        let blocks: Vec<_> = self.blocks().map(Block::config).collect();
        Config::new("Stack").with("blocks", blocks)
    }

    fn input(&self) -> InputSize {
        self.input
    }

    fn output_size(&self) -> usize {
        self.output
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        self.declared(manifest, |block, manifest| block.parameters(manifest)).map(|_| ())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        self.declared(manifest, |block, manifest| block.state(batch, manifest)).map(|_| ())
    }

    fn is_causal(&self) -> bool {
        self.blocks().all(Block::is_causal)
    }

    fn is_row_wise(&self) -> bool {
        self.blocks().all(Block::is_row_wise)
    }

    fn reads_step(&self) -> bool {
        self.blocks().any(Block::reads_step)
    }

    fn output_in_state(&self) -> Option<usize> {
        let mut before = Manifest::default();
        let blocks = self.blocks().len() - 1;
        self.blocks().take(blocks).enumerate().try_for_each(|(nth, block)| {
            before.within(&nth.to_string(), |before| block.state(1, before)).map(|_| ()).ok()
        })?;
        Some(before.len() + self.blocks().last()?.output_in_state()?)
    }

    fn check_source(&self, source: Option<SourceSize>) -> Result<(), Error> {
        self.blocks().try_for_each(|block| block.check_source(source))
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let mut manifest = Manifest::default();
        let ranges = self.declared(&mut manifest, |block, manifest| block.parameters(manifest))?;
        crate::error::check_len("parameters", parameters.len(), manifest.len())?;
        for (block, range) in self.blocks().zip(ranges) {
            block.initialise(&mut parameters[range], init, rng)?;
        }
        Ok(())
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        Ok(Box::new(self.packed(format, runtime)?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let blocks = 0..self.blocks().len();
        Ok(Box::new(StackPass::planned(self, blocks, plan)?.within_a_block()))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(self.steps(plan)?.within_a_block()))
    }
}
