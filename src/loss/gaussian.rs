//! The negative log-likelihood of a Gaussian whose mean and variance are outputs.

use super::rows::{OverRows, RowLoss};
use super::{bounded, finite};
use crate::{Error, Isa};

/// The negative log-likelihood of each target under a Gaussian of its own, in nats. With D targets in a
/// row, the first D outputs are the means μ and the next D the logarithms of the variances,
/// `s = log σ²`: `½ (log 2π + s + (t − μ)² e^−s)`. The gradients are `(μ − t) e^−s` and
/// `½ (1 − (t − μ)² e^−s)`. The targets are `[rows, outputs / 2]`.
///
/// No variance counts as less than 10⁻⁶, unless [`with_least_variance`](Self::with_least_variance)
/// says otherwise: s is raised to the logarithm of that, and so the loss has a lower bound. The
/// gradient is that at the bound, so that an output below it can come back.
///
/// ```
/// use bptt::{GaussianNll, Loss, Outputs, Runtime};
///
/// // A mean of 1 and a variance of e⁰ for a target of 3.
/// let loss = GaussianNll::sum(&[3.0]);
/// let mut y = [1.0, 0.0];
/// let value = loss.gradient(Runtime::best()?, Outputs::new(&mut y, 2))?;
/// assert!((value - 0.5 * (std::f64::consts::TAU.ln() + 4.0)).abs() < 1e-12);
/// assert_eq!(y, [-2.0, -1.5]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub type GaussianNll<'a> = OverRows<'a, GaussianRow>;

/// The negative log-likelihood of a row: see [`GaussianNll`](crate::GaussianNll).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianRow {
    /// The logarithm of the least variance.
    least: f64,
}

impl Default for GaussianRow {
    fn default() -> Self {
        Self { least: 1e-6f64.ln() }
    }
}

impl OverRows<'_, GaussianRow> {
    /// Sets the least variance.
    ///
    /// # Errors
    /// [`Error::Value`] if it is not above 0 and finite.
    pub fn with_least_variance(mut self, least: f32) -> Result<Self, Error> {
        if !(least > 0.0 && least.is_finite()) {
            let (given, expected) = (least.to_string(), "above 0 and finite".into());
            return Err(Error::Value { what: "least variance", given, expected });
        }
        self.row.least = f64::from(least).ln();
        Ok(self)
    }
}

/// The loss of one target, and its derivatives with respect to the mean and the log-variance.
struct Term {
    loss: f64,
    by_mean: f64,
    by_log_variance: f64,
}

impl GaussianRow {
    fn term(&self, mean: f32, log_variance: f32, target: f32) -> Term {
        let given = bounded(log_variance);
        // Unlike `max`, this keeps a NaN.
        let log_variance = if given < self.least { self.least } else { given };
        let error = bounded(mean) - f64::from(target);
        let precision = (-log_variance).exp();
        let squares = error * error * precision;
        Term {
            loss: 0.5 * (std::f64::consts::TAU.ln() + log_variance + squares),
            by_mean: error * precision,
            by_log_variance: 0.5 * (1.0 - squares),
        }
    }
}

impl RowLoss for GaussianRow {
    fn targets(&self, outputs: usize) -> Result<usize, Error> {
        if outputs.is_multiple_of(2) {
            return Ok(outputs / 2);
        }
        let (given, expected) = (outputs.to_string(), "even: means and log-variances".into());
        Err(Error::Value { what: "outputs", given, expected })
    }

    fn value(&self, _isa: Isa, y: &[f32], targets: &[f32]) -> f64 {
        let (means, log_variances) = y.split_at(targets.len());
        let all = means.iter().zip(log_variances).zip(targets);
        all.map(|((&mean, &s), &target)| self.term(mean, s, target).loss).sum()
    }

    fn gradient(&self, _isa: Isa, scale: f64, y: &mut [f32], targets: &[f32]) -> f64 {
        let (means, log_variances) = y.split_at_mut(targets.len());
        let all = means.iter_mut().zip(log_variances).zip(targets);
        let each = all.map(|((mean, s), &target)| {
            let term = self.term(*mean, *s, target);
            *mean = finite(scale * term.by_mean);
            *s = finite(scale * term.by_log_variance);
            term.loss
        });
        each.sum()
    }
}
