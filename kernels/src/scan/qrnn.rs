//! The pooling of a quasi-recurrent network (Bradbury et al. 2017): `n = tanh(z_n)`, `f, o, i =
//! σ(z)`, `c = f ⊙ c₋ + (1 − f) ⊙ n`, and `h = o ⊙ c` if there is an output gate. With an input
//! gate i takes the place of 1 − f.

use super::cell::{Gradients, Later, Made, ScanCell, Units, padded};
use crate::cells::{Activations, Functions, Phi};
use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// The gates are in the order n, f, o, i. `OUTPUT` and `OWN_INPUT` say which of the last two there
/// are; an input gate comes with an output gate only.
#[derive(Clone, Copy)]
pub(super) struct Qrnn<const OUTPUT: bool, const OWN_INPUT: bool>;

impl<const OUTPUT: bool, const OWN_INPUT: bool> ScanCell for Qrnn<OUTPUT, OWN_INPUT> {
    const GATES: usize = 2 + OUTPUT as usize + OWN_INPUT as usize;
    const CELLS: bool = OUTPUT;

    #[inline(always)]
    fn forward<S: Simd>(self, simd: S, at: Units<S::V>) -> Made<S::V> {
        let [z_n, z_f, z_o, z_i] = at.gates;
        let (n, f) = (tanh(simd, z_n), logistic(simd, z_f));
        let o = if OUTPUT { logistic(simd, z_o) } else { simd.zero() };
        let i = if OWN_INPUT { logistic(simd, z_i) } else { simd.sub(simd.splat(1.0), f) };
        let c = simd.mul_add(f, at.before, simd.mul(i, n));
        let h = if OUTPUT { simd.mul(o, c) } else { c };
        Made { gates: [n, f, o, i], state: c, output: h }
    }

    #[inline(always)]
    fn backward<S: Simd>(self, simd: S, at: Units<S::V>, later: Later<S::V>) -> Gradients<S::V> {
        let [n, f, o, i] = at.gates;
        let (act, dh, c_prev) = (Activations::Logistic, later.d_output, at.before);
        let dc = if OUTPUT { simd.mul_add(dh, o, later.d_state) } else { dh };
        let dz_o = act.gate_gradient(simd, simd.mul(dh, later.after), o);
        let (dz_f, dz_i, i) = if OWN_INPUT {
            let dz_i = act.gate_gradient(simd, simd.mul(dc, n), i);
            (act.gate_gradient(simd, simd.mul(dc, c_prev), f), dz_i, i)
        } else {
            let df = simd.mul(dc, simd.sub(c_prev, n));
            let i = simd.sub(simd.splat(1.0), f);
            (act.gate_gradient(simd, df, f), simd.zero(), i)
        };
        let dz_n = Activations::Tanh.candidate_gradient(simd, simd.mul(dc, i), n);
        Gradients {
            gates: [dz_n, dz_f, dz_o, dz_i],
            x: simd.zero(),
            vectors: padded(simd, []),
            before: simd.mul(dc, f),
        }
    }
}
