//! Stochastic gradient descent with momentum.

use super::checks::{check_decay, check_lens, check_rate, room_for};
use super::optimizer::{Clipped, Optimizer};
use crate::params::Parameters;
use crate::{Error, Isa, Runtime};
use bptt_kernels::{AlignedBuffer, optim};

/// The settings of [`Sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// The learning rate ε: finite, 0 or more.
    pub learning_rate: f32,
    /// The momentum α in [0, 1): the part of the velocity that is kept at each update. 0 is plain
    /// gradient descent.
    pub momentum: f32,
}

/// Stochastic gradient descent with momentum (Goodfellow et al., algorithm 8.2):
///
/// ```text
/// v ← α v − ε g
/// θ ← θ + v
/// ```
///
/// An `Sgd` serves one buffer of parameters, for which it keeps v. Denormals count as zero, as in a
/// pass. A parameter with v = 0 and a gradient of 0 stays where it is, with any settings.
///
/// ```
/// use bptt::{Isa, Sgd};
///
/// let mut sgd = Sgd::new(0.5).with_momentum(0.5)?;
/// let mut parameters = [1.0, 1.0];
/// sgd.step(Isa::best()?, &mut parameters, &[1.0, 0.0])?; // v = −0.5, 0
/// sgd.step(Isa::best()?, &mut parameters, &[1.0, 0.0])?; // v = −0.75, 0
/// assert_eq!(parameters, [-0.25, 1.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    config: SgdConfig,
    velocity: AlignedBuffer,
}

impl Sgd {
    /// Makes an optimiser with this learning rate and no momentum. The first update refuses a rate
    /// that is not finite or is below 0.
    pub fn new(learning_rate: f32) -> Self {
        Self::of(SgdConfig { learning_rate, momentum: 0.0 })
    }

    /// Makes an optimiser with these settings, before its first update.
    ///
    /// # Errors
    /// [`Error::Value`] if a setting is outside the range that [`SgdConfig`] gives.
    pub fn with_config(config: SgdConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::of(config))
    }

    fn of(config: SgdConfig) -> Self {
        Self { config, velocity: AlignedBuffer::empty() }
    }

    /// Sets the momentum α.
    ///
    /// # Errors
    /// [`Error::Value`] if a setting is outside the range that [`SgdConfig`] gives.
    pub fn with_momentum(mut self, momentum: f32) -> Result<Self, Error> {
        self.config.momentum = momentum;
        self.config.check()?;
        Ok(self)
    }

    /// Returns an optimiser that [clips](crate::clip_global_norm) the gradients to the global norm
    /// `limit` before each update of this one.
    pub fn clip_norm(&mut self, limit: f32) -> Clipped<'_> {
        Clipped::new(self, limit)
    }

    /// Returns the settings.
    pub fn config(&self) -> SgdConfig {
        self.config
    }

    /// Returns v, one value for each parameter; empty before the first update.
    pub fn velocity(&self) -> &[f32] {
        &self.velocity
    }

    /// Sets the learning rate ε for later updates.
    ///
    /// # Errors
    /// [`Error::Value`] if the rate is not finite or is below 0.
    pub fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), Error> {
        self.config.learning_rate = check_rate(learning_rate)?;
        Ok(())
    }

    /// Updates `parameters` once with `gradients`, which have the same length. The first update
    /// allocates v, later ones allocate nothing. A gradient that is not finite makes its parameter
    /// and its velocity not finite.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not as many parameters as in the first update, or not as many
    /// gradients as parameters; [`Error::Value`] if there are no parameters, or a setting is
    /// outside the range that [`SgdConfig`] gives; [`Error::OutOfMemory`] if v cannot be allocated.
    /// Nothing is written then.
    pub fn step(
        &mut self,
        isa: Isa,
        parameters: &mut [f32],
        gradients: &[f32],
    ) -> Result<(), Error> {
        self.config.check()?;
        check_lens(&self.velocity, parameters.len(), gradients.len())?;
        room_for(&mut self.velocity, parameters.len())?;
        let SgdConfig { learning_rate, momentum } = self.config;
        let rule = optim::Momentum { learning_rate, momentum };
        Ok(rule.step(isa, parameters, &mut self.velocity, gradients)?)
    }
}

impl Optimizer for Sgd {
    fn update(
        &mut self,
        runtime: Runtime,
        parameters: &mut Parameters,
        gradients: &mut Parameters,
    ) -> Result<(), Error> {
        self.step(runtime.isa(), parameters.as_mut_slice(), gradients.as_slice())
    }
}

impl SgdConfig {
    fn check(self) -> Result<(), Error> {
        check_rate(self.learning_rate)?;
        check_decay("momentum", self.momentum)
    }
}
