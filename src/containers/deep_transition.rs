//! A block as the transition from one hidden state to the next. Must not know what the block computes.

use super::ChildrenPacked;
use super::step_by_step::{
    Before, Fed, Feed, FeedGradients, FeedPlan, Shape, StepByStepPass, StepByStepSteps,
};
use crate::Error;
use crate::blocks::{Block, Config, Packed, Pass, Plan, SourceSize, Steps, StreamPlan};
use crate::error::check_size;
use crate::memory::Region;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Format, Runtime};
use bptt_kernels::rowwise::StridedMut;
use rand_core::Rng;
use std::sync::Arc;

/// Recurrence through any block: `h⁽ᵗ⁾ = f(x⁽ᵗ⁾, h⁽ᵗ⁻¹⁾)`. With a [`Stack`](crate::Stack) of layers as f it
/// is a deep transition, with layers between one hidden state and the next (section 10.5 of *Deep
/// Learning*, figure 10.13b); with [`Residual`](crate::Residual) and [`Parallel`](crate::Parallel) within,
/// skip connections shorten the path through them (figure 10.13c).
///
/// The block reads the features of x first and as many as it has outputs after them, h⁽ᵗ⁻¹⁾. Its outputs
/// are h⁽ᵗ⁾. Blocks within may have a state of their own. Gradients go through the block from each step to
/// the one before; [`OutputRecurrent`](crate::OutputRecurrent) is for outputs that are given in training.
///
/// The state is `h` `[B, O]` and then that of the block, whose names begin with `block.` as those of its
/// parameters do. A pass keeps what a pass of one step of the block keeps, for each step, with what it
/// reads and the state. Each step waits for the one before, and its products are those of B rows.
///
/// ```
/// use bptt::{Activation, DeepTransition, Dense, Network, Runtime, Stack};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // h = tanh(b₂ + W₂ tanh(b₁ + U x + W₁ h₋)), with 3 inputs and 8 hidden units.
/// let first = Dense::new(3 + 8, 16)?.with_activation(Activation::Tanh);
/// let second = Dense::new(16, 8)?.with_activation(Activation::Tanh);
/// let network = Network::new(DeepTransition::new(Stack::new(first).then(second))?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut h = [0.0; 8];
/// model.stream(1)?.step(&[0.1, 0.2, 0.3], &mut h)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeepTransition {
    block: Arc<dyn Block>,
    shape: Shape,
}

impl DeepTransition {
    /// Makes `block` the transition.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it does not read more features than it has outputs, or needs later steps.
    pub fn new(block: impl Block) -> Result<Self, Error> {
        Self::of(Arc::new(block))
    }

    /// Makes a block that was read from a file the transition.
    pub(crate) fn of(block: Arc<dyn Block>) -> Result<Self, Error> {
        let output = check_size("output_size", block.output_size())?;
        match block.input() {
            InputSize::Features(size) if size > output && block.is_causal() => {
                let (input, of_block) = (size - output, size);
                let shape = Shape { input, of_block, output, before: Before::Own };
                Ok(Self { block, shape })
            }
            _ => Err(Error::Mismatch {
                what: "a deep transition",
                given: block.config().to_string(),
                expected: format!("a block that reads x and then its {output} outputs"),
            }),
        }
    }

    /// Returns what the block reads: its outputs.
    fn feed(&self) -> FeedPlan {
        let feed = Box::new(Repeat { output: self.shape.output });
        FeedPlan { feed, floats: 0, parameters: 0 }
    }
}

impl Block for DeepTransition {
    fn config(&self) -> Config {
        Config::new("DeepTransition").with("block", self.block.config())
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.shape.input)
    }

    fn output_size(&self) -> usize {
        self.shape.output
    }

    fn output_in_state(&self) -> Option<usize> {
        Some(0)
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.within("block", |manifest| self.block.parameters(manifest)).map(|_| ())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("h", &[batch, self.shape.output])?;
        manifest.within("block", |manifest| self.block.state(batch, manifest)).map(|_| ())
    }

    fn reads_step(&self) -> bool {
        self.block.reads_step()
    }

    fn check_source(&self, source: Option<SourceSize>) -> Result<(), Error> {
        self.block.check_source(source)
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        self.block.initialise(parameters, init, rng)
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let blocks = [(&*self.block, true)];
        Ok(Box::new(ChildrenPacked::zeros(blocks.into_iter(), format, runtime)?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let pass = StepByStepPass::planned(&*self.block, self.shape, self.feed(), plan)?;
        Ok(Box::new(pass))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let steps = StepByStepSteps::planned(&*self.block, self.shape, self.feed(), plan)?;
        Ok(Box::new(steps))
    }
}

/// The outputs of the step before, as they are.
#[derive(Debug)]
struct Repeat {
    output: usize,
}

impl Feed for Repeat {
    fn forward(&self, step: Fed<'_, '_>, to: StridedMut<'_>) -> Result<(), Error> {
        let rows = to.values[step.rows.start * to.stride..].chunks_mut(to.stride);
        for (to, from) in rows.zip(step.before.chunks_exact(self.output)) {
            to[..self.output].copy_from_slice(from);
        }
        Ok(())
    }

    fn backward(&self, step: Fed<'_, '_>, to: FeedGradients<'_>) -> Result<(), Error> {
        let rows = to.made.values[step.rows.start * to.made.stride..].chunks(to.made.stride);
        for (to, from) in to.before.chunks_exact_mut(self.output).zip(rows) {
            to.copy_from_slice(&from[..self.output]);
        }
        Ok(())
    }

    fn work(&self) -> [usize; 2] {
        [0; 2]
    }

    fn find(&self, _name: &str) -> Option<Region> {
        None
    }
}
