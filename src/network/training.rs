//! Options of a network's training passes, and the making of their workspace.

use super::division::{Asked, Plans, Recomputation};
use super::model::Model;
use super::workspace::{Workspace, check_room};
use crate::Error;
use crate::blocks::Wanted;
use crate::memory::Memory;
use crate::params::Parameters;
use crate::sequence::Schedule;

impl Model {
    /// Begins the planning of training passes over `schedule`, to which options can be added.
    pub fn training(&mut self, schedule: impl Into<Schedule>) -> Training<'_> {
        Training::new(self, schedule.into())
    }

    /// Allocates the memory of training passes over `schedule`: one allocation for the passes and
    /// one for the gradients of the parameters. The first call also packs the model's weights in
    /// the layouts that backward passes read, which takes memory in the model.
    ///
    /// # Errors
    /// [`Error::Value`] if the schedule has no rows, [`Error::TooLarge`] or [`Error::OutOfMemory`]
    /// if the memory cannot be allocated, [`Error::Mismatch`] if the model is
    /// [quantised](Self::quantised), for inference only.
    pub fn training_workspace(
        &mut self,
        schedule: impl Into<Schedule>,
    ) -> Result<Workspace, Error> {
        self.training(schedule).workspace()
    }
}

/// A plan of training passes over a schedule, with options, from which a [`Workspace`] is made.
///
/// ```
/// use bptt::{Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(8, 16)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let training = model.training(Schedule::dense(20, 4)).with_input_gradients();
/// println!("it will take {} bytes", training.bytes()?);
/// let workspace = training.workspace()?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Debug)]
pub struct Training<'a> {
    model: &'a mut Model,
    schedule: Schedule,
    asked: Asked,
}

impl<'a> Training<'a> {
    pub(super) fn new(model: &'a mut Model, schedule: Schedule) -> Self {
        let state = model.network().has_learned_state() || model.network().has_bridge();
        let wanted = Wanted { parameters: true, state, ..Wanted::NONE };
        let asked = Asked { wanted, budget: None, chunk: None, sources: None };
        Self { model, schedule, asked }
    }

    /// Makes backward passes also compute ∂L/∂x: see [`Workspace::input_gradients`].
    pub fn with_input_gradients(mut self) -> Self {
        self.asked.wanted.input = true;
        self
    }

    /// Says which sequences the [encoder](crate::Encoder) of the network reads: as many as the passes
    /// have, in the same order, of any lengths. A network with an encoder needs this.
    pub fn with_source(mut self, schedule: impl Into<Schedule>) -> Self {
        self.asked.sources = Some(schedule.into());
        self
    }

    /// Makes backward passes also compute the gradient with respect to the input of the
    /// [encoder](crate::Encoder): see [`Workspace::source_gradients`].
    pub fn with_source_gradients(mut self) -> Self {
        self.asked.wanted.source = true;
        self
    }

    /// Makes backward passes also compute the gradient with respect to the state before the first
    /// step: see [`Workspace::state_gradients`]. They do so anyway if the state is
    /// [learned](crate::Network::with_learned_state).
    pub fn with_state_gradients(mut self) -> Self {
        self.asked.wanted.state = true;
        self
    }

    /// Limits the workspace to `bytes`, without the gradients of the parameters. If the activations
    /// of all steps do not fit, the pass is divided into stretches and parts of it are computed more
    /// than once; [`recomputation`](Self::recomputation) says how much. All gradients, ∂L/∂x and the
    /// loss keep the bits that they have without a budget, and so does noise. Gradients of a layer with
    /// dropout and a delay above 1 ([`Skip`](crate::Skip)) do not: where stretches meet they are rounded
    /// once more. The pass of an [encoder](crate::Encoder) is not divided.
    ///
    /// Three ways are mixed, whichever costs the least: to keep all activations of a stretch; to keep
    /// only the states of its steps and to compute the rest again, as one product over time in
    /// which no step waits for another; and to keep states at some steps (checkpoints), from which
    /// the steps are run again in the order of Griewank and Walther (2000), which repeats the fewest.
    ///
    /// Such a workspace keeps no outputs, so it serves [`gradients`](Model::gradients),
    /// [`train`](Model::train) and [`evaluate`](Model::evaluate), with a loss that is a [sum over
    /// rows](crate::Loss::is_sum_over_rows).
    ///
    /// ```
    /// use bptt::{Accumulate, Lstm, Network, Runtime, Schedule, SquaredError};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 16)?);
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let schedule = Schedule::dense(1000, 1);
    /// let mut whole = model.training_workspace(&schedule)?;
    /// let mut small = model.training(&schedule).with_budget(whole.bytes() / 20).workspace()?;
    /// assert!(small.bytes() <= whole.bytes() / 20);
    ///
    /// let (x, targets) = ([0.5; 1000], [0.25; 1000 * 16]);
    /// let loss = SquaredError::mean(&targets);
    /// let in_whole = model.gradients(&mut whole, &x, &loss, Accumulate::No)?;
    /// let in_small = model.gradients(&mut small, &x, &loss, Accumulate::No)?;
    /// assert_eq!(in_small, in_whole);
    /// assert_eq!(small.gradients().as_slice(), whole.gradients().as_slice());
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn with_budget(mut self, bytes: usize) -> Self {
        self.asked.budget = Some(bytes);
        self
    }

    /// Makes the last blocks of the network, those that look at [each row
    /// alone](crate::blocks::Block::is_row_wise), run over `rows` rows at a time. The loss is computed
    /// between their forward and their backward pass, the last rows first. So the workspace holds the
    /// outputs of `rows` rows instead of all: with a large vocabulary these are most of its bytes.
    /// Nothing is computed twice, and the loss and all gradients keep the bits that they have without
    /// this. A workspace with a [budget](Self::with_budget) does the same within each stretch.
    ///
    /// Each chunk reads and writes all weights of these blocks and their gradients, so a chunk should
    /// have some hundred rows; 256 and its multiples divide the products as a whole pass does.
    ///
    /// Such a workspace keeps no outputs, so it serves [`gradients`](Model::gradients),
    /// [`train`](Model::train) and [`evaluate`](Model::evaluate), with a loss that is a [sum over
    /// rows](crate::Loss::is_sum_over_rows).
    ///
    /// ```
    /// use bptt::{Accumulate, Dense, Embedding, Lstm, Network, Runtime, Schedule};
    /// use bptt::{SoftmaxCrossEntropy, Tokens};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let (vocabulary, schedule) = (5000, Schedule::dense(40, 4));
    /// let network = Network::new(Embedding::new(vocabulary, 8)?)
    ///     .then(Lstm::new(8, 8)?)
    ///     .then(Dense::new(8, vocabulary)?);
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut whole = model.training_workspace(&schedule)?;
    /// let mut small = model.training(&schedule).with_chunked_outputs(32).workspace()?;
    /// assert!(3 * small.bytes() < whole.bytes());
    ///
    /// let (tokens, classes) = ([1; 160], [2; 160]);
    /// let loss = SoftmaxCrossEntropy::mean(&classes);
    /// let in_whole = model.gradients(&mut whole, Tokens(&tokens), &loss, Accumulate::No)?;
    /// let in_small = model.gradients(&mut small, Tokens(&tokens), &loss, Accumulate::No)?;
    /// assert_eq!(in_small, in_whole);
    /// assert_eq!(small.gradients().as_slice(), whole.gradients().as_slice());
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn with_chunked_outputs(mut self, rows: usize) -> Self {
        self.asked.chunk = Some(rows);
        self
    }

    fn plan(&self) -> Result<Plans, Error> {
        let (network, runtime) = (self.model.network(), self.model.runtime());
        Plans::new(network, runtime, &self.schedule, &self.asked)
    }

    /// Returns the exact number of bytes that the workspace will take, without the gradients of the
    /// parameters, which take as many bytes as the parameters.
    ///
    /// # Errors
    /// [`Error::Value`] if the schedule has no rows or the budget is too small, in which case it
    /// says the least that would do; [`Error::TooLarge`] if the workspace does not fit the address
    /// space; [`Error::Mismatch`] if input gradients were asked for but the input is tokens; if there is a
    /// budget and a block is [reversed](crate::Reversed); if the network has an encoder and there is no
    /// [source](Self::with_source), or the reverse; or if there are chunks of outputs and the last
    /// block does not look at each row alone, or is the only one.
    pub fn bytes(&self) -> Result<usize, Error> {
        Ok(self.recomputation()?.bytes)
    }

    /// Returns what each pass will compute more than once because of its budget, and the bytes of
    /// the workspace.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn recomputation(&self) -> Result<Recomputation, Error> {
        Ok(self.plan()?.recomputation())
    }

    /// Allocates the workspace.
    ///
    /// # Errors
    /// The errors of [`bytes`](Self::bytes); [`Error::OutOfMemory`] if the memory cannot be
    /// allocated; [`Error::Mismatch`] if the model is [quantised](Model::quantised), for inference
    /// only.
    pub fn workspace(self) -> Result<Workspace, Error> {
        self.workspace_with(None)
    }

    /// Makes the workspace in `memory`, which the caller provides. It may be larger than
    /// [`bytes`](Self::bytes); then [`Workspace::replan`] can use all of it. What it contains makes no
    /// difference. Only the gradients of the parameters are allocated.
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
        self.model.require(plans.wanted())?;
        let gradients = Parameters::zeros(self.model.manifest().clone())?;
        let Self { model, schedule, asked } = self;
        let (network, runtime) = (model.network().clone(), model.runtime());
        Workspace::new(network, runtime, schedule, asked, plans, gradients, memory)
    }
}
