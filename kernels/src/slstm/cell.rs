//! The equations of an sLSTM's step on vectors of units:
//!
//! ```text
//! m = max(log f + m₋, ĩ)          stabiliser; log f = f̃, or log σ(f̃)
//! i' = exp(ĩ − m)
//! f' = exp(log f + m₋ − m)
//! c = f' c₋ + i' tanh(z̃)
//! n = f' n₋ + i'
//! h = σ(õ) c / n
//! ```
//!
//! One of i' and f' is 1, so n is never smaller than the smaller one of 1 and n₋. A unit whose n₋ is
//! not a positive f32 holds nothing, as before the first step. Then c₋, n₋ and m₋ are not read:
//! m = ĩ, so that i' = 1, and f' = 0. With the maximum instead, i' could be 0, and n with it.
//!
//! Backward, m is a constant: h depends on C = c eᵐ and N = n eᵐ only, and these do not depend on
//! m. With dc and dn the gradients of c and n, those through h included:
//!
//! ```text
//! dõ = dh h (1 − o)
//! dc += dh o / n,  dn −= dh h / n
//! dz̃ = dc i' (1 − z²),  dĩ = i' (dc z + dn),  dlog f = f' (dc c₋ + dn n₋)
//! dc₋ = f' dc,  dn₋ = f' dn
//! ```
//!
//! Must not know where the units lie in memory.

use super::sizes::SlstmForget;
use crate::simd::Simd;
use crate::vmath::{exp, log_1p, logistic, tanh};

/// The largest magnitude of exponents: their sums and differences are finite.
const MOST: f32 = 1e30;

/// The state of some units.
#[derive(Clone, Copy)]
pub(super) struct State<V> {
    pub c: V,
    pub n: V,
    pub m: V,
}

/// What a forward step makes.
pub(super) struct Made<V> {
    /// i', f', z and o.
    pub gates: [V; 4],
    pub state: State<V>,
    pub h: V,
}

/// What a backward step reads.
#[derive(Clone, Copy)]
pub(super) struct Later<V> {
    /// i', f', z and o.
    pub gates: [V; 4],
    /// d log f / df̃, or `None` if it is 1.
    pub slope: Option<V>,
    /// c₋ and n₋.
    pub before: [V; 2],
    pub n: V,
    pub h: V,
    pub dh: V,
    /// ∂L/∂c and ∂L/∂n, without the parts that come through h.
    pub d_state: [V; 2],
}

/// What a backward step makes: the gradients of what the step read.
pub(super) struct Gradients<V> {
    /// ∂L/∂ of ĩ, f̃, z̃ and õ.
    pub gates: [V; 4],
    /// ∂L/∂ of c₋ and n₋.
    pub before: [V; 2],
}

/// Keeps an exponent within ±[`MOST`]; a NaN is kept.
#[inline(always)]
fn bounded<S: Simd>(simd: S, x: S::V) -> S::V {
    simd.min(simd.splat(MOST), simd.max(simd.splat(-MOST), x))
}

/// Returns log f of the forget gate's sum.
#[inline(always)]
fn log_forget<S: Simd>(simd: S, forget: SlstmForget, a: S::V) -> S::V {
    match forget {
        SlstmForget::Exponential => a,
        // log σ(a) = min(a, 0) − log(1 + e^−|a|), where nothing cancels.
        SlstmForget::Logistic => {
            let u = exp(simd, simd.sub(simd.zero(), simd.abs(a)));
            simd.sub(simd.min(simd.zero(), a), log_1p(simd, u))
        }
    }
}

/// Returns d log f / df̃ of the forget gate's sum, unless it is 1.
#[inline(always)]
pub(super) fn slope<S: Simd>(simd: S, forget: SlstmForget, a: S::V) -> Option<S::V> {
    match forget {
        SlstmForget::Exponential => None,
        SlstmForget::Logistic => Some(logistic(simd, simd.sub(simd.zero(), a))),
    }
}

/// Computes a step from the sums of ĩ, f̃, z̃ and õ.
#[inline(always)]
pub(super) fn forward<S: Simd>(
    simd: S,
    forget: SlstmForget,
    [a_i, a_f, a_z, a_o]: [S::V; 4],
    before: State<S::V>,
) -> Made<S::V> {
    let zero = simd.zero();
    let input = bounded(simd, a_i);
    let kept = bounded(simd, simd.add(log_forget(simd, forget, a_f), before.m));
    // A NaN is no such number, so that it stays.
    let is_empty = simd.lt(before.n, simd.splat(f32::MIN_POSITIVE));
    let m = simd.select(is_empty, input, simd.max(kept, input));
    let i = exp(simd, simd.sub(input, m));
    let f = simd.select(is_empty, zero, exp(simd, simd.sub(kept, m)));
    let c = simd.select(is_empty, zero, before.c);
    let n = simd.select(is_empty, zero, before.n);
    let (z, o) = (tanh(simd, a_z), logistic(simd, a_o));
    let c = simd.mul_add(f, c, simd.mul(i, z));
    let n = simd.mul_add(f, n, i);
    let h = simd.mul(o, simd.div(c, n));
    Made { gates: [i, f, z, o], state: State { c, n, m }, h }
}

/// Computes the gradients of a step.
#[inline(always)]
pub(super) fn backward<S: Simd>(simd: S, at: Later<S::V>) -> Gradients<S::V> {
    let ([i, f, z, o], [c, n]) = (at.gates, at.before);
    let by_h = simd.mul(at.dh, at.h);
    let d_o = simd.neg_mul_add(by_h, o, by_h);
    let share = simd.div(at.dh, at.n);
    let [dc, dn] = at.d_state;
    let dc = simd.mul_add(share, o, dc);
    let dn = simd.neg_mul_add(share, at.h, dn);
    let d_z = simd.mul(dc, i);
    let d_z = simd.neg_mul_add(simd.mul(d_z, z), z, d_z);
    let d_i = simd.mul(i, simd.mul_add(dc, z, dn));
    let d_f = simd.mul(f, simd.mul_add(dc, c, simd.mul(dn, n)));
    let d_f = match at.slope {
        Some(slope) => simd.mul(d_f, slope),
        None => d_f,
    };
    Gradients { gates: [d_i, d_f, d_z, d_o], before: [simd.mul(f, dc), simd.mul(f, dn)] }
}
