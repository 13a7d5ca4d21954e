//! Options of a network's passes for inference, and the making of their workspace.

use super::division::{Asked, Plans};
use super::model::Model;
use super::workspace::{Workspace, check_room};
use crate::Error;
use crate::blocks::Wanted;
use crate::memory::Memory;
use crate::params::Parameters;
use crate::sequence::Schedule;

impl Model {
    /// Begins the planning of passes for inference over `schedule`, to which options can be added.
    pub fn inference(&self, schedule: impl Into<Schedule>) -> Inference<'_> {
        let asked = Asked { wanted: Wanted::NONE, budget: None, chunk: None, sources: None };
        Inference { model: self, schedule: schedule.into(), asked }
    }

    /// Allocates the memory of passes for inference over `schedule`, in one allocation: see
    /// [`Inference`].
    ///
    /// # Errors
    /// The errors of [`Inference::workspace`].
    pub fn inference_workspace(&self, schedule: impl Into<Schedule>) -> Result<Workspace, Error> {
        self.inference(schedule).workspace()
    }
}

/// A plan of passes for inference over a schedule, with options, from which a [`Workspace`] is made.
///
/// Such a workspace serves [`forward`](Model::forward) and [`evaluate`](Model::evaluate). It holds the
/// outputs of each block, and of gates and cell states only those of a stretch of time, since no
/// backward pass follows; calls that need one are refused. There is no noise, as in streams. The
/// outputs have the bits of a [training workspace](Model::training_workspace) without noise and of a
/// [`Stream`](crate::Stream).
///
/// A stream takes any number of steps of sequences that go on. Whole sequences of different lengths, or
/// in [both directions](crate::Bidirectional), are for a workspace:
///
/// ```
/// use bptt::{Bidirectional, Format, Gru, Network, Reset, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let gru = || Gru::new(8, 16, Reset::After);
/// let network = Network::new(Bidirectional::new(gru()?, gru()?));
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let lengths = Schedule::packed(&[50, 3, 20])?;
/// let x = vec![0.5; 73 * 8];
///
/// let training = model.training(&lengths).bytes()?;
/// let mut workspace = model.inference_workspace(&lengths)?;
/// assert!(2 * workspace.bytes() < training);
/// let y = model.forward(&mut workspace, &x)?;
/// assert_eq!(y.len(), 73 * 32);
///
/// // Weights of a quarter of the size.
/// let small = model.quantised(Format::Int8)?;
/// let mut workspace = small.inference_workspace(&lengths)?;
/// let y = small.forward(&mut workspace, &x)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Debug)]
pub struct Inference<'a> {
    model: &'a Model,
    schedule: Schedule,
    asked: Asked,
}

impl Inference<'_> {
    /// Says which sequences the [encoder](crate::Encoder) of the network reads: see
    /// [`Training::with_source`](crate::Training::with_source).
    pub fn with_source(mut self, schedule: impl Into<Schedule>) -> Self {
        self.asked.sources = Some(schedule.into());
        self
    }

    /// Makes the last blocks of the network run over `rows` rows at a time: see
    /// [`Training::with_chunked_outputs`](crate::Training::with_chunked_outputs). The workspace serves
    /// only [`evaluate`](Model::evaluate) then, as of a language model with a large vocabulary.
    pub fn with_chunked_outputs(mut self, rows: usize) -> Self {
        self.asked.chunk = Some(rows);
        self
    }

    fn plan(&self) -> Result<Plans, Error> {
        let (network, runtime) = (self.model.network(), self.model.runtime());
        Plans::new(network, runtime, &self.schedule, &self.asked)
    }

    /// Returns the exact number of bytes that the workspace will take.
    ///
    /// # Errors
    /// - [`Error::Value`] if the schedule has no rows;
    /// - [`Error::TooLarge`] if the workspace does not fit the address space;
    /// - [`Error::Mismatch`] if the network has an encoder and there is no
    ///   [source](Self::with_source), or the reverse;
    /// - [`Error::Mismatch`] if there are chunks of outputs, and the last block does not look at each row
    ///   alone or is the only one.
    pub fn bytes(&self) -> Result<usize, Error> {
        Ok(self.plan()?.recomputation().bytes)
    }

    /// Allocates the workspace.
    ///
    /// # Errors
    /// The errors of [`bytes`](Self::bytes); [`Error::OutOfMemory`] if the memory cannot be allocated.
    pub fn workspace(self) -> Result<Workspace, Error> {
        self.workspace_with(None)
    }

    /// Makes the workspace in `memory`, which the caller provides: see
    /// [`Training::workspace_in`](crate::Training::workspace_in).
    ///
    /// # Errors
    /// [`Error::Value`] if the memory is too small; the errors of [`workspace`](Self::workspace).
    pub fn workspace_in(self, memory: Memory) -> Result<Workspace, Error> {
        self.workspace_with(Some(memory))
    }

    fn workspace_with(self, memory: Option<Memory>) -> Result<Workspace, Error> {
        let plans = self.plan()?;
        if let Some(memory) = &memory {
            check_room(&plans, memory.bytes())?;
        }
        let Self { model, schedule, asked } = self;
        let (network, runtime) = (model.network().clone(), model.runtime());
        let no_gradients = Parameters::zeros(Default::default())?;
        Workspace::new(network, runtime, schedule, asked, plans, no_gradients, memory)
    }
}
