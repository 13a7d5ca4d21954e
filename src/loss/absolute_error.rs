//! Absolute error with a target for each output.

use super::rows::{Element, ElementLoss, OverRows};

/// The absolute error, `|y − t|` for each output y and its target t. The gradient is the sign of
/// `y − t`, and 0 where they are the same. The targets are `[rows, outputs]`.
pub type AbsoluteError<'a> = OverRows<'a, Absolute>;

/// The absolute value of an error: see [`AbsoluteError`](crate::AbsoluteError).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absolute;

impl ElementLoss for Absolute {
    fn of(&self, y: f64, target: f64) -> Element {
        let error = y - target;
        let slope = if error == 0.0 { 0.0 } else { error.signum() };
        Element { loss: error.abs(), slope }
    }
}
