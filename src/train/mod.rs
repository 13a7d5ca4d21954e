//! Training: clipping of gradients, optimisers that update parameters with them, and truncated
//! back-propagation. Must not know blocks.

mod clip;
mod optim;
mod truncated;

pub use clip::{clip_elements, clip_global_norm};
pub use optim::{Adam, AdamConfig, Clipped, Optimizer, Sgd, SgdConfig};
pub use truncated::Truncated;
