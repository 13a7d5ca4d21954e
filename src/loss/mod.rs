//! Losses: a value, and its gradient with respect to the outputs. Knows rows of outputs, and which
//! of them are one sequence; must not know recurrence.
//!
//! The losses themselves stand at the top of the crate. Here are their [`Reduction`], the [metrics],
//! and what a loss of your own can be made of: [`OverRows`] for one that looks at each row alone, and
//! the trait [`Loss`].

mod absolute_error;
mod cross_entropy;
mod ctc;
mod gaussian;
mod huber;
mod last_step;
mod logistic;
pub mod metrics;
mod mixture;
mod outputs;
mod reduction;
mod rows;
mod signal;
mod squared_error;

pub use absolute_error::{Absolute, AbsoluteError};
pub use cross_entropy::SoftmaxCrossEntropy;
pub use ctc::Ctc;
pub use gaussian::{GaussianNll, GaussianRow};
pub use huber::{Huber, HuberRow};
pub use last_step::LastStep;
pub use logistic::{LogisticCrossEntropy, LogisticRow};
pub use mixture::{GaussianMixture, MixtureRow};
pub use outputs::{Outputs, SequenceRows, TargetRows};
pub use reduction::Reduction;
pub use rows::{Element, ElementLoss, OverRows, RowLoss};
pub use signal::ErrorToSignal;
pub use squared_error::{Squared, SquaredError};

use crate::{Error, Runtime};

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
    /// [budget](crate::Training::with_budget), or with [chunks](crate::Training::with_chunked_outputs)
    /// of outputs, refuses the loss then.
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

/// Returns the nearest f32, or the largest one of its sign where that would be infinite. A NaN stays.
fn finite(value: f64) -> f32 {
    value.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}

/// Returns an output in f64, where ±∞ counts as the largest f32 of its sign. A NaN stays.
fn bounded(output: f32) -> f64 {
    output.clamp(f32::MIN, f32::MAX).into()
}
