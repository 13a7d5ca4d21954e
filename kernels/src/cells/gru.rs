//! The gated recurrent unit (Cho et al. 2014), with `h = u ⊙ h₋ + (1 − u) ⊙ n` and
//! `r, u = σ(z)`, where the reset gate comes after the recurrent product or before it.

use super::{Activations, Back, Epilogue, Forth, MOST_SUMS, Source};
use crate::KernelError;
use crate::error::check_len;
use crate::simd::Simd;

const RESET: usize = 0;
const UPDATE: usize = 1;
const CANDIDATE: usize = 2;

/// What both share backward: `dn = (1 − u) ⊙ dh` and `du = dh ⊙ (h₋ − n)`, and
/// `u ⊙ dh` goes on to h₋. The gradients of z_u and z_n.
///
/// # Safety
/// As [`Epilogue::backward`].
#[inline(always)]
unsafe fn shared<S: Simd>(act: Activations, s: S, at: &Back, dh: S::V) -> [S::V; 2] {
    // SAFETY: the caller's.
    unsafe {
        let (u, n) = (at.gate(s, UPDATE), at.gate(s, CANDIDATE));
        let du = s.mul(dh, s.sub(at.load(s, at.h_prev), n));
        at.store(s, at.dh, s.mul(u, dh));
        [act.gate_gradient(s, du, u), act.candidate_gradient(s, s.neg_mul_add(u, dh, dh), n)]
    }
}

/// The gate after the product: `n = φ(z_n + r ⊙ q)`, `q = b_hn + W_n h₋`, as PyTorch,
/// cuDNN and oneDNN's "lbr" have it. The gates are r, u, n in all; q is kept beside
/// them, and becomes its gradient `r ⊙ dz_n`.
#[derive(Clone, Copy, Debug)]
pub struct GruAfter<'a> {
    /// The non-linearities.
    pub activations: Activations,
    /// b_hn, `[H]`.
    pub bias: &'a [f32],
}

impl Epilogue for GruAfter<'_> {
    const GATES: usize = 3;
    const EXTRA: usize = 1;
    const APART: bool = true;
    const CARRIES: bool = true;
    const BACK: &'static [Source] = &[Source::Gates { first: RESET, count: 2 }, Source::Extra];

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        check_len("recurrent bias", self.bias.len(), hidden)
    }

    #[inline(always)]
    unsafe fn forward<S: Simd>(&self, s: S, at: &Forth, sums: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let z_r = s.add(at.input(s, RESET), sums[RESET]);
            let z_u = s.add(at.input(s, UPDATE), sums[UPDATE]);
            let input = at.input(s, CANDIDATE);
            self.forward_normed(s, at, [z_r, z_u, input, input], sums[CANDIDATE]);
        }
    }

    #[inline(always)]
    unsafe fn forward_normed<S: Simd>(
        &self,
        s: S,
        at: &Forth,
        [z_r, z_u, input, _]: [S::V; MOST_SUMS],
        recurrent: S::V,
    ) {
        let act = self.activations;
        // SAFETY: the caller's; `check` has seen that there is a bias for each unit.
        unsafe {
            let (r, u) = (act.gate(s, z_r), act.gate(s, z_u));
            let q = s.add(at.vector(s, self.bias, 0), recurrent);
            let n = act.candidate(s, s.mul_add(r, q, input));
            let h_prev = at.load(s, at.h_prev);
            at.store(s, at.h, s.mul_add(u, s.sub(h_prev, n), n));
            if at.keeps() {
                at.keep(s, &[r, u, n, n], 3);
                at.store(s, at.extra, q);
            }
        }
    }

    #[inline(always)]
    unsafe fn backward<S: Simd>(&self, s: S, at: &Back, dh: S::V) {
        // SAFETY: the caller's.
        unsafe {
            let [dz_u, dz_n] = shared(self.activations, s, at, dh);
            let (r, q) = (at.gate(s, RESET), at.load(s, at.extra));
            let dz_r = self.activations.gate_gradient(s, s.mul(dz_n, q), r);
            at.store(s, at.extra, s.mul(dz_n, r));
            at.leave(s, &[dz_r, dz_u, dz_n, dz_n], 3);
        }
    }
}

/// The gate before the product: `n = φ(z_n + W_n (r ⊙ h₋))`, as ONNX has it by default;
/// φ = σ is the book's (equations 10.45 to 10.47). A step has two stages: r and u, and
/// then n of `r ⊙ h₋`, which is kept beside the gates.
#[derive(Clone, Copy, Debug)]
pub struct GruBefore {
    /// The non-linearities.
    pub activations: Activations,
}

impl Epilogue for GruBefore {
    const GATES: usize = 3;
    const SUMS: usize = 2;
    const EXTRA: usize = 1;
    const CARRIES: bool = true;
    const SECOND: Option<usize> = Some(CANDIDATE);
    const BACK: &'static [Source] = &[Source::Gates { first: RESET, count: 2 }];

    #[inline(always)]
    unsafe fn forward<S: Simd>(&self, s: S, at: &Forth, [z_r, z_u, ..]: [S::V; MOST_SUMS]) {
        let act = self.activations;
        // SAFETY: the caller's.
        unsafe {
            let (r, u) = (act.gate(s, z_r), act.gate(s, z_u));
            at.store(s, at.extra, s.mul(r, at.load(s, at.h_seen)));
            // Until the second stage comes, u stands where h will.
            at.store(s, at.h, u);
            at.keep(s, &[r, u, u, u], 2);
        }
    }

    #[inline(always)]
    unsafe fn second<S: Simd>(&self, s: S, at: &Forth, z_n: S::V) {
        // SAFETY: the caller's.
        unsafe {
            let n = self.activations.candidate(s, z_n);
            let (u, h_prev) = (at.load(s, at.h), at.load(s, at.h_prev));
            at.store(s, at.h, s.mul_add(u, s.sub(h_prev, n), n));
            if at.keeps() {
                at.keep_one(s, CANDIDATE, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn backward<S: Simd>(&self, s: S, at: &Back, dh: S::V) {
        // SAFETY: the caller's.
        unsafe {
            let [dz_u, dz_n] = shared(self.activations, s, at, dh);
            at.leave_one(s, UPDATE, dz_u);
            at.leave_one(s, CANDIDATE, dz_n);
        }
    }

    /// `d` is the gradient of `r ⊙ h₋`.
    #[inline(always)]
    unsafe fn second_backward<S: Simd>(&self, s: S, at: &Back, d: S::V) {
        // SAFETY: the caller's.
        unsafe {
            let (r, h_seen) = (at.gate(s, RESET), at.load(s, at.h_seen));
            let through = if at.mask.is_null() { d } else { s.mul(d, at.load(s, at.mask)) };
            at.store(s, at.dh, s.mul_add(through, r, at.load(s, at.dh)));
            at.leave_one(s, RESET, self.activations.gate_gradient(s, s.mul(d, h_seen), r));
        }
    }
}
