//! Derived tolerances: [`Bounded`] is a value with a bound on how far a correct `f32` pass may be from it.
//!
//! This is a running error analysis (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.3). The
//! value is computed in `f64`; beside it, each operation adds the error that it passes on from its operands to the
//! error that it makes itself in `f32`, of unit roundoff u = 2⁻²⁴:
//!
//! | operation | passed on, with errors α of a and β of b | its own |
//! | --- | --- | --- |
//! | a ± b | α + β | u·\|result\| |
//! | a·b | \|a\|β + \|b\|α + αβ | u·\|result\| |
//! | Σ a·b, n terms, in any order | Σ (\|a\|β + \|b\|α + αβ) | γₙ·Σ \|a\|\|b\| |
//! | tanh, σ | what the function can move over [a − α, a + α] | 2 ULP |
//! | g, eᵃ, ln(1 + eᵃ), √(1 − e²ᵃ) | what the function can move over [a − α, a + α] | 2 ULP |
//! | p / (p + q) of exponentials | what the function can move over [a − α, a + α], a being ln(p/q) | 6 ULP |
//! | 1/√a | what the function can move over [a − α, a + α], as far as a can be | 2 ULP |
//! | tanh′, σ′ from y | what y − y² or 1 − y² can move over [y − α, y + α] | u·y² + γ₃·\|result\| |
//!
//! A fused multiply-add makes fewer errors than are counted. The slopes may be written y(1 − y) or y − y², and
//! (1 − y)(1 + y) or 1 − y². "\|result\|" is the largest that the `f32` result can be, errors passed on included, and
//! the second-order terms αβ are kept, so the bound is one of any size of errors and not to first order only. Where
//! `f32` may overflow the bound is infinite, and claims nothing.

use crate::Number;
use crate::compare::{UNIT_ROUNDOFF, gamma};
use std::ops::{Add, Mul, Sub};

/// The error allowed to tanh and to the logistic function, in ULP of `f32`.
pub const ACTIVATION_ULPS: f64 = 2.0;

/// The error allowed to a share p / (p + q) of two sums of exponentials, in ULP of `f32`.
pub const SHARE_ULPS: f64 = 6.0;

/// What an operation may lose to underflow, be it gradual or to zero: the smallest normal `f32`.
const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64;

/// Makes room for the rounding of value and bound themselves: `f64` makes the errors that are counted here 2⁻²⁹ times
/// as large, and this allows 2⁻²⁰.
const SLACK: f64 = 1.0 + 1.0 / (1 << 20) as f64;

/// A reference value, and a bound on the error of an `f32` result that stands for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// The value, computed in `f64`.
    pub value: f64,
    /// The most that a correct `f32` result may be off, infinite where `f32` may overflow.
    pub bound: f64,
}

impl Bounded {
    /// |actual − value| as a share of the bound: at most 1 for a correct result. Infinite for a NaN.
    pub fn ratio(self, actual: f32) -> f64 {
        let error = (f64::from(actual) - self.value).abs();
        if error == 0.0 {
            0.0
        } else if error.is_nan() {
            f64::INFINITY
        } else {
            error / self.bound
        }
    }

    /// The largest magnitude that the `f32` result can have.
    fn largest(self) -> f64 {
        self.value.abs() + self.bound
    }

    /// The result of `roundings` operations, none of which exceeds `largest`, where `error` is all but underflow.
    fn result(value: f64, largest: f64, error: f64, roundings: usize) -> Self {
        let overflows = largest.is_nan() || largest > f64::from(f32::MAX);
        let bound =
            if overflows { f64::INFINITY } else { error * SLACK + roundings as f64 * UNDERFLOW };
        Bounded { value, bound }
    }

    /// One rounding of `value`, whose operands pass on the error `passed_on`.
    fn rounded(value: f64, passed_on: f64) -> Self {
        let largest = value.abs() + passed_on;
        Self::result(value, largest, passed_on + UNIT_ROUNDOFF * largest, 1)
    }

    /// A monotone function that is `ulps` off: its argument's error moves it most at an end of the interval.
    fn monotone(self, function: impl Fn(f64) -> f64, ulps: f64) -> Self {
        let value = function(self.value);
        if !self.bound.is_finite() {
            return Bounded { value, bound: f64::INFINITY };
        }
        let up = function(self.value + self.bound) - value;
        let down = value - function(self.value - self.bound);
        let passed_on = up.abs().max(down.abs());
        let largest = value.abs() + passed_on;
        Self::result(value, largest, passed_on + ulps * 2.0 * UNIT_ROUNDOFF * largest, 1)
    }

    /// A quadratic in y that has this `value` and derivative, and −1 or 1 as its leading coefficient.
    fn slope(self, value: f64, derivative: f64) -> Self {
        let passed_on = derivative.abs() * self.bound + self.bound * self.bound;
        let largest = value.abs() + passed_on;
        let square = self.largest() * self.largest();
        let error = passed_on + UNIT_ROUNDOFF * square + gamma(3) * largest;
        Self::result(value, largest.max(square), error, 3)
    }
}

impl Add for Bounded {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.bound + other.bound)
    }
}

impl Sub for Bounded {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::rounded(self.value - other.value, self.bound + other.bound)
    }
}

/// The error that a product passes on from its factors.
fn through_product(a: Bounded, b: Bounded) -> f64 {
    a.value.abs() * b.bound + b.value.abs() * a.bound + a.bound * b.bound
}

impl Mul for Bounded {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self::rounded(self.value * other.value, through_product(self, other))
    }
}

impl Number for Bounded {
    fn exact(value: f64) -> Self {
        Bounded { value, bound: 0.0 }
    }

    fn dot(pairs: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let (mut terms, mut value, mut largest, mut passed_on) = (0, 0.0, 0.0, 0.0);
        for (a, b) in pairs {
            terms += 1;
            value += a.value * b.value;
            largest += a.largest() * b.largest();
            passed_on += through_product(a, b);
        }
        Self::result(value, largest, passed_on + gamma(terms) * largest, 2 * terms)
    }

    fn logistic(self) -> Self {
        self.monotone(f64::logistic, ACTIVATION_ULPS)
    }

    fn tanh(self) -> Self {
        self.monotone(f64::tanh, ACTIVATION_ULPS)
    }

    fn relu(self) -> Self {
        let passed_on = (self.value + self.bound).max(0.0) - self.value.max(0.0);
        let passed_back = self.value.max(0.0) - (self.value - self.bound).max(0.0);
        Bounded { value: self.value.relu(), bound: passed_on.max(passed_back) }
    }

    fn positive(self) -> Self {
        self.monotone(f64::positive, ACTIVATION_ULPS)
    }

    fn exp(self) -> Self {
        self.monotone(f64::exp, ACTIVATION_ULPS)
    }

    fn softplus(self) -> Self {
        self.monotone(f64::softplus, ACTIVATION_ULPS)
    }

    /// Each of the sums p, q and p + q, and the quotient, is rounded; the terms of p and q are exponentials. That is a
    /// relative error of 2·(4u + u)·(1 − y) + 2u, of which the errors of the exponents are a part of a's.
    fn share(self) -> Self {
        self.monotone(f64::share, SHARE_ULPS)
    }

    /// A root halves the error of 1 − e²ᵃ.
    fn complement(self) -> Self {
        self.monotone(|a| a.min(0.0).complement(), ACTIVATION_ULPS)
    }

    /// Certain unless the error may carry y across ½, where the slope jumps from ¼ to 1.
    fn positive_slope(self) -> Self {
        let value = self.value.positive_slope();
        if self.value - self.bound >= 0.5 {
            Bounded { value, bound: 0.0 }
        } else if self.value + self.bound < 0.5 {
            self.logistic_slope()
        } else {
            Bounded { value, bound: 1.0 }
        }
    }

    /// A quotient e⁻ᵃ / (1 + e⁻ᵃ), of errors as in [`share`](Self::share).
    fn softplus_slope(self) -> Self {
        self.monotone(f64::softplus_slope, SHARE_ULPS)
    }

    /// Or a product of two shares, whose quotients are rounded one by one.
    fn share_slope(self) -> Self {
        let slope = self.logistic_slope();
        Bounded { bound: slope.bound + 4.0 * UNIT_ROUNDOFF * slope.value.abs(), ..slope }
    }

    /// The square of an exponential divided by y: 8u and three roundings.
    fn complement_slope(self) -> Self {
        self.monotone(|y| y.max(0.0).complement_slope(), SHARE_ULPS)
    }

    fn logistic_slope(self) -> Self {
        self.slope(self.value.logistic_slope(), 1.0 - 2.0 * self.value)
    }

    fn tanh_slope(self) -> Self {
        self.slope(self.value.tanh_slope(), 2.0 * self.value)
    }

    /// A root and a quotient, each of one rounding.
    fn inverse_root(self, least: f64) -> Self {
        self.monotone(|a| 1.0 / a.max(least).sqrt(), 2.0)
    }

    fn nearest(value: f64) -> Self {
        Bounded { value, bound: UNIT_ROUNDOFF * value.abs() }
    }

    fn clamped(self, low: f64, high: f64) -> Self {
        let value = self.value.clamped(low, high);
        let up = (self.value + self.bound).clamped(low, high) - value;
        let down = value - (self.value - self.bound).clamped(low, high);
        Bounded { value, bound: up.max(down) }
    }

    /// Certain unless the error may carry y to a limit or away from it, where the slope jumps by one.
    fn inside(self, low: f64, high: f64) -> Self {
        let certain =
            self.bound == 0.0 || (self.value - self.bound > low && self.value + self.bound < high);
        Bounded { value: self.value.inside(low, high), bound: if certain { 0.0 } else { 1.0 } }
    }

    /// Certain unless the error may carry y across zero, where the slope jumps by one.
    fn relu_slope(self) -> Self {
        let certain = self.bound == 0.0 || self.value > self.bound;
        Bounded { value: self.value.relu_slope(), bound: if certain { 0.0 } else { 1.0 } }
    }
}

/// Inputs of a pass: `f32` as they are, without error.
pub fn exact(values: &[f32]) -> Vec<Bounded> {
    values.iter().map(|&value| Bounded::exact(f64::from(value))).collect()
}

/// The values without their bounds.
pub fn values(bounded: &[Bounded]) -> Vec<f64> {
    bounded.iter().map(|b| b.value).collect()
}

/// The largest [`Bounded::ratio`] over a result: at most 1 where every element is within its bound.
pub fn worst_ratio(actual: &[f32], expected: &[Bounded]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "lengths of the result and of the reference");
    actual
        .iter()
        .zip(expected)
        .map(|(&actual, expected)| expected.ratio(actual))
        .fold(0.0, f64::max)
}

/// Panics, naming the worst element, unless every element is within its bound, and unless every bound is finite: one
/// that is not would let any result pass.
pub fn assert_within(name: &str, actual: &[f32], expected: &[Bounded]) {
    let worst = worst_ratio(actual, expected);
    for (k, (&actual, expected)) in actual.iter().zip(expected).enumerate() {
        let Bounded { value, bound } = *expected;
        assert!(
            bound.is_finite(),
            "{name}[{k}]: no bound, f32 may overflow; the reference is {value:e}"
        );
        let ratio = expected.ratio(actual);
        assert!(
            ratio <= 1.0 || ratio < worst,
            "{name}[{k}] is {actual:e}, the reference {value:e}: off by {ratio:.3} times the bound {bound:e}"
        );
    }
}
