//! The LSTM's fused steps: the recurrent product of a block of units with all
//! its gates, finished in registers.
//!
//! Gate order is i, f, g, o (input, forget, candidate, output), in weights,
//! stored gates and gradients alike. Knows the cell and the tile; must not know
//! plans, arenas or parameters.

mod backward;
mod forward;

pub use backward::Backward;
pub use forward::{Cells, Forward, Gates};

use crate::simd::Simd;
use crate::tile::{self, DEPTH_BLOCK, RowMajor, Sink};
use crate::vmath::{logistic, tanh};
use crate::{KernelError, PackedMatrix};

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
    fn state(self) -> Result<usize, KernelError> {
        crate::checked_len("a state", &[self.batch, self.hidden])
    }
    fn states(self) -> Result<usize, KernelError> {
        crate::checked_len("the states", &[self.steps, self.batch, self.hidden])
    }
    fn gates(self) -> Result<usize, KernelError> {
        crate::checked_len("the gates", &[self.steps, self.batch, GATES, self.hidden])
    }
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

/// Adds the product of `rows` rows from `a` with a group of columns to the sums
/// in `sink`, going on where they are where `resume` says so.
///
/// # Safety
/// `a` has so many rows of the matrix's depth; the group is one of the matrix's.
#[inline(always)]
unsafe fn sum<S: Simd, K: Sink<S>>(
    s: S,
    rows: usize,
    a: *const f32,
    weights: &PackedMatrix,
    (group, next_group): (usize, usize),
    resume: bool,
    sink: &mut K,
) {
    let depth = weights.depth();
    let columns = weights.columns(group, S::LANES);
    for first_k in (0..depth).step_by(DEPTH_BLOCK) {
        sink.enter(first_k / DEPTH_BLOCK);
        // SAFETY: the caller's, and first_k < depth.
        unsafe {
            let a = RowMajor { start: a.add(first_k), stride: depth };
            let product = weights.product(a, group, &columns, first_k, S::LANES, next_group);
            tile::group(s, rows, product, columns.vecs, resume || first_k > 0, sink);
        }
    }
}
