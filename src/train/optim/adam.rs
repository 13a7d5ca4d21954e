//! The optimiser Adam.

use super::checks::{check_decay, check_lens, check_rate, room_for};
use super::optimizer::{Clipped, Optimizer};
use crate::params::Parameters;
use crate::{Error, Isa, Runtime};
use bptt_kernels::{AlignedBuffer, optim};

/// The settings of [`Adam`]. The defaults are those of the paper: α = 0.001, β₁ = 0.9, β₂ = 0.999,
/// ε = 10⁻⁸.
///
/// The accepted ranges ensure that a parameter which has had no gradient yet stays where it is. Its
/// moments are 0, so a step subtracts `0 · α / (1 − β₁ᵗ)` divided by `0 / √(1 − β₂ᵗ) + ε`. This is
/// 0 if the factors `α / (1 − β₁ᵗ)` and `1 / √(1 − β₂ᵗ)` are finite and ε is not flushed to 0. The
/// first factor is largest at t = 1, where it is `α / (1 − β₁)`, which the range of α keeps below
/// 2¹²⁸; the second is 2¹² at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// The learning rate α: 0 or more, with `α / (1 − β₁)` finite in f32. Any α below 2¹⁰⁴ fulfils
    /// this for all β₁.
    pub learning_rate: f32,
    /// β₁ in [0, 1): the part of the first moment that is kept at each update.
    pub beta1: f32,
    /// β₂ in [0, 1): the part of the second moment that is kept at each update.
    pub beta2: f32,
    /// ε: finite, and 2⁻¹²⁶ or more, since a smaller one would count as 0.
    pub epsilon: f32,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// Adam (Kingma and Ba 2015, algorithm 1):
///
/// ```text
/// m ← β₁ m + (1 − β₁) g     m̂ = m / (1 − β₁ᵗ)
/// v ← β₂ v + (1 − β₂) g²    v̂ = v / (1 − β₂ᵗ)
/// θ ← θ − α m̂ / (√v̂ + ε)
/// ```
///
/// An `Adam` serves one buffer of parameters, for which it keeps m and v in f32. A gradient larger
/// than √(2¹²⁸ / (1 − β₂)), 5.8·10²⁰ by default, makes v infinite, and its parameter never changes
/// again. Denormals count as zero, as in a pass. So a gradient smaller than √(2⁻¹²⁶ / (1 − β₂)),
/// 3.4·10⁻¹⁸ by default, leaves v at 0. Its step is then α m̂ / ε, which is no larger than α if ε
/// is at least that bound. The factors of the corrections, 1 / (1 − β₁ᵗ) and 1 / (1 − β₂ᵗ), are
/// computed in f64.
///
/// ```
/// use bptt::{Adam, Isa};
///
/// let mut adam = Adam::new(0.1);
/// let mut parameters = [1.0, 1.0];
/// adam.step(Isa::best()?, &mut parameters, &[1e-3, -1e3])?;
/// // The first step has the size of the learning rate, whatever the gradient's.
/// assert!((parameters[0] - 0.9).abs() < 1e-5);
/// assert!((parameters[1] - 1.1).abs() < 1e-5);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    updates: u64,
    first: AlignedBuffer,
    second: AlignedBuffer,
}

impl Adam {
    /// Makes an optimiser with this learning rate and the defaults of [`AdamConfig`]. The first
    /// update refuses a rate that is outside the range that [`AdamConfig`] gives.
    pub fn new(learning_rate: f32) -> Self {
        Self::of(AdamConfig { learning_rate, ..AdamConfig::default() })
    }

    /// Makes an optimiser with these settings, before its first update.
    ///
    /// # Errors
    /// [`Error::Value`] if a setting is outside the range that [`AdamConfig`] gives.
    pub fn with_config(config: AdamConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::of(config))
    }

    fn of(config: AdamConfig) -> Self {
        Self { config, updates: 0, first: AlignedBuffer::empty(), second: AlignedBuffer::empty() }
    }

    /// Returns an optimiser that [clips](crate::clip_global_norm) the gradients to the global norm
    /// `limit` before each update of this one.
    pub fn clip_norm(&mut self, limit: f32) -> Clipped<'_> {
        Clipped::new(self, limit)
    }

    /// Returns the settings.
    pub fn config(&self) -> AdamConfig {
        self.config
    }

    /// Returns t, the number of updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Returns m, not corrected, one value for each parameter; empty before the first update.
    pub fn first_moment(&self) -> &[f32] {
        &self.first
    }

    /// Returns v, not corrected, one value for each parameter; empty before the first update.
    pub fn second_moment(&self) -> &[f32] {
        &self.second
    }

    /// Sets the learning rate α for later updates.
    ///
    /// # Errors
    /// [`Error::Value`] if the rate is outside the range that [`AdamConfig`] gives.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.config.learning_rate = check_adams_rate(learning_rate, self.config.beta1)?;
        Ok(())
    }

    /// Updates `parameters` once with `gradients`, which have the same length. The first update
    /// allocates m and v, later ones allocate nothing. A gradient of NaN makes its parameter and
    /// its moments NaN.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many parameters as in the first update, or not as many
    /// gradients as parameters; [`Error::Value`] if there are no parameters, or a setting is
    /// outside the range that [`AdamConfig`] gives; [`Error::OutOfMemory`] if m and v cannot be
    /// allocated. Nothing is written then.
    pub fn step(
        &mut self,
        isa: Isa,
        parameters: &mut [f32],
        gradients: &[f32],
    ) -> Result<(), Error> {
        self.config.check()?;
        check_lens(&self.first, parameters.len(), gradients.len())?;
        room_for(&mut self.first, parameters.len())?;
        room_for(&mut self.second, parameters.len())?;
        self.updates += 1;
        let AdamConfig { learning_rate, beta1, beta2, epsilon } = self.config;
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.updates as f64);
        let both = |beta: f32| [beta, (1.0 - f64::from(beta)) as f32];
        let rule = optim::Adam {
            beta1: both(beta1),
            beta2: both(beta2),
            rate: (f64::from(learning_rate) / correction(beta1)) as f32,
            root: (1.0 / correction(beta2).sqrt()) as f32,
            epsilon,
        };
        Ok(rule.step(isa, parameters, &mut self.first, &mut self.second, gradients)?)
    }
}

impl Optimizer for Adam {
    fn update(
        &mut self,
        runtime: Runtime,
        parameters: &mut Parameters,
        gradients: &mut Parameters,
    ) -> Result<(), Error> {
        self.step(runtime.isa(), parameters.as_mut_slice(), gradients.as_slice())
    }
}

impl AdamConfig {
    fn check(self) -> Result<(), Error> {
        check_decay("beta1", self.beta1)?;
        check_decay("beta2", self.beta2)?;
        check_adams_rate(self.learning_rate, self.beta1)?;
        if self.epsilon > 0.0 && self.epsilon.is_normal() {
            return Ok(());
        }
        let (given, expected) = (format!("{:e}", self.epsilon), "finite, 2⁻¹²⁶ or more".into());
        Err(Error::Value { what: "epsilon", given, expected })
    }
}

/// Returns the learning rate, or an error unless α / (1 − β₁) is finite. The first step multiplies
/// by this factor, later steps by a smaller one.
fn check_adams_rate(learning_rate: f32, beta1: f32) -> Result<f32, Error> {
    let rate = check_rate(learning_rate)?;
    if ((f64::from(rate) / (1.0 - f64::from(beta1))) as f32).is_finite() {
        return Ok(rate);
    }
    let given = format!("{rate:e} with a beta1 of {beta1}");
    Err(Error::Value {
        what: "learning_rate",
        given,
        expected: "finite when divided by 1 − beta1".into(),
    })
}
