//! Huber's loss with a target for each output.

use super::rows::{Element, ElementLoss, OverRows};
use crate::Error;

/// Huber's loss (1964) with a target for each output, which grows as a square near 0 and then
/// linearly, so that single large errors count for less. With e = y − t it is `½ e²` where |e| ≤ δ, and
/// `δ (|e| − ½ δ)` elsewhere; the gradient is e, limited to −δ … δ. δ is 1 unless
/// [`with_delta`](Self::with_delta) sets it. The targets are `[rows, outputs]`.
///
/// ```
/// use bptt::{Huber, Loss, Outputs, Runtime};
///
/// let targets = [0.0, 0.0];
/// let loss = Huber::sum(&targets).with_delta(0.5)?;
/// let mut y = [0.25, -4.0];
/// assert_eq!(loss.gradient(Runtime::best()?, Outputs::new(&mut y, 1))?, 0.03125 + 0.5 * 3.75);
/// assert_eq!(y, [0.25, -0.5]);
/// # Ok::<(), bptt::Error>(())
/// ```
pub type Huber<'a> = OverRows<'a, HuberRow>;

/// Huber's loss of an error: see [`Huber`](crate::Huber).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HuberRow {
    delta: f64,
}

impl Default for HuberRow {
    fn default() -> Self {
        Self { delta: 1.0 }
    }
}

impl OverRows<'_, HuberRow> {
    /// Sets δ, the largest error whose loss is a square.
    ///
    /// # Errors
    /// [`Error::Value`] if δ is not above 0 and finite.
    pub fn with_delta(mut self, delta: f32) -> Result<Self, Error> {
        if !(delta > 0.0 && delta.is_finite()) {
            let expected = "above 0 and finite".into();
            return Err(Error::Value { what: "delta", given: delta.to_string(), expected });
        }
        self.row.delta = delta.into();
        Ok(self)
    }
}

impl ElementLoss for HuberRow {
    fn of(&self, y: f64, target: f64) -> Element {
        let (error, delta) = (y - target, self.delta);
        let loss = match error.abs() <= delta {
            true => 0.5 * error * error,
            false => delta * (error.abs() - 0.5 * delta),
        };
        Element { loss, slope: error.clamp(-delta, delta) }
    }
}
