//! Losses: values and gradients against definitions in f64 and against PyTorch, in every layout of
//! sequences, with masks, at extreme outputs, and through networks.

#[path = "../common/mod.rs"]
mod common;
mod ctc;
mod edges;
#[path = "../cells_data/file.rs"]
mod file;
mod kernels;
mod kind;
mod metrics;
mod networks;
mod placed;
mod reference;
mod refusals;
mod torch;

/// The error that rounding to f32 makes, relative to the value.
pub const U: f64 = bptt_reference::compare::UNIT_ROUNDOFF;

/// Panics unless the values are at most `bound` apart.
#[track_caller]
pub fn assert_near(what: &str, given: f64, expected: f64, bound: f64) {
    let error = (given - expected).abs();
    assert!(error <= bound, "{what} is {given:e}, expected {expected:e} ± {bound:e}");
}
