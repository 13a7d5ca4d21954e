//! The parameters of a layer, or their gradients: one contiguous buffer.

use crate::sections::{All, Own, Sections};
use crate::spec::{Sizes, Spec};
use crate::{Error, Init};
use bptt_kernels::AlignedBuffer;
use rand_core::Rng;

/// The parameters of a layer, or their gradients, in one contiguous buffer that
/// starts on a cache line: U `[GH, I]`, W `[GH, R]` (one after the other for each delay
/// where there are several), b `[GH]`, then what is the cell's own, each row-major with
/// the gates in the cell's order. An optimiser, a norm, a file or an all-reduce sees one
/// slice.
///
/// ```
/// use bptt::{Activation, Layer, Vanilla};
///
/// let mut parameters = Vanilla::new(1, 2, Activation::Tanh)?.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1., 2., 3., 4., 5., 6., 7., 8.]);
/// assert_eq!(parameters.input_weights(), [1., 2.]);
/// assert_eq!(parameters.recurrent_weights(), [3., 4., 5., 6.]);
/// assert_eq!(parameters.bias(), [7., 8.]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters<C> {
    layer: C,
    sections: Sections,
    buffer: AlignedBuffer,
}

impl<C: Spec> Parameters<C> {
    pub(crate) fn zeros(layer: C) -> Result<Self, Error> {
        let sections = layer.sections()?;
        let buffer = AlignedBuffer::try_new(sections.len())?;
        Ok(Self { layer, sections, buffer })
    }

    pub(crate) fn drawn<R: Rng + ?Sized>(layer: C, init: Init, rng: &mut R) -> Result<Self, Error> {
        let mut parameters = Self::zeros(layer)?;
        let (layer, sections) = (&parameters.layer, parameters.sections);
        let Sizes { input, hidden, output } = layer.sizes();
        let (gates, delays) = (layer.geometry().gates, layer.delays().len());
        let (all, own) = sections.granted(&mut parameters.buffer);
        let All { input: u, recurrent: w, bias: b, projection, .. } = all;
        if let Some(clocked) = layer.clocked() {
            clocked.draw((input, hidden), (u, w), |weights, outputs, inputs| {
                init.fill(weights, outputs, inputs, rng)
            })?;
            return Ok(parameters);
        }
        for gate in 0..gates {
            init.fill(&mut u[gate * hidden * input..][..hidden * input], hidden, input, rng)?;
            for delay in 0..delays {
                let first = (delay * gates + gate) * hidden * output;
                init.fill(&mut w[first..][..hidden * output], hidden, output, rng)?;
            }
        }
        if !projection.is_empty() {
            init.fill(projection, output, hidden, rng)?;
        }
        layer.initialise(b, own);
        Ok(parameters)
    }

    /// The layer that they are the parameters of.
    pub fn layer(&self) -> &C {
        &self.layer
    }

    /// All of them, in the order of the sections.
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

    /// U: input to hidden, `[GH, I]`.
    pub fn input_weights(&self) -> &[f32] {
        self.sections.all.input.of(&self.buffer)
    }

    /// W: hidden to hidden, `[GH, R]`, for each delay.
    pub fn recurrent_weights(&self) -> &[f32] {
        self.sections.all.recurrent.of(&self.buffer)
    }

    /// b, `[GH]`.
    pub fn bias(&self) -> &[f32] {
        self.sections.all.bias.of(&self.buffer)
    }

    /// What is the cell's own, in blocks of H: its page says which. Empty for most.
    pub fn own(&self) -> &[f32] {
        self.sections.all.own.of(&self.buffer)
    }

    /// P: the projection, `[R, H]`. Empty where there is none.
    pub fn projection(&self) -> &[f32] {
        self.sections.all.projection.of(&self.buffer)
    }

    /// U, W, b, the cell's own, and P, to be changed.
    pub fn split_mut(&mut self) -> [&mut [f32]; 5] {
        let All { input, recurrent, bias, own, projection } =
            self.sections.all.granted(&mut self.buffer);
        [input, recurrent, bias, own, projection]
    }

    /// The layer's own by name.
    pub(crate) fn named_own(&self) -> Own<&[f32]> {
        self.sections.own(&self.buffer)
    }

    /// The gains of normalisation.
    pub(crate) fn gains(&self) -> &[f32] {
        self.sections.gains(&self.buffer)
    }

    /// All of them by name, the layer's own apart from the others, to be changed.
    pub(crate) fn named_mut(&mut self) -> (All<&mut [f32]>, Own<&mut [f32]>) {
        self.sections.granted(&mut self.buffer)
    }
}
