//! The usual activation functions of cells, and their derivatives.

use super::functions::{Functions, Phi};
use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// The activation functions of a cell. Each variant is named for φ, the function of the candidate
/// (or of the whole unit, if it is a vanilla one). Gates are logistic, and the cell state of an
/// LSTM goes through tanh before it is output. [`Hard`](super::Hard) has other functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// φ = tanh, as is usual.
    #[default]
    Tanh,
    /// φ = σ, as in equations 10.41 and 10.45.
    Logistic,
    /// φ(a) = max(0, a).
    Relu,
    /// φ(a) = a, for a linear recurrence. Gates and the output of an LSTM's cell state have no
    /// other function either.
    Identity,
}

impl Phi for Activations {
    #[inline(always)]
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self {
            Self::Tanh => tanh(simd, z),
            Self::Logistic => logistic(simd, z),
            Self::Relu => simd.max(simd.zero(), z),
            Self::Identity => z,
        }
    }

    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::Tanh => simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0))),
            Self::Relu => simd.select(simd.lt(simd.zero(), y), dy, simd.zero()),
            Self::Logistic | Self::Identity => self.gate_gradient(simd, dy, y),
        }
    }
}

impl Functions for Activations {
    #[inline(always)]
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { logistic(simd, z) }
    }

    #[inline(always)]
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { tanh(simd, z) }
    }

    #[inline(always)]
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity { dy } else { simd.mul(dy, simd.neg_mul_add(y, y, y)) }
    }

    #[inline(always)]
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity {
            dy
        } else {
            simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0)))
        }
    }
}
