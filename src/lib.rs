//! Recurrent networks on CPUs: forward passes and back-propagation through time.
#![forbid(unsafe_code)]

mod arena;
mod error;
mod gradients;
mod init;
mod lstm;

pub use bptt_kernels::{AlignedBuffer, Isa, IsaError};
pub use error::Error;
pub use gradients::Write;
pub use init::Init;
pub use lstm::{
    Candidate, Gate, Lstm, LstmArena, LstmGradients, LstmParameters, LstmPlan, LstmState,
    LstmStream, LstmWeights, OutputGradients, Purpose,
};
