//! Recurrent networks on CPUs: forward passes and back-propagation through time.
#![forbid(unsafe_code)]

mod error;

pub use bptt_kernels::{AlignedBuffer, Isa, IsaError};
pub use error::Error;
