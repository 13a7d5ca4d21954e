//! Scans over time: recurrences of which each unit sees only its own state. The products with the
//! inputs need no step to wait for another, so they come first, for many rows at once, and the scan
//! is what remains: some operations on a vector of units for each row.
//!
//! A cell has a file with its equations, forward and backward, on vectors (`ScanCell` in
//! `cell.rs`). The loops over time, sequences and units are written once for all of them. Knows
//! steps and units; must not know products.

mod backward;
mod cell;
mod forward;
mod ind_rnn;
mod kinds;
mod min_gru;
mod min_lstm;
mod qrnn;
mod rg_lru;
mod split;
mod sru;

pub use backward::ScanBackward;
pub use forward::ScanForward;
pub use kinds::{Pooling, Scan, ScanGeometry};
