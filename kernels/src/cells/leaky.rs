//! The leaky unit (Goodfellow et al., section 10.9.2; Jaeger et al. 2007):
//! `h = α ⊙ h₋ + (1 − α) ⊙ y`, `y = φ(z)`, with one α for each unit. Backward,
//! `dz = (1 − α) ⊙ dh ⊙ φ'(z)` and `dα = dh ⊙ (h₋ − y)`; `dh₋ = α ⊙ dh` is added to the gradient
//! that comes through W.

use super::functions::{Functions, Phi};
use super::{Activations, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

/// A leaky unit. With `LEARNED`, α = σ(ρ) is a parameter, and the backward pass leaves ∂L/∂ρ of
/// each step in the extra block.
#[derive(Clone, Copy, Debug)]
pub struct Leaky<'a, const LEARNED: bool, F = Activations> {
    /// The activation functions, of which φ is used.
    pub activations: F,
    /// α, `[H]`.
    pub alpha: &'a [f32],
}

// SAFETY: `check` returns `Ok` only if there is an α for each unit (1); the length of `alpha`
// does not change (2).
unsafe impl<const LEARNED: bool, F: Phi> Epilogue for Leaky<'_, LEARNED, F> {
    const GATES: usize = 1;
    const EXTRA: usize = LEARNED as usize;
    const CARRIES: bool = true;
    const SHORT: bool = F::SHORT;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        check_len("alpha", self.alpha.len(), hidden)
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, [z, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: `check` has verified that there is an α for each unit.
        let alpha = unsafe { at.vector(simd, self.alpha, 0) };
        let h_prev = at.h_prev(simd);
        let y = self.activations.candidate(simd, z);
        // Two products, and not y + α (h₋ − y), which is ∞ − ∞ if y is infinite.
        let enters = simd.mul(simd.sub(simd.splat(1.0), alpha), y);
        at.set_h(simd, simd.mul_add(alpha, h_prev, enters));
        at.store_gates(simd, &[y; MOST_SUMS], 1);
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        // SAFETY: `check` has verified that there is an α for each unit.
        let alpha = unsafe { at.vector(simd, self.alpha, 0) };
        let y = at.gate(simd, 0);
        let dy = simd.mul(simd.sub(simd.splat(1.0), alpha), dh);
        at.set_dh(simd, simd.mul(alpha, dh));
        if const { LEARNED } {
            let d_alpha = simd.mul(dh, simd.sub(at.h_prev(simd), y));
            let d_rho = Activations::Logistic.gate_gradient(simd, d_alpha, alpha);
            at.set_extra(simd, d_rho);
        }
        let dz = self.activations.candidate_gradient(simd, dy, y);
        at.store_gradients(simd, &[dz; MOST_SUMS], 1);
    }
}
