//! The vanilla recurrent unit (Goodfellow et al., equations 10.8 and 10.9):
//! `h = φ(z)`, and backward `dz = dh ⊙ φ'(z)`.

use super::functions::Phi;
use super::{Activations, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::simd::Simd;

/// A vanilla recurrent unit.
#[derive(Clone, Copy, Debug)]
pub struct Vanilla<F = Activations> {
    /// The activation functions, of which φ is used.
    pub activations: F,
}

// SAFETY: there are no vectors of the cell's own.
unsafe impl<F: Phi> Epilogue for Vanilla<F> {
    const GATES: usize = 1;
    const SHORT: bool = F::SHORT;

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, [z, ..]: [S::V; MOST_SUMS]) {
        at.set_h(simd, self.activations.candidate(simd, z));
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        let dz = self.activations.candidate_gradient(simd, dh, at.h(simd));
        at.store_gradients(simd, &[dz; MOST_SUMS], 1);
    }
}
