//! Blocks, of which networks are made: differentiable maps from sequences to sequences.
//!
//! A [`Block`] is a configuration. It declares its parameters and the state that it carries from
//! step to step, packs the parameters in the form that its passes read, and plans passes. A planned
//! [`Pass`] runs in memory that the caller lends it. Neither of them knows which blocks stand
//! before it or after it.

mod attention;
mod block;
pub(crate) mod clockwork;
mod config;
mod context;
mod delegate;
mod dense;
mod dropout;
mod embedding;
mod identity;
mod layer_normalization;
mod packed;
mod pass;
mod pool;
pub(crate) mod recurrent;
pub(crate) mod scan;
pub(crate) mod slstm;
mod source;
mod steps;
mod window;

pub use attention::Attention;
pub(crate) use attention::{AttentionGradients, AttentionPlan, AttentionRead, AttentionWindow};
pub use block::{Block, Plan, StreamPlan};
pub use config::{Config, Value};
pub use context::Context;
pub(crate) use delegate::delegate_block;
pub use dense::Dense;
pub(crate) use dense::DensePacked;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub(crate) use embedding::EmbeddingPacked;
pub use identity::Identity;
pub use layer_normalization::LayerNormalization;
pub use packed::{Packed, Plain, Wanted};
pub use pass::{Backward, Forward, Found, Keeps, LeftBy, Pass};
pub use pool::Pool;
pub(crate) use source::Readers;
pub use source::{Source, SourceGradients, SourceRows, SourceSize};
pub use steps::{Next, Steps};
pub use window::Window;
