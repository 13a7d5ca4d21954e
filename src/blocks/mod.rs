//! Blocks, of which networks are made: differentiable maps from sequences to sequences.
//!
//! A [`Block`] is a configuration. It declares its parameters and the state that it carries from
//! step to step, packs the parameters in the form that its passes read, and plans passes. A planned
//! [`Pass`] runs in memory that the caller lends it. Neither of them knows which blocks stand
//! before it or after it.

mod block;
pub(crate) mod clockwork;
mod config;
mod dense;
mod embedding;
mod packed;
mod pass;
pub(crate) mod recurrent;
mod reversed;
pub(crate) mod scan;
mod steps;

pub use block::{Block, Plan};
pub use config::{Config, Value};
pub use dense::Dense;
pub(crate) use dense::DensePacked;
pub use embedding::Embedding;
pub(crate) use embedding::EmbeddingPacked;
pub use packed::{Packed, Plain, Wanted};
pub use pass::{Backward, Forward, LeftBy, Pass};
pub use reversed::Reversed;
pub use steps::{Next, Steps};
