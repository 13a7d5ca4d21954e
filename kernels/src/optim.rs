//! The optimizers' updates of parameters, and the functions that clipping needs. They work
//! element by element, at the speed of memory. Knows slices of f32; must not know layers or
//! schedules.
//!
//! All of them treat denormals as zero, as in a pass. The moments of a parameter that has had
//! no gradient for a long time become denormal, and arithmetic with denormals is slow.

use crate::denormals::Flushed;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError};

/// Stochastic gradient descent with momentum (Goodfellow et al., algorithm 8.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// The learning rate, ε.
    pub learning_rate: f32,
    /// The momentum, α.
    pub momentum: f32,
}

struct MomentumStep<'a> {
    rule: Momentum,
    params: &'a mut [f32],
    velocity: &'a mut [f32],
    gradients: &'a [f32],
}

impl Momentum {
    /// Updates `velocity` v and `params` θ from `gradients` g: v ← α v − ε g, θ ← θ + v.
    ///
    /// # Errors
    /// [`KernelError::Length`] where the slices differ in length; nothing is written then.
    pub fn step(
        self,
        isa: Isa,
        params: &mut [f32],
        velocity: &mut [f32],
        gradients: &[f32],
    ) -> Result<(), KernelError> {
        check_len("velocity", velocity.len(), params.len())?;
        check_len("gradients", gradients.len(), params.len())?;
        let _flushed = Flushed::new();
        isa.enter(MomentumStep { rule: self, params, velocity, gradients });
        Ok(())
    }
}

impl Kernel for MomentumStep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (rate, momentum) =
            (simd.splat(self.rule.learning_rate), simd.splat(self.rule.momentum));
        let (params, velocity) = (self.params.as_mut_ptr(), self.velocity.as_mut_ptr());
        let gradients = self.gradients.as_ptr();
        each!(S, self.params.len(), |at, lanes| {
            // SAFETY: `Momentum::step` has checked that all three slices have the length that
            // `each!` goes over.
            unsafe {
                let g = load_lanes(simd, gradients.add(at), lanes);
                let v = simd.mul(momentum, load_lanes(simd, velocity.add(at), lanes));
                let v = simd.neg_mul_add(rate, g, v);
                let theta = load_lanes(simd, params.add(at), lanes);
                store_lanes(simd, velocity.add(at), v, lanes);
                store_lanes(simd, params.add(at), simd.add(theta, v), lanes);
            }
        });
    }
}

/// A step of Adam (Kingma and Ba 2015, algorithm 1). The bias corrections of the two moments
/// are part of `rate` and `root`, which are the same for all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁ and 1 − β₁.
    pub beta1: [f32; 2],
    /// β₂ and 1 − β₂.
    pub beta2: [f32; 2],
    /// α / (1 − β₁ᵗ), with the learning rate α and the number of the step t.
    pub rate: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub root: f32,
    /// ε, which keeps the divisor from 0.
    pub epsilon: f32,
}

struct AdamStep<'a> {
    rule: Adam,
    params: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradients: &'a [f32],
}

impl Adam {
    /// Updates the moments `first` m and `second` v and `params` θ from `gradients` g:
    /// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
    /// θ ← θ − `rate` · m / (`root` · √v + ε).
    ///
    /// # Errors
    /// [`KernelError::Length`] where the slices differ in length; nothing is written then.
    pub fn step(
        self,
        isa: Isa,
        params: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradients: &[f32],
    ) -> Result<(), KernelError> {
        check_len("first moment", first.len(), params.len())?;
        check_len("second moment", second.len(), params.len())?;
        check_len("gradients", gradients.len(), params.len())?;
        let _flushed = Flushed::new();
        isa.enter(AdamStep { rule: self, params, first, second, gradients });
        Ok(())
    }
}

impl Kernel for AdamStep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rule = self.rule;
        let (beta1, rest1) = (simd.splat(rule.beta1[0]), simd.splat(rule.beta1[1]));
        let (beta2, rest2) = (simd.splat(rule.beta2[0]), simd.splat(rule.beta2[1]));
        let (rate, root) = (simd.splat(rule.rate), simd.splat(rule.root));
        let epsilon = simd.splat(rule.epsilon);
        let (params, gradients) = (self.params.as_mut_ptr(), self.gradients.as_ptr());
        let (first, second) = (self.first.as_mut_ptr(), self.second.as_mut_ptr());
        each!(S, self.params.len(), |at, lanes| {
            // SAFETY: `Adam::step` has checked that all four slices have the length that
            // `each!` goes over.
            unsafe {
                let g = load_lanes(simd, gradients.add(at), lanes);
                let m = load_lanes(simd, first.add(at), lanes);
                let v = load_lanes(simd, second.add(at), lanes);
                let m = simd.mul_add(beta1, m, simd.mul(rest1, g));
                let v = simd.mul_add(beta2, v, simd.mul(simd.mul(rest2, g), g));
                let step = simd.div(simd.mul(rate, m), simd.mul_add(root, simd.sqrt(v), epsilon));
                let theta = load_lanes(simd, params.add(at), lanes);
                store_lanes(simd, first.add(at), m, lanes);
                store_lanes(simd, second.add(at), v, lanes);
                store_lanes(simd, params.add(at), simd.sub(theta, step), lanes);
            }
        });
    }
}

struct Clamp<'a> {
    x: &'a mut [f32],
    limit: f32,
}

impl Kernel for Clamp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (least, most) = (simd.splat(-self.limit), simd.splat(self.limit));
        let x = self.x.as_mut_ptr();
        each!(S, self.x.len(), |at, lanes| {
            // SAFETY: `each!` stays within the length of x.
            unsafe {
                // x is the second operand so that a NaN is kept.
                let v = simd.min(most, simd.max(least, load_lanes(simd, x.add(at), lanes)));
                store_lanes(simd, x.add(at), v, lanes);
            }
        });
    }
}

/// Clamps each element of `x` to −`limit` … `limit`; a NaN is kept.
pub fn clamp(isa: Isa, x: &mut [f32], limit: f32) {
    let _flushed = Flushed::new();
    isa.enter(Clamp { x, limit });
}

/// Sums side by side in f64. Their number does not depend on the instruction set, so the result
/// does not either.
const CHAINS: usize = 32;

struct Scale<'a> {
    x: &'a mut [f32],
    factor: f64,
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for x in self.x {
            *x = (f64::from(*x) * self.factor) as f32;
        }
    }
}

/// Multiplies each element of `x` by `factor`. The product is computed in f64 and rounded once,
/// so it is exact to half an ULP, even for factors that f32 cannot hold, and the same on every
/// instruction set. It is 0 where the element or the result is denormal.
pub fn scale(isa: Isa, x: &mut [f32], factor: f64) {
    let _flushed = Flushed::new();
    isa.enter(Scale { x, factor });
}

struct SumOfSquares<'a> {
    x: &'a [f32],
}

impl Kernel for SumOfSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let (whole, rest) = self.x.as_chunks::<CHAINS>();
        let mut sums = [0.0; CHAINS];
        for x in whole {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += square(*x);
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += square(*x);
        }
        sums.iter().sum()
    }
}

/// Returns Σ x² in f64. No f32 makes it overflow, and each square is exact before it is added;
/// a denormal counts as 0. The order of the additions, 32 chains, does not depend on the
/// instruction set, so the result has the same bits on all of them.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, optim::sum_of_squares};
///
/// let isa = Isa::best()?;
/// assert_eq!(sum_of_squares(isa, &[3.0, -4.0]), 25.0);
/// assert!(sum_of_squares(isa, &[f32::MAX; 1000]).is_finite());
/// # Ok::<(), bptt_kernels::IsaError>(())
/// ```
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    let _flushed = Flushed::new();
    isa.enter(SumOfSquares { x })
}
