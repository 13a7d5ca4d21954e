//! Training: clipping of gradients, and optimisers that update parameters with them. Knows buffers
//! of parameters; must not know which network they belong to.

mod clip;
mod optim;

pub use clip::{clip_elements, clip_global_norm};
pub use optim::{Adam, AdamConfig, Clipped, Optimizer, Sgd, SgdConfig};
