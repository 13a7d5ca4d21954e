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

    /// Returns the cross-entropy of outputs with these targets, `size` in a row.
    fn entropy<'o>(
        &'o self,
        targets: TargetRows<'o>,
        size: usize,
    ) -> Result<CrossEntropy<'o>, Error> {
        Ok(CrossEntropy::in_order(size, self.classes, self.mask, targets.order)?)
    }

    /// Returns the number by which the sum over the rows is divided.
    fn divisor(&self, entropy: &CrossEntropy<'_>) -> f64 {
        match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => entropy.counted().max(1) as f64,
        }
    }
}

impl Loss for SoftmaxCrossEntropy<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one class, or not one mask value, for each row;
    /// [`Error::Target`] if the class of a row that counts is not below the number of outputs.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        check_len("classes", self.classes.len(), targets.given)?;
        check_optional("mask", self.mask, targets.given)?;
        self.entropy(targets, size).map(|_| ())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let entropy = self.entropy(outputs.targets, outputs.size)?;
        Ok(entropy.loss(runtime.isa(), outputs.y)? / self.divisor(&entropy))
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let entropy = self.entropy(outputs.targets, outputs.size)?;
        let divisor = self.divisor(&entropy);
        Ok(entropy.gradient(runtime.isa(), (1.0 / divisor) as f32, outputs.y)? / divisor)
    }
}
