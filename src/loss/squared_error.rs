//! Squared error with a target for each output.

use super::{Loss, Outputs, Reduction, TargetRows};
use crate::error::check_len;
use crate::{Error, Runtime};

/// The squared error, `(y − t)²` for each output y and its target t. The gradient of an output is
/// `2 (y − t)`, divided by the number of all outputs if the loss is a mean.
#[derive(Clone, Copy, Debug)]
pub struct SquaredError<'a> {
    targets: &'a [f32],
    reduction: Reduction,
}

impl<'a> SquaredError<'a> {
    /// Makes a loss that is the mean over all outputs, with `targets` `[rows, outputs]`.
    pub fn mean(targets: &'a [f32]) -> Self {
        Self { targets, reduction: Reduction::Mean }
    }

    /// Makes a loss that is the sum over all outputs, with `targets` `[rows, outputs]`.
    pub fn sum(targets: &'a [f32]) -> Self {
        Self { targets, reduction: Reduction::Sum }
    }

    /// Returns the number by which the sum over the outputs of a pass is divided.
    fn divisor(&self, outputs: &Outputs<'_>) -> f64 {
        match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => (outputs.targets.count_of_pass() * outputs.size).max(1) as f64,
        }
    }

    /// Calls `of` with each output and its target, from the last row to the first.
    fn each(&self, outputs: Outputs<'_>, mut of: impl FnMut(&mut f32, f32)) -> Result<(), Error> {
        let Outputs { y, size, targets, .. } = outputs;
        check_len("y", y.len(), targets.count() * size)?;
        self.check(targets.clone(), size)?;
        if size == 0 {
            return Ok(());
        }
        for (row, y) in y.chunks_exact_mut(size).enumerate().rev() {
            let targets = &self.targets[targets.target(row) * size..][..size];
            y.iter_mut().zip(targets).for_each(|(y, &t)| of(y, t));
        }
        Ok(())
    }
}

impl Loss for SquaredError<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one target for each output.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        check_len("targets", self.targets.len(), targets.given * size)
    }

    fn value(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let (mut sum, divisor) = (outputs.loss_so_far, self.divisor(&outputs));
        self.each(outputs, |y, t| sum += f64::from(*y - t).powi(2) / divisor)?;
        Ok(sum)
    }

    fn gradient(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let (mut sum, divisor) = (outputs.loss_so_far, self.divisor(&outputs));
        let scale = (2.0 / divisor) as f32;
        self.each(outputs, |y, t| {
            let error = *y - t;
            sum += f64::from(error).powi(2) / divisor;
            *y = scale * error;
        })?;
        Ok(sum)
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
