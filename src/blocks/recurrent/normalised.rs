//! A wrapper that adds layer normalisation to the gates of a layer.

use super::layer::Layer;
use super::spec::Recurrent;
use crate::Error;
use crate::blocks::Config;

/// A layer whose gates are normalised before their non-linearity, over the units of each gate (Ba
/// et al. 2016). Wherever the layer's equations have `b + a`, with `a = U x + W h₋`, this layer has
///
/// ```text
/// b + γ ⊙ (a − μ) / √(σ² + ε)
/// ```
///
/// with the mean μ and the variance σ² of the gate's H values of a. There is a gain γ `[H]` for
/// each gate, a parameter that starts as 1. Peepholes are added after normalisation, and
/// projections are not normalised. A GRU with its reset gate after the product has two sums in its
/// candidate and normalises each:
/// `n = φ(b_n + γ_n ⊙ norm(U_n x) + r ⊙ (b_hn + γ_hn ⊙ norm(W_n h₋)))`.
///
/// Beside the parameters of the inner layer there is `gain`, γ `[G, H]` in the order of the gates,
/// and in a GRU with its reset gate after the product also `gain_hn` `[H]`. The state is the state
/// of the inner layer.
///
/// ```
/// use bptt::{LayerNorm, Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(LayerNorm::new(Lstm::new(8, 16)?)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// assert_eq!(model.parameters().tensor("0.gain")?, [1.0; 4 * 16]);
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    layer: Recurrent,
    epsilon: f32,
}

impl LayerNorm {
    /// Normalises the gates of `layer`, with an ε of 10⁻⁵. A [`Clockwork`](crate::Clockwork), which
    /// has no gate of all units at once, is not a [`Layer`] and cannot be normalised:
    ///
    /// ```compile_fail,E0277
    /// # use bptt::{Activation, ClockGroup, Clockwork, LayerNorm};
    /// let clockwork = Clockwork::new(2, Activation::Tanh, &[ClockGroup { units: 5, period: 1 }])?;
    /// let normed = LayerNorm::new(clockwork)?;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if `layer` is normalised already; [`Error::TooLarge`] if the parameters do
    /// not fit the address space.
    pub fn new(layer: impl Layer) -> Result<Self, Error> {
        let layer = layer.recurrent();
        if layer.is_normed() {
            let expected = "one that is not normalised yet".into();
            return Err(Error::Value { what: "layer", given: layer.config.to_string(), expected });
        }
        let normalised = Self { layer, epsilon: 1e-5 };
        normalised.recurrent().check()?;
        Ok(normalised)
    }

    /// Sets ε.
    ///
    /// # Errors
    /// [`Error::Value`] unless `epsilon` is positive and finite.
    pub fn with_epsilon(self, epsilon: f32) -> Result<Self, Error> {
        if epsilon > 0.0 && epsilon.is_finite() {
            return Ok(Self { epsilon, ..self });
        }
        let (given, expected) = (epsilon.to_string(), "positive and finite".into());
        Err(Error::Value { what: "epsilon", given, expected })
    }

    /// Returns ε.
    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }
}

impl Layer for LayerNorm {
    fn recurrent(&self) -> Recurrent {
        let (layer, epsilon) = (self.layer.clone(), self.epsilon);
        let config =
            Config::new("LayerNorm").with("layer", layer.config.clone()).with("epsilon", epsilon);
        Recurrent { config, epsilon: Some(epsilon), ..layer }
    }
}
