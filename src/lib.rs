#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod arena;
mod clip;
mod error;
mod gradients;
mod init;
mod lstm;
mod optim;
mod readout;

pub use bptt_kernels::{AlignedBuffer, Format, Isa, IsaError};
pub use clip::{clip_elements, clip_global_norm};
pub use error::Error;
pub use gradients::Write;
pub use init::Init;
pub use lstm::{
    Candidate, Gate, Lstm, LstmArena, LstmGradients, LstmParameters, LstmPlan, LstmState,
    LstmStream, LstmWeights, OutputGradients, Purpose,
};
pub use optim::{Adam, AdamConfig, Sgd, SgdConfig};
pub use readout::{
    Readout, ReadoutArena, ReadoutGradients, ReadoutParameters, ReadoutPlan, ReadoutWeights,
    Reduction, Targets,
};
