//! Recurrent layers: cells of the kernels, run over time.
//!
//! Each kind of layer has a file of its own, with its equations, its options and the [`Recurrent`]
//! that describes it. The parameters, the packing, the passes and the streams follow from this
//! description and are written once for all kinds.

mod delayed;
mod gru;
mod inputs;
mod layer;
mod leak;
mod leaky;
mod lstm;
mod normalised;
mod options;
mod packed;
mod pass;
mod regularised;
mod sections;
mod skip;
mod spec;
mod state;
mod steps;
mod vanilla;

pub use delayed::Delayed;
pub use gru::{Gru, GruGate, Reset};
pub use layer::Layer;
pub use leak::Leak;
pub use leaky::Leaky;
pub use lstm::{Lstm, LstmGate};
pub use normalised::LayerNorm;
pub use options::{Activation, Candidate, GateActivation};
pub(crate) use options::{check_sizes, named};
pub(crate) use packed::RecurrentPacked;
pub use regularised::Regularised;
pub use skip::Skip;
pub use spec::Recurrent;
use spec::{Diagonal, Sizes};
use state::StateParts;
pub(crate) use state::{ago, last_rows, remember};
pub(crate) use steps::{EmbeddedSteps, RecurrentSteps, chunk_steps};
pub use vanilla::Vanilla;
