//! Skip connections through time: units that see hidden states of several steps before.

use super::layer::{Layer, checked};
use super::options::{Activation, check_sizes, sized};
use super::spec::{Kind, Recurrent, Sizes};
use crate::Error;
use crate::blocks::Config;
use std::sync::Arc;

/// The longest delay that is allowed.
const MOST: usize = 1 << 16;

/// A recurrent layer with skip connections through time (sections 10.9.1 and 10.9.3; Lin et
/// al. 1996):
///
/// ```text
/// h⁽ᵗ⁾ = φ(b + Σ_d W_d h⁽ᵗ⁻ᵈ⁾ + U x⁽ᵗ⁾)
/// ```
///
/// with a sum over a set of delays d. The set `{1, d}` adds connections over d steps to the
/// ordinary ones over one step, and along the long ones gradients vanish as τ / d and not as τ. A
/// set without 1 has no connections over one step.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[H, I]` | U |
/// | `weight_hh` | `[delays, H, H]` | a W for each delay, the longest first; `[H, H]` of one |
/// | `bias` | `[H]` | b |
///
/// The state is `h` `[D, B, H]`: the last D hidden states, the oldest first, where D is the longest
/// delay (`[B, H]` if D is 1).
///
/// ```
/// use bptt::{Activation, Network, Runtime, Skip};
///
/// // What comes in comes out again two steps later, halved.
/// let network = Network::new(Skip::new(1, 1, Activation::Identity, &[2])?);
/// let mut parameters = network.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1.0, 0.5, 0.0]);
/// let model = network.model(parameters, Runtime::best()?)?;
/// let mut y = [0.0; 5];
/// model.stream(1)?.forward(&[8.0, 0.0, 0.0, 0.0, 0.0], &mut y)?;
/// assert_eq!(y, [8.0, 0.0, 4.0, 0.0, 2.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Skip {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
    /// The delays in steps, the longest first.
    delays: Arc<[usize]>,
}

impl Skip {
    /// Makes a layer with `input_size` (I) inputs, `hidden_size` (H) units and these `delays` in
    /// steps, in any order.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0, if there are no delays, if a delay is outside 1 to 65536,
    /// or if two delays are equal; [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
        delays: &[usize],
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        let mut sorted: Vec<usize> = delays.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let within = delays.iter().all(|delay| (1..=MOST).contains(delay));
        if sorted.is_empty() || !within || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            let expected = "one or more, each from 1 to 65536, none twice".into();
            return Err(Error::Value { what: "delays", given: format!("{delays:?}"), expected });
        }
        checked(Self { input_size, hidden_size, activation, delays: sorted.into() })
    }

    /// Returns the non-linearity φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns the delays, the longest first, which is the order of their weights in `weight_hh`.
    pub fn delays(&self) -> &[usize] {
        &self.delays
    }
}

impl Skip {
    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "activation", "delays"])?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        Self::new(input, hidden, Activation::of(config, "activation")?, config.sizes("delays")?)
    }
}

impl Layer for Skip {
    fn recurrent(&self) -> Recurrent {
        let Self { input_size, hidden_size, activation, ref delays } = *self;
        let config = sized("Skip", input_size, hidden_size)
            .with("activation", activation.name())
            .with("delays", delays.to_vec());
        let sizes = Sizes { input: input_size, hidden: hidden_size, output: hidden_size };
        let layer = Recurrent::new(config, Kind::Vanilla, activation, sizes);
        Recurrent { delays: delays.clone(), ..layer }
    }
}
