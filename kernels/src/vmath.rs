//! exp, logistic and tanh on vectors.

use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError, error::check_len};

/// e^x
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.splat(89.0), s.max(s.splat(-105.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.neg_mul_add(n, s.splat(0.693_359_4), x);
    let r = s.neg_mul_add(n, s.splat(-2.121_944_4e-4), r);
    let mut p = s.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.scale(p, n)
}

/// 1 / (1 + e^−x)
#[inline(always)]
pub(crate) fn logistic<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.sub(s.zero(), s.abs(x)));
    let d = s.add(s.splat(1.0), e);
    let n = s.select(s.lt(x, s.zero()), e, s.splat(1.0));
    s.div_small(n, d)
}

/// tanh x
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.mul(s.splat(-2.0), s.abs(x)));
    let one = s.splat(1.0);
    s.copysign(s.div_small(s.sub(one, e), s.add(one, e)), x)
}

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// e^x
    Exp,
    /// 1 / (1 + e^−x)
    Logistic,
    /// tanh x
    Tanh,
}

struct Map<'a> {
    function: Function,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Map<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.function {
            Function::Exp => each(s, self.x, self.out, |x| exp(s, x)),
            Function::Logistic => each(s, self.x, self.out, |x| logistic(s, x)),
            Function::Tanh => each(s, self.x, self.out, |x| tanh(s, x)),
        }
    }
}

#[inline(always)]
fn each<S: Simd>(s: S, x: &[f32], out: &mut [f32], f: impl Fn(S::V) -> S::V) {
    let mut i = 0;
    while i < x.len() {
        let n = (x.len() - i).min(S::LANES);
        // SAFETY: i + n ≤ x.len() = out.len(), which `map` has checked.
        unsafe {
            let y = f(s.load_first(x.as_ptr().add(i), n));
            s.store_first(out.as_mut_ptr().add(i), y, n);
        }
        i += n;
    }
}

/// Applies `function` to every element of `x`.
///
/// # Errors
/// [`KernelError::Length`] where `out` is not as long as `x`.
pub fn map(isa: Isa, function: Function, x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    check_len("out", out.len(), x.len())?;
    isa.enter(Map { function, x, out });
    Ok(())
}
