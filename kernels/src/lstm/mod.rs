//! The LSTM's fused steps: the recurrent product of a block of units with all
//! its gates, finished in registers.
//!
//! Gate order is i, f, g, o (input, forget, candidate, output), in weights,
//! stored gates and gradients alike. Knows the cell and the tile; must not know
//! plans, arenas or parameters.

mod backward;
mod forward;

pub use backward::Backward;
pub use forward::{Cells, Forward, Gates, Single};

use crate::fetch::Fetch;
use crate::left;
use crate::pack::Place;
use crate::simd::Simd;
use crate::tile::{DEPTH_BLOCK, Sums};
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

/// Adds the product of a block of `rows` packed rows `a` with a group of columns to `sums`. Of
/// `fetches`, each block of depth sees to its share.
///
/// # Safety
/// `a` has so many rows of the matrix's depth, and the group and what comes after it
/// are ones of the matrix; the sums hold so many rows.
#[inline(always)]
unsafe fn sum<S: Simd>(
    s: S,
    rows: usize,
    a: *const f32,
    weights: &PackedMatrix,
    (group, next): (usize, usize),
    mut sums: Sums,
    fetches: &[Fetch],
) {
    let depth = weights.depth();
    let place = Place { group, vecs: weights.columns(group, S::LANES).vecs, next };
    let share = fetches.len().div_ceil(depth.div_ceil(DEPTH_BLOCK));
    for first_k in (0..depth).step_by(DEPTH_BLOCK) {
        let mine = (first_k / DEPTH_BLOCK * share).min(fetches.len());
        let mine = &fetches[mine..(mine + share).min(fetches.len())];
        // SAFETY: the caller's, and first_k < depth.
        unsafe {
            let a = a.add(rows * first_k);
            weights.multiply(s, (rows, a), place, first_k, &sums, mine);
        }
        sums = sums.resumed();
    }
}

/// Bytes of weights up to which a core keeps them in its own cache over the steps.
const OWN_CACHE: usize = 1 << 20;
/// Rows below which a thread's tiles are too flat to be fast.
const OWN_ROWS: usize = 6;
/// Multiply-adds that take about as long as threads take to meet.
const WORTH_MEETING: usize = 1 << 17;

/// In how many parts the batch goes through all steps, each part on its own: rows do not
/// know of each other, so threads that split them meet once, not in every step. 0 where
/// the units of each step are split instead: all threads then read a part of the weights
/// each, where splitting rows has each read them all.
#[inline]
fn parts(threads: usize, dims: Dims, recurrent: &PackedMatrix) -> usize {
    if threads == 1 {
        return 1;
    }
    let step = dims.batch * recurrent.row_terms();
    let rows_alone = dims.batch >= threads * OWN_ROWS && recurrent.bytes() <= OWN_CACHE;
    match rows_alone {
        true if step.saturating_mul(dims.steps) >= WORTH_MEETING => threads,
        false if step >= WORTH_MEETING => 0,
        _ => 1,
    }
}

/// The group that a sweep comes to after `group`. They are swept to and fro: what the
/// last step left in the cache is read first.
#[inline(always)]
fn after(group: usize, groups: usize, backwards: bool) -> usize {
    if backwards { group.saturating_sub(1) } else { (group + 1).min(groups - 1) }
}
