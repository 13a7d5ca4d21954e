//! A block that reads its own outputs. Must not know what the block within computes.

mod choice;
mod feed;
mod pass;
mod steps;

use crate::blocks::{Block, Config, Packed, Pass, Plan, SourceSize, Steps, StreamPlan};
use crate::error::check_size;
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
pub use choice::Choice;
use feed::Feed;
use pass::OutputRecurrentPass;
use rand_core::Rng;
use std::sync::Arc;
use steps::OutputRecurrentSteps;

/// A block whose outputs are its inputs of the next step: recurrence from the output to the hidden
/// units (figures 10.4 and 10.6 of *Deep Learning*), alone or together with recurrence between hidden
/// units.
///
/// The last features that the block within reads are the outputs o⁽ᵗ⁻¹⁾ of the step before, as many as
/// it has outputs; those before them are an input x⁽ᵗ⁾ as ever, if there are any. Or it reads a token,
/// which is one of its outputs, taken for logits. The input of this block is the same, with the outputs
/// or the token of the step before as the caller has them, y⁽ᵗ⁻¹⁾. Which of the two the block within
/// reads, is a mode of a pass and not another network:
///
/// - *Teacher forcing*, at first: it reads y⁽ᵗ⁻¹⁾. No step waits for outputs of another one, so a block
///   without other recurrence is one batch of all rows (section 10.2.1).
/// - *Running free*: it reads o⁽ᵗ⁻¹⁾, step by step. At the first step of a sequence there is none, and
///   it reads what the caller gives.
/// - *Scheduled sampling* (Bengio et al. 2015): each step of each sequence draws which it reads.
///
/// [`Workspace::set_teacher_forcing`](crate::Workspace::set_teacher_forcing) and
/// [`Stream::set_teacher_forcing`](crate::Stream::set_teacher_forcing) set the probability of y⁽ᵗ⁻¹⁾.
/// It is drawn by the seed, the step and the sequence, so it is the same alone or in a batch. Gradients
/// are those of Bengio et al.: they go through the block to all that it has read, and not through o⁽ᵗ⁻¹⁾
/// to the step that made it. ∂L/∂x of what was not read is 0.
///
/// The names of the parameters and of the state within begin with `block.`. The state has two more
/// tensors: `output` `[B, O]`, the last outputs, and `has_output` `[B, 1]`, 1 where there are any. A
/// pass keeps what the block's pass keeps, its input once more, and 3 floats a row; beside it there is
/// room for a step of a stream of the block.
///
/// ```
/// use bptt::{
///     Activation, Accumulate, Dense, Network, OutputRecurrent, Runtime, Schedule, SquaredError, Stack,
/// };
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // h = tanh(b + U x + W o₋), o = c + V h, with 2 inputs and 1 output.
/// let step = Stack::new(Dense::new(2 + 1, 8)?.with_activation(Activation::Tanh)).then(Dense::new(8, 1)?);
/// let network = Network::new(OutputRecurrent::new(step)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(3, 1))?;
/// // Rows of x and the target of the step before.
/// let (x, targets) = ([0.1, 0.2, 0.0, 0.3, 0.4, 0.7, 0.5, 0.6, 0.8], [0.7, 0.8, 0.9]);
/// let loss = SquaredError::mean(&targets);
/// model.gradients(&mut workspace, &x, &loss, Accumulate::No)?;
/// workspace.set_teacher_forcing(0.5)?;
/// model.gradients(&mut workspace, &x, &loss, Accumulate::No)?;
/// // A stream that reads what it has said itself.
/// let mut stream = model.stream(1)?;
/// stream.set_teacher_forcing(0.0)?;
/// let mut o = [0.0];
/// stream.step(&[0.1, 0.2, 0.0], &mut o)?;
/// stream.step(&[0.3, 0.4, f32::NAN], &mut o)?;
/// assert!(o[0].is_finite());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OutputRecurrent {
    block: Arc<dyn Block>,
    choice: Choice,
}

impl OutputRecurrent {
    /// Lets `block` read its own outputs.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it reads fewer features than it has outputs, or tokens that are not as
    /// many as its outputs, or if it needs later steps.
    pub fn new(block: impl Block) -> Result<Self, Error> {
        Self::of(Arc::new(block))
    }

    /// Sets how a token is chosen from the outputs of the step before. At first it is drawn with the
    /// probabilities that they stand for.
    pub fn with_choice(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// Lets a block that was read from a file read its own outputs.
    pub(crate) fn of(block: Arc<dyn Block>) -> Result<Self, Error> {
        let output = check_size("output_size", block.output_size())?;
        let refused = |given: String, expected: String| {
            let what = "a block that reads its outputs";
            Err(Error::Mismatch { what, given: format!("{given}, {}", block.config()), expected })
        };
        if !block.is_causal() {
            let expected = "steps that depend on no later step".into();
            return refused("steps that depend on later ones".into(), expected);
        }
        match block.input() {
            InputSize::Features(size) if size < output => {
                refused(format!("{size} features"), format!("{output} or more, its outputs"))
            }
            InputSize::Tokens(size) if size != output => {
                refused(format!("{size} tokens"), format!("{output}, one for each output"))
            }
            _ => Ok(Self { block, choice: Choice::default() }),
        }
    }

    /// Returns how the block's inputs are put together for `batch` sequences.
    fn feed(&self) -> Feed {
        let (input, output) = (self.block.input(), self.block.output_size());
        Feed { input, output, choice: self.choice }
    }
}

impl Block for OutputRecurrent {
    fn config(&self) -> Config {
        let config = Config::new("OutputRecurrent").with("block", self.block.config());
        config.with("choice", self.choice.name())
    }

    fn input(&self) -> InputSize {
        self.block.input()
    }

    fn output_size(&self) -> usize {
        self.block.output_size()
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.within("block", |manifest| self.block.parameters(manifest)).map(|_| ())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare_zero("output", &[batch, self.output_size()])?;
        manifest.declare_zero("has_output", &[batch, 1])?;
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
        self.block.pack(format, runtime)
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(OutputRecurrentPass::planned(&*self.block, self.feed(), plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(OutputRecurrentSteps::planned(&*self.block, self.feed(), plan)?))
    }
}
