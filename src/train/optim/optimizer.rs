//! The trait of optimisers, and an optimiser that clips gradients for another one.

use crate::params::Parameters;
use crate::train::clip::clip_global_norm;
use crate::{Error, Runtime};

/// A rule that updates parameters with their gradients.
pub trait Optimizer {
    /// Updates `parameters` once. It may also change `gradients`, as clipping does.
    ///
    /// # Errors
    /// Any [`Error`]; the parameters must be unchanged then.
    fn update(
        &mut self,
        runtime: Runtime,
        parameters: &mut Parameters,
        gradients: &mut Parameters,
    ) -> Result<(), Error>;
}

/// An optimiser that clips the gradients to a global norm before each update of another optimiser.
/// See [`Sgd::clip_norm`](crate::Sgd::clip_norm) and [`Adam::clip_norm`](crate::Adam::clip_norm).
pub struct Clipped<'a> {
    optimizer: &'a mut dyn Optimizer,
    limit: f32,
}

impl<'a> Clipped<'a> {
    pub(super) fn new(optimizer: &'a mut dyn Optimizer, limit: f32) -> Self {
        Self { optimizer, limit }
    }
}

impl Optimizer for Clipped<'_> {
    fn update(
        &mut self,
        runtime: Runtime,
        parameters: &mut Parameters,
        gradients: &mut Parameters,
    ) -> Result<(), Error> {
        clip_global_norm(&mut [gradients.as_mut_slice()], self.limit)?;
        self.optimizer.update(runtime, parameters, gradients)
    }
}
