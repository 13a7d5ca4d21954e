//! The minimal LSTM (Feng et al. 2024) with normalised gates: `h = f' ⊙ h₋ + i' ⊙ n`. The gates are
//! `f, i = σ(z)`, normalised as `f' = f / (f + i)` and `i' = i / (f + i)`. The candidate n is that of
//! the minimal GRU.

use super::cell::{Gradients, Later, Made, ScanCell, Units, padded};
use super::min_gru::{candidate, candidate_gradient};
use crate::simd::Simd;
use crate::vmath::exp;

/// The gates are in the order f, i, n. The backward step reads the pre-activations of f and i,
/// since f' and i' alone do not tell how saturated f and i are.
#[derive(Clone, Copy)]
pub(super) struct MinLstm {
    /// Whether the candidate is g of its sum.
    pub positive: bool,
}

/// The normalised gates, and how far f and i are from 1.
struct Shares<V> {
    /// f'.
    forget: V,
    /// i'.
    input: V,
    /// 1 − f.
    not_f: V,
    /// 1 − i.
    not_i: V,
}

/// Computes the shares from the pre-activations a of f and b of i. With `u = 1 + e⁻ᵃ = 1/f` and
/// `v = 1 + e⁻ᵇ = 1/i`, f' is `v / (u + v)`. All terms are scaled by e⁻ᵐ, where m is the largest
/// exponent: so none overflows, and the quotients are right even where f and i are both 0 in f32.
#[inline(always)]
fn shares<S: Simd>(simd: S, a: S::V, b: S::V) -> Shares<S::V> {
    // So that the largest exponent is finite, and its distance from itself 0.
    let most = simd.splat(1e30);
    let zero = simd.zero();
    let (na, nb) = (simd.min(most, simd.sub(zero, a)), simd.min(most, simd.sub(zero, b)));
    let m = simd.max(zero, simd.max(na, nb));
    let one = exp(simd, simd.sub(zero, m));
    let (ea, eb) = (exp(simd, simd.sub(na, m)), exp(simd, simd.sub(nb, m)));
    let (u, v) = (simd.add(one, ea), simd.add(one, eb));
    let sum = simd.add(u, v);
    Shares {
        forget: simd.div(v, sum),
        input: simd.div(u, sum),
        not_f: simd.div(ea, u),
        not_i: simd.div(eb, v),
    }
}

impl ScanCell for MinLstm {
    const GATES: usize = 3;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let [a, b, z_n, ..] = at.gates;
        let Shares { forget, input, .. } = shares(simd, a, b);
        let n = candidate(simd, self.positive, z_n);
        let h = simd.mul_add(input, n, simd.mul(forget, at.before));
        Made { gates: padded(simd, [a, b, n]), state: h, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let ([a, b, n, ..], dh) = (at.gates, later.d_output);
        let Shares { forget, input, not_f, not_i } = shares(simd, a, b);
        // ∂L/∂ ln(f/i), of which f' is the logistic function.
        let d_ratio = simd.mul(dh, simd.sub(at.before, n));
        let d_ratio = simd.mul(d_ratio, simd.mul(forget, input));
        let dz_f = simd.mul(d_ratio, not_f);
        let dz_i = simd.sub(simd.zero(), simd.mul(d_ratio, not_i));
        let dz_n = candidate_gradient(simd, self.positive, simd.mul(dh, input), n);
        Gradients {
            gates: padded(simd, [dz_f, dz_i, dz_n]),
            x: simd.zero(),
            vectors: padded(simd, []),
            before: simd.mul(dh, forget),
        }
    }
}
