//! A loss of the last step of each sequence. Must not know what the loss of a row is.

use super::{Loss, Outputs, TargetRows};
use crate::{Error, Runtime};

/// A loss of the outputs at the last step of each sequence alone, as in figure 10.5 of *Deep Learning*:
/// one output for the whole sequence. The targets of the loss within have one row for each sequence,
/// `[B, …]`, in the order in which the [`Schedule`](crate::Schedule) was given; a sequence without a step
/// has no loss, but a target that is checked like the others. Outputs of other steps have a gradient of
/// 0.
///
/// ```
/// use bptt::{Accumulate, Dense, Gru, LastStep, Network, Reset, Runtime, Schedule, SquaredError};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // A number for each sequence, of 3 and of 2 steps.
/// let network = Network::new(Gru::new(1, 8, Reset::After)?).then(Dense::new(8, 1)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::packed(&[3, 2])?)?;
/// let loss = LastStep::new(SquaredError::mean(&[0.5, -0.5]));
/// let value = model.gradients(&mut workspace, &[0.1, 0.2, 0.3, 0.4, 0.5], &loss, Accumulate::No)?;
/// assert!(value > 0.0);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LastStep<L> {
    loss: L,
}

impl<L: Loss> LastStep<L> {
    /// Makes `loss` see the last step of each sequence alone. It has to be a [sum over
    /// rows](Loss::is_sum_over_rows), which all losses of this crate are except those of whole
    /// sequences.
    pub fn new(loss: L) -> Self {
        Self { loss }
    }

    /// Returns the rows of targets: one for each sequence.
    fn targets(targets: &TargetRows<'_>) -> TargetRows<'static> {
        TargetRows::dense(1, targets.sequences())
    }

    /// Calls `of` with the outputs of each last step and the loss so far, which it returns in the end.
    fn each(
        &self,
        outputs: Outputs<'_>,
        of: impl Fn(Outputs<'_>) -> Result<f64, Error>,
    ) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far: mut value } = outputs;
        self.check(targets.clone(), size)?;
        let all = Self::targets(&targets);
        for (row, n) in targets.last_steps() {
            let (y, targets) = (&mut y[row * size..][..size], all.clone().within(n..n + 1));
            value = of(Outputs { y, size, targets, loss_so_far: value })?;
        }
        Ok(value)
    }
}

impl<L: Loss> Loss for LastStep<L> {
    /// # Errors
    /// Those of the loss within, for one row of targets for each sequence; [`Error::Mismatch`] if it is
    /// not a sum over rows.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        if !self.loss.is_sum_over_rows() {
            return Err(Error::Mismatch {
                what: "the loss of the last steps",
                given: "all outputs at once".into(),
                expected: "a sum over rows".into(),
            });
        }
        self.loss.check(Self::targets(&targets), size)
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.each(outputs, |row| self.loss.value(runtime, row))
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        // The rows between are cleared first, then the last steps are computed in their place.
        let mut is_last = targets.last_steps().map(|(row, _)| row).peekable();
        for (row, y) in y.chunks_exact_mut(size.max(1)).enumerate().rev() {
            match is_last.peek() == Some(&row) {
                true => drop(is_last.next()),
                false => y.fill(0.0),
            }
        }
        drop(is_last);
        let outputs = Outputs { y, size, targets: targets.clone(), loss_so_far };
        self.each(outputs, |row| self.loss.gradient(runtime, row))
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
