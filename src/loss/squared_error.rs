//! Squared error with a target for each output.

use super::{Loss, Reduction};
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

    /// Returns the number by which the sum over the outputs is divided.
    fn divisor(&self) -> f64 {
        match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => self.targets.len().max(1) as f64,
        }
    }
}

impl Loss for SquaredError<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one target for each output.
    fn check(&self, rows: usize, outputs: usize) -> Result<(), Error> {
        check_len("targets", self.targets.len(), rows * outputs)
    }

    fn value(&self, _runtime: Runtime, y: &mut [f32], _outputs: usize) -> Result<f64, Error> {
        check_len("targets", self.targets.len(), y.len())?;
        let squares = y.iter().zip(self.targets).map(|(y, t)| f64::from(y - t).powi(2));
        Ok(squares.sum::<f64>() / self.divisor())
    }

    fn gradient(&self, _runtime: Runtime, y: &mut [f32], _outputs: usize) -> Result<f64, Error> {
        check_len("targets", self.targets.len(), y.len())?;
        let (mut sum, divisor) = (0.0, self.divisor());
        let scale = (2.0 / divisor) as f32;
        for (y, t) in y.iter_mut().zip(self.targets) {
            let error = *y - t;
            sum += f64::from(error).powi(2);
            *y = scale * error;
        }
        Ok(sum / divisor)
    }
}
