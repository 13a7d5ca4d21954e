//! Long short-term memory (Goodfellow et al., equations 10.40 to 10.44):
//! `i, f, o = σ(z)`, `g = φ(z)`, `c = f ⊙ c₋ + i ⊙ g`, `h = o ⊙ tanh(c)`. Where the cell state is
//! clipped, h and the output gate's peephole see the clipped one.
//!
//! Backward, `dh` is ∂L/∂h of the step, and `dc` is ∂L/∂c, which is carried from step to step:
//! `do = dh ⊙ tanh(c)`, `dc += dh ⊙ o ⊙ tanh'(c)`, `df = dc ⊙ c₋`, `di = dc ⊙ g`, `dg = dc ⊙ i`,
//! and `dc₋ = dc ⊙ f`. Each gate's gradient times the derivative of its activation is its `dz`.
//! Where c was clipped, the gradients of all gates but o are 0, and so is `dc₋`.

use super::functions::Functions;
use super::{Activations, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

/// An LSTM with `G` gates: i, f, g, o if `G` is 4, or f, g, o if `G` is 3, where the input gate is
/// coupled to the forget gate by `i = 1 − f`.
#[derive(Clone, Copy, Debug)]
pub struct Lstm<'a, const G: usize = 4, F = Activations> {
    /// The activation functions.
    pub activations: F,
    /// The peephole weights p, `[G − 1, H]`, in the order of the gates without g (Gers and
    /// Schmidhuber 2000): i and f see the old cell state, as `p ⊙ c₋`, and o sees the new one, as
    /// `p ⊙ c`.
    pub peepholes: Option<&'a [f32]>,
}

impl<const G: usize, F> Lstm<'_, G, F> {
    /// The indices of the gates.
    const FORGET: usize = G - 3;
    const CANDIDATE: usize = G - 2;
    const OUTPUT: usize = G - 1;
    const COUPLED: bool = G == 3;
}

// SAFETY: `check` returns `Ok` only if there are no peepholes or G − 1 for each unit (1);
// their number does not change (2).
unsafe impl<const G: usize, F: Functions> Epilogue for Lstm<'_, G, F> {
    const GATES: usize = G;
    const CELLS: bool = true;
    const LIMITS: bool = F::LIMITS;
    const SHORT: bool = F::SHORT;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        match self.peepholes {
            Some(p) => check_len("peepholes", p.len(), (G - 1) * hidden),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, mut z: [S::V; MOST_SUMS]) {
        let act = self.activations;
        // SAFETY: `vector` reads the peepholes, of which `check` has verified that there are
        // G − 1 for each unit.
        unsafe {
            let c_prev = at.c_prev(simd);
            if let Some(p) = self.peepholes {
                for gate in 0..=Self::FORGET {
                    z[gate] = simd.mul_add(at.vector(simd, p, gate), c_prev, z[gate]);
                }
            }
            let f = act.gate(simd, z[Self::FORGET]);
            let i = if Self::COUPLED { simd.sub(simd.splat(1.0), f) } else { act.gate(simd, z[0]) };
            let g = act.candidate(simd, z[Self::CANDIDATE]);
            let c = act.clip(simd, simd.mul_add(f, c_prev, simd.mul(i, g)));
            let mut z_o = z[Self::OUTPUT];
            if let Some(p) = self.peepholes {
                z_o = simd.mul_add(at.vector(simd, p, G - 2), c, z_o);
            }
            let o = act.gate(simd, z_o);
            at.set_c(simd, c);
            at.set_h(simd, simd.mul(o, act.cell(simd, c)));
            at.store_gates(simd, &if Self::COUPLED { [f, g, o, o] } else { [i, f, g, o] }, G);
        }
    }

    #[inline(always)]
    fn project<S: Simd>(&self, simd: S, h: S::V) -> S::V {
        self.activations.project(simd, h)
    }

    #[inline(always)]
    fn project_backward<S: Simd>(&self, simd: S, dh: S::V, h: S::V) -> S::V {
        self.activations.project_gradient(simd, dh, h)
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        let act = self.activations;
        // SAFETY: `vector` reads the peepholes, of which `check` has verified that there are
        // G − 1 for each unit.
        unsafe {
            let f = at.gate(simd, Self::FORGET);
            let i = if Self::COUPLED { simd.sub(simd.splat(1.0), f) } else { at.gate(simd, 0) };
            let (g, o) = (at.gate(simd, Self::CANDIDATE), at.gate(simd, Self::OUTPUT));
            // c is computed again as in the forward pass, since zoneout may have changed the
            // stored one.
            let c_prev = at.c_prev(simd);
            let whole = simd.mul_add(f, c_prev, simd.mul(i, g));
            let c = act.clip(simd, whole);
            let y = act.cell(simd, c);
            let dz_o = act.gate_gradient(simd, simd.mul(dh, y), o);
            let mut dc = simd.add(at.dc(simd), act.cell_gradient(simd, simd.mul(dh, o), y));
            if let Some(p) = self.peepholes {
                dc = simd.mul_add(dz_o, at.vector(simd, p, G - 2), dc);
                at.set_c_made(simd, c);
            }
            dc = act.clip_gradient(simd, dc, whole);
            let dz_g = act.candidate_gradient(simd, simd.mul(dc, i), g);
            let mut dc_prev = simd.mul(dc, f);
            if Self::COUPLED {
                let df = simd.mul(dc, simd.sub(c_prev, g));
                let dz_f = act.gate_gradient(simd, df, f);
                if let Some(p) = self.peepholes {
                    dc_prev = simd.mul_add(dz_f, at.vector(simd, p, 0), dc_prev);
                }
                at.store_gradients(simd, &[dz_f, dz_g, dz_o, dz_o], G);
            } else {
                let dz_i = act.gate_gradient(simd, simd.mul(dc, g), i);
                let dz_f = act.gate_gradient(simd, simd.mul(dc, c_prev), f);
                if let Some(p) = self.peepholes {
                    dc_prev = simd.mul_add(dz_i, at.vector(simd, p, 0), dc_prev);
                    dc_prev = simd.mul_add(dz_f, at.vector(simd, p, 1), dc_prev);
                }
                at.store_gradients(simd, &[dz_i, dz_f, dz_g, dz_o], G);
            }
            at.set_dc(simd, dc_prev);
        }
    }
}
