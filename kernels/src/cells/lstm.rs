//! Long short-term memory (Goodfellow et al., equations 10.40 to 10.44):
//! `i, f, o = σ(z)`, `g = φ(z)`, `s = f ⊙ s₋ + i ⊙ g`, `h = o ⊙ tanh(s)`.
//!
//! Backward, with `dh = ∂L/∂h` of the step and `ds` carried:
//! `do = dh ⊙ tanh(s)`, `ds += dh ⊙ o ⊙ tanh'(s)`, `df = ds ⊙ s₋`, `di = ds ⊙ g`,
//! `dg = ds ⊙ i`, each times its activation's slope gives `dz`, and `ds₋ = ds ⊙ f`.

use super::{Activations, Back, Epilogue, Forth, MOST_SUMS};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

/// An LSTM of `G` gates: i, f, g, o, or f, g, o where they are coupled, `i = 1 − f`.
#[derive(Clone, Copy, Debug)]
pub struct Lstm<'a, const G: usize = 4> {
    /// The non-linearities.
    pub activations: Activations,
    /// What each gate but the candidate sees of the cell state, `[G − 1, H]` in the gates'
    /// order: i and f of the old one, `p ⊙ s₋`, o of the new one (Gers and Schmidhuber 2000).
    pub peepholes: Option<&'a [f32]>,
}

impl<const G: usize> Lstm<'_, G> {
    /// Where gates stand.
    const FORGET: usize = G - 3;
    const CANDIDATE: usize = G - 2;
    const OUTPUT: usize = G - 1;
    const COUPLED: bool = G == 3;
}

// SAFETY: `check` answers `Ok` where there are G − 1 peepholes for each unit, if any, of lengths that do not change.
unsafe impl<const G: usize> Epilogue for Lstm<'_, G> {
    const GATES: usize = G;
    const CELLS: bool = true;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        match self.peepholes {
            Some(p) => check_len("peepholes", p.len(), (G - 1) * hidden),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, s: S, at: &Forth<Self>, mut z: [S::V; MOST_SUMS]) {
        let act = self.activations;
        // SAFETY: of the peepholes, which `check` has seen to be G − 1 for each unit.
        unsafe {
            let s_prev = at.s_prev(s);
            if let Some(p) = self.peepholes {
                for gate in 0..=Self::FORGET {
                    z[gate] = s.mul_add(at.vector(s, p, gate), s_prev, z[gate]);
                }
            }
            let f = act.gate(s, z[Self::FORGET]);
            let i = if Self::COUPLED { s.sub(s.splat(1.0), f) } else { act.gate(s, z[0]) };
            let g = act.candidate(s, z[Self::CANDIDATE]);
            let state = s.mul_add(f, s_prev, s.mul(i, g));
            let mut z_o = z[Self::OUTPUT];
            if let Some(p) = self.peepholes {
                z_o = s.mul_add(at.vector(s, p, G - 2), state, z_o);
            }
            let o = act.gate(s, z_o);
            at.set_s(s, state);
            at.set_h(s, s.mul(o, act.cell(s, state)));
            at.keep(s, &if Self::COUPLED { [f, g, o, o] } else { [i, f, g, o] }, G);
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, s: S, at: &Back<Self>, dh: S::V) {
        let act = self.activations;
        // SAFETY: of the peepholes, which `check` has seen to be G − 1 for each unit.
        unsafe {
            let f = at.gate(s, Self::FORGET);
            let i = if Self::COUPLED { s.sub(s.splat(1.0), f) } else { at.gate(s, 0) };
            let (g, o) = (at.gate(s, Self::CANDIDATE), at.gate(s, Self::OUTPUT));
            // As the forward pass had it, and not as zoneout may have left it.
            let s_prev = at.s_prev(s);
            let state = s.mul_add(f, s_prev, s.mul(i, g));
            let y = act.cell(s, state);
            let dz_o = act.gate_gradient(s, s.mul(dh, y), o);
            let mut ds = s.add(at.ds(s), act.cell_gradient(s, s.mul(dh, o), y));
            if let Some(p) = self.peepholes {
                ds = s.mul_add(dz_o, at.vector(s, p, G - 2), ds);
                at.set_s_made(s, state);
            }
            let dz_g = act.candidate_gradient(s, s.mul(ds, i), g);
            let mut ds_prev = s.mul(ds, f);
            if Self::COUPLED {
                let df = s.mul(ds, s.sub(s_prev, g));
                let dz_f = act.gate_gradient(s, df, f);
                if let Some(p) = self.peepholes {
                    ds_prev = s.mul_add(dz_f, at.vector(s, p, 0), ds_prev);
                }
                at.leave(s, &[dz_f, dz_g, dz_o, dz_o], G);
            } else {
                let dz_i = act.gate_gradient(s, s.mul(ds, g), i);
                let dz_f = act.gate_gradient(s, s.mul(ds, s_prev), f);
                if let Some(p) = self.peepholes {
                    ds_prev = s.mul_add(dz_i, at.vector(s, p, 0), ds_prev);
                    ds_prev = s.mul_add(dz_f, at.vector(s, p, 1), ds_prev);
                }
                at.leave(s, &[dz_i, dz_f, dz_g, dz_o], G);
            }
            at.set_ds(s, ds_prev);
        }
    }
}
