//! The vanilla recurrent unit.

use super::layer::{Layer, checked};
use super::options::{Activation, check_sizes, sized};
use super::spec::{Kind, Recurrent, Sizes};
use crate::Error;
use crate::blocks::Config;

/// A vanilla recurrent layer (equations 10.8 and 10.9):
///
/// ```text
/// h = φ(b + U x + W h₋)
/// ```
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[H, I]` | U |
/// | `weight_hh` | `[H, H]` | W |
/// | `bias` | `[H]` | b |
///
/// The state is `h` `[B, H]`.
///
/// ```
/// use bptt::{Activation, Network, Runtime, Vanilla};
///
/// let network = Network::new(Vanilla::new(1, 1, Activation::Relu)?);
/// let mut parameters = network.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1.0, 2.0, 0.5]);
/// let model = network.model(parameters, Runtime::best()?)?;
/// let mut y = [0.0; 3];
/// model.stream(1)?.forward(&[1.0, 1.0, -9.0], &mut y)?;
/// assert_eq!(y, [1.5, 4.5, 0.5]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vanilla {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
}

impl Vanilla {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        checked(Self { input_size, hidden_size, activation })
    }

    /// Returns the non-linearity φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }
}

impl Vanilla {
    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "activation"])?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        Self::new(input, hidden, Activation::of(config, "activation")?)
    }
}

impl Layer for Vanilla {
    fn recurrent(&self) -> Recurrent {
        let Self { input_size, hidden_size, activation } = *self;
        let config =
            sized("Vanilla", input_size, hidden_size).with("activation", activation.name());
        let sizes = Sizes { input: input_size, hidden: hidden_size, output: hidden_size };
        Recurrent::new(config, Kind::Vanilla, activation, sizes)
    }
}
