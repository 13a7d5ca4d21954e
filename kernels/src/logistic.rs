//! Logistic cross-entropy: the losses of yes-or-no questions and their gradients. Knows slices of
//! logits; must not know layers, time or how losses are averaged.
//!
//! With u = exp(−|o|) all is computed from numbers in 0 … 1: −log σ(|o|) = log(1 + u), and
//! σ(|o|) = 1 / (1 + u). So nothing cancels where a probability is next to 0 or 1, and nothing
//! overflows. Denormals are treated as zero throughout, as in a pass.

use crate::denormals::Flushed;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::vmath::{exp, log_1p};
use crate::{Isa, KernelError, MAX_LANES};

/// Logistic cross-entropy. A logit o has a target t in 0 … 1, and w is the weight of positive targets.
/// The loss is −w t log σ(o) − (1 − t) log(1 − σ(o)). Its gradient is (1 − t) σ(o) − w t σ(−o). For
/// w = 1 that is σ(o) − t.
///
/// A logit of ±∞ counts as the largest f32 of its sign, and no loss as more than that. A NaN makes the
/// sum and its own gradient NaN. Each loss is exact to some 4 ULP, and they are added up in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic {
    /// w, the weight of positive targets.
    pub positive_weight: f32,
}

impl Default for Logistic {
    /// All targets have the same weight.
    fn default() -> Self {
        Self { positive_weight: 1.0 }
    }
}

impl Logistic {
    /// Returns the sum of the losses of `logits` with these targets, in nats.
    ///
    /// # Errors
    /// [`KernelError::Length`] where there is not one target for each logit.
    pub fn loss(self, isa: Isa, logits: &[f32], targets: &[f32]) -> Result<f64, KernelError> {
        check_len("targets", targets.len(), logits.len())?;
        let _flushed = Flushed::new();
        // Without WRITE the logits are only read.
        let logits = logits.as_ptr().cast_mut();
        Ok(isa.enter(Entropy::<false> {
            weight: self.positive_weight,
            scale: 0.0,
            logits,
            targets,
        }))
    }

    /// Returns the sum of the losses of `logits`, in nats, and replaces the logits with the
    /// gradient of `scale` times this sum.
    ///
    /// # Errors
    /// [`KernelError::Length`] where there is not one target for each logit; nothing is written
    /// then.
    ///
    /// # Example
    /// ```
    /// use bptt_kernels::{Isa, logistic::Logistic};
    ///
    /// let mut o = [0.0, f32::INFINITY];
    /// let loss = Logistic::default().gradient(Isa::best()?, 1.0, &mut o, &[0.0, 1.0])?;
    /// assert!((loss - 2f64.ln()).abs() < 1e-7);
    /// assert_eq!(o, [0.5, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn gradient(
        self,
        isa: Isa,
        scale: f32,
        logits: &mut [f32],
        targets: &[f32],
    ) -> Result<f64, KernelError> {
        check_len("targets", targets.len(), logits.len())?;
        let _flushed = Flushed::new();
        let logits = logits.as_mut_ptr();
        Ok(isa.enter(Entropy::<true> { weight: self.positive_weight, scale, logits, targets }))
    }
}

/// One call. `logits` is readable, and with `WRITE` also writable, for as many floats as there are
/// targets.
struct Entropy<'a, const WRITE: bool> {
    weight: f32,
    scale: f32,
    logits: *mut f32,
    targets: &'a [f32],
}

impl<const WRITE: bool> Kernel for Entropy<'_, WRITE> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        const { assert!(S::LANES <= MAX_LANES) }
        let (one, zero) = (simd.splat(1.0), simd.zero());
        let (weight, scale) = (simd.splat(self.weight), simd.splat(self.scale));
        let most = simd.splat(f32::MAX);
        let (mut sums, mut losses) = ([0.0f64; MAX_LANES], [0.0f32; MAX_LANES]);
        each!(S, self.targets.len(), |at, lanes| {
            // SAFETY: `each!` stays within the targets, for as many floats as which the logits are
            // valid; the array has MAX_LANES ≥ LANES floats.
            unsafe {
                let o = load_lanes(simd, self.logits.add(at), lanes);
                let t = load_lanes(simd, self.targets.as_ptr().add(at), lanes);
                let (yes, no) = (simd.mul(weight, t), simd.sub(one, t));
                let size = simd.abs(o);
                let u = exp(simd, simd.sub(zero, size));
                // −log σ of the logit and of its negative. `o` is the second argument so that a NaN
                // is kept.
                let log = log_1p(simd, u);
                let below = simd.min(most, simd.max(zero, simd.sub(zero, o)));
                let above = simd.min(most, simd.max(zero, o));
                let (of_yes, of_no) = (simd.add(below, log), simd.add(above, log));
                let loss = simd.min(most, simd.mul_add(yes, of_yes, simd.mul(no, of_no)));
                // In f64, so that the sum of many logits does not overflow.
                store_lanes(simd, losses.as_mut_ptr(), loss, lanes);
                for lane in 0..lanes {
                    sums[lane] += f64::from(losses[lane]);
                }
                if WRITE {
                    let larger = simd.div(one, simd.add(one, u));
                    let smaller = simd.mul(u, larger);
                    let is_below = simd.lt(o, zero);
                    let p = simd.select(is_below, smaller, larger);
                    let q = simd.select(is_below, larger, smaller);
                    let slope = simd.neg_mul_add(yes, q, simd.mul(no, p));
                    store_lanes(simd, self.logits.add(at), simd.mul(scale, slope), lanes);
                }
            }
        });
        sums.iter().sum()
    }
}
