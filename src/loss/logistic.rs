//! Logistic cross-entropy: outputs that are logits of independent yes-or-no questions.

use super::rows::{OverRows, RowLoss};
use crate::{Error, Isa};
use bptt_kernels::logistic::Logistic;

/// The cross-entropy of the logistic function of each output, in nats. For an output o with the
/// target t in 0 … 1 it is `−t log σ(o) − (1 − t) log(1 − σ(o))`, with the gradient `σ(o) − t`. The
/// targets are `[rows, outputs]`.
///
/// It is computed from the outputs themselves, so it stays exact where σ(o) rounds to 0 or 1. An output
/// of ±∞ counts as the largest f32 of its sign.
///
/// ```
/// use bptt::{LogisticCrossEntropy, Loss, Outputs, Runtime};
///
/// // Which of two keys are down at each of two steps. The first output says so at the first step.
/// let targets = [1.0, 0.0, 0.0, 0.0];
/// let loss = LogisticCrossEntropy::sum(&targets).with_mask(&[true, false]);
/// let mut y = [80.0, 0.0, 3.0, -1.0];
/// let value = loss.gradient(Runtime::best()?, Outputs::new(&mut y, 2))?;
/// assert!((value - 2f64.ln()).abs() < 1e-7);
/// assert_eq!(y[1..], [0.5, 0.0, 0.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub type LogisticCrossEntropy<'a> = OverRows<'a, LogisticRow>;

/// The logistic cross-entropy of a row: see [`LogisticCrossEntropy`](crate::LogisticCrossEntropy).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogisticRow {
    of: Logistic,
}

impl OverRows<'_, LogisticRow> {
    /// Makes targets of 1 count `weight` times as much as those of 0: the loss is
    /// `−weight t log σ(o) − (1 − t) log(1 − σ(o))`, as with `pos_weight` in PyTorch.
    ///
    /// # Errors
    /// [`Error::Value`] if the weight is negative or not finite.
    pub fn with_positive_weight(mut self, weight: f32) -> Result<Self, Error> {
        if !(weight >= 0.0 && weight.is_finite()) {
            let (given, expected) = (weight.to_string(), "0 or more and finite".into());
            return Err(Error::Value { what: "positive weight", given, expected });
        }
        self.row.of.positive_weight = weight;
        Ok(self)
    }
}

impl RowLoss for LogisticRow {
    fn targets(&self, outputs: usize) -> Result<usize, Error> {
        Ok(outputs)
    }

    fn refuses(&self, _place: usize, target: f32) -> Option<&'static str> {
        (!(0.0..=1.0).contains(&target)).then_some("0 to 1")
    }

    fn value(&self, isa: Isa, y: &[f32], targets: &[f32]) -> f64 {
        self.of.loss(isa, y, targets).expect("rows have a target for each output")
    }

    fn gradient(&self, isa: Isa, scale: f64, y: &mut [f32], targets: &[f32]) -> f64 {
        let loss = self.of.gradient(isa, scale as f32, y, targets);
        loss.expect("rows have a target for each output")
    }
}
