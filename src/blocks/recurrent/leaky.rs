//! Leaky units.

use super::layer::{Layer, checked};
use super::leak::Leak;
use super::options::{Activation, check_sizes, sized};
use super::spec::{Kind, Recurrent, Sizes};
use crate::Error;
use crate::blocks::Config;
use crate::error::check_len;

/// A layer of leaky units (section 10.9.2):
///
/// ```text
/// h = α ⊙ h₋ + (1 − α) ⊙ φ(b + U x + W h₋)
/// ```
///
/// A unit with α near 1 remembers for some 1 / (1 − α) steps.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[H, I]` | U |
/// | `weight_hh` | `[H, H]` | W |
/// | `bias` | `[H]` | b |
/// | `rho` | `[H]` | ρ, where α is [learned](Leak::Learned) |
///
/// The state is `h` `[B, H]`.
///
/// ```
/// use bptt::{Activation, Leak, Leaky, Network, Runtime};
///
/// let network = Network::new(Leaky::new(1, 1, Activation::Identity, Leak::Layer(0.75))?);
/// let mut parameters = network.parameters()?;
/// parameters.tensor_mut("0.weight_ih")?.fill(1.0);
/// let model = network.model(parameters, Runtime::best()?)?;
/// let mut y = [0.0; 3];
/// model.stream(1)?.forward(&[4.0, 0.0, 0.0], &mut y)?;
/// assert_eq!(y, [1.0, 0.75, 0.5625]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Leaky {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
    leak: Leak,
}

impl Leaky {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0 or an α is outside its range; [`Error::Length`] unless
    /// [`Leak::Units`] has `hidden_size` values; [`Error::TooLarge`] if the weights do not fit the
    /// address space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
        leak: Leak,
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        let refused = |given: String, expected: &'static str| {
            Err(Error::Value { what: "alpha", given, expected: expected.into() })
        };
        let (fits, expected) = (|alpha: f32| (0.0..1.0).contains(&alpha), "0 or more and below 1");
        match &leak {
            Leak::Layer(alpha) if !fits(*alpha) => refused(alpha.to_string(), expected)?,
            Leak::Units(alphas) => {
                check_len("alpha", alphas.len(), hidden_size)?;
                if let Some(unit) = alphas.iter().position(|&alpha| !fits(alpha)) {
                    refused(format!("{} of unit {unit}", alphas[unit]), expected)?;
                }
            }
            Leak::Learned { initial } if !(*initial > 0.0 && *initial < 1.0) => {
                refused(initial.to_string(), "above 0 and below 1")?;
            }
            _ => {}
        }
        checked(Self { input_size, hidden_size, activation, leak })
    }

    /// Returns the non-linearity φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns the leak α.
    pub fn leak(&self) -> &Leak {
        &self.leak
    }
}

impl Leaky {
    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        let names = ["input_size", "hidden_size", "activation", "alpha", "alphas", "learned_alpha"];
        config.expect_only(&names)?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        let leak = if config.get("alpha").is_some() {
            Leak::Layer(config.number("alpha")?)
        } else if config.get("alphas").is_some() {
            Leak::Units(config.numbers("alphas")?.into())
        } else {
            Leak::Learned { initial: config.number("learned_alpha")? }
        };
        Self::new(input, hidden, Activation::of(config, "activation")?, leak)
    }
}

impl Layer for Leaky {
    fn recurrent(&self) -> Recurrent {
        let Self { input_size, hidden_size, activation, ref leak } = *self;
        let config = sized("Leaky", input_size, hidden_size).with("activation", activation.name());
        let config = match leak {
            Leak::Layer(alpha) => config.with("alpha", *alpha),
            Leak::Units(alphas) => config.with("alphas", alphas.to_vec()),
            Leak::Learned { initial } => config.with_initial("learned_alpha", *initial),
        };
        let sizes = Sizes { input: input_size, hidden: hidden_size, output: hidden_size };
        Recurrent::new(config, Kind::Leaky(leak.clone()), activation, sizes)
    }
}
