//! What a scanned cell is: the equations of one step on a vector of units. Must not know where the
//! units lie in memory, or which step it is.

use crate::simd::Simd;

/// The most blocks of pre-activations of any cell.
pub(super) const MOST_GATES: usize = 4;
/// The most vectors of parameters of any cell.
pub(super) const MOST_VECTORS: usize = 2;

/// What a step of some units reads.
#[derive(Clone, Copy)]
pub(super) struct Units<V> {
    /// In a forward step the pre-activations, one for each gate. In a backward step what the
    /// forward step kept in their place.
    pub gates: [V; MOST_GATES],
    /// The input, if the cell [reads](ScanCell::INPUT) it beside the products.
    pub x: V,
    /// The cell's parameters of these units.
    pub vectors: [V; MOST_VECTORS],
    /// The state before the step.
    pub before: V,
}

/// What a forward step makes.
pub(super) struct Made<V> {
    /// What the backward step reads in the place of the pre-activations.
    pub gates: [V; MOST_GATES],
    /// The state after the step.
    pub state: V,
    /// The output. It is the state, unless the cell [keeps](ScanCell::CELLS) them apart.
    pub output: V,
}

/// What comes to a backward step.
#[derive(Clone, Copy)]
pub(super) struct Later<V> {
    /// The state after the step.
    pub after: V,
    /// ∂L/∂ of the output. Where the output is the state, it is all of its gradient.
    pub d_output: V,
    /// ∂L/∂ of the state after the step, without the part that comes through the output; it is 0
    /// where the output is the state.
    pub d_state: V,
}

/// What a backward step makes: ∂L/∂ of what the step read.
pub(super) struct Gradients<V> {
    /// ∂L/∂z of the gates.
    pub gates: [V; MOST_GATES],
    /// ∂L/∂x, the part that does not come through the products.
    pub x: V,
    /// The step's part of the gradients of the parameters that are [learned](ScanCell::LEARNED).
    pub vectors: [V; MOST_VECTORS],
    /// ∂L/∂ of the state before the step.
    pub before: V,
}

/// A cell whose units see only their own states. Entries of arrays beyond the cell's numbers of
/// gates and vectors are not used.
pub(super) trait ScanCell: Copy + Sync {
    /// Blocks of H pre-activations, G.
    const GATES: usize;
    /// Vectors of H parameters that a step reads.
    const VECTORS: usize = 0;
    /// Vectors of H parameters that have a gradient.
    const LEARNED: usize = Self::VECTORS;
    /// Whether a step reads the input beside the products, so that there are as many inputs as
    /// units.
    const INPUT: bool = false;
    /// Whether there is a cell state that is not the output.
    const CELLS: bool = false;

    /// Computes a step.
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V>;

    /// Computes the gradients of a step.
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V>;
}

/// Fills an array of gates or vectors with the first of them; the others are zero.
#[inline(always)]
pub(super) fn padded<S: Simd, const N: usize, const M: usize>(simd: S, v: [S::V; N]) -> [S::V; M] {
    let mut all = [simd.zero(); M];
    all[..N].copy_from_slice(&v);
    all
}
