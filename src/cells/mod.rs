//! The cells: a file each, with its equations, its options and the kernel that they name.

mod clockwork;
mod delayed;
mod gru;
mod leaky;
mod lstm;
mod normalised;
mod skip;
mod vanilla;

pub use clockwork::{ClockGroup, Clockwork};
pub use delayed::Delayed;
pub use gru::{Gru, GruGate, Reset};
pub use leaky::{Leak, Leaky};
pub use lstm::{Lstm, LstmGate};
pub use normalised::LayerNorm;
pub use skip::Skip;
pub use vanilla::Vanilla;

use crate::error::check_size;
use crate::spec::{Sizes, Spec};
use crate::{Error, Parameters};
use bptt_kernels::cells::Activations;
use std::ops::Range;

/// The non-linearity φ of a gated cell's candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidate {
    /// tanh, as all libraries have it.
    #[default]
    Tanh,
    /// The logistic function, as in equations 10.41 and 10.45.
    Logistic,
}

impl From<Candidate> for Activations {
    fn from(candidate: Candidate) -> Self {
        match candidate {
            Candidate::Tanh => Self::Tanh,
            Candidate::Logistic => Self::Logistic,
        }
    }
}

/// The non-linearity φ of a unit without gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// tanh.
    #[default]
    Tanh,
    /// max(0, a).
    Relu,
    /// The logistic function σ.
    Logistic,
    /// None, φ(a) = a: a linear recurrence.
    Identity,
}

impl From<Activation> for Activations {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Tanh => Self::Tanh,
            Activation::Relu => Self::Relu,
            Activation::Logistic => Self::Logistic,
            Activation::Identity => Self::Identity,
        }
    }
}

/// Sizes that are 1 or more each.
fn check_sizes(input_size: usize, hidden_size: usize) -> Result<(), Error> {
    check_size("input_size", input_size)?;
    check_size("hidden_size", hidden_size)?;
    Ok(())
}

/// The layer, if its parameters fit the address space.
fn checked<C: Spec>(layer: C) -> Result<C, Error> {
    layer.sections()?;
    Ok(layer)
}

/// Where a gate's rows lie in U, W and b.
fn gate_rows<C: Spec>(parameters: &Parameters<C>, gate: usize) -> [Range<usize>; 3] {
    let Sizes { input, hidden, output } = parameters.layer().sizes();
    [input, output, 1].map(|width| gate * hidden * width..(gate + 1) * hidden * width)
}

/// A gate's rows: its U `[H, I]`, W `[H, R]` and b `[H]`.
fn gate<C: Spec>(parameters: &Parameters<C>, gate: usize) -> [&[f32]; 3] {
    let [u, w, b] = gate_rows(parameters, gate);
    let (inputs, recurrent) = (parameters.input_weights(), parameters.recurrent_weights());
    [&inputs[u], &recurrent[w], &parameters.bias()[b]]
}

/// The same, to be changed.
fn gate_mut<C: Spec>(parameters: &mut Parameters<C>, gate: usize) -> [&mut [f32]; 3] {
    let [in_u, in_w, in_b] = gate_rows(parameters, gate);
    let [u, w, b, ..] = parameters.split_mut();
    [&mut u[in_u], &mut w[in_w], &mut b[in_b]]
}
