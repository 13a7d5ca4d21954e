//! Measures of the distance between an `f32` and the value it stands for.

/// The unit roundoff of `f32` with round to nearest: 2⁻²⁴.
pub const UNIT_ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;

/// γₙ = n·u / (1 − n·u): the relative error that n roundings in `f32` can amount to, infinite once n·u reaches 1.
///
/// A dot product of length n, summed in any order, with or without fused multiply-add, is off by at most
/// γₙ·Σ|a||b| (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, eq. 3.5) where nothing underflows.
pub fn gamma(n: usize) -> f64 {
    let nu = n as f64 * UNIT_ROUNDOFF;
    if nu < 1.0 { nu / (1.0 - nu) } else { f64::INFINITY }
}

/// The distance between consecutive `f32` at `value`: 2⁻²³ of the power of two at or below it, and 2⁻¹⁴⁹ among the
/// subnormal numbers. NaN where `value` is not finite.
pub fn ulp(value: f64) -> f64 {
    if !value.is_finite() {
        return f64::NAN;
    }
    let exponent = ((value.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    2f64.powi(exponent - 23)
}

/// How many ULP of `f32` lie between `actual` and `expected`, as a fraction: a correctly rounded result is within 0.5.
///
/// Zero where both are NaN, or where `actual` is what `expected` overflows to; infinite where only one of the two is
/// finite.
pub fn ulp_distance(actual: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if (actual.is_nan() && expected.is_nan()) || (rounded.is_infinite() && actual == rounded) {
        0.0
    } else if actual.is_finite() && expected.is_finite() {
        (f64::from(actual) - expected).abs() / ulp(expected)
    } else {
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulp_is_the_gap_to_the_next_float() {
        for value in [1.0f32, 1.5, 2.0, 3.0e38, 1.0e-38, f32::MIN_POSITIVE, 1.0e-42, 0.0] {
            let gap = f64::from(value.next_up()) - f64::from(value);
            assert_eq!(ulp(f64::from(value)), gap, "{value:e}");
            assert_eq!(ulp_distance(value.next_up(), f64::from(value)), 1.0, "{value:e}");
        }
    }

    #[test]
    fn what_is_not_finite_is_near_only_to_itself() {
        assert_eq!(ulp_distance(f32::NAN, f64::NAN), 0.0);
        assert_eq!(ulp_distance(f32::INFINITY, 1e39), 0.0);
        assert_eq!(ulp_distance(f32::INFINITY, f64::INFINITY), 0.0);
        assert_eq!(ulp_distance(f32::NEG_INFINITY, 1e39), f64::INFINITY);
        assert_eq!(ulp_distance(f32::NAN, 0.0), f64::INFINITY);
        assert_eq!(ulp_distance(0.0, f64::NAN), f64::INFINITY);
        assert_eq!(ulp_distance(0.0, f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn gamma_grows_slightly_faster_than_n() {
        assert_eq!(gamma(0), 0.0);
        assert!(gamma(1) > UNIT_ROUNDOFF && gamma(1) < 1.001 * UNIT_ROUNDOFF);
        assert_eq!(gamma(1 << 24), f64::INFINITY);
    }
}
