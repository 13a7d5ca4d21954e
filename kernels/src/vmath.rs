//! exp, logistic and tanh on vectors: their definitions, once for all instruction sets, and entries
//! that apply them to slices. Knows nothing of cells; a cell's epilogue calls the three
//! `pub(crate)` functions on its registers.
//!
//! All three split their argument as x = n·ln 2 + r. They get n by adding a large constant
//! (`SHIFT`): the low bits of the sum are the integer, so one shift makes 2ⁿ of it and no
//! conversion is needed. The polynomials are minimax fits that weigh every error by the spacing of
//! floats at the *result*. Their coefficients were rounded to f32 one at a time, and the others
//! were fitted again after each.

use crate::simd::{Kernel, SHIFT, Simd};
use crate::{Isa, KernelError, error::check_len};

/// ln 2 in two parts. The first has 9 significant bits, so that its product with any n in use is
/// exact with and without fused arithmetic.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// e^x = 2ⁿ · (1 + r · P(r)), |r| ≤ ½ ln 2.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::V) -> S::V {
    // Beyond these bounds the result is ∞ or 0. `x` is the second argument so that a NaN is kept.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-104.5), x));
    let t = simd.mul_add(x, simd.splat(LOG2_E), simd.splat(SHIFT));
    let n = simd.sub(t, simd.splat(SHIFT));
    let r = simd.neg_mul_add(n, simd.splat(LN2_HIGH), x);
    let r = simd.neg_mul_add(n, simd.splat(LN2_LOW), r);
    let mut p = simd.splat(0.008_246_072);
    for c in [0.041_905_943, 0.166_684_7, 0.499_990_67, 0.999_999_34, 1.0] {
        p = simd.mul_add(p, r, simd.splat(c));
    }
    simd.scale(p, t)
}

/// 1 − e^x for x ≤ 0, as −(2ⁿ · r · P(r) + (2ⁿ − 1)) with |r| ≤ ½ ln 2: near 0 it is −r · P(r), and
/// nothing cancels; elsewhere the terms differ in magnitude. P is the series of (eʳ − 1) / r, whose
/// first omitted term is below 2⁻²⁵ of it.
#[inline(always)]
pub(crate) fn one_minus_exp<S: Simd>(simd: S, x: S::V) -> S::V {
    const BIAS: f32 = SHIFT - 127.0;
    // At this bound the result has reached 1. `x` is the second argument so that a NaN is kept.
    let x = simd.max(simd.splat(-80.0), x);
    let t = simd.mul_add(x, simd.splat(LOG2_E), simd.splat(BIAS));
    let n = simd.sub(t, simd.splat(BIAS));
    let r = simd.neg_mul_add(n, simd.splat(LN2_HIGH), x);
    let r = simd.neg_mul_add(n, simd.splat(LN2_LOW), r);
    let mut p = simd.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = simd.mul_add(p, r, simd.splat(c));
    }
    // r · P(r), whose first term is r itself.
    let p = simd.mul_add(simd.mul(p, r), r, r);
    let power = simd.exponent(t);
    simd.neg_mul_add(power, p, simd.sub(simd.splat(1.0), power))
}

/// 1 / (1 + e^−x) as K / (K + 2ⁿ · (K + Q(r))), Q(r) = K · (e^−r − 1). Both signs take the same
/// way, with no branch and no choice of lanes.
///
/// - All terms are scaled by 2⁻⁶⁴, so that e^104 stays finite and only the quotient can be
///   denormal.
/// - The denominator is summed as (K + 2ⁿ·Q) + 2ⁿ·K. Any other order adds a rounding of up to half
///   a unit to the roundings of the last sum and the quotient, and the three together can pass 2
///   ULP.
/// - K is not a power of two: an error costs the most ULP of the result where 1 + e^−x is just
///   above one, and K moves the denominator's significand away from 1 there. 1.625 is the best of
///   the short values.
/// - The quotient is a true division: other instructions keep the arithmetic units busy for as long
///   as the divider takes, and refining an approximate reciprocal would only load those units more.
#[inline(always)]
pub(crate) fn logistic<S: Simd>(simd: S, x: S::V) -> S::V {
    const DOWN: f32 = 1.0 / (1u64 << 63) as f32 / 2.0;
    const K: f32 = 1.625;
    // Makes `exponent` give 2ⁿ⁻⁶⁴.
    const BIAS: f32 = SHIFT - 127.0 - 64.0;
    // At these bounds the result has reached 0 and 1.
    let x = simd.min(simd.splat(40.0), simd.max(simd.splat(-104.0), x));
    let t = simd.mul_add(x, simd.splat(-LOG2_E), simd.splat(BIAS));
    let n = simd.sub(t, simd.splat(BIAS));
    let r = simd.mul_add(n, simd.splat(LN2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(LN2_LOW), r);
    let mut q = simd.splat(0.002_250_146_1);
    for c in [-0.013_598_636, 0.067_710_11, -0.270_831_02, 0.812_499_94, -1.625] {
        q = simd.mul_add(q, r, simd.splat(c));
    }
    let q = simd.mul(q, r);
    let power = simd.exponent(t);
    let k = simd.splat(K * DOWN);
    let d = simd.mul_add(power, simd.splat(K), simd.mul_add(power, q, k));
    simd.div(k, d)
}

/// tanh x by the formula for the tanh of a sum: |x| = b − n·½ ln 2 with |b| ≤ ¼ ln 2, and tanh |x|
/// = ((1−2ⁿ) + (1+2ⁿ)·B) / ((1+2ⁿ) + (1−2ⁿ)·B), B = tanh b.
///
/// Near 0 the quotient is 2B / 2, so small arguments need no branch. The roundings of numerator and
/// denominator together would pass 2 ULP. So the quotient q is corrected by its remainder against
/// the *unrounded* numerator and denominator, and then an approximate reciprocal is good enough
/// too. q is shortened so that its products with 1 ± 2ⁿ and their differences are exact, fused or
/// not.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::V) -> S::V {
    const BIAS: f32 = SHIFT - 127.0;
    const HALF_LN2: f32 = std::f32::consts::LN_2 / 2.0;
    // At 10 the result has reached 1. One constant is enough for ½ ln 2: where n is large, the
    // slope of tanh is small.
    let a = simd.min(simd.splat(10.0), simd.abs(x));
    let t = simd.mul_add(a, simd.splat(-2.0 * LOG2_E), simd.splat(BIAS));
    let n = simd.sub(t, simd.splat(BIAS));
    let b = simd.mul_add(n, simd.splat(HALF_LN2), a);
    let u = simd.mul(b, b);
    let w = simd.mul_add(u, simd.splat(0.131_187_17), simd.splat(-0.333_315_07));
    let b = simd.mul_add(b, simd.mul(u, w), b);
    let power = simd.exponent(t);
    let m = simd.sub(simd.splat(1.0), power);
    let p = simd.add(simd.splat(1.0), power);
    let r = simd.recip(simd.mul_add(m, b, p));
    let q = simd.shorten(simd.mul(simd.mul_add(p, b, m), r));
    let rest = simd.mul_add(simd.neg_mul_add(q, m, p), b, simd.neg_mul_add(q, p, m));
    simd.copysign(simd.mul_add(rest, r, q), x)
}

/// log(1 + u) for 0 ≤ u ≤ 1, as 2 artanh s with s = u / (2 + u) ≤ ⅓. Of the series
/// s + s³/3 + s⁵/5 + … the terms from s¹⁷/17 on are left out: together they are less than 2·10⁻⁹ of
/// the result.
#[inline(always)]
pub(crate) fn log_1p<S: Simd>(simd: S, u: S::V) -> S::V {
    let s = simd.div(u, simd.add(simd.splat(2.0), u));
    let square = simd.mul(s, s);
    let mut p = simd.splat(1.0 / 15.0);
    for c in [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0] {
        p = simd.mul_add(p, square, simd.splat(c));
    }
    let twice = simd.add(s, s);
    simd.mul_add(simd.mul(twice, square), p, twice)
}

/// One of the functions on vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// e^x
    Exp,
    /// 1 / (1 + e^−x)
    Logistic,
    /// tanh x
    Tanh,
}

/// The pointers and the length of one call. `x` is readable and `out` is writable for `len` floats;
/// they are equal or the ranges do not overlap.
struct Map {
    function: Function,
    x: *const f32,
    out: *mut f32,
    len: usize,
}

/// A function of one vector. It is not a closure: a closure cannot be `#[inline(always)]`, and one
/// that is not inlined loses the instruction set.
trait Lanewise {
    fn of<S: Simd>(simd: S, x: S::V) -> S::V;
}

/// Makes a type for each of the three functions, for [`Map::each`].
macro_rules! lanewise {
    ($($name:ident = $function:path;)+) => {
        $(struct $name;
        impl Lanewise for $name {
            #[inline(always)]
            fn of<S: Simd>(simd: S, x: S::V) -> S::V {
                $function(simd, x)
            }
        })+
    };
}
lanewise! {
    Exp = exp;
    Logistic = logistic;
    Tanh = tanh;
}

impl Kernel for Map {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.function {
            Function::Exp => self.each::<S, Exp>(simd),
            Function::Logistic => self.each::<S, Logistic>(simd),
            Function::Tanh => self.each::<S, Tanh>(simd),
        }
    }
}

impl Map {
    #[inline(always)]
    fn each<S: Simd, F: Lanewise>(self, simd: S) {
        let tail = self.len % S::LANES;
        let whole = self.len - tail;
        let pairs = whole - whole % (2 * S::LANES);
        // Two vectors at a time: one is a chain of some fifteen dependent instructions, and the
        // scheduler does not look far enough ahead to fill the gaps with the next.
        for i in (0..pairs).step_by(2 * S::LANES) {
            let j = i + S::LANES;
            // SAFETY: j + LANES ≤ pairs ≤ len, for which both are valid.
            unsafe {
                let (a, b) = (simd.load(self.x.add(i)), simd.load(self.x.add(j)));
                let (a, b) = (F::of(simd, a), F::of(simd, b));
                simd.store(self.out.add(i), a);
                simd.store(self.out.add(j), b);
            }
        }
        if pairs < whole {
            // SAFETY: pairs + LANES = whole ≤ len, for which both are valid.
            unsafe { simd.store(self.out.add(pairs), F::of(simd, simd.load(self.x.add(pairs)))) };
        }
        if tail > 0 {
            // SAFETY: whole + tail = len, for which both are valid.
            unsafe {
                let y = F::of(simd, simd.load_first(self.x.add(whole), tail));
                simd.store_first(self.out.add(whole), y, tail);
            }
        }
    }
}

/// Computes outᵢ = f(xᵢ), where f is `function`.
///
/// The result is defined for every f32: the limits at ±∞ are exact, NaN gives NaN, tanh −0 = −0,
/// and denormals are not flushed, neither as arguments nor as results. An element's result
/// depends only on its value and `isa`, not on its place.
///
/// No error is above 2 ULP. One ULP is the spacing of f32 numbers at the exact result
/// (2ᵉ⁻²³ for 2ᵉ ≤ |result| < 2ᵉ⁺¹, at least 2⁻¹⁴⁹), and ∞ counts as 2¹²⁸. These are the largest
/// errors over all 2³² arguments, in ULP:
///
/// | | avx512 | avx2 | neon | portable |
/// |---|---|---|---|---|
/// | exp | 1.90 | 1.90 | 1.90 | 1.97 |
/// | logistic | 1.76 | 1.76 | 1.76 | 1.77 |
/// | tanh | 1.83 | 1.83 | 1.83 | 1.98 |
///
/// neon was run over a sample of the arguments only; it does the same operations as avx2, each
/// rounded as IEEE 754 says, so it has the same results.
///
/// `cargo bench --bench vmath` measures it.
///
/// # Errors
/// [`KernelError::Length`] if `out` is not as long as `x`.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, vmath::{Function, map}};
///
/// let x = [f32::NEG_INFINITY, 0.0, 1.0];
/// let mut y = [0.0; 3];
/// map(Isa::best()?, Function::Logistic, &x, &mut y)?;
/// assert_eq!(y[..2], [0.0, 0.5]);
/// assert!((y[2] - 0.731_058_6).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn map(isa: Isa, function: Function, x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    check_len("out", out.len(), x.len())?;
    isa.enter(Map { function, x: x.as_ptr(), out: out.as_mut_ptr(), len: x.len() });
    Ok(())
}

/// Replaces each xᵢ by f(xᵢ), as [`map`] does, for any length.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, vmath::{Function, map_in_place}};
///
/// let mut x = [-0.0, f32::INFINITY];
/// map_in_place(Isa::best()?, Function::Tanh, &mut x);
/// assert_eq!(x, [-0.0, 1.0]);
/// # Ok::<(), bptt_kernels::IsaError>(())
/// ```
pub fn map_in_place(isa: Isa, function: Function, x: &mut [f32]) {
    let out = x.as_mut_ptr();
    isa.enter(Map { function, x: out, out, len: x.len() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use bptt_reference::compare::ulp_distance;

    /// 1 − e^x of single values.
    struct OneMinusExp<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for OneMinusExp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for (&x, y) in self.0.iter().zip(self.1) {
                // SAFETY: `y` is writable for one float.
                unsafe { simd.store_first(y, one_minus_exp(simd, simd.splat(x)), 1) };
            }
        }
    }

    /// Within 2 ULP of what it is, at all magnitudes, and exact at both ends.
    #[test]
    fn one_minus_exp_is_near_at_all_magnitudes() {
        let mut x: Vec<f32> =
            (0..).map(|k| -f32::from_bits(k * 4001)).take_while(|x| *x > -200.0).collect();
        x.extend([-0.0, 0.0, -1e30, f32::MIN, f32::NEG_INFINITY]);
        // Around the ends of the pieces into which the argument is split.
        for n in 0..120 {
            let end = (n as f32 + 0.5) * std::f32::consts::LN_2;
            x.extend([end.next_down(), end, end.next_up()].map(|x| -x));
        }
        for &isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            isa.enter(OneMinusExp(&x, &mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = -f64::from(x).exp_m1();
                assert!(ulp_distance(y, exact) <= 2.0, "1 − e^{x:e} is {y:e} on {isa}");
            }
            assert_eq!(y[x.len() - 365..][..5], [0.0, 0.0, 1.0, 1.0, 1.0]);
            let mut nan = [0.0];
            isa.enter(OneMinusExp(&[f32::NAN], &mut nan));
            assert!(nan[0].is_nan());
        }
    }
}
