//! A loss that shows its gradient.

use bptt::{Error, Loss, Outputs, Runtime, TargetRows};
use std::cell::RefCell;

/// A loss that records the gradient by the outputs.
pub struct Seen<'a> {
    loss: &'a dyn Loss,
    /// ∂L/∂o of the last pass.
    pub d_o: RefCell<Vec<f32>>,
}

impl<'a> Seen<'a> {
    pub fn new(loss: &'a dyn Loss) -> Self {
        Self { loss, d_o: RefCell::default() }
    }
}

impl Loss for Seen<'_> {
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.loss.check(targets, size)
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.loss.value(runtime, outputs)
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, .. } = outputs;
        let loss = self.loss.gradient(runtime, Outputs::new(y, size))?;
        self.d_o.replace(y.to_vec());
        Ok(loss)
    }
}
