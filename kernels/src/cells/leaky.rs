//! The leaky unit (Goodfellow et al., section 10.9.2; Jaeger et al. 2007):
//! `h = α ⊙ h₋ + (1 − α) ⊙ y`, `y = φ(z)`, with α of each unit. Backward
//! `dz = (1 − α) ⊙ dh ⊙ φ'(z)`, `dh₋ = α ⊙ dh` beside what comes through W, and
//! `dα = dh ⊙ (h₋ − y)`.

use super::{Activations, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

/// A leaky unit; with `LEARNED` it leaves each step's ∂L/∂ρ, α = σ(ρ), beside the gate's.
#[derive(Clone, Copy, Debug)]
pub struct Leaky<'a, const LEARNED: bool> {
    /// φ.
    pub activations: Activations,
    /// α, `[H]`.
    pub alpha: &'a [f32],
}

// SAFETY: `check` answers `Ok` where there is an α for each unit, of lengths that do not change.
unsafe impl<const LEARNED: bool> Epilogue for Leaky<'_, LEARNED> {
    const GATES: usize = 1;
    const EXTRA: usize = LEARNED as usize;
    const CARRIES: bool = true;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        check_len("alpha", self.alpha.len(), hidden)
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, [z, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: `check` has seen that there is an α for each unit.
        let alpha = unsafe { at.vector(simd, self.alpha, 0) };
        let h_prev = at.h_prev(simd);
        let y = self.activations.candidate(simd, z);
        // Two products and not y + α (h₋ − y), which is ∞ − ∞ where y is infinite.
        let enters = simd.mul(simd.sub(simd.splat(1.0), alpha), y);
        at.set_h(simd, simd.mul_add(alpha, h_prev, enters));
        at.store_gates(simd, &[y; MOST_SUMS], 1);
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        // SAFETY: `check` has seen that there is an α for each unit.
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
