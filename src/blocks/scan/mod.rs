//! Scanned layers: cells of the kernels whose only recurrence is element-wise, run over time.
//!
//! Each kind of layer has a file of its own, with its equations, its options and the [`ScanLayer`]
//! that describes it. The parameters, the packing, the passes and the streams follow from this
//! description and are written once for all kinds.

mod ind_rnn;
mod layer;
mod min_gru;
mod min_lstm;
mod packed;
mod pass;
mod qrnn;
mod rg_lru;
mod spec;
mod sru;
mod steps;

pub use ind_rnn::IndRnn;
pub use min_gru::MinGru;
pub use min_lstm::MinLstm;
pub use qrnn::{Pooling, Qrnn};
pub use rg_lru::RgLru;
pub use sru::Sru;
