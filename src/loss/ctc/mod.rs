//! Connectionist temporal classification: label sequences that are shorter than their inputs. Knows
//! which rows are whose and how losses become one value; must not know alignments.

mod alignment;

use super::Loss;
use super::finite;
use super::outputs::{Outputs, SequenceRows, TargetRows};
use super::reduction::{Counting, Reduction};
use crate::error::{check_len, check_optional, product};
use crate::{Error, Runtime};
use alignment::{Alignment, Labels};
use bptt_kernels::softmax::{log_sum_exp, softmax};

/// Connectionist temporal classification (Graves et al. 2006): the negative log-likelihood of label
/// sequences when nobody knows which step has which label, in nats.
///
/// At each step the softmax of the outputs gives the probability of each label, and of the *blank*,
/// which is output 0 unless [`with_blank`](Self::with_blank) sets it. A path has one of these for each
/// step; what is left without its repetitions and then without its blanks is its labelling. The
/// loss of a sequence is `−log p(l | x)`, where p is the sum over all paths whose labelling is the
/// target l (equation 3). Its gradient is `ŷ − γ` (equation 16). There ŷ is the softmax of the outputs,
/// and γ is the probability of each label at that step given the target.
/// Everything is computed in logarithms, in f64.
///
/// The labels of all sequences are one after the other in one slice, in the order in which the
/// [`Schedule`](crate::Schedule) was given. A target may be empty.
///
/// A target of n labels, of which r are the same as the label before them, needs n + r steps. Shorter
/// sequences have no path and an infinite loss, so they are refused, unless
/// [`with_zero_infinity`](Self::with_zero_infinity) makes them count as 0.
///
/// An output of −∞ counts as the least f32. A NaN, a +∞ or a row with nothing but −∞ makes the loss
/// and the gradient of its sequence NaN. Every call allocates `2 T (2n + 1)` floats of 64 bits, of the
/// sequence in which that is most, and a few words for each row.
///
/// ```
/// use bptt::{Accumulate, Ctc, Dense, Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // Four labels beside the blank.
/// let network = Network::new(Lstm::new(2, 8)?).then(Dense::new(8, 5)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::packed(&[9, 6])?)?;
/// // The first sequence has the labels 3, 1, 1 and the second one has 4, 2.
/// let loss = Ctc::mean_over_sequences(&[3, 1, 1, 4, 2], &[3, 2]);
/// assert!(model.gradients(&mut workspace, &[0.5; 15 * 2], &loss, Accumulate::No)? > 0.0);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ctc<'a> {
    labels: &'a [u32],
    lengths: &'a [usize],
    counting: Counting<'a>,
    blank: u32,
    zero_infinity: bool,
}

impl<'a> Ctc<'a> {
    /// Makes a loss in which each sequence has its loss divided by the number of its labels, or 1 if
    /// it has none, averaged over the sequences, as `reduction="mean"` in PyTorch. `labels` are those
    /// of all sequences, and `lengths` `[sequences]` says how many each sequence has.
    pub fn mean(labels: &'a [u32], lengths: &'a [usize]) -> Self {
        Self::new(labels, lengths, Reduction::Mean)
    }

    /// Makes a loss that is the sum over all sequences, with arguments as in [`mean`](Self::mean).
    pub fn sum(labels: &'a [u32], lengths: &'a [usize]) -> Self {
        Self::new(labels, lengths, Reduction::Sum)
    }

    /// Makes a loss that is the sum divided by the number of sequences, with arguments as in
    /// [`mean`](Self::mean).
    pub fn mean_over_sequences(labels: &'a [u32], lengths: &'a [usize]) -> Self {
        Self::new(labels, lengths, Reduction::MeanOverSequences)
    }

    fn new(labels: &'a [u32], lengths: &'a [usize], reduction: Reduction) -> Self {
        let counting = Counting::new(reduction);
        Self { labels, lengths, counting, blank: 0, zero_infinity: false }
    }

    /// Makes only those rows count for which `mask` `[rows]` is true: each sequence is taken as if it
    /// had no other steps, whose gradients are 0. A sequence that has steps, none of which counts,
    /// has no loss.
    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { counting: self.counting.with_mask(mask), ..self }
    }

    /// Sets the output that is the blank.
    pub fn with_blank(self, blank: u32) -> Self {
        Self { blank, ..self }
    }

    /// Makes sequences that are too short for their target have the loss and the gradient 0.
    pub fn with_zero_infinity(self) -> Self {
        Self { zero_infinity: true, ..self }
    }

    /// Returns the labels of each sequence.
    fn targets(&self) -> impl Iterator<Item = Labels<'a>> {
        let (mut rest, blank) = (self.labels, self.blank);
        self.lengths.iter().map(move |&len| {
            let (labels, after) = rest.split_at(len);
            rest = after;
            Labels { labels, blank }
        })
    }

    /// Returns the rows of each sequence that count, or an error if the labels do not fit.
    fn checked(&self, targets: &TargetRows<'_>, size: usize) -> Result<Rows, Error> {
        check_len("lengths", self.lengths.len(), targets.sequences())?;
        let sum = self.lengths.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
        let sum = sum.ok_or(Error::TooLarge { what: "labels" })?;
        check_len("labels", self.labels.len(), sum)?;
        check_optional("mask", self.counting.mask, targets.given())?;
        if self.blank as usize >= size {
            let (given, expected) = (self.blank.to_string(), format!("below {size}, the outputs"));
            return Err(Error::Value { what: "blank", given, expected: expected.into() });
        }
        let all = targets.in_time()?;
        let mut counted = all.clone();
        counted.retain(|row| self.counting.counts(targets.target(row)));
        let mut rows = Rows { counted, left_out: Vec::new(), is_masked: Vec::new() };
        for (n, target) in self.targets().enumerate() {
            let steps = rows.counted.of(n).len();
            rows.is_masked.push(steps == 0 && !all.of(n).is_empty());
            self.check_target(n, target, rows.is_masked[n], steps, size)?;
        }
        let left_out = |&row: &usize| !self.counting.counts(targets.target(row));
        rows.left_out.extend((0..targets.count()).filter(left_out));
        Ok(rows)
    }

    /// Returns an error unless sequence `n` of `steps` steps can have these labels.
    fn check_target(
        &self,
        n: usize,
        target: Labels<'_>,
        is_masked: bool,
        steps: usize,
        size: usize,
    ) -> Result<(), Error> {
        if is_masked {
            return Ok(());
        }
        let wrong = |&&label: &&u32| label as usize >= size || label == self.blank;
        if let Some(label) = target.labels.iter().find(wrong) {
            let given = format!("{label} in sequence {n}");
            let expected = format!("below {size} and not {}, the blank", self.blank).into();
            return Err(Error::Value { what: "label", given, expected });
        }
        let needed = target.steps();
        if steps >= needed || self.zero_infinity {
            return Ok(());
        }
        let given = format!("{steps} for sequence {n}, whose target needs {needed}");
        let expected = "as many as a target needs, or with_zero_infinity".into();
        Err(Error::Value { what: "steps", given, expected })
    }

    /// Calls `of` with each sequence that has a loss: its labels, its rows and its scale. Returns
    /// the loss.
    fn each(
        &self,
        rows: &Rows,
        loss_so_far: f64,
        mut of: impl FnMut(Labels<'_>, &[usize], f64) -> f64,
    ) -> f64 {
        let mut sum = loss_so_far;
        for (n, target) in self.targets().enumerate() {
            let steps = rows.counted.of(n);
            if rows.is_masked[n] || steps.len() < target.steps() {
                // Only with `zero_infinity` are there sequences that are too short.
                of(target, steps, 0.0);
                continue;
            }
            let sequences = self.lengths.len() as f64;
            let divisor = match self.counting.reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => sequences * target.labels.len().max(1) as f64,
                Reduction::MeanOverSequences => sequences,
            };
            sum += of(target, steps, 1.0 / divisor) / divisor;
        }
        sum
    }
}

/// Which rows of the outputs belong to which sequence.
struct Rows {
    /// Those that count.
    counted: SequenceRows,
    /// Those that do not.
    left_out: Vec<usize>,
    /// Whether a sequence has steps, of which none counts.
    is_masked: Vec<bool>,
}

impl Loss for Ctc<'_> {
    /// # Errors
    /// [`Error::Length`] if there is not one length for each sequence, or not as many labels as the
    /// lengths say, or not one mask value for each row; [`Error::Value`] if a label or the blank is not
    /// below the number of outputs, a label is the blank, or a sequence is too short for its target;
    /// [`Error::Mismatch`] if the outputs come in several parts.
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.checked(&targets, size).map(|_| ())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        check_len("y", y.len(), product("y", &[targets.count(), size])?)?;
        let rows = self.checked(&targets, size)?;
        let mut alignment = Alignment::default();
        Ok(self.each(&rows, loss_so_far, |target, rows, scale| {
            if scale == 0.0 {
                return 0.0;
            }
            let log_sum = |step: usize| log_sum_exp(runtime.isa(), &y[rows[step] * size..][..size]);
            alignment.forward(target, rows.len(), log_sum, |step, label| {
                log_of(y[rows[step] * size + label])
            })
        }))
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        check_len("y", y.len(), product("y", &[targets.count(), size])?)?;
        let (rows, isa) = (self.checked(&targets, size)?, runtime.isa());
        let mut alignment = Alignment::default();
        let value = self.each(&rows, loss_so_far, |target, rows, scale| {
            if scale == 0.0 {
                rows.iter().for_each(|&row| y[row * size..][..size].fill(0.0));
                return 0.0;
            }
            let log_sum = |step: usize| log_sum_exp(isa, &y[rows[step] * size..][..size]);
            let loss = alignment.forward(target, rows.len(), log_sum, |step, label| {
                log_of(y[rows[step] * size + label])
            });
            alignment.backward(target, rows.len());
            for (step, &row) in rows.iter().enumerate() {
                let y = &mut y[row * size..][..size];
                softmax(isa, size, y).expect("a row is not empty");
                alignment.subtract_shares(target, step, y);
                y.iter_mut().for_each(|y| *y = finite(scale * f64::from(*y)));
            }
            loss
        });
        for row in rows.left_out {
            y[row * size..][..size].fill(0.0);
        }
        Ok(value)
    }
}

/// Returns an output in f64, with −∞ as the least f32.
fn log_of(output: f32) -> f64 {
    if output == f32::NEG_INFINITY { f64::from(f32::MIN) } else { output.into() }
}
