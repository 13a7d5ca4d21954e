//! The encoder of a network: another network, whose outputs and last state the blocks of the decoder
//! read. Knows names, sizes and options; must not know passes.

use super::Network;
use crate::Error;
use crate::blocks::recurrent::Activation;
use crate::blocks::{Block, Config, Dense, SourceSize};
use crate::params::{Init, Manifest, Sequences};
use rand_core::Rng;
use std::sync::Arc;

/// How the state of a decoder before its first step is made of what its [`Encoder`] has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// It is the encoder's last state: all tensors of all blocks, which must have the shapes of the
    /// decoder's (Sutskever et al. 2014).
    Copy,
    /// It is φ(b + W C), a dense layer of the context C with this activation φ: a learned map from
    /// one to the other, whose sizes may differ (Cho et al. 2014).
    Dense(Activation),
}

impl Bridge {
    /// Returns the configuration, for files.
    pub(crate) fn config(&self) -> Config {
        match self {
            Self::Copy => Config::new("Copy"),
            Self::Dense(activation) => Config::new("Dense").with("activation", activation.name()),
        }
    }

    /// Returns the bridge of a configuration read from a file.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        match config.kind() {
            "Copy" => config.expect_only(&[]).map(|()| Self::Copy),
            "Dense" => {
                config.expect_only(&["activation"])?;
                Activation::of(config, "activation").map(Self::Dense)
            }
            other => Err(Error::File {
                what: "the bridge".into(),
                given: other.into(),
                expected: "Copy or Dense".into(),
            }),
        }
    }
}

/// The encoder of an encoder–decoder network (section 10.4 of *Deep Learning*): a network that reads a
/// source sequence for each sequence of the [`Network`] that it is [given
/// to](Network::with_encoder), the decoder. Their lengths may differ.
///
/// The decoder has three ways to read it, which can be combined:
///
/// - A [bridge](Self::with_bridge) makes the decoder's state before its first step.
/// - [`Context`](crate::Context) appends the context C of the sequence to the input of each step.
/// - [`Attention`](crate::Attention) weighs all outputs of the encoder in each step.
///
/// The context C of a sequence is the last state of the encoder's last block that has one: all its
/// tensors, so h and c of an [`Lstm`](crate::Lstm), and those of both directions. If no block has a
/// state, it is the output of the last step of the source, 0 if there is none.
///
/// Names of the encoder's parameters begin with `encoder.`, those of the bridge with `bridge.`. They
/// come after those of the decoder. A workspace for an encoder's passes is part of the decoder's, and
/// holds beside it the outputs in the order of the decoder's sequences, the context, what the bridge
/// computes, and the gradients of these.
///
/// ```
/// use bptt::{Accumulate, Activation, Attention, Bridge, Dense, Embedding, Encoder, Gru, Inputs};
/// use bptt::{Network, Reset, Runtime, Schedule, SoftmaxCrossEntropy, Tokens};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // A translator of 9 words into 7, with an output for each.
/// let reader = Network::new(Embedding::new(9, 8)?).then(Gru::new(8, 12, Reset::After)?);
/// let writer = Network::new(Embedding::new(7, 8)?)
///     .then(Gru::new(8, 12, Reset::After)?)
///     .then(Attention::dot(12)?)
///     .then(Dense::new(12 + 12, 7)?);
/// let encoder = Encoder::new(reader).with_bridge(Bridge::Dense(Activation::Tanh));
/// let network = writer.with_encoder(encoder)?;
///
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// // Two sentences of 4 and 2 words, and translations of 3 and 5 words.
/// let (sources, targets) = (Schedule::packed(&[4, 2])?, Schedule::packed(&[3, 5])?);
/// let mut workspace = model.training(targets).with_source(sources).workspace()?;
/// let (source, before, after) = ([1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 3, 4, 5, 6], [1; 8]);
/// let inputs = Inputs::new(Tokens(&before)).with_source(Tokens(&source));
/// let loss = SoftmaxCrossEntropy::mean(&after);
/// model.gradients(&mut workspace, inputs, &loss, Accumulate::No)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    network: Network,
    bridge: Option<Bridge>,
}

impl Encoder {
    /// Makes an encoder of a network. The decoder's state before its first step is zero.
    pub fn new(network: Network) -> Self {
        Self { network, bridge: None }
    }

    /// Makes the decoder's state before its first step from what the encoder has read.
    pub fn with_bridge(self, bridge: Bridge) -> Self {
        Self { bridge: Some(bridge), ..self }
    }

    /// Returns the network that reads the source.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns how the decoder's state before its first step is made, or `None` if it is zero.
    pub fn bridge(&self) -> Option<Bridge> {
        self.bridge
    }

    /// Returns whether both compute the same from the same parameters.
    pub(super) fn computes_as(&self, other: &Self) -> bool {
        self.bridge == other.bridge && self.network.computes_as(&other.network)
    }

    /// Returns the sizes of what the decoder's blocks read.
    pub(super) fn size(&self) -> Result<SourceSize, Error> {
        let context = match self.stateful()? {
            Some(nth) => self.state_of(nth, 1)?.len(),
            None => self.network.output_size(),
        };
        Ok(SourceSize { outputs: self.network.output_size(), context })
    }

    /// Returns the number of the last block that has a state.
    pub(super) fn stateful(&self) -> Result<Option<usize>, Error> {
        for nth in (0..self.network.blocks().len()).rev() {
            if !self.state_of(nth, 1)?.is_empty() {
                return Ok(Some(nth));
            }
        }
        Ok(None)
    }

    /// Returns the tensors of the state of block `nth`.
    pub(super) fn state_of(&self, nth: usize, batch: usize) -> Result<Manifest, Error> {
        let mut manifest = Manifest::default();
        let block = self.network.blocks().nth(nth);
        block.map_or(Ok(()), |block| block.state(batch, &mut manifest))?;
        Ok(manifest)
    }

    /// Returns the dense layer of the bridge to a decoder, if it has one.
    pub(super) fn dense(&self, decoder: &Network) -> Result<Option<Dense>, Error> {
        let Some(Bridge::Dense(activation)) = self.bridge else { return Ok(None) };
        let to = decoder.learned_manifest()?.len();
        Ok(Some(Dense::new(self.size()?.context, to)?.with_activation(activation)))
    }

    /// Returns an error unless the decoder fits.
    fn check(&self, decoder: &Network) -> Result<(), Error> {
        let refused = |what: &'static str, given: String, expected: String| {
            Err(Error::Mismatch { what, given, expected })
        };
        if self.network.encoder.is_some() || self.network.has_learned_state() {
            let given = "an encoder that has an encoder or a learned state itself".into();
            return refused("encoder", given, "a network without either".into());
        }
        let Some(bridge) = self.bridge else { return Ok(()) };
        let to = decoder.learned_manifest()?;
        if to.is_empty() || decoder.has_learned_state() {
            let given = "a decoder without a state, or whose state is learned".into();
            return refused("bridge", given, "a decoder whose state it can make".into());
        }
        if bridge == Bridge::Copy {
            let from = self.network.state_manifest(1)?;
            Sequences::new("state of the encoder", &from, 1)?;
            let shapes = |manifest: &Manifest| -> Vec<_> {
                manifest.tensors().iter().map(|tensor| tensor.shape().to_vec()).collect()
            };
            if shapes(&from) != shapes(&to) {
                return refused("bridge", from.to_string(), format!("the shapes of {to}"));
            }
        }
        self.dense(decoder).map(|_| ())
    }
}

impl Network {
    /// Gives the network, which is the decoder then, an encoder. Its blocks read what the encoder has
    /// made, passes take the encoder's input as [`Inputs`](crate::Inputs), and the workspace is planned
    /// [with a source](crate::Training::with_source).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the encoder has an encoder or a learned state itself, a block needs
    /// another source, or the bridge does not fit the decoder's state.
    pub fn with_encoder(self, encoder: Encoder) -> Result<Self, Error> {
        encoder.check(&self)?;
        self.blocks.check_source(Some(encoder.size()?))?;
        Ok(Self { encoder: Some(Arc::new(encoder)), ..self })
    }

    /// Returns the encoder, if the network has one.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_deref()
    }

    /// Returns whether the state before the first step is made by a bridge.
    pub(super) fn has_bridge(&self) -> bool {
        self.encoder().is_some_and(|encoder| encoder.bridge.is_some())
    }

    /// Returns whether sequences begin from another state than zero.
    pub(super) fn begins_otherwise(&self) -> bool {
        self.learned_state || self.has_bridge()
    }

    /// Declares the parameters of the encoder and of its bridge, after those of the blocks.
    pub(super) fn declare_encoder(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let Some(encoder) = self.encoder() else {
            return self.blocks.check_source(None);
        };
        manifest.within("encoder", |manifest| encoder.network.blocks.parameters(manifest))?;
        if let Some(dense) = encoder.dense(self)? {
            manifest.within("bridge", |manifest| dense.parameters(manifest))?;
        }
        Ok(())
    }

    /// Initialises the parameters of the encoder and of its bridge.
    pub(super) fn initialise_encoder(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let Some(encoder) = self.encoder() else { return Ok(()) };
        let mut of_blocks = Manifest::default();
        encoder.network.blocks.parameters(&mut of_blocks)?;
        let (of_blocks, of_bridge) = parameters.split_at_mut(of_blocks.len());
        encoder.network.blocks.initialise(of_blocks, init, rng)?;
        match encoder.dense(self)? {
            Some(dense) => dense.initialise(of_bridge, init, rng),
            None => Ok(()),
        }
    }
}
