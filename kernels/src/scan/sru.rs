//! The simple recurrent unit (Lei et al. 2018): `c = f ⊙ c₋ + (1 − f) ⊙ n`, and
//! `h = r ⊙ c + (1 − r) ⊙ x`. Its gates see the cell state: `f = σ(z_f + v_f ⊙ c₋)` and
//! `r = σ(z_r + v_r ⊙ c₋)`. The candidate n has no non-linearity.

use super::cell::{Gradients, Later, Made, ScanCell, Units};
use crate::cells::{Activations, Functions};
use crate::simd::Simd;
use crate::vmath::logistic;

/// The gates are in the order n, f, r; the vectors are v_f, v_r. With `FOURTH` there is a fourth
/// pre-activation, which takes the place of x.
#[derive(Clone, Copy)]
pub(super) struct Sru<const FOURTH: bool>;

/// Returns what passes by the cell: the input, or the fourth pre-activation.
#[inline(always)]
fn highway<const FOURTH: bool, V: Copy>(at: &Units<V>) -> V {
    if FOURTH { at.gates[3] } else { at.x }
}

impl<const FOURTH: bool> ScanCell for Sru<FOURTH> {
    const GATES: usize = 3 + FOURTH as usize;
    const VECTORS: usize = 2;
    const INPUT: bool = !FOURTH;
    const CELLS: bool = true;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let ([n, z_f, z_r, _], [v_f, v_r]) = (at.gates, at.vectors);
        let (x, c_prev, one) = (highway::<FOURTH, _>(&at), at.before, simd.splat(1.0));
        let f = logistic(simd, simd.mul_add(v_f, c_prev, z_f));
        let r = logistic(simd, simd.mul_add(v_r, c_prev, z_r));
        let c = simd.mul_add(f, c_prev, simd.mul(simd.sub(one, f), n));
        let h = simd.mul_add(r, c, simd.mul(simd.sub(one, r), x));
        Made { gates: [n, f, r, x], state: c, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let ([n, f, r, _], [v_f, v_r]) = (at.gates, at.vectors);
        let (x, c_prev, one) = (highway::<FOURTH, _>(&at), at.before, simd.splat(1.0));
        let (act, dh) = (Activations::Logistic, later.d_output);
        let dz_r = act.gate_gradient(simd, simd.mul(dh, simd.sub(later.after, x)), r);
        let dx = simd.mul(dh, simd.sub(one, r));
        let dc = simd.mul_add(dh, r, later.d_state);
        let dz_f = act.gate_gradient(simd, simd.mul(dc, simd.sub(c_prev, n)), f);
        let dn = simd.mul(dc, simd.sub(one, f));
        let before = simd.mul_add(dz_f, v_f, simd.mul_add(dz_r, v_r, simd.mul(dc, f)));
        Gradients {
            gates: [dn, dz_f, dz_r, dx],
            x: dx,
            vectors: [simd.mul(dz_f, c_prev), simd.mul(dz_r, c_prev)],
            before,
        }
    }
}
