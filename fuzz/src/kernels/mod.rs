//! Calls of the kernels' entries with drawn sizes and slices of drawn lengths, right or wrong: one
//! that is right succeeds, any other gives a typed error and writes nothing. None panics, and what
//! a sanitizer watches sees no access beyond a slice.

mod attention;
mod clocked;
mod drawn;
mod elements;
mod passes;
mod products;
mod scans;
mod single;
mod slstm;

pub use attention::{attention_gradients, attention_scores, attention_sums, attention_weights};
pub use clocked::{clocked_backward, clocked_forward};
pub use drawn::Drawn;
pub use elements::{cross_entropy, diagonal, optimisers, softmax_rows};
pub use passes::{backward, forward};
pub use products::{dense, gemm, outer, packing};
pub use scans::{scan_backward, scan_forward};
pub use single::single;
pub use slstm::{slstm_backward, slstm_forward};
