//! Recurrent networks on CPUs: forward passes and back-propagation through time in
//! hand-vectorised, fused kernels, for Rust programs that train or run small and medium LSTMs,
//! GRUs and other recurrent layers where there is no GPU.
//!
//! A [`Network`] is a sequence of blocks. With parameters it becomes a [`Model`], which trains in a
//! [`Workspace`] of known size and runs inference in a [`Stream`].
//!
//! # A language model: tokens in, classes out
//!
//! ```
//! use bptt::{
//!     Adam, Dense, Embedding, Lstm, Network, Runtime, Schedule, SoftmaxCrossEntropy, Tokens,
//! };
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! # let (steps, batch) = (8, 4);
//! # let batches = vec![(vec![1u32; steps * batch], vec![2u32; steps * batch]); 3];
//! # let dir = std::env::temp_dir().join(format!("bptt-front-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! # let path = dir.join("lm.safetensors");
//! let network = Network::new(Embedding::new(256, 64)?).then(Lstm::new(64, 128)?).then(Dense::new(128, 256)?);
//! let mut model = network.init(&mut StdRng::seed_from_u64(1), Runtime::best()?.threads(2))?;
//! let mut optimizer = Adam::new(1e-3);
//! let mut workspace = model.training_workspace(Schedule::dense(steps, batch))?;
//! println!("a pass takes {} bytes", workspace.bytes());
//! for (tokens, targets) in batches {
//!     let loss = SoftmaxCrossEntropy::mean(&targets);
//!     let loss = model.train(&mut workspace, Tokens(&tokens), &loss, &mut optimizer.clip_norm(1.0))?;
//!     println!("{loss} nats");
//! }
//! model.save(path)?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An audio effect: a sample in, a sample out, from a file that describes its own network
//!
//! ```
//! use bptt::{Model, Runtime};
//!
//! # use bptt::{Dense, Lstm, Network};
//! # use rand::{SeedableRng, rngs::StdRng};
//! # let dir = std::env::temp_dir().join(format!("bptt-effect-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! # let path = dir.join("amp.safetensors");
//! # let network = Network::new(Lstm::new(1, 16)?).then(Dense::new(16, 1)?);
//! # network.init(&mut StdRng::seed_from_u64(1), Runtime::best()?)?.save(&path)?;
//! # let (block, mut out) = ([0.5, 0.25, -0.5], [0.0]);
//! let model = Model::load(path, Runtime::best()?)?;
//! let mut stream = model.stream(1)?; // the only allocation
//! for sample in block {
//!     stream.step(&[sample], &mut out)?;
//! }
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The random generators in these examples come from the crate `rand`, version 0.10. This crate
//! accepts any generator that implements the traits of [`rand_core`].
//!
//! # What there is
//!
//! | block | what it does |
//! | --- | --- |
//! | [`Lstm`] | LSTM, with peepholes, coupled gates and a projection in any combination |
//! | [`Gru`] | GRU, reset gate after the recurrent product (PyTorch) or before it (the paper) |
//! | [`Vanilla`] | plain recurrent units: tanh, ReLU, logistic or linear |
//! | [`Leaky`] | leaky units, with one α for the layer, one α per unit, or a learned α |
//! | [`Skip`] | recurrent connections over any set of delays |
//! | [`Clockwork`] | units in groups, each of which is updated at its own period |
//! | [`Delayed`], [`LayerNorm`], [`Regularised`] | wrap any layer above except [`Clockwork`]: the input one step late, normalised gates, or noise in the recurrence |
//! | [`MinGru`], [`MinLstm`], [`Sru`], [`Qrnn`], [`IndRnn`], [`RgLru`] | units that see no other unit's state, so that a pass is one product for many steps and a scan |
//! | [`Bidirectional`], [`Reversed`] | run blocks in both directions, or one backwards in time, from the end of each sequence |
//! | [`Stack`], [`Residual`], [`Parallel`] | put blocks one above the other, around which there may be skip connections, and side by side |
//! | [`OutputRecurrent`] | lets a block read its own outputs: teacher forcing, running free, scheduled sampling |
//! | [`Dense`], [`Embedding`] | an affine map of each row, with an activation function if asked for, and a table with one vector per token |
//! | [`Dropout`], [`LayerNormalization`], [`Pool`], [`Identity`] | stand between layers, or beside them |
//! | [your own](blocks::Pass#a-block-of-your-own) | combines with all of these |
//!
//! | loss | of outputs that are |
//! | --- | --- |
//! | [`SoftmaxCrossEntropy`] | logits of classes, one of which is right in each row |
//! | [`LogisticCrossEntropy`] | logits of independent yes-or-no questions |
//! | [`SquaredError`], [`AbsoluteError`], [`Huber`] | values |
//! | [`GaussianNll`], [`GaussianMixture`] | means and variances; mixtures of Gaussians in the plane |
//! | [`Ctc`] | logits of labels, of which nobody knows the steps |
//! | [`ErrorToSignal`] | samples of a signal |
//! | [your own](Loss) | anything |
//!
//! All of them take a mask and say how they are [reduced](loss::Reduction) to one value;
//! [`metrics`] has accuracy, perplexity and edit distance. The optimisers are [`Sgd`] and [`Adam`].
//!
//! # Conventions
//!
//! - Sequences are time-major: row `t · B + n` of `[τ, B, features]` is sequence n at step t. A
//!   [`Schedule`] can say otherwise: different lengths, batch first, or one sequence after the other.
//! - All parameters lie in one buffer, in which each tensor has a [name](Manifest): `1.weight_ih`
//!   is the tensor `weight_ih` of block 1. A layer's page gives the order of its gates;
//!   [`Lstm::rows`] and [`Gru::rows`] return the rows of a gate.
//! - A layer's page also lists the tensors that it carries from step to step; [`State`] holds them
//!   by name. The states of [single sequences](State#single-sequences) can be read, set, reset and
//!   reordered. Before the first step the state is zero, given, or a
//!   [parameter](Network::with_learned_state).
//! - Input that does not fit is refused with an [`Error`] before anything is written. The error
//!   says what was given and what was expected.
//! - A sequence gets the same bits alone or in a batch, in one pass or in many, step by step or at
//!   once, on one thread or on eight. Results differ between instruction sets only by rounding.
//!
//! # The networks of the chapter
//!
//! A [page](guide::networks) goes through chapter 10 of *Deep Learning* by its sections: both
//! directions, depth, recurrence from the output and teacher forcing, one output for a sequence.
//!
//! # Sequences and memory
//!
//! A [page of its own](guide) is about sequences of different lengths, states that go on, truncated
//! back-propagation through time, and passes under a budget of bytes.
//!
//! # Weights from elsewhere
//!
//! [`Network::parameters`] allocates a zeroed buffer, [`Parameters::tensor_mut`] returns each
//! tensor of it by name for you to fill, row-major `[outputs, inputs]`, and [`Network::model`]
//! makes a model of it. Where another library keeps two biases for a gate and this crate keeps one,
//! fill in their sum.
//!
//! # Features
//!
//! `safetensors`, off by default: [`Model::save`], [`Model::load`] and [`Loader`]; [`State::save`] and
//! [`Model::load_state`].
#![forbid(unsafe_code)]
// Without files nothing makes a block from its configuration.
#![cfg_attr(not(feature = "safetensors"), allow(dead_code, rustdoc::broken_intra_doc_links))]

pub mod blocks;
mod containers;
mod error;
mod gradients;
// A page, not code: no program can name it.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/sequences.md")]
pub mod guide {
    #[doc = include_str!("../docs/networks.md")]
    pub mod networks {}
}
#[cfg(feature = "safetensors")]
mod io;
pub mod loss;
mod memory;
mod network;
mod params;
mod regularisation;
mod runtime;
mod sequence;
mod train;

pub use blocks::clockwork::{ClockGroup, Clockwork};
pub use blocks::recurrent::{
    Activation, Candidate, Delayed, GateActivation, Gru, GruGate, Layer, LayerNorm, Leak, Leaky,
    Lstm, LstmGate, Recurrent, Regularised, Reset, Skip, Vanilla,
};
pub use blocks::scan::{IndRnn, MinGru, MinLstm, Pooling, Qrnn, RgLru, Sru};
pub use blocks::slstm::{ForgetGate, Slstm};
pub use blocks::{
    Attention, Context, Dense, Dropout, Embedding, Identity, LayerNormalization, Pool, Window,
};
pub use bptt_kernels::{Format, Isa, IsaError};
pub use containers::{
    AttentionWrapper, Bidirectional, Choice, DeepTransition, Keys, OutputRecurrent, Parallel,
    Residual, Reversed, Stack,
};
pub use error::Error;
pub use gradients::Accumulate;
#[cfg(feature = "safetensors")]
pub use io::Loader;
pub use loss::{
    AbsoluteError, Ctc, ErrorToSignal, GaussianMixture, GaussianNll, Huber, LastStep,
    LogisticCrossEntropy, Loss, Outputs, SoftmaxCrossEntropy, SquaredError, TargetRows, metrics,
};
pub use memory::{Layout, Memory, Region};
pub use network::{
    Bridge, Encoder, Inference, Model, Network, Recomputation, Stream, Training, Truncated,
    Workspace,
};
pub use params::{Init, Manifest, Parameters, State, Tensor};
pub use rand_core;
pub use regularisation::{Noise, Regularisation};
pub use runtime::Runtime;
pub use sequence::{Input, InputSize, Inputs, Padding, Schedule, Tokens};
pub use train::{
    Adam, AdamConfig, Clipped, Optimizer, Sgd, SgdConfig, clip_elements, clip_global_norm,
};
