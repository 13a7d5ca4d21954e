#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod arena;
mod cell;
mod cells;
mod clip;
mod clocked;
mod error;
mod gradients;
mod init;
mod inputs;
mod layer;
mod optim;
mod parameters;
mod plan;
mod readout;
mod regularisation;
mod sections;
mod state;
mod stream;
mod weights;

pub use bptt_kernels::{AlignedBuffer, Format, Isa, IsaError};
pub use cell::Cell;
pub use cells::{
    Activation, Candidate, ClockGroup, Clockwork, Delayed, Gate, Gru, GruGate, LayerNorm, Leak,
    Leaky, Lstm, Reset, Skip, Vanilla,
};
pub use clip::{clip_elements, clip_global_norm};
pub use error::Error;
pub use gradients::Write;
pub use init::Init;
pub use optim::{Adam, AdamConfig, Sgd, SgdConfig};
pub use parameters::Parameters;
pub use plan::{Arena, Gradients, OutputGradients, Plan};
pub use readout::{
    Readout, ReadoutArena, ReadoutGradients, ReadoutParameters, ReadoutPlan, ReadoutWeights,
    Reduction, Targets,
};
pub use regularisation::{Noise, Regularisation};
pub use state::{ClockedState, DelayLine, DelayedState, HiddenState, LstmState, Parts, State};
pub use stream::Stream;
pub use weights::{Purpose, Weights};
