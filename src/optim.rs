//! Optimisers: how gradients become updates of the parameters.

use crate::error::{check_len, check_size};
use crate::{Error, Isa};
use bptt_kernels::{AlignedBuffer, optim};

/// The settings of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// ε: finite, 0 or more.
    pub learning_rate: f32,
    /// α: the part of the velocity that stays, in [0, 1). 0 is plain gradient
    /// descent.
    pub momentum: f32,
}

/// Stochastic gradient descent with momentum (Goodfellow et al., algorithm 8.2):
///
/// ```text
/// v ← α v − ε g
/// θ ← θ + v
/// ```
///
/// One is made for each parameter buffer, and keeps its v. Denormals count as zero, as in a
/// pass. A gradient of 0 leaves a parameter at rest where it is, with any settings.
///
/// ```
/// use bptt::{Isa, Sgd, SgdConfig};
///
/// let config = SgdConfig { learning_rate: 0.5, momentum: 0.5 };
/// let mut sgd = Sgd::new(2, config, Isa::best()?)?;
/// let mut parameters = [1.0, 1.0];
/// sgd.step(&mut parameters, &[1.0, 0.0])?; // v = −0.5, 0
/// sgd.step(&mut parameters, &[1.0, 0.0])?; // v = −0.75, 0
/// assert_eq!(parameters, [-0.25, 1.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    config: SgdConfig,
    isa: Isa,
    velocity: AlignedBuffer,
}

impl Sgd {
    /// For `parameters` parameters, at rest.
    ///
    /// # Errors
    /// [`Error::Value`] where `parameters` is 0 or a setting is not what [`SgdConfig`]
    /// says, [`Error::OutOfMemory`].
    pub fn new(parameters: usize, config: SgdConfig, isa: Isa) -> Result<Self, Error> {
        check_size("parameters", parameters)?;
        check_rate(config.learning_rate)?;
        check_decay("momentum", config.momentum)?;
        Ok(Self { config, isa, velocity: AlignedBuffer::try_new(parameters)? })
    }

    /// The settings.
    pub fn config(&self) -> SgdConfig {
        self.config
    }

    /// v, one for each parameter.
    pub fn velocity(&self) -> &[f32] {
        &self.velocity
    }

    /// Sets ε for the steps to come.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not finite or below 0.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.config.learning_rate = check_rate(learning_rate)?;
        Ok(())
    }

    /// One update; allocates nothing. A gradient that is not finite reaches the
    /// parameter and its velocity.
    ///
    /// # Errors
    /// [`Error::Length`] where there are not as many as this was made for; nothing is
    /// written then.
    pub fn step(&mut self, parameters: &mut [f32], gradients: &[f32]) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.velocity.len())?;
        check_len("gradients", gradients.len(), self.velocity.len())?;
        let SgdConfig { learning_rate, momentum } = self.config;
        let rule = optim::Momentum { learning_rate, momentum };
        Ok(rule.step(self.isa, parameters, &mut self.velocity, gradients)?)
    }
}

/// The settings of [`Adam`]; the paper's by default: α = 0.001, β₁ = 0.9, β₂ = 0.999,
/// ε = 10⁻⁸.
///
/// In the accepted range a parameter that has had no gradient yet stays where it is. Its
/// moments are 0, and a step subtracts `0 · α / (1 − β₁ᵗ)` over `0 / √(1 − β₂ᵗ) + ε`: that is 0
/// where both factors are finite and ε is not flushed to 0. The first is largest at t = 1,
/// `α / (1 − β₁)`, which the range of α keeps below 2¹²⁸; the second is 2¹² at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// α: 0 or more, with `α / (1 − β₁)` finite in f32, as it is below 2¹⁰⁴ for any β₁.
    pub learning_rate: f32,
    /// β₁: the part of the first moment that stays, in [0, 1).
    pub beta1: f32,
    /// β₂: the part of the second moment that stays, in [0, 1).
    pub beta2: f32,
    /// ε: finite, and 2⁻¹²⁶ or more, since below that it would count as 0.
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
/// One is made for each parameter buffer, and keeps its m and v. They are f32: a
/// gradient beyond √(2¹²⁸ / (1 − β₂)), 5.8·10²⁰ by default, makes v infinite, and the
/// parameter stands still from then on. Denormals count as zero, as in a pass: of a gradient
/// below √(2⁻¹²⁶ / (1 − β₂)), 3.4·10⁻¹⁸ by default, v is 0, and its step is α m̂ / ε, which with
/// an ε of that size or more is no larger than α. The corrections are computed in f64.
///
/// ```
/// use bptt::{Adam, AdamConfig, Isa};
///
/// let config = AdamConfig { learning_rate: 0.1, ..AdamConfig::default() };
/// let mut adam = Adam::new(2, config, Isa::best()?)?;
/// let mut parameters = [1.0, 1.0];
/// adam.step(&mut parameters, &[1e-3, -1e3])?;
/// // The first step has the size of the learning rate, whatever the gradient's.
/// assert!((parameters[0] - 0.9).abs() < 1e-5);
/// assert!((parameters[1] - 1.1).abs() < 1e-5);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    isa: Isa,
    updates: u64,
    first: AlignedBuffer,
    second: AlignedBuffer,
}

impl Adam {
    /// For `parameters` parameters, before the first update.
    ///
    /// # Errors
    /// [`Error::Value`] where `parameters` is 0 or a setting is not what [`AdamConfig`]
    /// says, [`Error::OutOfMemory`].
    pub fn new(parameters: usize, config: AdamConfig, isa: Isa) -> Result<Self, Error> {
        check_size("parameters", parameters)?;
        check_decay("beta1", config.beta1)?;
        check_decay("beta2", config.beta2)?;
        check_adams_rate(config.learning_rate, config.beta1)?;
        if !(config.epsilon > 0.0 && config.epsilon.is_normal()) {
            let (given, expected) =
                (format!("{:e}", config.epsilon), "finite, 2⁻¹²⁶ or more".into());
            return Err(Error::Value { what: "epsilon", given, expected });
        }
        let (first, second) =
            (AlignedBuffer::try_new(parameters)?, AlignedBuffer::try_new(parameters)?);
        Ok(Self { config, isa, updates: 0, first, second })
    }

    /// The settings.
    pub fn config(&self) -> AdamConfig {
        self.config
    }

    /// t, the number of updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// m, one for each parameter, not corrected.
    pub fn first_moment(&self) -> &[f32] {
        &self.first
    }

    /// v, one for each parameter, not corrected.
    pub fn second_moment(&self) -> &[f32] {
        &self.second
    }

    /// Sets α for the steps to come.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not what [`AdamConfig`] says.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.config.learning_rate = check_adams_rate(learning_rate, self.config.beta1)?;
        Ok(())
    }

    /// One update; allocates nothing. A gradient that is NaN reaches the parameter
    /// and its moments.
    ///
    /// # Errors
    /// [`Error::Length`] where there are not as many as this was made for; nothing is
    /// written then.
    pub fn step(&mut self, parameters: &mut [f32], gradients: &[f32]) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.first.len())?;
        check_len("gradients", gradients.len(), self.first.len())?;
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
        Ok(rule.step(self.isa, parameters, &mut self.first, &mut self.second, gradients)?)
    }
}

fn check_rate(learning_rate: f32) -> Result<f32, Error> {
    if learning_rate >= 0.0 && learning_rate.is_finite() {
        return Ok(learning_rate);
    }
    let (given, expected) = (learning_rate.to_string(), "finite, 0 or more".into());
    Err(Error::Value { what: "learning_rate", given, expected })
}

/// Adam's multiplies by α / (1 − β₁) in its first step, and by less in later ones.
fn check_adams_rate(learning_rate: f32, beta1: f32) -> Result<f32, Error> {
    let rate = check_rate(learning_rate)?;
    if ((f64::from(rate) / (1.0 - f64::from(beta1))) as f32).is_finite() {
        return Ok(rate);
    }
    let given = format!("{rate:e} with a beta1 of {beta1}");
    Err(Error::Value {
        what: "learning_rate",
        given,
        expected: "finite divided by 1 − beta1".into(),
    })
}

fn check_decay(what: &'static str, decay: f32) -> Result<(), Error> {
    if (0.0..1.0).contains(&decay) {
        return Ok(());
    }
    Err(Error::Value { what, given: decay.to_string(), expected: "0 or more and below 1".into() })
}
