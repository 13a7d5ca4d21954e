//! Losses: a value, and its gradient with respect to the outputs. Knows rows of outputs; must not
//! know recurrence.

mod cross_entropy;
mod squared_error;

pub use cross_entropy::SoftmaxCrossEntropy;
pub use squared_error::SquaredError;

use crate::{Error, Runtime};

/// A loss: a value, and its gradient with respect to the outputs.
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
    /// Checks that the loss fits outputs of the shape `[rows, outputs]`.
    ///
    /// # Errors
    /// Any [`Error`] that says what does not fit.
    fn check(&self, rows: usize, outputs: usize) -> Result<(), Error>;

    /// Returns the loss of the outputs `y` `[rows, outputs]`. It may overwrite `y`.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check).
    fn value(&self, runtime: Runtime, y: &mut [f32], outputs: usize) -> Result<f64, Error>;

    /// Returns the loss of the outputs `y` `[rows, outputs]`, and overwrites `y` with the gradient
    /// of the loss with respect to the outputs.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check).
    fn gradient(&self, runtime: Runtime, y: &mut [f32], outputs: usize) -> Result<f64, Error>;
}

impl<F: Fn(&mut [f32]) -> f64> Loss for F {
    fn check(&self, _rows: usize, _outputs: usize) -> Result<(), Error> {
        Ok(())
    }

    fn value(&self, _runtime: Runtime, y: &mut [f32], _outputs: usize) -> Result<f64, Error> {
        Ok(self(y))
    }

    fn gradient(&self, _runtime: Runtime, y: &mut [f32], _outputs: usize) -> Result<f64, Error> {
        Ok(self(y))
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
