//! The error of a signal relative to its energy.

use super::outputs::{Outputs, SequenceRows, TargetRows};
use super::reduction::{Counting, Reduction};
use super::{Loss, bounded, finite};
use crate::error::{check_len, product};
use crate::{Error, Runtime};

/// The error-to-signal ratio, by which models of amplifiers and other audio effects are trained
/// (Damskägg et al. 2019; Wright et al. 2019, 2020): the energy of the error relative to that of the
/// target. For N outputs y with the targets t it is
///
/// ```text
/// Σ (y − t)² / N  ÷  (Σ t² / N + ε)
/// ```
///
/// with ε = 10⁻⁵, so that it is defined where the target is silent; see
/// [`with_epsilon`](Self::with_epsilon). The targets are `[rows, outputs]`, and each output of a row is
/// a channel.
///
/// [`with_pre_emphasis`](Self::with_pre_emphasis) filters targets and outputs first, and
/// [`with_dc`](Self::with_dc) adds the ratio of the offset. The steps of a sequence follow one another
/// also where it is cut by [resets](crate::Schedule::with_resets). An
/// output of ±∞ counts as the largest f32 of its sign.
///
/// ```
/// use bptt::{ErrorToSignal, Loss, Outputs, Runtime};
///
/// let loss = ErrorToSignal::mean(&[1.0, -1.0, 1.0, -1.0]).with_epsilon(0.0)?;
/// let mut y = [0.5, -0.5, 0.5, -0.5];
/// assert_eq!(loss.value(Runtime::best()?, Outputs::new(&mut y, 1))?, 0.25);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorToSignal<'a> {
    targets: &'a [f32],
    counting: Counting<'a>,
    epsilon: f64,
    pre_emphasis: f64,
    has_dc: bool,
}

impl<'a> ErrorToSignal<'a> {
    /// Makes a loss that is one ratio of the energies of all sequences together.
    pub fn mean(targets: &'a [f32]) -> Self {
        Self::new(targets, Reduction::Mean)
    }

    /// Makes a loss that is the sum of the ratios of all sequences.
    pub fn sum(targets: &'a [f32]) -> Self {
        Self::new(targets, Reduction::Sum)
    }

    /// Makes a loss that is the mean of the ratios of the sequences. Those without a step that counts
    /// have the ratio 0.
    pub fn mean_over_sequences(targets: &'a [f32]) -> Self {
        Self::new(targets, Reduction::MeanOverSequences)
    }

    fn new(targets: &'a [f32], reduction: Reduction) -> Self {
        let counting = Counting::new(reduction);
        Self { targets, counting, epsilon: 1e-5, pre_emphasis: 0.0, has_dc: false }
    }

    /// Makes only those rows count for which `mask` `[rows]` is true, such as those after a warm-up:
    /// each sequence is taken as if it had no other steps. Their targets are not read, and their
    /// gradients are 0.
    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { counting: self.counting.with_mask(mask), ..self }
    }

    /// Sets ε, which is added to the mean energy of the target. With 0, a silent target makes the
    /// loss and the gradient 0.
    ///
    /// # Errors
    /// [`Error::Value`] if it is negative or not finite.
    pub fn with_epsilon(self, epsilon: f32) -> Result<Self, Error> {
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            let (given, expected) = (epsilon.to_string(), "0 or more and finite".into());
            return Err(Error::Value { what: "epsilon", given, expected });
        }
        Ok(Self { epsilon: epsilon.into(), ..self })
    }

    /// Filters targets and outputs by `1 − c z⁻¹` before they are compared, so that high frequencies
    /// count for more: each value less c times the one at the step before. c is 0.95 with Damskägg et
    /// al. and 0.85 with Wright et al.
    ///
    /// # Errors
    /// [`Error::Value`] if c is not from −1 to 1.
    pub fn with_pre_emphasis(self, coefficient: f32) -> Result<Self, Error> {
        if !(-1.0..=1.0).contains(&coefficient) {
            let (given, expected) = (coefficient.to_string(), "-1 to 1".into());
            return Err(Error::Value { what: "pre-emphasis", given, expected });
        }
        Ok(Self { pre_emphasis: coefficient.into(), ..self })
    }

    /// Adds the ratio of the offset (Wright et al. 2020): in each channel the square of the mean error,
    /// averaged over the channels, relative to the mean energy of the target plus ε. Neither is
    /// filtered.
    pub fn with_dc(self) -> Self {
        Self { has_dc: true, ..self }
    }

    /// Returns the rows of each sequence that count, or an error if the targets do not fit.
    fn checked(&self, targets: &TargetRows<'_>, size: usize) -> Result<SequenceRows, Error> {
        check_len("targets", self.targets.len(), product("targets", &[targets.given(), size])?)?;
        self.counting.check(targets)?;
        let mut rows = targets.in_time()?;
        rows.retain(|row| self.counting.counts(targets.target(row)));
        for row in (0..targets.count()).map(|row| targets.target(row)) {
            let own = &self.targets[row * size..][..size];
            let wrong = own.iter().find(|target| !target.is_finite());
            if let (Some(target), true) = (wrong, self.counting.counts(row)) {
                let given = format!("{target} in row {row}");
                return Err(Error::Value { what: "target", given, expected: "finite".into() });
            }
        }
        Ok(rows)
    }

    /// Returns the loss and, if `write` is true, overwrites the outputs with its gradient.
    fn run(&self, outputs: Outputs<'_>, write: bool) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        check_len("y", y.len(), product("y", &[targets.count(), size])?)?;
        let rows = self.checked(&targets, size)?;
        let scale = match self.counting.reduction {
            Reduction::Mean | Reduction::Sum => 1.0,
            Reduction::MeanOverSequences => 1.0 / rows.count() as f64,
        };
        // The sequences that share a ratio.
        let together = match self.counting.reduction {
            Reduction::Mean => rows.count(),
            Reduction::Sum | Reduction::MeanOverSequences => 1,
        };
        let mut signal = Signal { y, targets: self.targets, order: &targets, size };
        let (mut value, mut before) = (loss_so_far, vec![0.0; size]);
        for first in (0..rows.count()).step_by(together) {
            let group = (first..first + together).map(|n| rows.of(n));
            let mut sums = Sums { offsets: vec![0.0; size], ..Sums::default() };
            group.clone().for_each(|rows| sums.add(&signal, rows, self.pre_emphasis));
            let ratio = self.ratio(&sums, scale);
            value += ratio.value;
            if write {
                group.for_each(|rows| {
                    signal.write_gradient(rows, self.pre_emphasis, &ratio, &sums, &mut before);
                });
            }
        }
        if write {
            let counts = |row: &usize| self.counting.counts(targets.target(*row));
            for row in (0..targets.count()).filter(|row| !counts(row)) {
                signal.y[row * size..][..size].fill(0.0);
            }
        }
        Ok(value)
    }

    /// Returns `scale` times the ratio of what was summed.
    fn ratio(&self, sums: &Sums, scale: f64) -> Ratio {
        // Each sum is divided by the number of its elements and the mean energy.
        let over = |energy: f64| match energy + self.epsilon * sums.elements {
            0.0 => 0.0,
            energy => scale / energy,
        };
        let (by_error, by_offset) = (over(sums.energy), over(sums.plain_energy));
        let mut ratio = Ratio { value: by_error * sums.error, by_error, by_offset: 0.0 };
        if self.has_dc && sums.elements > 0.0 {
            let steps = sums.elements / sums.offsets.len() as f64;
            // Σ over the channels of (Σ e / steps)² / channels, relative to the mean energy.
            ratio.by_offset = by_offset / steps;
            let squares: f64 = sums.offsets.iter().map(|offset| offset * offset).sum();
            ratio.value += ratio.by_offset * squares;
        }
        ratio
    }
}

/// Outputs and targets by their row and channel.
struct Signal<'s> {
    y: &'s mut [f32],
    targets: &'s [f32],
    order: &'s TargetRows<'s>,
    size: usize,
}

impl Signal<'_> {
    fn target(&self, row: usize, channel: usize) -> f64 {
        self.targets[self.order.target(row) * self.size + channel].into()
    }

    fn error(&self, row: usize, channel: usize) -> f64 {
        bounded(self.y[row * self.size + channel]) - self.target(row, channel)
    }

    /// Overwrites the outputs of a sequence with the gradient: with the filtered error f of each step
    /// it is `fₙ − c fₙ₊₁`, scaled, and the offset's part.
    fn write_gradient(
        &mut self,
        rows: &[usize],
        pre_emphasis: f64,
        ratio: &Ratio,
        sums: &Sums,
        before: &mut [f64],
    ) {
        before.fill(0.0);
        for (step, &row) in rows.iter().enumerate() {
            for channel in 0..self.size {
                let error = self.error(row, channel);
                let filtered = error - pre_emphasis * before[channel];
                let next = rows
                    .get(step + 1)
                    .map_or(0.0, |&next| self.error(next, channel) - pre_emphasis * error);
                let by_error = ratio.by_error * (filtered - pre_emphasis * next);
                let by_offset = ratio.by_offset * sums.offsets[channel];
                self.y[row * self.size + channel] = finite(2.0 * (by_error + by_offset));
                before[channel] = error;
            }
        }
    }
}

/// What the ratio of some sequences is made of.
#[derive(Default)]
struct Sums {
    /// The number of outputs.
    elements: f64,
    /// Σ of the squares of the filtered errors.
    error: f64,
    /// Σ of the squares of the filtered targets, and of the targets.
    energy: f64,
    plain_energy: f64,
    /// Σ of the errors of each channel.
    offsets: Vec<f64>,
}

impl Sums {
    fn add(&mut self, signal: &Signal<'_>, rows: &[usize], pre_emphasis: f64) {
        self.elements += (rows.len() * signal.size) as f64;
        for (step, &row) in rows.iter().enumerate() {
            let before = step.checked_sub(1).map(|before| rows[before]);
            for channel in 0..signal.size {
                let filtered = |of: &dyn Fn(usize) -> f64| {
                    of(row) - before.map_or(0.0, |before| pre_emphasis * of(before))
                };
                let (error, target) =
                    (|row| signal.error(row, channel), |row| signal.target(row, channel));
                self.error += filtered(&error).powi(2);
                self.energy += filtered(&target).powi(2);
                self.plain_energy += target(row).powi(2);
                self.offsets[channel] += error(row);
            }
        }
    }
}

/// A ratio, and by what its sums are multiplied in it.
struct Ratio {
    value: f64,
    /// The factor of the squares of the filtered errors.
    by_error: f64,
    /// The factor of the squares of the offsets.
    by_offset: f64,
}

impl Loss for ErrorToSignal<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one target for each output, or not one mask value for each
    /// row; [`Error::Value`] if a target of a row that counts is not finite; [`Error::Mismatch`] if the
    /// outputs come in several parts.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.checked(&targets, size).map(|_| ())
    }

    fn value(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.run(outputs, false)
    }

    fn gradient(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.run(outputs, true)
    }
}
