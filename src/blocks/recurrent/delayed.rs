//! A wrapper that gives a layer its input a step late.

use super::layer::Layer;
use super::spec::Recurrent;
use crate::Error;
use crate::blocks::Config;

/// A layer whose step t sees the input of step t − 1: `h⁽ᵗ⁾` is a function of `h⁽ᵗ⁻¹⁾` and
/// `x⁽ᵗ⁻¹⁾`, as in the book's gated recurrent unit (equation 10.45). The parameters are the
/// parameters of the inner layer. The state is its state, followed by `x` `[B, I]`, the input that
/// waits for the next step.
///
/// The book's unit, in which all gates see `x⁽ᵗ⁻¹⁾` and the candidate is logistic:
///
/// ```
/// use bptt::{Candidate, Delayed, Gru, Network, Reset, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let gru = Gru::new(2, 5, Reset::Before)?.with_candidate(Candidate::Logistic);
/// let network = Network::new(Delayed::new(gru)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut stream = model.stream(1)?;
/// let mut y = [0.0; 5];
/// stream.step(&[0.5, -0.5], &mut y)?; // sees zero
/// stream.step(&[0.0, 0.0], &mut y)?; // sees 0.5 and −0.5
/// assert_eq!(stream.state()?.tensor("0.x")?, [0.0, 0.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Delayed {
    layer: Recurrent,
}

impl Delayed {
    /// Gives `layer` its input a step late. A [`Clockwork`](crate::Clockwork), whose groups see the
    /// input at steps of their own, is not a [`Layer`] and cannot be delayed:
    ///
    /// ```compile_fail,E0277
    /// # use bptt::{Activation, ClockGroup, Clockwork, Delayed};
    /// let clockwork = Clockwork::new(2, Activation::Tanh, &[ClockGroup { units: 5, period: 1 }])?;
    /// let late = Delayed::new(clockwork)?;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if `layer` already gets its input a step late.
    pub fn new(layer: impl Layer) -> Result<Self, Error> {
        let layer = layer.recurrent();
        if layer.late {
            let expected = "one whose input is not late yet".into();
            return Err(Error::Value { what: "layer", given: layer.config.to_string(), expected });
        }
        Ok(Self { layer })
    }
}

impl Layer for Delayed {
    fn recurrent(&self) -> Recurrent {
        let layer = self.layer.clone();
        let config = Config::new("Delayed").with("layer", layer.config.clone());
        Recurrent { config, late: true, ..layer }
    }
}
