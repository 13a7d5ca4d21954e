//! The vanilla recurrent unit (Goodfellow et al., equations 10.8 and 10.9):
//! `h = φ(z)`, and backward `dz = dh ⊙ φ'(z)`.

use super::{Activations, Back, Epilogue, Forth, MOST_SUMS};
use crate::simd::Simd;

/// A vanilla recurrent unit.
#[derive(Clone, Copy, Debug)]
pub struct Vanilla {
    /// φ.
    pub activations: Activations,
}

// SAFETY: there are no vectors of the cell's own.
unsafe impl Epilogue for Vanilla {
    const GATES: usize = 1;

    #[inline(always)]
    fn forward<S: Simd>(&self, s: S, at: &Forth<Self>, [z, ..]: [S::V; MOST_SUMS]) {
        at.set_h(s, self.activations.candidate(s, z));
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, s: S, at: &Back<Self>, dh: S::V) {
        let dz = self.activations.candidate_gradient(s, dh, at.h(s));
        at.leave(s, &[dz; MOST_SUMS], 1);
    }
}
