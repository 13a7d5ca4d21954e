//! Blocks side by side, which read the same input and whose outputs are put next to each other or
//! summed. Must not know what a block computes.

mod branches;
mod pass;
mod steps;

use super::ChildrenPacked;
use crate::blocks::{
    Block, Config, Packed, Pass, Plan, SourceSize, Steps, StreamPlan, delegate_block,
};
use crate::error::check_len;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use branches::Child;
pub(super) use branches::{Branches, Direction, Merge};
use pass::ParallelPass;
use rand_core::Rng;
use std::sync::Arc;
use steps::ParallelSteps;

/// Blocks side by side: all read the same input, and the output is their outputs next to each other,
/// or the [sum](Self::summed) of them. With [`Identity`](crate::Identity) as one of the blocks it is a
/// skip connection that later blocks see beside what it skips (figure 10.13c of *Deep Learning*).
///
/// The names of the parameters and of the state of block n begin with `n.`. A pass keeps what the
/// passes of the blocks keep, their outputs, the gradients of these for blocks whose backward passes
/// [read outputs](crate::blocks::Pass::reads_output), and, if ∂L/∂x is computed, one more of it for
/// each block but the first. The gradients of the input are summed in the order of the blocks.
///
/// ```
/// use bptt::{Dense, Gru, Identity, Network, Parallel, Reset, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // The last layer sees the input beside the states.
/// let beside = Parallel::new(Identity::new(2)?).with(Gru::new(2, 8, Reset::After)?);
/// let network = Network::new(beside).then(Dense::new(2 + 8, 1)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut y = [0.0];
/// model.stream(1)?.step(&[0.5, -0.5], &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parallel {
    branches: Branches,
}

impl Parallel {
    /// Begins with one block.
    pub fn new(block: impl Block) -> Self {
        Self::of(vec![Arc::new(block)], false)
    }

    /// Adds a block. If it does not read the same input, making a model fails with
    /// [`Error::Mismatch`].
    pub fn with(self, block: impl Block) -> Self {
        Self { branches: self.branches.numbered(Arc::new(block)) }
    }

    /// Makes the output the sum of the outputs, which must have the same size.
    pub fn summed(self) -> Self {
        Self { branches: self.branches.merged(Merge::Sum) }
    }

    /// Puts one or more blocks that were read from a file side by side.
    pub(crate) fn of(blocks: Vec<Arc<dyn Block>>, is_summed: bool) -> Self {
        let none = Branches::new(Merge::of(is_summed));
        Self { branches: blocks.into_iter().fold(none, Branches::numbered) }
    }
}

delegate_block!(Parallel, |this| this.branches, config: this.branches.config());

impl Block for Branches {
    fn config(&self) -> Config {
        let blocks: Vec<_> = self.blocks().map(Block::config).collect();
        Config::new("Parallel").with("blocks", blocks).with("summed", self.is_summed())
    }

    fn input(&self) -> InputSize {
        self.children[0].block.input()
    }

    fn output_size(&self) -> usize {
        match self.merge {
            Merge::Concatenate => self.blocks().map(Block::output_size).sum(),
            Merge::Sum => self.children[0].block.output_size(),
        }
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        self.declared(manifest, |block, manifest| block.parameters(manifest)).map(|_| ())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        self.declared(manifest, |block, manifest| block.state(batch, manifest)).map(|_| ())
    }

    fn is_causal(&self) -> bool {
        let forward = |child: &Child| child.direction == Direction::Forward;
        self.children.iter().all(|child| forward(child) && child.block.is_causal())
    }

    fn is_row_wise(&self) -> bool {
        self.is_causal() && self.blocks().all(Block::is_row_wise)
    }

    fn reads_step(&self) -> bool {
        self.blocks().any(Block::reads_step)
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
        let ranges = self.declared(&mut manifest, |block, all| block.parameters(all))?;
        check_len("parameters", parameters.len(), manifest.len())?;
        for (block, range) in self.blocks().zip(ranges) {
            block.initialise(&mut parameters[range], init, rng)?;
        }
        Ok(())
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        self.check()?;
        let packed =
            ChildrenPacked::zeros(self.blocks().map(|block| (block, false)), format, runtime)?;
        Ok(Box::new(packed))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(ParallelPass::planned(self, plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(ParallelSteps::planned(self, plan)?))
    }
}
