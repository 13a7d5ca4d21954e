//! The SIMD kernels of the `bptt` crate.

mod aligned;
mod error;
mod isa;
mod simd;
pub mod vmath;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use error::{KernelError, checked_len};
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use simd::MAX_LANES;
