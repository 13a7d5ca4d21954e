//! Squared error with a target for each output.

use super::rows::{Element, ElementLoss, OverRows};

/// The squared error, `(y − t)²` for each output y and its target t, with the gradient `2 (y − t)`.
/// The targets are `[rows, outputs]`.
pub type SquaredError<'a> = OverRows<'a, Squared>;

/// The square of an error: see [`SquaredError`](crate::SquaredError).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Squared;

impl ElementLoss for Squared {
    fn of(&self, y: f64, target: f64) -> Element {
        let error = y - target;
        Element { loss: error * error, slope: 2.0 * error }
    }
}
