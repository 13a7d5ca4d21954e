//! Softmax cross-entropy with integer targets.

use super::{Loss, Outputs, Reduction, TargetRows};
use crate::error::{check_len, check_optional};
use crate::{Error, Runtime};
use bptt_kernels::softmax::CrossEntropy;

/// The cross-entropy of the softmax of the outputs, in nats. For a row with the outputs o and the
/// target class y it is `L = −log ŷ_y` (equation 10.14), with `ŷ = softmax(o)` and
/// `∂L/∂o = ŷ − 1[y]` (10.18).
///
/// An output of NaN or +∞ in a row that counts makes the loss and that row of the gradient NaN.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy<'a> {
    classes: &'a [u32],
    mask: Option<&'a [bool]>,
    reduction: Reduction,
}

impl<'a> SoftmaxCrossEntropy<'a> {
    /// Makes a loss that is the mean over the rows that count, or 0 if no row counts. `classes`
    /// `[rows]` has the target class of each row, below the number of outputs.
    pub fn mean(classes: &'a [u32]) -> Self {
        Self { classes, mask: None, reduction: Reduction::Mean }
    }

    /// Makes a loss that is the sum over the rows that count: the negative log-likelihood of whole
    /// sequences. `classes` is as in [`mean`](Self::mean).
    pub fn sum(classes: &'a [u32]) -> Self {
        Self { classes, mask: None, reduction: Reduction::Sum }
    }

    /// Makes only those rows count for which `mask` `[rows]` is true. The class of any other row is
    /// not read, and its loss and gradient are 0. The inputs and activations of such a row must
    /// still be finite, since the products of the backward pass multiply them by these zeros.
    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Returns the cross-entropy of outputs with these targets, `size` in a row, or an error if
    /// there are not as many targets, or a class is too large.
    fn checked<'o>(
        &'o self,
        targets: &TargetRows<'o>,
        size: usize,
    ) -> Result<CrossEntropy<'o>, Error> {
        check_len("classes", self.classes.len(), targets.given)?;
        check_optional("mask", self.mask, targets.given)?;
        let TargetRows { order, rows, .. } = targets;
        let rows = rows.clone();
        Ok(match order {
            Some(order) => {
                CrossEntropy::in_order(size, self.classes, self.mask, Some(&order[rows]))?
            }
            None => {
                let mask = self.mask.map(|mask| &mask[rows.clone()]);
                CrossEntropy::new(size, &self.classes[rows], mask)?
            }
        })
    }

    /// Returns the number by which the sum over the rows of a pass is divided.
    fn divisor(&self, targets: &TargetRows<'_>) -> f64 {
        let counted = match (self.reduction, self.mask, targets.order) {
            (Reduction::Sum, ..) => 1,
            (_, None, _) => targets.count_of_pass(),
            (_, Some(mask), None) => mask.iter().filter(|&&counts| counts).count(),
            (_, Some(mask), Some(order)) => order.iter().filter(|&&row| mask[row]).count(),
        };
        counted.max(1) as f64
    }
}

impl Loss for SoftmaxCrossEntropy<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one class, or not one mask value, for each row;
    /// [`Error::Target`] if the class of a row that counts is not below the number of outputs.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.checked(&targets, size).map(|_| ())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut sum } = outputs;
        let (entropy, divisor) = (self.checked(&targets, size)?, self.divisor(&targets));
        entropy.losses(runtime.isa(), y, |loss| sum += loss / divisor)?;
        Ok(sum)
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut sum } = outputs;
        let (entropy, divisor) = (self.checked(&targets, size)?, self.divisor(&targets));
        let scale = (1.0 / divisor) as f32;
        entropy.gradients(runtime.isa(), scale, y, |loss| sum += loss / divisor)?;
        Ok(sum)
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
