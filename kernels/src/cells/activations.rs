//! The non-linearities of cells, and their slopes.

use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// The non-linearities of a cell, named for φ, the one of its candidate (or of the
/// whole of a vanilla one); gates are logistic, and what shows of an LSTM's state is its
/// tanh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// φ = tanh, as is usual.
    #[default]
    Tanh,
    /// φ = σ, as in equations 10.41 and 10.45.
    Logistic,
    /// φ(a) = max(0, a).
    Relu,
    /// φ(a) = a, for a linear recurrence. Gates, and what shows of an LSTM's state, are left as
    /// they are too.
    Identity,
}

impl Activations {
    #[inline(always)]
    pub(crate) fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { logistic(simd, z) }
    }

    #[inline(always)]
    pub(crate) fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self {
            Self::Tanh => tanh(simd, z),
            Self::Logistic => logistic(simd, z),
            Self::Relu => simd.max(simd.zero(), z),
            Self::Identity => z,
        }
    }

    #[inline(always)]
    pub(crate) fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { tanh(simd, z) }
    }

    /// `dy · σ'`, from the gate's value `y`: `σ' = y(1 − y)`.
    #[inline(always)]
    pub(crate) fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity { dy } else { simd.mul(dy, simd.neg_mul_add(y, y, y)) }
    }

    /// `dy · φ'`, from the candidate's value `y`; of max(0, a) it is 0 at 0.
    #[inline(always)]
    pub(crate) fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::Tanh => simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0))),
            Self::Relu => simd.select(simd.lt(simd.zero(), y), dy, simd.zero()),
            Self::Logistic | Self::Identity => self.gate_gradient(simd, dy, y),
        }
    }

    /// `dy · tanh'`, from the value `y` of `tanh c`.
    #[inline(always)]
    pub(crate) fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity {
            dy
        } else {
            simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0)))
        }
    }
}
