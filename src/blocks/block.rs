//! The [`Block`] trait: a configuration that declares parameters and state, packs parameters and
//! plans passes. Must not know which blocks stand before it or after it in a network.

use super::config::Config;
use super::packed::{Packed, Plain, Wanted};
use super::pass::Pass;
use super::recurrent::Recurrent;
use super::source::{SourceRows, SourceSize};
use super::steps::{OneByOne, Steps};
use crate::memory::Layout;
use crate::params::{Init, Manifest};
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Format, Runtime};
use rand_core::Rng;
use std::any::Any;
use std::fmt::Debug;

/// The configuration of a differentiable map from sequences to sequences: sizes and options.
///
/// All layers of this crate implement it, and a block of your own can do so too: see [the
/// example](Pass#a-block-of-your-own).
pub trait Block: Any + Debug + Send + Sync {
    /// Returns the block's kind, sizes and options, for messages and files.
    fn config(&self) -> Config;

    /// Returns what one row of the input holds: features or a token.
    fn input(&self) -> InputSize;

    /// Returns the number of features in one row of the output.
    fn output_size(&self) -> usize;

    /// Declares the block's parameters, in the order in which [`Pass::backward`] writes their
    /// gradients.
    ///
    /// # Errors
    /// The errors of [`Manifest::declare`].
    fn parameters(&self, _manifest: &mut Manifest) -> Result<(), Error> {
        Ok(())
    }

    /// Declares the state that the block carries from step to step for `batch` sequences.
    ///
    /// # Errors
    /// The errors of [`Manifest::declare`].
    fn state(&self, _batch: usize, _manifest: &mut Manifest) -> Result<(), Error> {
        Ok(())
    }

    /// Returns whether the outputs of a step depend on no later step, so that a pass over a long
    /// sequence can be divided into passes over its parts, the first part first.
    fn is_causal(&self) -> bool {
        true
    }

    /// Returns whether the block computes each row of its output from the same row of its input alone,
    /// and carries no state. Its passes can then run over any number of rows at a time, so that a
    /// workspace does not have to hold the outputs of all rows: see
    /// [`Training::with_chunked_outputs`](crate::Training::with_chunked_outputs). The gradients of its
    /// parameters must be sums over the rows from the last to the first. By default it does not.
    fn is_row_wise(&self) -> bool {
        false
    }

    /// Returns whether what the block computes depends on the number of steps that its sequences
    /// have taken before, as in a [`Clockwork`](crate::Clockwork). All sequences of a
    /// [`State`](crate::State) must then have taken the same number.
    fn reads_step(&self) -> bool {
        false
    }

    /// Returns where the state holds the output of the last step, if it does: the number of floats of
    /// each sequence's state before it. By default it does not.
    fn output_in_state(&self) -> Option<usize> {
        None
    }

    /// Returns an error unless the block can read a source of this size. `None` stands for a network
    /// without an [encoder](crate::Network::with_encoder), which has no source. By default a block
    /// reads none, and any will do.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the source does not fit the block.
    fn check_source(&self, _source: Option<SourceSize>) -> Result<(), Error> {
        Ok(())
    }

    /// Initialises the parameters, which are all zero when this is called. Weights are set as
    /// `init` says, with random numbers from the generator; biases and gains are set as the block's
    /// documentation says.
    ///
    /// # Errors
    /// The errors of [`Init::fill`].
    fn initialise(
        &self,
        _parameters: &mut [f32],
        _init: Init,
        _rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Allocates room for the parameters in the form that the passes read, with weights in
    /// `format`. By default this form is [`Plain`]: the parameters as they are.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the room cannot be allocated.
    fn pack(&self, _format: Format, _runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let mut manifest = Manifest::default();
        self.parameters(&mut manifest)?;
        Ok(Box::new(Plain::zeros(manifest.len())?))
    }

    /// Plans a pass, and books the memory that it needs in `plan.layout`. Where the plan [wants no
    /// gradients](Wanted::NONE), the pass is for inference, and needs no memory for a backward pass.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if this memory does not fit the address space.
    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error>;

    /// Returns the recurrent layer that this block is, if it is one. A stream of one sequence can
    /// then run this layer, together with a dense layer after it, in one kernel.
    fn as_recurrent(&self) -> Option<Recurrent> {
        None
    }

    /// Plans the steps of a stream, and books the memory that they need in `plan.layout`. Its size
    /// does not depend on the length of the stream. By default each step runs as a pass of
    /// one step.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the memory does not fit the address space.
    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, source, .. } = *plan;
        let mut own = Layout::in_lines("the stream");
        let (schedule, gradients) = (Schedule::dense(1, batch), Wanted::NONE);
        let pass = self.plan(&mut Plan {
            schedule,
            runtime,
            gradients,
            recompute: false,
            source,
            layout: &mut own,
        })?;
        let mut state = Manifest::default();
        self.state(batch, &mut state)?;
        let (memory, last) =
            (plan.layout.book(&[own.floats()])?, plan.layout.book(&[state.len()])?);
        let (input, output) = (self.input(), self.output_size());
        Ok(Box::new(OneByOne { pass, memory, last, batch, input, output }))
    }
}

/// What [`Block::plan`] needs to know to plan a pass.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Says which row belongs to which sequence at which step.
    pub schedule: Schedule,
    /// The instruction set and the number of threads.
    pub runtime: Runtime,
    /// The gradients that the pass will be asked for. With none of them it is for inference.
    pub gradients: Wanted,
    /// Whether the pass will be asked to [compute again](Pass::recompute) what it keeps.
    pub recompute: bool,
    /// The rows of the source, if the network has an encoder.
    pub source: Option<&'a SourceRows>,
    /// Where the pass books its memory.
    pub layout: &'a mut Layout,
}

/// What [`Block::stream`] needs to know to plan the steps of a stream.
#[derive(Debug)]
pub struct StreamPlan<'a> {
    /// The number of sequences.
    pub batch: usize,
    /// The instruction set and the number of threads.
    pub runtime: Runtime,
    /// The rows of the source, if the network has an encoder.
    pub source: Option<&'a SourceRows>,
    /// Where the steps book their memory.
    pub layout: &'a mut Layout,
}
