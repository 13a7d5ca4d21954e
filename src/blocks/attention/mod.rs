//! Attention over the outputs of an encoder: its sizes, its score, and the block that attends after a
//! decoder. Must not know the decoder.

mod block;
mod packed;
mod plan;

pub(crate) use packed::AttentionPacked;
pub(crate) use plan::{AttentionGradients, AttentionPlan, AttentionRead, AttentionWindow};

use super::{Config, Dense, SourceSize};
use crate::Error;
use crate::error::check_size;

/// How the score of a query h and an output of the encoder is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Dot,
    General,
    Additive,
}

/// Attention over the outputs v₁ … vₙ of an [encoder](crate::Encoder): the context
/// `c = Σ αₛ vₛ`, where `α = softmax(e)` are weights over all steps of the sequence's source and the
/// score eₛ says how well vₛ fits the query h. Steps behind the end of a source get no weight; a source
/// without a step has the context 0.
///
/// | score | `eₛ` | parameters |
/// | --- | --- | --- |
/// | [`dot`](Self::dot) (Luong et al. 2015) | `h · vₛ` | none |
/// | [`general`](Self::general) (Luong et al. 2015) | `(W h + b) · vₛ` | `query.weight` `[V, Q]`, `query.bias` `[V]` |
/// | [`additive`](Self::additive) (Bahdanau et al. 2015) | `a · tanh(W h + b + kₛ)` | `query.weight` `[K, Q]`, `query.bias` `[K]`, `vector` `[K]` |
///
/// Additive attention needs a key kₛ for each output of the encoder. Keys do not depend on the query, so
/// the encoder computes them, all at once: its last block is [`Keys`](crate::Keys), which appends
/// `kₛ = b + U vₛ` to vₛ.
///
/// As a block it attends *after* the recurrence: the query is its input hₜ `[Q]`, and its output is
/// `[cₜ, hₜ]`, so that a [`Dense`](crate::Dense) layer behind it with tanh is Luong's
/// `tanh(W [c, h])`. *Inside* the recurrence, where the next step reads the context,
/// [`AttentionWrapper`](crate::AttentionWrapper) does it.
///
/// For each row of the decoder a pass keeps Q or, with a weight, V or K floats of the query and as many
/// of its gradient, and twice as many weights as the longest source has steps.
/// [`Workspace::activations`](crate::Workspace::activations) finds the weights as `weights`, `[rows,
/// steps of the longest source]`, for a picture of the alignment.
///
/// ```
/// use bptt::{Attention, Dense, Encoder, Gru, Inputs, Network, Reset, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let reader = Encoder::new(Gru::new(3, 8, Reset::After)?);
/// let writer = Network::new(Gru::new(2, 6, Reset::After)?)
///     .then(Attention::general(6, 8)?)
///     .then(Dense::new(8 + 6, 4)?);
/// let network = writer.with_encoder(reader)?;
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (sources, targets) = (Schedule::dense(5, 1), Schedule::dense(2, 1));
/// let mut workspace = model.training(targets).with_source(sources).workspace()?;
/// model.forward(&mut workspace, Inputs::new(&[0.5; 2 * 2]).with_source(&[0.25; 5 * 3]))?;
/// let weights = workspace.activations("1.weights")?;
/// assert_eq!(weights.len(), 2 * 5);
/// assert!((weights[..5].iter().sum::<f32>() - 1.0).abs() < 1e-6);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    score: Score,
    query_size: usize,
    value_size: usize,
    key_size: usize,
}

impl Attention {
    /// Makes attention whose score is the product of the query and an output of the encoder, both of
    /// `size` features.
    ///
    /// # Errors
    /// [`Error::Value`] if the size is 0.
    pub fn dot(size: usize) -> Result<Self, Error> {
        Self::new(Score::Dot, [size; 3])
    }

    /// Makes attention whose score is the product of a linear map of the query, of `query_size` (Q)
    /// features, and an output of the encoder, of `value_size` (V) features.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0, [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn general(query_size: usize, value_size: usize) -> Result<Self, Error> {
        Self::new(Score::General, [query_size, value_size, value_size])
    }

    /// Makes attention whose score is a product of a vector and the tanh of the sum of a linear map of
    /// the query, of `query_size` (Q) features, and a key of `key_size` (K) features. Each output of the
    /// encoder is a value, of `value_size` (V) features, and its key after it.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0, [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn additive(query_size: usize, value_size: usize, key_size: usize) -> Result<Self, Error> {
        Self::new(Score::Additive, [query_size, value_size, key_size])
    }

    fn new(score: Score, sizes: [usize; 3]) -> Result<Self, Error> {
        for (what, size) in ["query_size", "value_size", "key_size"].into_iter().zip(sizes) {
            check_size(what, size)?;
        }
        let [query_size, value_size, key_size] = sizes;
        let attention = Self { score, query_size, value_size, key_size };
        attention.query()?;
        Ok(attention)
    }

    /// Builds attention from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["score", "query_size", "value_size", "key_size"])?;
        let size = |name| config.size(name);
        match config.word("score")? {
            "dot" => Self::dot(size("query_size")?),
            "general" => Self::general(size("query_size")?, size("value_size")?),
            "additive" => {
                Self::additive(size("query_size")?, size("value_size")?, size("key_size")?)
            }
            given => Err(Error::Value {
                what: "option",
                given: format!("score {given}"),
                expected: "dot, general or additive".into(),
            }),
        }
    }

    /// Returns the configuration.
    pub(crate) fn described(&self) -> Config {
        let score = match self.score {
            Score::Dot => "dot",
            Score::General => "general",
            Score::Additive => "additive",
        };
        Config::new("Attention")
            .with("score", score)
            .with("query_size", self.query_size)
            .with("value_size", self.value_size)
            .with("key_size", self.key_size)
    }

    /// Returns Q, the features of a query.
    pub fn query_size(&self) -> usize {
        self.query_size
    }

    /// Returns V, the features of a value and of a context.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Returns the features of an output of the encoder: V, and K for a key.
    fn source_size(&self) -> usize {
        match self.score {
            Score::Dot | Score::General => self.value_size,
            Score::Additive => self.value_size + self.key_size,
        }
    }

    /// Returns the first feature of the key in an output of the encoder.
    fn key_start(&self) -> usize {
        self.source_size() - self.key_size
    }

    /// Returns the map of the query, if there is one.
    fn query(&self) -> Result<Option<Dense>, Error> {
        match self.score {
            Score::Dot => Ok(None),
            Score::General | Score::Additive => {
                Dense::new(self.query_size, self.key_size).map(Some)
            }
        }
    }

    /// Returns the number of parameters of the vector, which come last.
    fn vector_len(&self) -> usize {
        match self.score {
            Score::Additive => self.key_size,
            Score::Dot | Score::General => 0,
        }
    }

    /// Returns an error unless outputs of an encoder of this size fit.
    pub(crate) fn check_outputs(&self, source: Option<SourceSize>) -> Result<(), Error> {
        let given = source.map(|source| source.outputs);
        if given == Some(self.source_size()) {
            return Ok(());
        }
        let given = given.map_or("none".into(), |given| format!("outputs of {given} features"));
        let expected = match self.score {
            Score::Additive => format!(
                "an encoder with outputs of {} features and keys of {}, for {}",
                self.value_size,
                self.key_size,
                self.described()
            ),
            _ => format!("one with outputs of {}, for {}", self.value_size, self.described()),
        };
        Err(Error::Mismatch { what: "encoder", given, expected })
    }
}
