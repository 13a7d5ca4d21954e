//! What all losses share that compare a row of outputs with a row of targets: the targets, which rows
//! count, how they become one value and in which order they are added up. Must not know what is
//! compared.

use super::outputs::{Outputs, TargetRows};
use super::reduction::{Counting, Reduction};
use super::{Loss, bounded, finite};
use crate::error::{check_len, product};
use crate::{Error, Isa, Runtime};
use std::fmt::Debug;

/// The loss of one row of outputs. [`OverRows`] makes a [`Loss`] of it.
pub trait RowLoss: Debug {
    /// Returns the number of targets in a row that belongs to `outputs` outputs.
    ///
    /// # Errors
    /// [`Error::Value`] if a row cannot have as many outputs.
    fn targets(&self, outputs: usize) -> Result<usize, Error>;

    /// Returns the number of elements in a row of `targets` targets, for a mean over the elements. By
    /// default each target is one.
    fn elements(&self, targets: usize) -> usize {
        targets
    }

    /// Returns what is expected of the target at `place` of its row, in words, if `target` is
    /// something else. By default a target is finite.
    fn refuses(&self, _place: usize, target: f32) -> Option<&'static str> {
        (!target.is_finite()).then_some("finite")
    }

    /// Returns the sum of the losses of a row.
    fn value(&self, isa: Isa, y: &[f32], targets: &[f32]) -> f64;

    /// Returns the sum of the losses of a row, and overwrites its outputs with the gradient of
    /// `scale` times this sum.
    fn gradient(&self, isa: Isa, scale: f64, y: &mut [f32], targets: &[f32]) -> f64;
}

/// The loss of one output and its target. It is a [`RowLoss`], with a target for each output. An output
/// of ±∞ counts as the largest f32 of its sign.
pub trait ElementLoss: Debug {
    /// Returns the loss of the output `y` and its derivative with respect to `y`.
    fn of(&self, y: f64, target: f64) -> Element;
}

/// A loss of one output, and its derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// The loss.
    pub loss: f64,
    /// The derivative of the loss with respect to the output.
    pub slope: f64,
}

impl<E: ElementLoss> RowLoss for E {
    fn targets(&self, outputs: usize) -> Result<usize, Error> {
        Ok(outputs)
    }

    fn value(&self, _isa: Isa, y: &[f32], targets: &[f32]) -> f64 {
        let pairs = y.iter().zip(targets);
        pairs.map(|(&y, &target)| self.of(bounded(y), target.into()).loss).sum()
    }

    fn gradient(&self, _isa: Isa, scale: f64, y: &mut [f32], targets: &[f32]) -> f64 {
        let scale = scale as f32;
        let pairs = y.iter_mut().zip(targets);
        let each = pairs.map(|(y, &target)| {
            let Element { loss, slope } = self.of(bounded(*y), target.into());
            *y = scale * finite(slope);
            loss
        });
        each.sum()
    }
}

/// A loss that is a sum, or a mean, over rows: `row` says what the loss of a row is.
///
/// It is what the losses with targets in f32 have in common, such as
/// [`SquaredError`](crate::SquaredError), and makes a [`Loss`] of a [`RowLoss`] or an [`ElementLoss`]
/// of your own:
///
/// ```
/// use bptt::loss::{Element, ElementLoss, OverRows};
/// use bptt::{Accumulate, Dense, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// /// log cosh(y − t)
/// #[derive(Clone, Copy, Debug, Default)]
/// struct LogCosh;
///
/// impl ElementLoss for LogCosh {
///     fn of(&self, y: f64, target: f64) -> Element {
///         let error = y - target;
///         Element { loss: error.cosh().ln(), slope: error.tanh() }
///     }
/// }
///
/// let network = Network::new(Dense::new(2, 1)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(3, 1))?;
/// let targets = [0.5, 0.25, 0.0];
/// let loss = OverRows::<LogCosh>::mean(&targets).with_mask(&[true, true, false]);
/// assert!(model.gradients(&mut workspace, &[0.5; 6], &loss, Accumulate::No)? > 0.0);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OverRows<'a, R> {
    pub(super) row: R,
    targets: &'a [f32],
    counting: Counting<'a>,
}

impl<'a, R: RowLoss + Default> OverRows<'a, R> {
    /// Makes a loss that is the mean over all elements of the rows that count, or 0 if no row counts.
    /// `targets` has a row for each row of the outputs.
    pub fn mean(targets: &'a [f32]) -> Self {
        Self::new(R::default(), targets, Reduction::Mean)
    }

    /// Makes a loss that is the sum over all elements, with `targets` as in [`mean`](Self::mean).
    pub fn sum(targets: &'a [f32]) -> Self {
        Self::new(R::default(), targets, Reduction::Sum)
    }

    /// Makes a loss that is the sum over all elements divided by the number of sequences, with
    /// `targets` as in [`mean`](Self::mean).
    pub fn mean_over_sequences(targets: &'a [f32]) -> Self {
        Self::new(R::default(), targets, Reduction::MeanOverSequences)
    }
}

impl<'a, R: RowLoss> OverRows<'a, R> {
    /// Makes a loss of the losses of rows `row`, with `targets` that have a row for each row of the
    /// outputs.
    pub fn new(row: R, targets: &'a [f32], reduction: Reduction) -> Self {
        Self { row, targets, counting: Counting::new(reduction) }
    }

    /// Makes only those rows count for which `mask` `[rows]` is true. The targets of any other row are
    /// not read, and its loss and gradient are 0. The inputs and activations of such a row must still
    /// be finite, since the products of the backward pass multiply them by these zeros.
    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { counting: self.counting.with_mask(mask), ..self }
    }

    /// Returns the targets of row `row` of the targets.
    fn of_row(&self, row: usize, width: usize) -> &'a [f32] {
        &self.targets[row * width..][..width]
    }

    /// Returns the number of targets in a row, or an error if they do not fit.
    fn checked(&self, targets: &TargetRows<'_>, size: usize) -> Result<usize, Error> {
        let width = self.row.targets(size)?;
        check_len("targets", self.targets.len(), product("targets", &[targets.given(), width])?)?;
        self.counting.check(targets)?;
        let rows = (0..targets.count()).map(|row| targets.target(row));
        for row in rows.filter(|&row| self.counting.counts(row)) {
            for (place, &target) in self.of_row(row, width).iter().enumerate() {
                if let Some(expected) = self.row.refuses(place, target) {
                    let given = format!("{target} in row {row}");
                    return Err(Error::Value { what: "target", given, expected: expected.into() });
                }
            }
        }
        Ok(width)
    }

    /// Calls `of` with the scale of the losses and the outputs and targets of each row that counts,
    /// from the last row to the first, and `left_out` with the outputs of the others. Returns the
    /// loss.
    fn each(
        &self,
        outputs: Outputs<'_>,
        of: impl Fn(f64, &mut [f32], &[f32]) -> f64,
        left_out: impl Fn(&mut [f32]),
    ) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut sum } = outputs;
        check_len("y", y.len(), product("y", &[targets.count(), size])?)?;
        let width = self.checked(&targets, size)?;
        let divisor = self.counting.divisor(&targets, self.row.elements(width));
        if size == 0 {
            return Ok(sum);
        }
        for (row, y) in y.chunks_exact_mut(size).enumerate().rev() {
            let row = targets.target(row);
            if self.counting.counts(row) {
                sum += divisor.divide(of(divisor.scale(), y, self.of_row(row, width)));
            } else {
                left_out(y);
            }
        }
        Ok(sum)
    }
}

impl<R: RowLoss> Loss for OverRows<'_, R> {
    /// # Errors
    /// [`Error::Length`] if there are not as many targets, or not one mask value, for each row;
    /// [`Error::Value`] if a target of a row that counts is not finite, or the loss allows no such
    /// target or number of outputs.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.checked(&targets, size).map(|_| ())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let isa = runtime.isa();
        self.each(outputs, |_, y, targets| self.row.value(isa, y, targets), |_| ())
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let isa = runtime.isa();
        let of = |scale, y: &mut [f32], targets: &[f32]| self.row.gradient(isa, scale, y, targets);
        self.each(outputs, of, |y| y.fill(0.0))
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
