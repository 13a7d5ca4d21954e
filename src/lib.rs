#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod arena;
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
mod spec;
mod state;
mod stream;
mod weights;

pub use bptt_kernels::{AlignedBuffer, Format, Isa, IsaError};
pub use cells::{
    Activation, Candidate, ClockGroup, Clockwork, Delayed, Gru, GruGate, LayerNorm, Leak, Leaky,
    Lstm, LstmGate, Reset, Skip, Vanilla,
};
pub use clip::{clip_elements, clip_global_norm};
pub use error::Error;
pub use gradients::Accumulate;
pub use init::Init;
pub use layer::Layer;
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
