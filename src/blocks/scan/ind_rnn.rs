//! The independently recurrent neural network (IndRNN).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use crate::blocks::recurrent::Activation;
use bptt_kernels::scan::Scan;

/// A layer of independently recurrent units (Li et al. 2018, "Independently Recurrent Neural
/// Network (IndRNN): Building A Longer and Deeper RNN"):
///
/// ```text
/// h = φ(b + U x + w ⊙ h₋)
/// ```
///
/// A unit sees the state of no other unit. So the weight w of each tells how long it remembers, and
/// with φ = ReLU and |w| near 1 its gradient neither vanishes nor explodes; several layers combine
/// the units.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[H, I]` | U |
/// | `bias` | `[H]` | b, which begins as 0 |
/// | `weight_hh` | `[H]` | w, which is drawn evenly from 0 to 1 |
///
/// The state is `h` `[B, H]`. A pass over τ steps of B sequences keeps H floats per step and
/// sequence beside the outputs: room for ∂L/∂z of the backward pass.
///
/// ```
/// use bptt::{Activation, IndRnn, Network, Runtime};
///
/// let network = Network::new(IndRnn::new(1, 1, Activation::Relu)?);
/// let mut parameters = network.parameters()?;
/// parameters.tensor_mut("0.weight_ih")?.fill(1.0);
/// parameters.tensor_mut("0.weight_hh")?.fill(0.5);
/// let model = network.model(parameters, Runtime::best()?)?;
/// let mut y = [0.0; 3];
/// model.stream(1)?.forward(&[4.0, 0.0, 0.0], &mut y)?;
/// assert_eq!(y, [4.0, 2.0, 1.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndRnn {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
}

impl IndRnn {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units. The paper's φ is
    /// [`Activation::Relu`].
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        ScanLayer::check_sizes(input_size, hidden_size)?;
        let layer = Self { input_size, hidden_size, activation };
        layer.scan().check()?;
        Ok(layer)
    }

    /// Returns the non-linearity φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "activation"])?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        Self::new(input, hidden, Activation::of(config, "activation")?)
    }

    pub(super) fn scan(&self) -> ScanLayer {
        let Self { input_size, hidden_size, activation } = *self;
        let config = Config::new("IndRnn")
            .with("input_size", input_size)
            .with("hidden_size", hidden_size)
            .with("activation", activation.name());
        let (cell, own) = (Scan::IndRnn(activation.into()), Own::OfHiddenState);
        ScanLayer { config, input: input_size, hidden: hidden_size, cell, own }
    }
}

scan_blocks! { IndRnn; }
