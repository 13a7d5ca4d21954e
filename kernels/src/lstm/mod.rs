//! The LSTM's fused steps: the recurrent product of a block of units with all
//! its gates, finished in registers.
//!
//! Gate order is i, f, g, o (input, forget, candidate, output), in weights,
//! stored gates and gradients alike. Knows the cell and the tile; must not know
//! plans, arenas or parameters.

mod backward;
mod forward;
mod single;

pub use backward::Backward;
pub use forward::{Cells, Forward, Gates};
pub use single::Single;

use crate::KernelError;
use crate::left;
use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// Gates of the cell.
pub const GATES: usize = 4;

/// τ, B and H of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Time steps.
    pub steps: usize,
    /// Sequences side by side.
    pub batch: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl Dims {
    #[inline]
    fn state(self) -> Result<usize, KernelError> {
        crate::checked_len("a state", &[self.batch, self.hidden])
    }
    #[inline]
    fn states(self) -> Result<usize, KernelError> {
        crate::checked_len("the states", &[self.steps, self.batch, self.hidden])
    }
    #[inline]
    fn gates(self) -> Result<usize, KernelError> {
        crate::checked_len("the gates", &[self.steps, self.batch, GATES, self.hidden])
    }
}

/// Floats of scratch that a [`Forward`] needs; `input` is the depth of a product
/// with the input that is part of the step, or 0.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
#[inline]
pub fn forward_scratch_len(
    batch: usize,
    hidden: usize,
    input: usize,
) -> Result<usize, KernelError> {
    let (state, input) = (left::checked_len(batch, hidden)?, left::checked_len(batch, input)?);
    state.checked_add(input).ok_or(KernelError::TooLarge { what: "scratch" })
}

/// Floats of scratch that a [`Backward`] needs.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
pub fn backward_scratch_len(batch: usize, hidden: usize) -> Result<usize, KernelError> {
    left::checked_len(batch, crate::checked_len("scratch", &[GATES, hidden])?)
}

/// The non-linearities of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// Logistic gates, tanh candidate, tanh of the cell: the usual LSTM.
    #[default]
    Tanh,
    /// Logistic gates, logistic candidate, tanh of the cell: equation 10.41.
    Logistic,
    /// None at all. For tests: what differs then is a fault of a product, not
    /// the error of an approximation.
    Identity,
}

impl Activations {
    #[inline(always)]
    fn gate<S: Simd>(self, s: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { logistic(s, z) }
    }

    #[inline(always)]
    fn candidate<S: Simd>(self, s: S, z: S::V) -> S::V {
        match self {
            Self::Tanh => tanh(s, z),
            Self::Logistic => logistic(s, z),
            Self::Identity => z,
        }
    }

    #[inline(always)]
    fn cell<S: Simd>(self, s: S, z: S::V) -> S::V {
        if self == Self::Identity { z } else { tanh(s, z) }
    }

    /// `dy · σ'`, from the gate's value `y`: `σ' = y(1 − y)`.
    #[inline(always)]
    fn gate_gradient<S: Simd>(self, s: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity { dy } else { s.mul(dy, s.neg_mul_add(y, y, y)) }
    }

    /// `dy · φ'`, from the candidate's value `y`.
    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, s: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::Tanh => s.mul(dy, s.neg_mul_add(y, y, s.splat(1.0))),
            _ => self.gate_gradient(s, dy, y),
        }
    }

    /// `dy · tanh'`, from the value `y` of `tanh s`.
    #[inline(always)]
    fn cell_gradient<S: Simd>(self, s: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity { dy } else { s.mul(dy, s.neg_mul_add(y, y, s.splat(1.0))) }
    }
}
