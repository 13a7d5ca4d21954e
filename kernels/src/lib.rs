//! The SIMD kernels of the `bptt` crate: products with packed weights, the fused
//! steps of recurrent cells, and vector math, on AVX-512, AVX2 + FMA, NEON and
//! portable code.
//!
//! All `unsafe` code of the project is in this crate. Its public functions check the
//! length of every slice against the dimensions before they write anything. An [`Isa`]
//! is the proof that the CPU has an instruction set; every kernel needs one.
//!
//! ```
//! use bptt_kernels::gemm::{Start, gemm, scratch_len};
//! use bptt_kernels::{Isa, PackedMatrix, team::Pass};
//!
//! // y = x Wᵀ with x [1, 3], W [2, 3] and y [1, 2].
//! let isa = Isa::best()?;
//! let mut w = PackedMatrix::zeros(isa, 1, 2, 3)?;
//! w.pack_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut Pass::serial())?;
//! let (mut y, mut scratch) = ([0.0; 2], vec![0.0; scratch_len(1, 3)?]);
//! gemm(isa, 1, &[1.0, 0.0, 1.0], &w, Start::Zero, &mut y, &mut scratch)?;
//! assert_eq!(y, [4.0, 10.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aligned;
pub mod attention;
#[cfg(feature = "baseline")]
pub mod baseline;
mod cache;
pub mod cells;
mod denormals;
pub mod diagonal;
mod each;
mod error;
mod format;
pub mod gemm;
mod isa;
pub mod logistic;
mod normalise;
pub mod optim;
pub mod peak;
pub mod recurrence;
mod rows;
pub mod rowwise;
pub mod scan;
mod simd;
pub mod slstm;
pub mod softmax;
pub mod team;
mod threefry;
pub mod tuning;
pub mod vmath;

pub use aligned::{ALIGNMENT, AlignedBuffer};
pub use error::{KernelError, checked_len};
pub use format::Format;
pub use gemm::{Dense, PackedMatrix};
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use rows::Joined;
pub use simd::MAX_LANES;
pub use threefry::{threefry, unit_interval};
