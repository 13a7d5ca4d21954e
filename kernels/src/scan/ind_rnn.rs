//! The independently recurrent unit (Li et al. 2018): `h = φ(z + u ⊙ h₋)`.

use super::cell::{Gradients, Later, Made, ScanCell, Units, padded};
use crate::cells::Phi;
use crate::simd::Simd;

/// The vector is u. The backward step needs h only.
#[derive(Clone, Copy)]
pub(super) struct IndRnn<F> {
    pub phi: F,
}

impl<F: Phi> ScanCell for IndRnn<F> {
    const GATES: usize = 1;
    const VECTORS: usize = 1;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let ([z, ..], [u, ..]) = (at.gates, at.vectors);
        let h = self.phi.candidate(simd, simd.mul_add(u, at.before, z));
        Made { gates: padded(simd, [h]), state: h, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let [u, ..] = at.vectors;
        let dz = self.phi.candidate_gradient(simd, later.d_output, later.after);
        Gradients {
            gates: padded(simd, [dz]),
            x: simd.zero(),
            vectors: padded(simd, [simd.mul(dz, at.before)]),
            before: simd.mul(dz, u),
        }
    }
}
