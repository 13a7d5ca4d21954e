//! Central finite differences: a gradient that knows nothing of the chain rule.

/// A difference quotient and how far it may be from the derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The quotient.
    pub value: f64,
    /// A bound on its error.
    pub error: f64,
}

/// (f(x + step·eₖ) − f(x − step·eₖ)) / 2·step, for each k.
pub fn gradient(mut f: impl FnMut(&[f64]) -> f64, at: &[f64], step: f64) -> Vec<f64> {
    let mut x = at.to_vec();
    (0..at.len()).map(|k| quotient(&mut f, &mut x, k, step)).collect()
}

/// [`gradient`] with an error for each element, where `f` itself is off by at most `f_error`.
///
/// The quotient D(step) is off by `f_error / step` because f is rounded and, as a series in step, by step²/6·f‴ because
/// it is not a limit. The latter is read off a second, wider quotient: D(K·step) − D(step) = (K² − 1)·step²/6·f‴. It is
/// doubled, for the terms of the series that are left out.
pub fn gradient_with_error(
    mut f: impl FnMut(&[f64]) -> f64,
    at: &[f64],
    step: f64,
    f_error: f64,
) -> Vec<Difference> {
    const WIDER: f64 = 64.0;
    let mut x = at.to_vec();
    (0..at.len())
        .map(|k| {
            let value = quotient(&mut f, &mut x, k, step);
            let wider = quotient(&mut f, &mut x, k, WIDER * step);
            let truncation = (wider - value).abs() / (WIDER * WIDER - 1.0);
            Difference { value, error: f_error / step + 2.0 * truncation }
        })
        .collect()
}

fn quotient(f: &mut impl FnMut(&[f64]) -> f64, x: &mut [f64], k: usize, step: f64) -> f64 {
    let centre = x[k];
    let (above, below) = (centre + step, centre - step);
    x[k] = above;
    let f_above = f(x);
    x[k] = below;
    let f_below = f(x);
    x[k] = centre;
    (f_above - f_below) / (above - below) // what was added after rounding, not what was asked for
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_cubic_is_off_by_the_square_of_the_step() {
        let f = |x: &[f64]| x[0].powi(3) + 2.0 * x[0] * x[1];
        let exact = [3.0 * 0.25 + 2.0 * 3.0, 2.0 * 0.5];
        let plain = gradient(f, &[0.5, 3.0], 1e-3);
        let with_error = gradient_with_error(f, &[0.5, 3.0], 1e-3, 1e-15);
        assert!((plain[0] - exact[0] - 1e-6).abs() < 1e-11, "{plain:?}");
        for ((plain, difference), exact) in plain.iter().zip(&with_error).zip(exact) {
            assert_eq!(*plain, difference.value);
            assert!(
                (difference.value - exact).abs() <= difference.error,
                "{difference:?}, {exact}"
            );
            assert!(difference.error < 1e-5, "{difference:?}");
        }
    }
}
