//! Networks: a sequence of blocks, with one buffer of parameters and one workspace.

mod begins;
mod division;
mod encoded;
mod encoder;
mod fused;
mod inference;
mod learned;
mod model;
mod packing;
mod plan;
mod stream;
mod training;
mod truncated;
mod workspace;

pub use division::Recomputation;
pub use encoder::{Bridge, Encoder};
pub use inference::Inference;
pub use model::Model;
pub use stream::Stream;
pub use training::Training;
pub use truncated::Truncated;
pub use workspace::Workspace;

use crate::Error;
use crate::blocks::{Block, Config};
use crate::containers::Stack;
use crate::params::{Manifest, Parameters, State};
use crate::sequence::InputSize;
use std::sync::Arc;

/// A sequence of blocks: the output of each block is the input of the next.
///
/// ```
/// use bptt::{Dense, Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let network = Network::new(Lstm::new(3, 32)?).then(Dense::new(32, 2)?);
/// println!("{} parameters: {}", network.manifest()?.len(), network.manifest()?);
/// let model = network.init(&mut StdRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut y = [0.0; 2];
/// model.stream(1)?.step(&[0.5, 0.5, 0.5], &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    blocks: Stack,
    /// Whether the state before the first step is a parameter.
    learned_state: bool,
    encoder: Option<Arc<Encoder>>,
}

impl Network {
    /// Makes a network of one block.
    pub fn new(block: impl Block) -> Self {
        Self { blocks: Stack::new(block), learned_state: false, encoder: None }
    }

    /// Appends a block, whose input is the output of the blocks so far. If it needs another input,
    /// making a model of the network fails with [`Error::Mismatch`].
    pub fn then(self, block: impl Block) -> Self {
        Self { blocks: self.blocks.then(block), ..self }
    }

    /// Makes a network of one or more `blocks`, which were read from a file.
    pub(crate) fn of(blocks: Vec<Arc<dyn Block>>) -> Self {
        Self { blocks: Stack::of(blocks), learned_state: false, encoder: None }
    }

    /// Returns the blocks in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &dyn Block> {
        self.blocks.blocks()
    }

    /// Returns what each row of the input holds: this many features, or a token.
    pub fn input(&self) -> InputSize {
        self.blocks.input()
    }

    /// Returns the number of features in a row of the output.
    pub fn output_size(&self) -> usize {
        self.blocks.output_size()
    }

    /// Returns the names, shapes and ranges of the parameters. Names of block n begin with `n.`, and
    /// those of an [encoder](Encoder) and its
    /// bridge with `encoder.` and `bridge.`, and those of a [learned state](Self::with_learned_state)
    /// with `initial_state.`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the input of a block does not fit the output of the block before it,
    /// or the state is learned and a block's state cannot be divided into sequences;
    /// [`Error::TooLarge`] if the parameters do not fit the address space.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let mut manifest = Manifest::default();
        self.blocks.parameters(&mut manifest)?;
        self.declare_encoder(&mut manifest)?;
        self.declare_learned(&mut manifest)?;
        Ok(manifest)
    }

    /// Allocates parameters that are all zero, to be filled by the caller.
    ///
    /// # Errors
    /// The errors of [`manifest`](Self::manifest); [`Error::OutOfMemory`] if the parameters cannot
    /// be allocated.
    pub fn parameters(&self) -> Result<Parameters, Error> {
        Parameters::zeros(Arc::new(self.manifest()?))
    }

    /// Allocates a state of `batch` sequences that is all zeros, as before the first step unless the
    /// state is [learned](Self::with_learned_state).
    ///
    /// # Errors
    /// [`Error::Value`] if `batch` is 0, [`Error::Mismatch`] if neighbouring blocks do not fit,
    /// [`Error::TooLarge`] or [`Error::OutOfMemory`] if the state cannot be allocated.
    pub fn state(&self, batch: usize) -> Result<State, Error> {
        State::zeros(Arc::new(self.state_manifest(batch)?), batch, self.reads_step())
    }

    /// Returns the names, shapes and ranges of the state of `batch` sequences.
    pub(crate) fn state_manifest(&self, batch: usize) -> Result<Manifest, Error> {
        crate::error::check_size("batch", batch)?;
        let mut manifest = Manifest::default();
        self.blocks.state(batch, &mut manifest)?;
        Ok(manifest)
    }

    /// Returns whether a block needs the number of steps that the sequences have taken.
    fn reads_step(&self) -> bool {
        self.blocks.reads_step()
    }

    /// Returns an error, about `what`, if a block needs later steps, so that the steps of a sequence
    /// cannot come in several passes.
    pub(crate) fn check_causal(&self, what: &'static str) -> Result<(), Error> {
        match self.blocks().find(|block| !block.is_causal()) {
            None => Ok(()),
            Some(block) => Err(Error::Mismatch {
                what,
                given: block.config().to_string(),
                expected: "blocks that need no later steps, since it divides sequences".into(),
            }),
        }
    }

    /// Returns the number of the first of the last blocks that look at each row alone, or an error if
    /// there is none after another block.
    fn check_tail(&self) -> Result<usize, Error> {
        let blocks: Vec<_> = self.blocks().collect();
        let is_row_wise = |nth: &usize| blocks[*nth].is_row_wise();
        let first = (1..blocks.len()).rev().take_while(is_row_wise).last();
        first.ok_or_else(|| Error::Mismatch {
            what: "chunks of outputs",
            given: blocks[blocks.len() - 1].config().to_string(),
            expected: "a last block that looks at each row alone, after another block".into(),
        })
    }

    /// Returns the configurations of the blocks.
    pub(crate) fn configs(&self) -> Vec<Config> {
        self.blocks().map(|block| block.config()).collect()
    }

    /// Returns whether both networks compute the same outputs from the same parameters.
    fn computes_as(&self, other: &Self) -> bool {
        let same_encoders = match (&self.encoder, &other.encoder) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.computes_as(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same_blocks = self.blocks.computes_as(&other.blocks);
        self.learned_state == other.learned_state && same_encoders && same_blocks
    }

    /// Describes the blocks in a message that also describes the network `other`, so that the
    /// difference shows.
    fn describe_beside(&self, other: &Self) -> String {
        let mut others = other.configs().into_iter();
        let describe = |config: Config| match others.next() {
            Some(other) => config.beside(&other).to_string(),
            None => config.to_string(),
        };
        let mut parts: Vec<_> = self.configs().into_iter().map(describe).collect();
        if self.learned_state {
            parts.insert(0, "a learned state".into());
        }
        if let Some(encoder) = self.encoder() {
            let bridge = encoder.bridge().map_or("none".into(), |bridge| format!("{bridge:?}"));
            let blocks: Vec<_> = encoder.configs().iter().map(Config::to_string).collect();
            let blocks = blocks.join(", then ");
            parts.insert(0, format!("an encoder ({blocks}) with the bridge {bridge}"));
        }
        parts.join(", then ")
    }
}
