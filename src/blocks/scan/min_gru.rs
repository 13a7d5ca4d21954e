//! The minimal gated recurrent unit (minGRU).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use bptt_kernels::scan::Scan;

/// A layer of minimal gated recurrent units (Feng et al. 2024, "Were RNNs All We Needed?"):
///
/// ```text
/// u = σ(b_u + U_u x)              update gate
/// n = b_n + U_n x                 candidate, or g of it
/// h = (1 − u) ⊙ h₋ + u ⊙ n        hidden state, the output
/// ```
///
/// The gate and the candidate of a step see its input only. So their products are computed for many
/// steps at once, and what has to go step by step is element-wise. [`with_positive_candidate`]
/// makes the candidate positive, as the paper's computation in logarithms needs it; this one does
/// not.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[2H, I]` | U, with the gates in the order u, n |
/// | `bias` | `[2H]` | b, which begins as 0 |
///
/// The state is `h` `[B, H]`. A pass over τ steps of B sequences keeps 2H floats per step and
/// sequence, u and n, beside the outputs.
///
/// ```
/// use bptt::{MinGru, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(MinGru::new(8, 16)?).then(MinGru::new(16, 16)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// [`with_positive_candidate`]: Self::with_positive_candidate
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinGru {
    input_size: usize,
    hidden_size: usize,
    positive_candidate: bool,
}

impl MinGru {
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
        let config = Config::new("MinGru")
            .with("input_size", input_size)
            .with("hidden_size", hidden_size)
            .with("positive_candidate", positive_candidate);
        let cell = Scan::MinGru { positive: positive_candidate };
        ScanLayer { config, input: input_size, hidden: hidden_size, cell, own: Own::None }
    }
}

scan_blocks! { MinGru; }
