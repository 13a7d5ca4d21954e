//! A network with its parameters: training, evaluation, and the packing of changed parameters.

use super::Network;
use super::packing::Packing;
use super::stream::Stream;
use super::workspace::Workspace;
use crate::blocks::{Block, Wanted};
use crate::loss::Loss;
use crate::params::{Init, Manifest, Parameters};
use crate::sequence::{InputSize, Inputs, Schedule};
use crate::train::Optimizer;
use crate::{Accumulate, Error, Format, Runtime};
use bptt_kernels::team::Team;
use rand_core::Rng;
use std::sync::Arc;

/// A network with its parameters, both in the order of the manifest and packed for its passes.
///
/// The [front page](crate) shows how to train and use a model. One model serves any number of
/// workspaces and streams. A stream keeps the parameters that the model had when the stream was
/// made.
#[derive(Debug)]
pub struct Model {
    network: Network,
    runtime: Runtime,
    format: Format,
    parameters: Parameters,
    packing: Arc<Packing>,
    /// Whether the parameters may differ from the packed ones, since a change failed halfway.
    unpacked: bool,
    team: Team,
}

impl Network {
    /// Makes a model with initial parameters drawn from `rng`; the same seed gives the same bits.
    /// Weights are drawn as [`Init::Glorot`] says; see [`init_with`](Self::init_with) for others.
    ///
    /// # Errors
    /// The errors of [`manifest`](Self::manifest); [`Error::Value`] if the runtime has a wrong
    /// number of threads; [`Error::OutOfMemory`] if the parameters cannot be allocated.
    pub fn init(&self, rng: &mut dyn Rng, runtime: Runtime) -> Result<Model, Error> {
        self.init_with(Init::Glorot, rng, runtime)
    }

    /// Makes a model with initial weights drawn from `rng` as `init` says. Biases are 0 unless the
    /// block's page says otherwise.
    ///
    /// # Errors
    /// The errors of [`init`](Self::init); [`Error::Value`] if a limit of `init` is not finite or
    /// is below 0.
    pub fn init_with(
        &self,
        init: Init,
        rng: &mut dyn Rng,
        runtime: Runtime,
    ) -> Result<Model, Error> {
        let mut parameters = self.parameters()?;
        let mut of_blocks = Manifest::default();
        self.blocks.parameters(&mut of_blocks)?;
        let (of_blocks, others) = parameters.as_mut_slice().split_at_mut(of_blocks.len());
        self.blocks.initialise(of_blocks, init, rng)?;
        self.initialise_encoder(others, init, rng)?;
        self.model(parameters, runtime)
    }

    /// Makes a model with these parameters.
    ///
    /// # Errors
    /// The errors of [`manifest`](Self::manifest); [`Error::Mismatch`] if the parameters belong to
    /// another network; [`Error::Value`] if the runtime has a wrong number of threads;
    /// [`Error::OutOfMemory`] if the packed parameters cannot be allocated.
    pub fn model(&self, parameters: Parameters, runtime: Runtime) -> Result<Model, Error> {
        parameters.check_same("parameters", &Arc::new(self.manifest()?))?;
        Model::packed(self.clone(), parameters, Format::F32, runtime)
    }
}

impl Model {
    fn packed(
        network: Network,
        parameters: Parameters,
        format: Format,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        let mut team = runtime.team()?;
        let mut packing = Packing::zeros(&network, parameters.manifest().clone(), format, runtime)?;
        packing.update(&parameters, &mut team)?;
        let packing = Arc::new(packing);
        Ok(Self { network, runtime, format, parameters, packing, unpacked: false, team })
    }

    /// Makes a copy of the model for inference only, with quantised weights in `format`. The speed
    /// of a stream of one or a few sequences is limited by reading its weights, so smaller weights
    /// make it faster. Biases, states and arithmetic stay f32: the outputs have the same bits as
    /// those of a model whose weights were rounded with [`Format::rounded`].
    ///
    /// ```
    /// use bptt::{Format, Lstm, Network, Runtime};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(64, 64)?);
    /// let whole = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let quarter = whole.quantised(Format::Int8)?;
    /// assert!(3 * quarter.packed_bytes() < whole.packed_bytes());
    ///
    /// let (x, mut exact, mut y) = ([0.5; 64], [0.0; 64], [0.0; 64]);
    /// whole.stream(1)?.step(&x, &mut exact)?;
    /// quarter.stream(1)?.step(&x, &mut y)?;
    /// assert!(y.iter().zip(exact).all(|(y, exact)| (y - exact).abs() < 0.01));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if the format is int8 and a weight is ∞ or NaN; [`Error::Mismatch`] if a
    /// [`change`](Self::change) that failed left parameters of another network;
    /// [`Error::OutOfMemory`] if the copy cannot be allocated.
    pub fn quantised(&self, format: Format) -> Result<Self, Error> {
        self.parameters.check_same("parameters", &self.packing.manifest())?;
        let mut parameters = Parameters::zeros(self.parameters.manifest().clone())?;
        parameters.as_mut_slice().copy_from_slice(self.parameters.as_slice());
        Self::packed(self.network.clone(), parameters, format, self.runtime)
    }

    /// Returns the network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the instruction set and the threads of the model's passes.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Returns the format in which the weights are stored for passes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns what each row of the input holds: this many features, or a token.
    pub fn input(&self) -> InputSize {
        self.network.input()
    }

    /// Returns the number of features in a row of the output.
    pub fn output_size(&self) -> usize {
        self.network.output_size()
    }

    /// Returns the parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(super) fn packing(&self) -> &Packing {
        &self.packing
    }

    /// Returns the bytes that the packed parameters take.
    pub fn packed_bytes(&self) -> usize {
        self.packing.bytes()
    }

    /// Calls `change` to change the parameters, then packs them for passes. After that, no backward
    /// pass can follow a forward pass from before the change, since its parameters are gone.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if a stream still uses the old packed parameters and there is no
    /// memory for a second copy; nothing is changed then.
    ///
    /// The errors of `change`; [`Error::Mismatch`] if `change` replaced the parameters with those
    /// of another network; [`Error::Value`] if the format is int8 and a weight is ∞ or NaN. After
    /// one of these, passes continue with the old parameters. The next change, or the next
    /// workspace that is made, packs the parameters as `change` left them.
    pub fn change<E: From<Error>>(
        &mut self,
        change: impl FnOnce(&mut Parameters) -> Result<(), E>,
    ) -> Result<(), E> {
        self.own_packing()?;
        self.unpacked = true;
        change(&mut self.parameters)?;
        Ok(self.pack()?)
    }

    /// Packs the parameters, in new memory if a stream still uses the old packed ones.
    fn pack(&mut self) -> Result<(), Error> {
        let parameters = &self.parameters;
        if let Some(packing) = Packing::exclusive(&mut self.packing) {
            packing.update(parameters, &mut self.team)?;
        } else {
            let mut packing = self.empty_packing()?;
            packing.update(parameters, &mut self.team)?;
            packing.require(self.packing.wanted(), parameters, &mut self.team)?;
            self.packing = Arc::new(packing);
        }
        self.unpacked = false;
        Ok(())
    }

    /// Allocates memory for packed parameters like the present ones.
    fn empty_packing(&self) -> Result<Packing, Error> {
        Packing::zeros(&self.network, self.packing.manifest(), self.format, self.runtime)
    }

    /// Makes a stream of `batch` sequences, for inference that carries its state from call to call.
    /// Its memory is one allocation, whose size does not depend on how long the stream runs.
    ///
    /// # Errors
    /// [`Error::Value`] if `batch` is 0 or a block is [`Reversed`](crate::Reversed), which needs
    /// later steps; [`Error::TooLarge`] or [`Error::OutOfMemory`] if the stream cannot be allocated.
    pub fn stream(&self, batch: usize) -> Result<Stream, Error> {
        Stream::new(&self.network, self.packing.clone(), batch, None, self.runtime)
    }

    /// Makes a stream of a network with an [encoder](crate::Encoder), for sources of this schedule and as
    /// many sequences as it has: see [`Stream::read_source`].
    ///
    /// # Errors
    /// The errors of [`stream`](Self::stream); [`Error::Mismatch`] if the network has no encoder or the
    /// schedule has resets.
    pub fn stream_with_source(&self, sources: impl Into<Schedule>) -> Result<Stream, Error> {
        let (sources, packing) = (sources.into(), self.packing.clone());
        let batch = sources.sequences();
        Stream::new(&self.network, packing, batch, Some(&sources), self.runtime)
    }

    /// Packs the layouts that backward passes with the gradients `wanted` read, unless they
    /// have been packed already.
    pub(super) fn require(&mut self, wanted: Wanted) -> Result<(), Error> {
        if self.unpacked {
            self.pack()?;
        }
        self.own_packing()?;
        if let Some(packing) = Packing::exclusive(&mut self.packing) {
            packing.require(wanted, &self.parameters, &mut self.team)?;
        }
        Ok(())
    }

    /// Makes a copy of the packed parameters if a stream shares them. This happens before a change,
    /// so that a change never fails for want of memory after it was made.
    fn own_packing(&mut self) -> Result<(), Error> {
        if self.unpacked || Packing::exclusive(&mut self.packing).is_some() {
            return Ok(());
        }
        let mut packing = self.empty_packing()?;
        packing.update(&self.parameters, &mut self.team)?;
        packing.require(self.packing.wanted(), &self.parameters, &mut self.team)?;
        // The values are the same, so the last forward pass can still have its backward pass.
        packing.version = self.packing.version;
        self.packing = Arc::new(packing);
        Ok(())
    }

    /// Runs a forward pass over the inputs, x `[rows, features]` or tokens `[rows]`, with the rows that
    /// the workspace's [`Schedule`](crate::Schedule) says; a network with an encoder takes
    /// [`Inputs`] with a source. All activations stay in the workspace. Returns the outputs `[rows, outputs]`, with the same rows.
    ///
    /// # Errors
    /// Nothing is written where one of these is returned:
    ///
    /// - [`Error::Length`] if an input has a wrong length, [`Error::Token`] if a token is too large;
    /// - [`Error::Mismatch`] if an input is tokens instead of features or the reverse, or if a source is
    ///   missing or one too many;
    /// - [`Error::Mismatch`] if the workspace belongs to another model, or has a
    ///   [budget](crate::Training::with_budget) or chunks of outputs and so keeps no outputs.
    pub fn forward<'w, 'x>(
        &self,
        workspace: &'w mut Workspace,
        inputs: impl Into<Inputs<'x>>,
    ) -> Result<&'w [f32], Error> {
        workspace.check(&self.network, self.runtime)?;
        workspace.check_keeps_outputs()?;
        let mode = workspace.mode(true);
        workspace.forward(&self.packing, inputs.into(), mode)?;
        workspace.give_outputs();
        workspace.outputs()
    }

    /// Returns the loss of the last forward pass, and computes its gradients, which
    /// [`Workspace::gradients`] then returns. The inputs must be those of the forward pass.
    ///
    /// The gradient of a parameter is a sum over all steps and sequences in a fixed order, the last
    /// step first. So a long sequence that is cut into several passes gives the same bits as one
    /// pass, if its last part comes first and the gradients are accumulated.
    ///
    /// # Errors
    /// [`Error::Order`] if the workspace holds no forward pass, or one with other parameters than
    /// the model has now; [`Error::Mismatch`] if the workspace was planned for gradients that this
    /// model has not packed its weights for; the errors of [`forward`](Self::forward) and of the
    /// loss. Nothing is written then.
    pub fn backward<'x>(
        &self,
        workspace: &mut Workspace,
        inputs: impl Into<Inputs<'x>>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        workspace.check(&self.network, self.runtime)?;
        workspace.check_backward()?;
        workspace.expect_forward_of(self.packing.version)?;
        let inputs = inputs.into();
        workspace.check_gradients(&self.packing)?;
        workspace.check_loss(inputs, loss, self.network.output_size())?;
        workspace.backward(&self.packing, inputs, loss, accumulate)
    }

    /// Runs a forward pass over the inputs, then a backward pass, which computes the gradients. Returns
    /// the loss.
    ///
    /// # Errors
    /// The errors of [`forward`](Self::forward) and of the loss; [`Error::Mismatch`] as in
    /// [`backward`](Self::backward). Nothing is written then.
    pub fn gradients<'x>(
        &self,
        workspace: &mut Workspace,
        inputs: impl Into<Inputs<'x>>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        let inputs = inputs.into();
        workspace.check(&self.network, self.runtime)?;
        workspace.check_gradients(&self.packing)?;
        workspace.check_loss(inputs, loss, self.network.output_size())?;
        workspace.forward_backward(&self.packing, inputs, loss, accumulate)
    }

    /// Trains the parameters by one update: a forward pass over the inputs, a backward pass, and a step of
    /// the optimiser. Returns the loss before the update.
    ///
    /// # Errors
    /// The errors of [`gradients`](Self::gradients) and of the optimiser; the parameters are
    /// unchanged then. [`Error::OutOfMemory`] if a stream uses the same packed parameters and there
    /// is no memory for a copy.
    pub fn train<'x>(
        &mut self,
        workspace: &mut Workspace,
        inputs: impl Into<Inputs<'x>>,
        loss: &dyn Loss,
        optimizer: &mut dyn Optimizer,
    ) -> Result<f64, Error> {
        self.own_packing()?;
        let value = self.gradients(workspace, inputs, loss, Accumulate::No)?;
        self.update(workspace, optimizer)?;
        Ok(value)
    }

    /// Updates the parameters with the gradients that the workspace holds. The next passes in this
    /// workspace draw new noise.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the workspace belongs to another model or is for inference; the errors of
    /// the optimiser;
    /// [`Error::OutOfMemory`] if a stream uses the same packed parameters and there is no memory for
    /// a copy. The parameters are unchanged then.
    pub fn update(
        &mut self,
        workspace: &mut Workspace,
        optimizer: &mut dyn Optimizer,
    ) -> Result<(), Error> {
        workspace.check(&self.network, self.runtime)?;
        workspace.check_backward()?;
        self.own_packing()?;
        self.unpacked = true;
        optimizer.update(self.runtime, &mut self.parameters, workspace.gradients_mut())?;
        self.pack()?;
        workspace.next_noise();
        Ok(())
    }

    /// Runs a forward pass over the inputs and returns the loss, without gradients, for validation data. As in
    /// streams, there is no noise: no dropout, and zoneout by its mean.
    /// The loss may overwrite the outputs, so afterwards the workspace holds neither outputs nor a
    /// pass to go backward from, only the last state. With a [budget](crate::Training::with_budget)
    /// that divides the pass, the loss is summed from the first step to the last instead of the
    /// reverse, so its last bits may differ from those of [`gradients`](Self::gradients).
    ///
    /// # Errors
    /// The errors of [`forward`](Self::forward) and of the loss.
    pub fn evaluate<'x>(
        &self,
        workspace: &mut Workspace,
        inputs: impl Into<Inputs<'x>>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        let inputs = inputs.into();
        workspace.check(&self.network, self.runtime)?;
        workspace.check_loss(inputs, loss, self.network.output_size())?;
        workspace.evaluate(&self.packing, inputs, loss)
    }

    /// Returns the manifest of the parameters.
    pub fn manifest(&self) -> &Arc<Manifest> {
        self.parameters.manifest()
    }
}
