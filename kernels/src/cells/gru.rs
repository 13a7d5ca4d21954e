//! The gated recurrent unit (Cho et al. 2014): `h = u ⊙ h₋ + (1 − u) ⊙ n`, `r, u = σ(z)`. The reset
//! gate r is applied after the recurrent product or before it.

use super::functions::Functions;
use super::{Activations, BackwardLhs, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

const RESET: usize = 0;
const UPDATE: usize = 1;
const CANDIDATE: usize = 2;

/// Computes the part of the gradients that both variants share: `dn = (1 − u) ⊙ dh`,
/// `du = dh ⊙ (h₋ − n)`, and `u ⊙ dh`, which is carried to h₋. Returns the gradients of z_u and
/// z_n.
#[inline(always)]
fn shared<S: Simd, C: Epilogue>(
    act: impl Functions,
    simd: S,
    at: &BackwardUnits<C>,
    dh: S::V,
) -> [S::V; 2] {
    let (u, n) = (at.gate(simd, UPDATE), at.gate(simd, CANDIDATE));
    let du = simd.mul(dh, simd.sub(at.h_prev(simd), n));
    at.set_dh(simd, simd.mul(u, dh));
    let dn = act.between_gradient(simd, u, dh);
    [act.gate_gradient(simd, du, u), act.candidate_gradient(simd, dn, n)]
}

/// A GRU that applies the reset gate after the product: `n = φ(z_n + r ⊙ q)`, `q = b_hn + W_n h₋`,
/// as PyTorch, cuDNN and oneDNN's "lbr" do. The gates are in the order r, u, n. The extra block
/// keeps q, which the backward pass replaces with its gradient, `r ⊙ dz_n`.
#[derive(Clone, Copy, Debug)]
pub struct GruAfter<'a, F = Activations> {
    /// The activation functions.
    pub activations: F,
    /// b_hn, `[H]`.
    pub bias: &'a [f32],
}

// SAFETY: `check` returns `Ok` only if there is a bias for each unit (1); the length of `bias`
// does not change (2).
unsafe impl<F: Functions> Epilogue for GruAfter<'_, F> {
    const GATES: usize = 3;
    const EXTRA: usize = 1;
    const SEPARATE_SUMS: bool = true;
    const CARRIES: bool = true;
    const SHORT: bool = F::SHORT;
    const BACK: &'static [BackwardLhs] =
        &[BackwardLhs::Gates { first: RESET, count: 2 }, BackwardLhs::Extra];

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        check_len("recurrent bias", self.bias.len(), hidden)
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, sums: [S::V; MOST_SUMS]) {
        let z_r = simd.add(at.input(simd, RESET), sums[RESET]);
        let z_u = simd.add(at.input(simd, UPDATE), sums[UPDATE]);
        let input = at.input(simd, CANDIDATE);
        self.forward_normed(simd, at, [z_r, z_u, input, input], sums[CANDIDATE]);
    }

    #[inline(always)]
    fn forward_normed<S: Simd>(
        &self,
        simd: S,
        at: &ForwardUnits<Self>,
        [z_r, z_u, input, _]: [S::V; MOST_SUMS],
        recurrent: S::V,
    ) {
        let act = self.activations;
        let (r, u) = (act.gate(simd, z_r), act.gate(simd, z_u));
        // SAFETY: `check` has verified that there is a bias for each unit.
        let bias = unsafe { at.vector(simd, self.bias, 0) };
        let q = simd.add(bias, recurrent);
        let n = act.candidate(simd, simd.mul_add(r, q, input));
        let h_prev = at.h_prev(simd);
        at.set_h(simd, act.between(simd, u, h_prev, n));
        if at.keeps() {
            at.store_gates(simd, &[r, u, n, n], 3);
            at.set_extra(simd, q);
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        let [dz_u, dz_n] = shared(self.activations, simd, at, dh);
        let (r, q) = (at.gate(simd, RESET), at.extra(simd));
        let dz_r = self.activations.gate_gradient(simd, simd.mul(dz_n, q), r);
        at.set_extra(simd, simd.mul(dz_n, r));
        at.store_gradients(simd, &[dz_r, dz_u, dz_n, dz_n], 3);
    }
}

/// A GRU that applies the reset gate before the product: `n = φ(z_n + W_n (r ⊙ h₋))`, the default
/// of ONNX. With φ = σ it is the book's (equations 10.45 to 10.47). A step has two stages: first r
/// and u, then n from `r ⊙ h₋`, which is kept in the extra block.
#[derive(Clone, Copy, Debug)]
pub struct GruBefore<F = Activations> {
    /// The activation functions.
    pub activations: F,
}

// SAFETY: there are no vectors of the cell's own.
unsafe impl<F: Functions> Epilogue for GruBefore<F> {
    const GATES: usize = 3;
    const SUMS: usize = 2;
    const EXTRA: usize = 1;
    const CARRIES: bool = true;
    const SHORT: bool = F::SHORT;
    const SECOND: Option<usize> = Some(CANDIDATE);
    const BACK: &'static [BackwardLhs] = &[BackwardLhs::Gates { first: RESET, count: 2 }];

    #[inline(always)]
    fn forward<S: Simd>(
        &self,
        simd: S,
        at: &ForwardUnits<Self>,
        [z_r, z_u, ..]: [S::V; MOST_SUMS],
    ) {
        let act = self.activations;
        let (r, u) = (act.gate(simd, z_r), act.gate(simd, z_u));
        at.set_extra(simd, simd.mul(r, at.h_seen(simd)));
        // The second stage reads u from here, where it will store h.
        at.set_h(simd, u);
        at.store_gates(simd, &[r, u, u, u], 2);
    }

    #[inline(always)]
    fn second<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, z_n: S::V) {
        let n = self.activations.candidate(simd, z_n);
        let (u, h_prev) = (at.h(simd), at.h_prev(simd));
        at.set_h(simd, self.activations.between(simd, u, h_prev, n));
        at.store_gate(simd, CANDIDATE, n);
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V) {
        let [dz_u, dz_n] = shared(self.activations, simd, at, dh);
        at.store_gradient(simd, UPDATE, dz_u);
        at.store_gradient(simd, CANDIDATE, dz_n);
    }

    /// `d` is ∂L/∂(r ⊙ h₋).
    #[inline(always)]
    fn second_backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, d: S::V) {
        let (r, h_seen) = (at.gate(simd, RESET), at.h_seen(simd));
        at.set_dh(simd, simd.mul_add(at.masked(simd, d), r, at.dh(simd)));
        at.store_gradient(
            simd,
            RESET,
            self.activations.gate_gradient(simd, simd.mul(d, h_seen), r),
        );
    }
}
