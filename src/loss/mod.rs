//! Losses: a value, and its gradient with respect to the outputs. Knows rows of outputs; must not
//! know recurrence.

mod cross_entropy;
mod squared_error;

pub use cross_entropy::SoftmaxCrossEntropy;
pub use squared_error::SquaredError;

use crate::sequence::Schedule;
use crate::{Error, Runtime};
use std::ops::Range;

/// Which rows of a loss's targets are read, and in which order. Targets have the rows of the
/// caller's arrays, padding included; the padding is not read.
#[derive(Clone, Debug)]
pub struct TargetRows<'a> {
    given: usize,
    order: Option<&'a [usize]>,
    rows: Range<usize>,
}

impl<'a> TargetRows<'a> {
    /// All of `rows` rows, in order.
    pub fn all(rows: usize) -> Self {
        Self { given: rows, order: None, rows: 0..rows }
    }

    /// The rows of the schedule's passes.
    pub(crate) fn of(schedule: &'a Schedule) -> Self {
        let (given, order) = (schedule.given_rows(), schedule.given());
        Self { given, order, rows: 0..schedule.rows() }
    }

    /// Those of the rows `rows` of a pass.
    pub(crate) fn within(self, rows: Range<usize>) -> Self {
        Self { rows, ..self }
    }

    /// Returns the number of rows that the targets have, padding included.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Returns the number of rows that are read, one for each row of [`Outputs::y`].
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the row of the whole pass that is the first of [`Outputs::y`].
    pub fn first(&self) -> usize {
        self.rows.start
    }

    /// Returns the number of rows of the whole pass. This is more than [`count`](Self::count) if
    /// the outputs come in several parts.
    pub fn count_of_pass(&self) -> usize {
        self.order.map_or(self.given, <[usize]>::len)
    }

    /// Returns the row of targets for row `row` of [`Outputs::y`].
    pub fn target(&self, row: usize) -> usize {
        let row = self.rows.start + row;
        self.order.map_or(row, |order| order[row])
    }
}

/// Outputs of a network, with a row for each row of the schedule, and none for padding. A workspace
/// with a [budget](crate::Training::with_budget) does not keep the outputs of all steps: the loss is
/// then given them in several parts, the last rows first.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The outputs, `[rows, size]`.
    pub y: &'a mut [f32],
    /// The number of outputs in a row.
    pub size: usize,
    /// The rows of targets for these rows.
    pub targets: TargetRows<'a>,
    /// The loss of the parts that came before this one, which is 0 for the first part.
    pub loss_so_far: f64,
}

impl<'a> Outputs<'a> {
    /// Takes outputs `y` `[rows, size]` whose rows are in the order of the targets.
    pub fn new(y: &'a mut [f32], size: usize) -> Self {
        let targets = TargetRows::all(y.len().checked_div(size).unwrap_or(0));
        Self { y, size, targets, loss_so_far: 0.0 }
    }
}

/// A loss: a value, and its gradient with respect to the outputs.
///
/// The losses of this crate add up the losses of the rows from the last row to the first, in f64.
///
/// For a loss of your own, implement this trait, or write a function that takes the outputs,
/// returns the value and overwrites the outputs with their gradient:
///
/// ```
/// use bptt::{Accumulate, Dense, Error, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Dense::new(2, 1)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(3, 1))?;
/// // ½ Σ y², whose gradient is y.
/// let half_squares = |y: &mut [f32]| 0.5 * y.iter().map(|y| f64::from(y * y)).sum::<f64>();
/// let loss = model.gradients(&mut workspace, &[0.5; 6], &half_squares, Accumulate::No)?;
/// assert!(loss >= 0.0);
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Loss {
    /// Checks that the loss has these rows of targets, for `size` outputs in a row.
    ///
    /// # Errors
    /// Any [`Error`] that says what does not fit.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error>;

    /// Returns the loss so far plus that of these outputs, which it may overwrite.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check).
    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error>;

    /// Returns the loss so far plus that of these outputs, and overwrites the outputs with the
    /// gradient of the loss with respect to them.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check).
    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error>;

    /// Returns whether the loss of a pass is a sum over its rows, each of which depends on no other,
    /// so that the outputs may come in several parts. By default it is not; a workspace with a
    /// [budget](crate::Training::with_budget) refuses the loss then.
    fn is_sum_over_rows(&self) -> bool {
        false
    }
}

impl<F: Fn(&mut [f32]) -> f64> Loss for F {
    fn check(&self, _targets: TargetRows<'_>, _size: usize) -> Result<(), Error> {
        Ok(())
    }

    fn value(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        Ok(outputs.loss_so_far + self(outputs.y))
    }

    fn gradient(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        Ok(outputs.loss_so_far + self(outputs.y))
    }
}

/// How the losses of single rows or outputs are combined into one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
}
