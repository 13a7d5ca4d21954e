//! The minimal long short-term memory (minLSTM).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use bptt_kernels::scan::Scan;

/// A layer of minimal long short-term memory with normalised gates (Feng et al. 2024, "Were RNNs
/// All We Needed?"):
///
/// ```text
/// f, i = σ(b + U x)               forget and input gate
/// f' = f / (f + i)                so that both shares add up to 1
/// i' = i / (f + i)
/// n = b_n + U_n x                 candidate, or g of it
/// h = f' ⊙ h₋ + i' ⊙ n            hidden state, the output
/// ```
///
/// The gates and the candidate of a step see its input only, as in a [`MinGru`](crate::MinGru). The
/// shares are right even where both gates are so near 0 that f32 has no such number.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[3H, I]` | U, with the gates in the order f, i, n |
/// | `bias` | `[3H]` | b, which begins as 0 |
///
/// The state is `h` `[B, H]`. A pass over τ steps of B sequences keeps 3H floats per step and
/// sequence beside the outputs: the sums of f and i, and n.
///
/// ```
/// use bptt::{MinLstm, Network, Runtime};
///
/// // All parameters are 0, so both shares are ½ and the candidate is 0.
/// let network = Network::new(MinLstm::new(1, 1)?);
/// let model = network.model(network.parameters()?, Runtime::best()?)?;
/// let mut stream = model.stream(1)?;
/// let mut state = stream.state()?;
/// state.as_mut_slice().fill(1.0);
/// stream.set_state(&state)?;
/// let mut y = [0.0; 3];
/// stream.forward(&[0.0; 3], &mut y)?;
/// assert_eq!(y, [0.5, 0.25, 0.125]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinLstm {
    input_size: usize,
    hidden_size: usize,
    positive_candidate: bool,
}

impl MinLstm {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units, whose candidate has
    /// no non-linearity.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
        ScanLayer::check_sizes(input_size, hidden_size)?;
        let layer = Self { input_size, hidden_size, positive_candidate: false };
        layer.scan().check()?;
        Ok(layer)
    }

    /// Makes the candidate g(z) of its sum z: z + ½ where z ≥ 0, and σ(z) elsewhere. The derivative
    /// jumps at 0, where it is 1.
    pub fn with_positive_candidate(self) -> Self {
        Self { positive_candidate: true, ..self }
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "positive_candidate"])?;
        let layer = Self::new(config.size("input_size")?, config.size("hidden_size")?)?;
        Ok(Self { positive_candidate: config.flag("positive_candidate")?, ..layer })
    }

    pub(super) fn scan(&self) -> ScanLayer {
        let Self { input_size, hidden_size, positive_candidate } = *self;
        let config = Config::new("MinLstm")
            .with("input_size", input_size)
            .with("hidden_size", hidden_size)
            .with("positive_candidate", positive_candidate);
        let cell = Scan::MinLstm { positive: positive_candidate };
        ScanLayer { config, input: input_size, hidden: hidden_size, cell, own: Own::None }
    }
}

scan_blocks! { MinLstm; }
