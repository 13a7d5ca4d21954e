//! The minimal GRU (Feng et al. 2024): `h = (1 − u) ⊙ h₋ + u ⊙ n`, `u = σ(z)`, with a candidate
//! `n` that has no non-linearity, or g, which makes it positive.

use super::cell::{Gradients, Later, Made, ScanCell, Units, padded};
use crate::cells::{Activations, Functions, Phi};
use crate::simd::Simd;
use crate::vmath::logistic;

/// The gates are in the order u, n.
#[derive(Clone, Copy)]
pub(super) struct MinGru {
    /// Whether the candidate is g of its sum.
    pub positive: bool,
}

/// Returns the candidate: z, or g(z), which is z + ½ where z ≥ 0 and σ(z) elsewhere.
#[inline(always)]
pub(super) fn candidate<S: Simd>(simd: S, positive: bool, z: S::V) -> S::V {
    if !positive {
        return z;
    }
    let above = simd.add(z, simd.splat(0.5));
    simd.select(simd.lt(z, simd.zero()), logistic(simd, z), above)
}

/// Returns `dn ⊙ g'` from the candidate n. The derivative jumps from ¼ to 1 where n = ½.
#[inline(always)]
pub(super) fn candidate_gradient<S: Simd>(simd: S, positive: bool, dn: S::V, n: S::V) -> S::V {
    if !positive {
        return dn;
    }
    let below = Activations::Logistic.candidate_gradient(simd, dn, n);
    simd.select(simd.lt(n, simd.splat(0.5)), below, dn)
}

impl ScanCell for MinGru {
    const GATES: usize = 2;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let [z_u, z_n, ..] = at.gates;
        let (u, n) = (logistic(simd, z_u), candidate(simd, self.positive, z_n));
        let stays = simd.mul(simd.sub(simd.splat(1.0), u), at.before);
        let h = simd.mul_add(u, n, stays);
        Made { gates: padded(simd, [u, n]), state: h, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let ([u, n, ..], dh) = (at.gates, later.d_output);
        let du = simd.mul(dh, simd.sub(n, at.before));
        let dz_u = Activations::Logistic.gate_gradient(simd, du, u);
        let dz_n = candidate_gradient(simd, self.positive, simd.mul(dh, u), n);
        Gradients {
            gates: padded(simd, [dz_u, dz_n]),
            x: simd.zero(),
            vectors: padded(simd, []),
            before: simd.mul(dh, simd.sub(simd.splat(1.0), u)),
        }
    }
}
