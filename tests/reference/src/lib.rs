//! The cells of `bptt` written as their equations are: scalar loops, no blocking, no tricks.
//!
//! Tests, fuzz targets and benches compare the kernels with this crate, so it must know nothing of them: no packing,
//! no instruction sets, no views. Equation numbers are those of Goodfellow, Bengio and Courville, *Deep Learning*
//! (2016), chapter 10 unless said otherwise.
//!
//! A cell is one file, generic over [`Number`], and so is written once and evaluated three ways:
//!
//! | number | what comes out |
//! | --- | --- |
//! | `f64` | the reference values |
//! | [`Bounded`] | the reference values, each with a derived bound on the error of any correct `f32` pass |
//! | `f32` | a plain single-precision pass |
//!
//! A test of a kernel needs no tuned tolerance:
//!
//! ```
//! use bptt_reference::{Activation, Lstm, bounds, sample};
//!
//! let lstm = Lstm::new(3, 4, Activation::Tanh);
//! let params = sample::uniform(1, lstm.params_len(), 0.5);
//! let (x, h0, s0) = (sample::uniform(2, 5 * 2 * 3, 1.0), vec![0.0; 2 * 4], vec![0.0; 2 * 4]);
//!
//! let kernel_h = lstm.forward(&params, &x, &h0, &s0).h; // stands for the pass under test
//! let [params, x, h0, s0] = [&params, &x, &h0, &s0].map(|v| bounds::exact(v));
//! let reference = lstm.forward(&params, &x, &h0, &s0);
//! bounds::assert_within("h", &kernel_h, &reference.h);
//! ```
//!
//! Sequences are time-major, `[steps, batch, features]`, contiguous; matrices are row-major.

pub mod activation;
pub mod bounds;
pub mod cells;
pub mod compare;
pub mod finite;
pub mod losses;
pub mod lstm;
pub mod noise;
pub mod number;
pub mod optim;
pub mod readout;
pub mod sample;
pub mod tape;

pub use activation::Activation;
pub use bounds::Bounded;
pub use lstm::Lstm;
pub use number::Number;
pub use readout::Readout;
