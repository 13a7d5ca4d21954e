//! Named tensors of a network that outlive its passes: parameters, gradients and states. Knows
//! names and shapes; must not know what computes with them.

mod init;
mod manifest;
mod parameters;
mod state;

pub use init::Init;
pub use manifest::{Manifest, Tensor};
pub use parameters::Parameters;
pub use state::State;
