//! Optimisers: rules that update parameters with their gradients.

mod adam;
mod checks;
mod optimizer;
mod sgd;

pub use adam::{Adam, AdamConfig};
pub use optimizer::{Clipped, Optimizer};
pub use sgd::{Sgd, SgdConfig};
