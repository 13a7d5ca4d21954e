//! The SIMD kernels of the `bptt` crate.

mod aligned;
#[cfg(feature = "baseline")]
pub mod baseline;
pub mod columns;
mod each;
mod error;
pub mod gemm;
mod isa;
pub mod lstm;
pub mod optim;
pub mod outer;
mod pack;
pub mod peak;
mod scratch;
mod simd;
mod sink;
pub mod softmax;
mod tile;
pub mod vmath;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use error::{KernelError, checked_len};
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use pack::PackedMatrix;
pub use simd::MAX_LANES;
