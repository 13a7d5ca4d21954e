//! The state that a network carries from step to step.

use super::manifest::Manifest;
use crate::Error;
use crate::error::{check_len, check_step};
use std::sync::Arc;

/// The state that a network carries from step to step, for each of its sequences, or a gradient
/// with respect to it: one contiguous buffer and a manifest of its tensors. The page of a layer
/// lists its tensors: all layers have the hidden state `h` `[B, R]`, some have more, such as the
/// cell state `c` `[B, H]`.
///
/// ```
/// use bptt::{Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(3, 16)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut state = model.state(2)?;
/// state.tensor_mut("0.c")?.fill(0.5);
/// let mut stream = model.stream(2)?;
/// stream.set_state(&state)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    manifest: Arc<Manifest>,
    values: Vec<f32>,
    step: u64,
}

impl State {
    /// Allocates the state before the first step, which is all zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it cannot be allocated.
    pub(crate) fn zeros(manifest: Arc<Manifest>) -> Result<Self, Error> {
        let mut values = Vec::new();
        let (len, bytes) = (manifest.len(), size_of::<f32>() * manifest.len());
        values.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
        values.resize(len, 0.0);
        Ok(Self { manifest, values, step: 0 })
    }

    /// Returns the names, shapes and ranges of the tensors.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns all values, in the order of the manifest.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Returns all values, mutably, in the order of the manifest.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Returns the tensor named `name`, row-major.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such tensor; the error lists all tensors.
    pub fn tensor(&self, name: &str) -> Result<&[f32], Error> {
        Ok(&self.values[self.manifest.expect(name)?.range()])
    }

    /// Returns the tensor named `name`, mutably.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_mut(&mut self, name: &str) -> Result<&mut [f32], Error> {
        let range = self.manifest.expect(name)?.range();
        Ok(&mut self.values[range])
    }

    /// Returns the number of steps that the sequences have taken. A
    /// [`Clockwork`](crate::Clockwork) needs it to know which of its groups move at a step. After a
    /// pass over sequences of different lengths it counts the steps of the longest. In a gradient it
    /// has no meaning.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets the number of steps that the sequences have taken.
    ///
    /// # Errors
    /// [`Error::Value`] if `step` is 2⁶³ or more.
    pub fn set_step(&mut self, step: u64) -> Result<(), Error> {
        self.step = check_step(step)?;
        Ok(())
    }

    /// Returns the state with its number of steps set to `step`, which may be above the limit of
    /// [`set_step`](Self::set_step).
    pub(crate) fn after(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// Returns an error, about `what`, unless the tensors are those of the manifest `expected` and
    /// the number of steps is below 2⁶³.
    pub(crate) fn check(&self, what: &'static str, expected: &Manifest) -> Result<(), Error> {
        check_step(self.step)?;
        if *self.manifest != *expected {
            let (given, expected) = (self.manifest.to_string(), expected.to_string());
            return Err(Error::Mismatch { what, given, expected });
        }
        check_len(what, self.values.len(), expected.len())
    }
}
