//! Dropout between layers. Knows rows and keys; must not know recurrence.

use super::identity::{Identity, copy};
use super::{Backward, Block, Config, Forward, Pass, Plan, Steps, StreamPlan};
use crate::error::check_size;
use crate::memory::Region;
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Isa};
use bptt_kernels::rowwise::{Strided, StridedMut, drop_out};

/// Dropout between layers (Srivastava et al. 2014): in training `y = m ⊙ x`, where each m of each row
/// is 0 with the given probability p and `1 / (1 − p)` otherwise. In inference, which is
/// [`evaluate`](crate::Model::evaluate) and streams, `y = x`. For dropout within the recurrence see
/// [`Regularised`](crate::Regularised).
///
/// Each mask is drawn by the [seed](crate::Noise) of the pass, the step, the sequence, the feature and
/// the place of the block in the network, and drawn again by the backward pass. So it is the same on
/// any number of threads, alone or in a batch, and when a [budget](crate::Training::with_budget) makes
/// parts of a pass run again. A pass keeps 2 floats a row.
///
/// ```
/// use bptt::{Dense, Dropout, Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(2, 16)?)
///     .then(Dropout::new(16, 0.5)?)
///     .then(Lstm::new(16, 16)?)
///     .then(Dense::new(16, 1)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(4, 1))?;
/// model.forward(&mut workspace, &[0.5; 4 * 2])?;
/// assert!(workspace.activations("1.y")?.contains(&0.0));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    size: usize,
    probability: f32,
}

impl Dropout {
    /// Makes dropout of `size` features with this probability.
    ///
    /// # Errors
    /// [`Error::Value`] if `size` is 0, or `probability` is not 0 or more and below 1.
    pub fn new(size: usize, probability: f32) -> Result<Self, Error> {
        check_size("size", size)?;
        if (0.0..1.0).contains(&probability) {
            return Ok(Self { size, probability });
        }
        let (given, expected) = (probability.to_string(), "0 or more and below 1".into());
        Err(Error::Value { what: "dropout", given, expected })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size", "probability"])?;
        Self::new(config.size("size")?, config.number("probability")?)
    }
}

impl Block for Dropout {
    fn config(&self) -> Config {
        Config::new("Dropout").with("size", self.size).with("probability", self.probability)
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.size)
    }

    fn output_size(&self) -> usize {
        self.size
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let schedule = plan.schedule.clone();
        let keys = plan.layout.book(&[schedule.checked_rows()?, 2])?;
        Ok(Box::new(DropoutPass { dropout: *self, isa: plan.runtime.isa(), schedule, keys }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Identity::new(self.size)?.stream(plan)
    }
}

/// A planned pass of dropout. Its memory is a key for each row.
#[derive(Debug)]
struct DropoutPass {
    dropout: Dropout,
    isa: Isa,
    schedule: Schedule,
    keys: Region,
}

impl Pass for DropoutPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, noise, mode, threads, .. } = forward;
        let Dropout { size, probability } = self.dropout;
        let rows = self.schedule.rows();
        let x = x.features(rows, size)?;
        if !mode.training {
            let from = Strided { values: x, stride: size };
            copy(size, from, StridedMut { values: y, stride: y_stride });
            return Ok(());
        }
        let keys: &mut [u32] = bytemuck::cast_slice_mut(self.keys.of_mut(memory));
        noise.derive_keys(&self.schedule, keys);
        let from = Strided { values: x, stride: size };
        let to = StridedMut { values: y, stride: y_stride };
        Ok(drop_out(self.isa, (probability, keys), (rows, size), from, to, threads)?)
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { dy, dy_stride, memory, dx, threads, .. } = backward;
        let Some(dx) = dx else { return Ok(()) };
        let Dropout { size, probability } = self.dropout;
        let keys: &[u32] = bytemuck::cast_slice(self.keys.of(memory));
        let from = Strided { values: dy, stride: dy_stride };
        let to = StridedMut { values: dx, stride: size };
        let rows = (self.schedule.rows(), size);
        Ok(drop_out(self.isa, (probability, keys), rows, from, to, threads)?)
    }

    fn reads_output(&self) -> bool {
        false
    }
}
