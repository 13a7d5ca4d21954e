//! The encoder of a network: blocks whose outputs and last state those of the decoder read. Knows sizes
//! and options; must not know the decoder or passes.

use crate::Error;
use crate::blocks::recurrent::Activation;
use crate::blocks::{Block, Config, Dense, SourceSize};
use crate::containers::Stack;
use crate::params::{Manifest, Sequences};
use crate::sequence::InputSize;
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

/// The encoder of an encoder–decoder network (section 10.4 of *Deep Learning*): blocks, one after the
/// other, that read a source sequence for each sequence of the [`Network`](crate::Network) that they are
/// [given to](crate::Network::with_encoder), the decoder. Their lengths may differ.
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
/// holds beside it the outputs in the order of the decoder's sequences, the context, the state that the
/// bridge makes, and the gradients of these: that of the context once for each
/// [`Context`](crate::Context) and that of the outputs twice for each [`Attention`](crate::Attention), whose values and keys have one each.
///
/// ```
/// use bptt::{Accumulate, Activation, Attention, Bridge, Dense, Embedding, Encoder, Gru, Inputs};
/// use bptt::{Network, Reset, Runtime, Schedule, SoftmaxCrossEntropy, Tokens};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // A translator of 9 words into 7, with an output for each.
/// let reader = Encoder::new(Embedding::new(9, 8)?).then(Gru::new(8, 12, Reset::After)?);
/// let writer = Network::new(Embedding::new(7, 8)?)
///     .then(Gru::new(8, 12, Reset::After)?)
///     .then(Attention::dot(12)?)
///     .then(Dense::new(12 + 12, 7)?);
/// let network = writer.with_encoder(reader.with_bridge(Bridge::Dense(Activation::Tanh)))?;
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
    blocks: Stack,
    bridge: Option<Bridge>,
}

impl Encoder {
    /// Makes an encoder of one block. The decoder's state before its first step is zero.
    pub fn new(block: impl Block) -> Self {
        Self { blocks: Stack::new(block), bridge: None }
    }

    /// Appends a block, whose input is the output of the blocks so far.
    pub fn then(self, block: impl Block) -> Self {
        Self { blocks: self.blocks.then(block), ..self }
    }

    /// Makes an encoder of one or more `blocks`, which were read from a file.
    pub(crate) fn of(blocks: Vec<Arc<dyn Block>>) -> Self {
        Self { blocks: Stack::of(blocks), bridge: None }
    }

    /// Makes the decoder's state before its first step from what the encoder has read.
    pub fn with_bridge(self, bridge: Bridge) -> Self {
        Self { bridge: Some(bridge), ..self }
    }

    /// Returns the blocks in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &dyn Block> {
        self.blocks.blocks()
    }

    /// Returns how the decoder's state before its first step is made, or `None` if it is zero.
    pub fn bridge(&self) -> Option<Bridge> {
        self.bridge
    }

    /// Returns what each row of the source holds: this many features, or a token.
    pub fn input(&self) -> InputSize {
        self.blocks.input()
    }

    /// Returns the blocks as one.
    pub(super) fn stack(&self) -> &Stack {
        &self.blocks
    }

    /// Returns the configurations of the blocks.
    pub(crate) fn configs(&self) -> Vec<Config> {
        self.blocks().map(|block| block.config()).collect()
    }

    /// Returns whether both compute the same from the same parameters.
    pub(super) fn computes_as(&self, other: &Self) -> bool {
        self.bridge == other.bridge && self.blocks.computes_as(&other.blocks)
    }

    /// Returns the sizes of what the decoder's blocks read.
    pub(super) fn size(&self) -> Result<SourceSize, Error> {
        let context = match self.stateful()? {
            Some(nth) => self.state_of(nth, 1)?.len(),
            None => self.blocks.output_size(),
        };
        Ok(SourceSize { outputs: self.blocks.output_size(), context })
    }

    /// Returns the number of the last block that has a state.
    pub(super) fn stateful(&self) -> Result<Option<usize>, Error> {
        for nth in (0..self.blocks().len()).rev() {
            if !self.state_of(nth, 1)?.is_empty() {
                return Ok(Some(nth));
            }
        }
        Ok(None)
    }

    /// Returns the tensors of the state of block `nth`.
    pub(super) fn state_of(&self, nth: usize, batch: usize) -> Result<Manifest, Error> {
        let mut manifest = Manifest::default();
        self.blocks().nth(nth).map_or(Ok(()), |block| block.state(batch, &mut manifest))?;
        Ok(manifest)
    }

    /// Returns the dense layer of the bridge to a decoder whose state of one sequence has these tensors,
    /// if it has one.
    pub(super) fn dense(&self, decoder: &Manifest) -> Result<Option<Dense>, Error> {
        let Some(Bridge::Dense(activation)) = self.bridge else { return Ok(None) };
        Ok(Some(Dense::new(self.size()?.context, decoder.len())?.with_activation(activation)))
    }

    /// Returns an error unless the bridge fits a decoder whose state of one sequence has these tensors.
    pub(super) fn check_bridge(&self, decoder: &Manifest, is_learned: bool) -> Result<(), Error> {
        let what = "bridge";
        let Some(bridge) = self.bridge else { return Ok(()) };
        if decoder.is_empty() || is_learned {
            let given = "a decoder without a state, or whose state is learned".into();
            let expected = "a decoder whose state it can make".into();
            return Err(Error::Mismatch { what, given, expected });
        }
        if bridge == Bridge::Copy {
            let mut from = Manifest::default();
            self.blocks.state(1, &mut from)?;
            Sequences::new("state of the encoder", &from, 1)?;
            let shapes = |manifest: &Manifest| -> Vec<_> {
                manifest.tensors().iter().map(|tensor| tensor.shape().to_vec()).collect()
            };
            if shapes(&from) != shapes(decoder) {
                let expected = format!("the shapes of {decoder}");
                return Err(Error::Mismatch { what, given: from.to_string(), expected });
            }
        }
        self.dense(decoder).map(|_| ())
    }
}
