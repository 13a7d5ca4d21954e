//! The real-gated linear recurrent unit (RG-LRU).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use bptt_kernels::scan::Scan;

/// A layer of real-gated linear recurrent units (De et al. 2024, "Griffin: Mixing Gated Linear
/// Recurrences with Local Attention for Efficient Language Models"), with as many units as inputs:
///
/// ```text
/// r = σ(b_r + U_r x)                       recurrence gate
/// i = σ(b_i + U_i x)                       input gate
/// a = exp(−c · softplus(Λ) ⊙ r)            how much of the state stays, with c = 8
/// h = a ⊙ h₋ + √(1 − a²) ⊙ (i ⊙ x)         hidden state, the output
/// ```
///
/// The root keeps the size of the state what that of the input is. It is computed from the
/// logarithm of a, so that it is exact even where a is so near 1 that a² rounds to 1. Its
/// derivative grows without bound there, slower than the gradients of r and Λ vanish, and is left
/// out where 1 − a² is 0 in f32.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[2H, H]` | U, with the gates in the order r, i |
/// | `bias` | `[2H]` | b, which begins as 0 |
/// | `lambda` | `[H]` | Λ, drawn so that aᶜ, for r = 1, is even in [0.9, 0.999], as in the paper |
///
/// The state is `h` `[B, H]`. A pass over τ steps of B sequences keeps 2H floats per step and
/// sequence beside the outputs, r and i; a is computed again.
///
/// ```
/// use bptt::{Dense, Network, RgLru, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Dense::new(4, 16)?).then(RgLru::new(16)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 4], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RgLru {
    size: usize,
}

impl RgLru {
    /// Makes a layer with `size` (H) inputs and as many units.
    ///
    /// # Errors
    /// [`Error::Value`] if the size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(size: usize) -> Result<Self, Error> {
        ScanLayer::check_sizes(size, size)?;
        let layer = Self { size };
        layer.scan().check()?;
        Ok(layer)
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size"])?;
        Self::new(config.size("size")?)
    }

    pub(super) fn scan(&self) -> ScanLayer {
        let config = Config::new("RgLru").with("size", self.size);
        let (input, hidden) = (self.size, self.size);
        ScanLayer { config, input, hidden, cell: Scan::RgLru, own: Own::Rate }
    }
}

scan_blocks! { RgLru; }
