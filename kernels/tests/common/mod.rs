//! What the kernels' suites share, and what they share with the crate's.
#![allow(dead_code, unused_imports, reason = "each suite uses its own part")]

mod attention;
#[path = "../../../tests/common/bits.rs"]
mod bits;
#[path = "../../../tests/common/cases.rs"]
mod cases;
mod cell;
#[cfg(unix)]
pub mod guarded;
#[path = "../../../tests/common/isas.rs"]
mod isas;
mod scan;
mod slstm;

pub use attention::{Attended, AttentionCase, AttentionGradients, Lengths, Scores};
pub use bits::{SENTINEL, Snapshot, assert_bits, filled};
pub use cases::check;
pub use cell::{Case, Functions, Kept, Variant, Which};
pub use isas::{isas, say};
pub use scan::{ScanCase, Scanned, scans};
pub use slstm::{SLSTM_GAP, SlstmBack, SlstmCase};

use bptt_kernels::{Dense, Isa, PackedMatrix, team::Pass};
use std::any::Any;
use std::sync::Mutex;

/// Keeps a value for the rest of the process, where checkers of leaks find it.
pub fn keep<T: Any + Sync>(value: T) -> &'static T {
    static KEPT: Mutex<Vec<&(dyn Any + Sync)>> = Mutex::new(Vec::new());
    let kept: &'static T = Box::leak(Box::new(value));
    KEPT.lock().unwrap().push(kept);
    kept
}

/// Weights `[outputs, depth]` of so many gates, packed.
pub fn by_rows(isa: Isa, gates: usize, depth: usize, weights: &[f32]) -> PackedMatrix {
    let units = weights.len() / depth / gates;
    let mut packed = PackedMatrix::zeros(isa, gates, units, depth).unwrap();
    packed.pack_rows(weights, &mut Pass::serial()).unwrap();
    packed
}

/// Weights `[depth, outputs]`, packed.
pub fn by_columns(isa: Isa, depth: usize, weights: &[f32]) -> PackedMatrix {
    let mut packed = PackedMatrix::zeros(isa, 1, weights.len() / depth, depth).unwrap();
    packed.pack_columns(weights, &mut Pass::serial()).unwrap();
    packed
}

/// A dense layer of weights `[outputs, depth]`.
pub fn dense(isa: Isa, depth: usize, weights: &[f32], bias: &[f32]) -> Dense {
    let mut dense = Dense::zeros(isa, bias.len(), depth).unwrap();
    dense.pack(weights, bias, &mut Pass::serial()).unwrap();
    dense
}
