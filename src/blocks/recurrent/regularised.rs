//! A wrapper that adds noise to the recurrence of a layer.

use super::layer::Layer;
use super::spec::Recurrent;
use crate::Error;
use crate::blocks::Config;
use crate::regularisation::Regularisation;

/// A layer with noise in the recurrence of its training passes. Streams draw no noise; with zoneout
/// they use its mean instead: see [`Regularisation`].
///
/// ```
/// use bptt::{Lstm, Network, Regularisation, Regularised, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let noise = Regularisation::none().with_dropout(0.25)?.with_zoneout(0.1, 0.05)?;
/// let network = Network::new(Regularised::new(Lstm::new(8, 16)?, noise)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(20, 4))?;
/// let x = [0.1; 20 * 4 * 8];
/// let first = model.forward(&mut workspace, &x)?.to_vec();
/// assert_eq!(model.forward(&mut workspace, &x)?, first); // drawn from the same seed
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Regularised {
    layer: Recurrent,
    regularisation: Regularisation,
}

impl Regularised {
    /// Adds this noise to `layer`. A [`Clockwork`](crate::Clockwork), whose units move at periods
    /// of their own, is not a [`Layer`] and cannot have noise:
    ///
    /// ```compile_fail,E0277
    /// # use bptt::{Activation, ClockGroup, Clockwork, Regularisation, Regularised};
    /// let clockwork = Clockwork::new(2, Activation::Tanh, &[ClockGroup { units: 5, period: 1 }])?;
    /// let noisy = Regularised::new(clockwork, Regularisation::none())?;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if `layer` has noise already, or if there is zoneout of the cell state and
    /// `layer` has no cell state.
    pub fn new(layer: impl Layer, regularisation: Regularisation) -> Result<Self, Error> {
        let layer = layer.recurrent();
        if layer.regularisation != Regularisation::none() {
            let expected = "one without noise".into();
            return Err(Error::Value { what: "layer", given: layer.config.to_string(), expected });
        }
        regularisation.check(layer.geometry().cells)?;
        Ok(Self { layer, regularisation })
    }
}

impl Layer for Regularised {
    fn recurrent(&self) -> Recurrent {
        let (layer, regularisation) = (self.layer.clone(), self.regularisation);
        let [hidden, cell] = regularisation.zoneout();
        let config = Config::new("Regularised")
            .with("layer", layer.config.clone())
            .with("dropout", regularisation.dropout())
            .with("zoneout_hidden", hidden)
            .with("zoneout_cell", cell);
        Recurrent { config, regularisation, ..layer }
    }
}
