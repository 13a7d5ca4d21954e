//! The parameters of a readout, or their gradients: one contiguous buffer.

use super::Readout;
use crate::arena::{Layout, Region, regions};
use crate::{Error, Init};
use bptt_kernels::AlignedBuffer;
use rand_core::Rng;

regions! {
    /// The parameters of a readout, in their order.
    struct Sections {
        weights,
        bias,
    }
}

/// The parameters of a readout, or their gradients, in one contiguous buffer that
/// starts on a cache line: V `[O, H]` row-major, then c `[O]`. An optimiser, a norm,
/// a file or an all-reduce sees one slice.
///
/// ```
/// let mut parameters = bptt::Readout::new(3, 2)?.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]);
/// assert_eq!(parameters.weights(), [1., 2., 3., 4., 5., 6.]);
/// assert_eq!(parameters.bias(), [7., 8.]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadoutParameters {
    readout: Readout,
    sections: Sections<Region>,
    buffer: AlignedBuffer,
}

impl Readout {
    /// Parameters that are all zero, or room for their gradients.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn parameters(&self) -> Result<ReadoutParameters, Error> {
        ReadoutParameters::zeros(*self)
    }

    /// Parameters drawn by `init` from the caller's generator (the same seed gives
    /// the same bits): V; c is zero.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Value`] where `init`'s limit is not finite.
    pub fn init<R: Rng + ?Sized>(
        &self,
        init: Init,
        rng: &mut R,
    ) -> Result<ReadoutParameters, Error> {
        let mut parameters = self.parameters()?;
        let [v, _] = parameters.split_mut();
        init.fill(v, self.output_size, self.input_size, rng)?;
        Ok(parameters)
    }
}

impl ReadoutParameters {
    pub(super) fn zeros(readout: Readout) -> Result<Self, Error> {
        let Readout { input_size, output_size } = readout;
        let dims: Sections<&[usize]> =
            Sections { weights: &[output_size, input_size], bias: &[output_size] };
        let mut layout = Layout::without_gaps("the parameters");
        let sections = dims.booked(&mut layout)?;
        Ok(Self { readout, sections, buffer: layout.allocate()? })
    }

    /// The layer that they are the parameters of.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// All of them: V, then c.
    pub fn as_slice(&self) -> &[f32] {
        &self.buffer
    }

    /// All of them, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.buffer
    }

    /// All of them as bytes in the machine's order, for a file or the network.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.buffer)
    }

    /// V: hidden to output, `[O, H]`.
    pub fn weights(&self) -> &[f32] {
        self.sections.weights.of(&self.buffer)
    }

    /// c, `[O]`.
    pub fn bias(&self) -> &[f32] {
        self.sections.bias.of(&self.buffer)
    }

    /// V and c, to be changed.
    pub fn split_mut(&mut self) -> [&mut [f32]; 2] {
        let Sections { weights, bias } = self.sections.granted(&mut self.buffer);
        [weights, bias]
    }
}
