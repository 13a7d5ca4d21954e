//! The parameters of a network, or their gradients, in one contiguous buffer.

use super::manifest::Manifest;
use crate::Error;
use bptt_kernels::AlignedBuffer;
use std::sync::Arc;

/// The parameters of a network, or their gradients: one contiguous buffer that starts on a cache
/// line, and a manifest of its tensors. An optimiser, a norm, a file or an all-reduce can work on
/// it as one slice.
///
/// ```
/// use bptt::{Activation, Network, Vanilla};
///
/// let network = Network::new(Vanilla::new(1, 2, Activation::Tanh)?);
/// let mut parameters = network.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]);
/// assert_eq!(parameters.tensor("0.weight_ih")?, [1., 2.]);
/// assert_eq!(parameters.tensor("0.weight_hh")?, [3., 4., 5., 6.]);
/// assert_eq!(parameters.tensor("0.bias")?, [7., 8.]);
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// `clone` aborts if there is not enough memory, as allocations of the standard library do.
#[derive(Clone, Debug)]
pub struct Parameters {
    manifest: Arc<Manifest>,
    buffer: AlignedBuffer,
}

impl Parameters {
    /// Allocates a buffer of zeros for the tensors of `manifest`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the buffer cannot be allocated.
    pub fn zeros(manifest: Arc<Manifest>) -> Result<Self, Error> {
        let buffer = AlignedBuffer::try_new(manifest.len())?;
        Ok(Self { manifest, buffer })
    }

    /// Returns the names, shapes and ranges of the tensors.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns all values, in the order of the manifest.
    pub fn as_slice(&self) -> &[f32] {
        &self.buffer
    }

    /// Returns all values, mutably, in the order of the manifest.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.buffer
    }

    /// Returns all values as bytes in the machine's byte order, to write or to send.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.buffer)
    }

    /// Returns the tensor named `name`, row-major.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such tensor; the error lists all tensors.
    pub fn tensor(&self, name: &str) -> Result<&[f32], Error> {
        Ok(&self.buffer[self.manifest.expect(name)?.range()])
    }

    /// Returns the tensor named `name`, mutably.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_mut(&mut self, name: &str) -> Result<&mut [f32], Error> {
        let range = self.manifest.expect(name)?.range();
        Ok(&mut self.buffer[range])
    }

    /// Returns an error, about `what`, unless the tensors are those of the manifest `other`.
    pub(crate) fn check_same(
        &self,
        what: &'static str,
        other: &Arc<Manifest>,
    ) -> Result<(), Error> {
        if Arc::ptr_eq(&self.manifest, other) || self.manifest == *other {
            return Ok(());
        }
        let (given, expected) = (self.manifest.to_string(), other.to_string());
        Err(Error::Mismatch { what, given, expected })
    }
}
