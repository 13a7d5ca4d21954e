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

impl Epilogue for Vanilla {
    const GATES: usize = 1;

    #[inline(always)]
    unsafe fn forward<S: Simd>(&self, s: S, at: &Forth, [z, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe { at.store(s, at.h, self.activations.candidate(s, z)) };
    }

    #[inline(always)]
    unsafe fn backward<S: Simd>(&self, s: S, at: &Back, dh: S::V) {
        // SAFETY: the caller's.
        unsafe {
            let y = at.load(s, at.h);
            let dz = self.activations.candidate_gradient(s, dh, y);
            at.leave(s, &[dz; MOST_SUMS], 1);
        }
    }
}
