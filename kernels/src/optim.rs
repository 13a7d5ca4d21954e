//! Updates of parameters, and what clipping needs: element by element, at the
//! speed of memory. Knows slices of f32; must not know layers or schedules.
//!
//! Denormals are zero in all of them, as in a pass: the moments of a parameter that has had no
//! gradient for long decay through them, and an update would take two or three times as long.

use crate::denormals::Flushed;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError};

/// Stochastic gradient descent with momentum (Goodfellow et al., algorithm 8.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// ε.
    pub learning_rate: f32,
    /// α.
    pub momentum: f32,
}

struct MomentumStep<'a> {
    rule: Momentum,
    params: &'a mut [f32],
    velocity: &'a mut [f32],
    gradients: &'a [f32],
}

impl Momentum {
    /// v ← α v − ε g, θ ← θ + v.
    ///
    /// # Errors
    /// [`KernelError::Length`] where the slices differ in length; nothing is written
    /// then.
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
            // SAFETY: `Momentum::step` has checked that all three have the length
            // that `each!` goes over.
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

/// A step of Adam (Kingma and Ba 2015, algorithm 1) with the corrections of both
/// moments folded into two factors, which are the same for all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁ and 1 − β₁.
    pub beta1: [f32; 2],
    /// β₂ and 1 − β₂.
    pub beta2: [f32; 2],
    /// α / (1 − β₁ᵗ).
    pub rate: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub root: f32,
    /// ε.
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
    /// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
    /// θ ← θ − `rate` · m / (`root` · √v + ε).
    ///
    /// # Errors
    /// [`KernelError::Length`] where the slices differ in length; nothing is written
    /// then.
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
            // SAFETY: `Adam::step` has checked that all four have the length that
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
            // SAFETY: `each!` gives places of x.
            unsafe {
                // x stands second so that a NaN stays.
                let v = simd.min(most, simd.max(least, load_lanes(simd, x.add(at), lanes)));
                store_lanes(simd, x.add(at), v, lanes);
            }
        });
    }
}

/// Each element to the nearest in ±`limit`; a NaN stays.
pub fn clamp(isa: Isa, x: &mut [f32], limit: f32) {
    let _flushed = Flushed::new();
    isa.enter(Clamp { x, limit });
}

/// Elements handled side by side where the arithmetic is f64's: a number that does
/// not depend on the instruction set, so that results do not either.
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

/// Each element times `factor`, in f64 and rounded once: exact to half an ULP with
/// factors that f32 cannot hold, and the same on every instruction set; 0 where element or
/// result is denormal.
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

/// Σ x², in f64: no f32 overflows it, and a square is exact before it is added, that of a
/// denormal 0. 32 chains, whatever the instruction set: the same bits on all of them.
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
