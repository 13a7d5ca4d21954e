//! Named tensors of a network that outlive its passes: parameters, gradients and states. Knows
//! names and shapes; must not know what computes with them.

mod init;
mod manifest;
mod parameters;
mod sequences;
mod state;

pub use init::Init;
pub(crate) use init::unit;
pub use manifest::{Manifest, Tensor};
pub use parameters::Parameters;
pub(crate) use sequences::{Move, Sequences};
pub use state::State;
