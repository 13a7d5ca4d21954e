//! The quasi-recurrent network (QRNN).

use super::layer::scan_blocks;
use super::spec::{Own, ScanLayer};
use crate::Error;
use crate::blocks::Config;
use crate::blocks::recurrent::named;
use bptt_kernels::scan::{self, Scan};

/// How a [`Qrnn`] pools its candidates over time, with the paper's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// f-pooling: `h = f ⊙ h₋ + (1 − f) ⊙ n`.
    Forget,
    /// fo-pooling: `c = f ⊙ c₋ + (1 − f) ⊙ n` and `h = o ⊙ c`.
    #[default]
    ForgetOutput,
    /// ifo-pooling: `c = f ⊙ c₋ + i ⊙ n` and `h = o ⊙ c`.
    ForgetInputOutput,
}

named! {
    Pooling { Forget = "f", ForgetOutput = "fo", ForgetInputOutput = "ifo" }
}

impl Pooling {
    fn scan(self) -> scan::Pooling {
        match self {
            Self::Forget => scan::Pooling::Forget,
            Self::ForgetOutput => scan::Pooling::ForgetOutput,
            Self::ForgetInputOutput => scan::Pooling::ForgetInputOutput,
        }
    }
}

/// A layer of a quasi-recurrent network (Bradbury et al. 2017), whose convolution sees one step.
/// Behind a [`Window`](crate::Window) of k steps it sees k, as in the paper:
///
/// ```text
/// n = tanh(b_n + U_n x)           candidate (the paper's z)
/// f, o, i = σ(b + U x)            forget, output and input gate
/// c = f ⊙ c₋ + (1 − f) ⊙ n        cell state
/// h = o ⊙ c                       output
/// ```
///
/// These are the equations of fo-pooling, the usual one; [`Pooling`] has all three.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[GH, I]` | U, with the first G of the gates n, f, o, i: two for f-pooling, three for fo, four for ifo |
/// | `bias` | `[GH]` | b, which begins as 0 |
///
/// The state is `c` `[B, H]`, or `h` `[B, H]` with f-pooling. A pass over τ steps of B sequences
/// keeps per step and sequence, beside the outputs, the gates, GH floats, and c, H floats, if there
/// is one.
///
/// ```
/// use bptt::{Network, Pooling, Qrnn, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Qrnn::new(8, 16, Pooling::ForgetOutput)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qrnn {
    input_size: usize,
    hidden_size: usize,
    pooling: Pooling,
}

impl Qrnn {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, hidden_size: usize, pooling: Pooling) -> Result<Self, Error> {
        ScanLayer::check_sizes(input_size, hidden_size)?;
        let layer = Self { input_size, hidden_size, pooling };
        layer.scan().check()?;
        Ok(layer)
    }

    /// Returns how candidates are pooled over time.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "pooling"])?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        Self::new(input, hidden, Pooling::of(config, "pooling")?)
    }

    pub(super) fn scan(&self) -> ScanLayer {
        let Self { input_size, hidden_size, pooling } = *self;
        let config = Config::new("Qrnn")
            .with("input_size", input_size)
            .with("hidden_size", hidden_size)
            .with("pooling", pooling.name());
        let cell = Scan::Qrnn(pooling.scan());
        ScanLayer { config, input: input_size, hidden: hidden_size, cell, own: Own::None }
    }
}

scan_blocks! { Qrnn; }
