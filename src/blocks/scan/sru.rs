//! The simple recurrent unit (SRU).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use bptt_kernels::scan::Scan;

/// A layer of simple recurrent units (Lei et al. 2018, "Simple Recurrent Units for Highly
/// Parallelizable Recurrence"):
///
/// ```text
/// n = b_n + U_n x                         candidate
/// f = σ(b_f + U_f x + v_f ⊙ c₋)           forget gate
/// r = σ(b_r + U_r x + v_r ⊙ c₋)           reset gate
/// c = f ⊙ c₋ + (1 − f) ⊙ n                cell state
/// h = r ⊙ c + (1 − r) ⊙ x                 output
/// ```
///
/// A part of the input passes by the cell, on a highway. If there are not as many inputs as units,
/// a fourth product takes its place there, `b_x + U_x x`, as in the authors' code. The paper has no
/// b_n, which begins as 0.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[3H, I]` | U, with the gates in the order n, f, r; `[4H, I]` with x as the last if I ≠ H |
/// | `bias` | `[3H]` | b, or `[4H]`; begins as 0 |
/// | `weight_c` | `[2, H]` | v_f and v_r, which begin as 0 |
///
/// The state is `c` `[B, H]`. A pass over τ steps of B sequences keeps 4H floats per step and
/// sequence beside the outputs, or 5H if I ≠ H: n, f, r, the fourth product, and c.
///
/// ```
/// use bptt::{Init, Network, Runtime, Sru};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Sru::new(8, 16)?).then(Sru::new(16, 16)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// assert_eq!(model.parameters().tensor("0.weight_ih")?.len(), 4 * 16 * 8);
/// assert_eq!(model.parameters().tensor("1.weight_ih")?.len(), 3 * 16 * 16);
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sru {
    input_size: usize,
    hidden_size: usize,
}

impl Sru {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
        ScanLayer::check_sizes(input_size, hidden_size)?;
        let layer = Self { input_size, hidden_size };
        layer.scan().check()?;
        Ok(layer)
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size"])?;
        Self::new(config.size("input_size")?, config.size("hidden_size")?)
    }

    pub(super) fn scan(&self) -> ScanLayer {
        let Self { input_size, hidden_size } = *self;
        let config =
            Config::new("Sru").with("input_size", input_size).with("hidden_size", hidden_size);
        let cell = Scan::Sru { fourth: input_size != hidden_size };
        ScanLayer { config, input: input_size, hidden: hidden_size, cell, own: Own::OfCellState }
    }
}

scan_blocks! { Sru; }
