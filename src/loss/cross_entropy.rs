//! Softmax cross-entropy with integer targets.

use super::Loss;
use super::outputs::{Outputs, TargetRows};
use super::reduction::{Counting, Divisor, Reduction};
use crate::error::check_len;
use crate::{Error, Runtime};
use bptt_kernels::softmax::CrossEntropy;

/// The cross-entropy of the softmax of the outputs, in nats. For a row with the outputs o and the
/// target class y it is `L = −log ŷ_y` (equation 10.14), with `ŷ = softmax(o)` and
/// `∂L/∂o = ŷ − 1[y]` (10.18).
///
/// With a share ε of [label smoothing](Self::with_label_smoothing) and
/// [weights](Self::with_class_weights) w of the K classes it is `L = Σₖ −tₖ wₖ log ŷₖ` with
/// `t = (1 − ε) 1[y] + ε / K`. A mean divides by the sum of the weights of the target classes, w_y, of
/// the rows that count, as in PyTorch; without weights this is the number of these rows.
///
/// An output of NaN or +∞ in a row that counts makes the loss and that row of the gradient NaN. An
/// output of −∞ has the probability 0: the loss is +∞ where that is the target.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy<'a> {
    classes: &'a [u32],
    counting: Counting<'a>,
    smoothing: f32,
    weights: Option<&'a [f32]>,
}

impl<'a> SoftmaxCrossEntropy<'a> {
    /// Makes a loss that is the mean over the rows that count, or 0 if no row counts. `classes`
    /// `[rows]` has the target class of each row, below the number of outputs.
    pub fn mean(classes: &'a [u32]) -> Self {
        Self::new(classes, Reduction::Mean)
    }

    /// Makes a loss that is the sum over the rows that count: the negative log-likelihood of whole
    /// sequences. `classes` is as in [`mean`](Self::mean).
    pub fn sum(classes: &'a [u32]) -> Self {
        Self::new(classes, Reduction::Sum)
    }

    /// Makes a loss that is the sum over the rows that count, divided by the number of sequences: the
    /// mean negative log-likelihood of a sequence. `classes` is as in [`mean`](Self::mean).
    pub fn mean_over_sequences(classes: &'a [u32]) -> Self {
        Self::new(classes, Reduction::MeanOverSequences)
    }

    fn new(classes: &'a [u32], reduction: Reduction) -> Self {
        Self { classes, counting: Counting::new(reduction), smoothing: 0.0, weights: None }
    }

    /// Makes only those rows count for which `mask` `[rows]` is true. The class of any other row is
    /// not read, and its loss and gradient are 0. The inputs and activations of such a row must
    /// still be finite, since the products of the backward pass multiply them by these zeros.
    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { counting: self.counting.with_mask(mask), ..self }
    }

    /// Spreads a share `smoothing` of each target evenly over all classes (Szegedy et al. 2016), as
    /// `label_smoothing` does in PyTorch.
    ///
    /// # Errors
    /// [`Error::Value`] if the share is not from 0 to 1.
    pub fn with_label_smoothing(self, smoothing: f32) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&smoothing) {
            let (given, expected) = (smoothing.to_string(), "0 to 1".into());
            return Err(Error::Value { what: "label smoothing", given, expected });
        }
        Ok(Self { smoothing, ..self })
    }

    /// Multiplies the part of each class in a loss by its weight, as `weight` does in PyTorch.
    /// `weights` has one for each output. A mean then divides by the sum of the weights of the target
    /// classes; it is 0 if that sum is 0.
    ///
    /// ```
    /// use bptt::{Loss, Outputs, Runtime, SoftmaxCrossEntropy};
    ///
    /// let (classes, weights) = ([0, 1], [3.0, 1.0]);
    /// let loss = SoftmaxCrossEntropy::mean(&classes).with_class_weights(&weights)?;
    /// let mut y = [0.0, 0.0, 1.0, 1.0];
    /// let value = loss.gradient(Runtime::best()?, Outputs::new(&mut y, 2))?;
    /// assert!((value - 2f64.ln()).abs() < 1e-12);
    /// assert_eq!(y, [-0.375, 0.375, 0.125, -0.125]);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if a weight is negative or not finite.
    pub fn with_class_weights(self, weights: &'a [f32]) -> Result<Self, Error> {
        let wrong = |weight: &f32| !(*weight >= 0.0 && weight.is_finite());
        if let Some(class) = weights.iter().position(wrong) {
            let given = format!("{} of class {class}", weights[class]);
            let expected = "0 or more and finite".into();
            return Err(Error::Value { what: "class weight", given, expected });
        }
        Ok(Self { weights: Some(weights), ..self })
    }

    /// Returns the cross-entropy of outputs with these targets, `size` in a row, or an error if
    /// there are not as many targets, or a class is too large.
    fn checked<'o>(
        &'o self,
        targets: &'o TargetRows<'_>,
        size: usize,
    ) -> Result<CrossEntropy<'o>, Error> {
        check_len("classes", self.classes.len(), targets.given())?;
        self.counting.check(targets)?;
        if let Some(weights) = self.weights {
            check_len("class weights", weights.len(), size)?;
        }
        let (rows, mask) = (targets.rows(), self.counting.mask);
        let entropy = match targets.order() {
            Some(order) => CrossEntropy::in_order(size, self.classes, mask, Some(&order[rows]))?,
            None => {
                let mask = mask.map(|mask| &mask[rows.clone()]);
                CrossEntropy::new(size, &self.classes[rows], mask)?
            }
        };
        let entropy = entropy.with_smoothing(self.smoothing);
        Ok(match self.weights {
            Some(weights) => entropy.with_weights(weights)?,
            None => entropy,
        })
    }

    /// Returns the number by which the sum over the rows of a pass is divided.
    fn divisor(&self, targets: &TargetRows<'_>, size: usize) -> Result<Divisor, Error> {
        let Some(weights) = self.weights else {
            return Ok(self.counting.divisor(targets, 1));
        };
        if let (Reduction::Mean, true) =
            (self.counting.reduction, targets.count() < targets.count_of_pass())
        {
            // The weights of all rows are added up, also of those that are in other parts.
            self.checked(&targets.clone().within(0..targets.count_of_pass()), size)?;
        }
        let of = |row: usize| f64::from(weights[self.classes[row] as usize]);
        Ok(self.counting.weighted_divisor(targets, of))
    }
}

impl Loss for SoftmaxCrossEntropy<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one class, or not one mask value, for each row, or not one
    /// weight for each output; [`Error::Target`] if the class of a row that counts is not below the
    /// number of outputs.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.checked(&targets, size).map(|_| ())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut sum } = outputs;
        let (entropy, divisor) = (self.checked(&targets, size)?, self.divisor(&targets, size)?);
        entropy.losses(runtime.isa(), y, |loss| sum += divisor.divide(loss))?;
        Ok(sum)
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut sum } = outputs;
        let (entropy, divisor) = (self.checked(&targets, size)?, self.divisor(&targets, size)?);
        entropy.gradients(runtime.isa(), divisor.scale() as f32, y, |loss| {
            sum += divisor.divide(loss)
        })?;
        Ok(sum)
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
