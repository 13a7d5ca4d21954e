//! The real-gated linear recurrent unit (De et al. 2024): `h = a ⊙ h₋ + √(1 − a²) ⊙ (i ⊙ x)` with
//! `r, i = σ(z)` and `ln a = s ⊙ r`, where `s = −c · softplus(Λ)` is below 0.

use super::cell::{Gradients, Later, Made, ScanCell, Units, padded};
use crate::cells::{Activations, Functions};
use crate::simd::Simd;
use crate::vmath::{exp, logistic, one_minus_exp};

/// The gates are in the order r, i. The vectors are s and ds/dΛ; the gradient is that of Λ.
#[derive(Clone, Copy)]
pub(super) struct RgLru;

impl ScanCell for RgLru {
    const GATES: usize = 2;
    const VECTORS: usize = 2;
    const LEARNED: usize = 1;
    const INPUT: bool = true;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let ([z_r, z_i, ..], [s, _]) = (at.gates, at.vectors);
        let (r, i) = (logistic(simd, z_r), logistic(simd, z_i));
        let log_a = simd.mul(s, r);
        let a = exp(simd, log_a);
        // 1 − a² from the logarithm of a: where a is near 1, the square of a has lost it.
        let beta = simd.sqrt(one_minus_exp(simd, simd.add(log_a, log_a)));
        let enters = simd.mul(beta, simd.mul(i, at.x));
        let h = simd.mul_add(a, at.before, enters);
        Made { gates: padded(simd, [r, i]), state: h, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let ([r, i, ..], [s, slope]) = (at.gates, at.vectors);
        let (act, dh) = (Activations::Logistic, later.d_output);
        let log_a = simd.mul(s, r);
        let a = exp(simd, log_a);
        let square = one_minus_exp(simd, simd.add(log_a, log_a));
        let beta = simd.sqrt(square);
        // d√(1 − a²)/d ln a = −a² / √(1 − a²) grows without bound as a nears 1, but slower than ln
        // a and its derivatives vanish. So where 1 − a² is 0 in f32, the gradients are 0.
        let vanishes = simd.lt(square, simd.splat(f32::MIN_POSITIVE));
        let inverse = simd.select(vanishes, simd.zero(), simd.div(simd.splat(1.0), beta));
        let scaled = simd.mul(simd.mul(a, a), inverse);
        let d_beta = simd.mul(dh, simd.mul(i, at.x));
        let d_log_a = simd.mul(dh, simd.mul(a, at.before));
        let d_log_a = simd.neg_mul_add(d_beta, scaled, d_log_a);
        let dz_r = act.gate_gradient(simd, simd.mul(d_log_a, s), r);
        let d_enters = simd.mul(dh, beta);
        let dz_i = act.gate_gradient(simd, simd.mul(d_enters, at.x), i);
        Gradients {
            gates: padded(simd, [dz_r, dz_i]),
            x: simd.mul(d_enters, i),
            vectors: padded(simd, [simd.mul(d_log_a, simd.mul(r, slope))]),
            before: simd.mul(dh, a),
        }
    }
}
