//! What a cell computes with: [`Number`], and its two plain instances, `f64` and `f32`.
//!
//! The third instance, [`crate::Bounded`], carries an error bound. Every sum over an index goes through
//! [`Number::dot`], because its error bound depends on the number of terms.

use std::fmt::Debug;
use std::ops::{Add, Mul, Sub};

/// A scalar in which the equations of a cell can be evaluated.
pub trait Number:
    Copy + Debug + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// `value`, taken to be representable: an input, or a constant of an equation.
    fn exact(value: f64) -> Self;

    /// `Σ a·b` over the pairs, in no promised order. A term without a factor is paired with one.
    fn dot(pairs: impl IntoIterator<Item = (Self, Self)>) -> Self;

    /// The logistic function σ(a) = 1 / (1 + e⁻ᵃ).
    fn logistic(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// max(0, a).
    fn relu(self) -> Self;

    /// a + ½ where a ≥ 0, and σ(a) elsewhere.
    fn positive(self) -> Self;

    /// eᵃ.
    fn exp(self) -> Self;

    /// ln(1 + eᵃ).
    fn softplus(self) -> Self;

    /// σ(a) of the difference a of two logarithms, which a pass may compute as a share, p / (p + q).
    fn share(self) -> Self;

    /// √(1 − e²ᵃ) of a ≤ 0.
    fn complement(self) -> Self;

    /// The derivative of [`positive`](Self::positive), from the function's value y: 1 where y ≥ ½, else y(1 − y).
    fn positive_slope(self) -> Self;

    /// The derivative of [`softplus`](Self::softplus), from the function's value y: 1 − e⁻ʸ.
    fn softplus_slope(self) -> Self;

    /// The derivative of [`share`](Self::share), from the function's value y: y(1 − y).
    fn share_slope(self) -> Self;

    /// The derivative of [`complement`](Self::complement), from the function's value y: y − 1/y.
    fn complement_slope(self) -> Self;

    /// dσ/da, from the function's value y = σ(a): y(1 − y).
    fn logistic_slope(self) -> Self;

    /// d tanh/da, from the function's value y = tanh(a): 1 − y².
    fn tanh_slope(self) -> Self;

    /// d max(0, a)/da, from the function's value y: 1 where y > 0, and 0 elsewhere, a = 0 included.
    fn relu_slope(self) -> Self;

    /// `value` rounded to `f32`, as a pass has a constant that is not representable.
    fn nearest(value: f64) -> Self;

    /// The value, but at least `low` and at most `high`.
    fn clamped(self, low: f64, high: f64) -> Self;

    /// The derivative of [`Number::clamped`], from its value: 1 between the limits, and 0 at them.
    fn inside(self, low: f64, high: f64) -> Self;

    /// 1 / √a of a sum that cannot be below `least`, which is positive.
    fn inverse_root(self, least: f64) -> Self;

    /// Zero.
    fn zero() -> Self {
        Self::exact(0.0)
    }

    /// One.
    fn one() -> Self {
        Self::exact(1.0)
    }
}

macro_rules! plain_number {
    ($float:ty) => {
        impl Number for $float {
            fn exact(value: f64) -> Self {
                value as $float
            }

            fn dot(pairs: impl IntoIterator<Item = (Self, Self)>) -> Self {
                pairs.into_iter().fold(0.0, |sum, (a, b)| sum + a * b)
            }

            fn logistic(self) -> Self {
                1.0 / (1.0 + (-self).exp())
            }

            fn tanh(self) -> Self {
                <$float>::tanh(self)
            }

            fn relu(self) -> Self {
                if self > 0.0 { self } else { 0.0 }
            }

            fn positive(self) -> Self {
                if self < 0.0 { self.logistic() } else { self + 0.5 }
            }

            fn exp(self) -> Self {
                <$float>::exp(self)
            }

            fn softplus(self) -> Self {
                self.max(0.0) + (-self.abs()).exp().ln_1p()
            }

            fn share(self) -> Self {
                self.logistic()
            }

            fn complement(self) -> Self {
                (-(self + self).exp_m1()).sqrt()
            }

            fn positive_slope(self) -> Self {
                if self < 0.5 { self.logistic_slope() } else { 1.0 }
            }

            fn softplus_slope(self) -> Self {
                -(-self).exp_m1()
            }

            fn share_slope(self) -> Self {
                self.logistic_slope()
            }

            fn complement_slope(self) -> Self {
                self - 1.0 / self
            }

            fn logistic_slope(self) -> Self {
                self * (1.0 - self)
            }

            fn tanh_slope(self) -> Self {
                1.0 - self * self
            }

            fn relu_slope(self) -> Self {
                if self > 0.0 { 1.0 } else { 0.0 }
            }

            fn nearest(value: f64) -> Self {
                value as $float
            }

            fn clamped(self, low: f64, high: f64) -> Self {
                self.clamp(low as $float, high as $float)
            }

            fn inside(self, low: f64, high: f64) -> Self {
                if self > low as $float && self < high as $float { 1.0 } else { 0.0 }
            }

            fn inverse_root(self, _least: f64) -> Self {
                1.0 / self.sqrt()
            }
        }
    };
}

plain_number!(f64);
plain_number!(f32);
