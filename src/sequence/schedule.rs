//! Which sequence has a row at which step, and where. Knows steps and sequences; must not know what
//! a row holds.

use crate::Error;
use crate::error::{check_size, product};
use bptt_kernels::recurrence::{RaggedRows, StepRows};
use std::ops::Range;
use std::sync::Arc;

/// Which sequence has a row at which step, and where that row lies in memory.
///
/// A pass computes one row for each sequence at each of its steps, and nothing for padding: work
/// and memory grow with the sum of the lengths. Sequences may have any lengths in any order; nothing
/// has to be sorted. Each sequence gets the bits that it would get alone.
///
/// ```
/// use bptt::{Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(2, 8)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// // Three sequences of 3, 0 and 2 steps, one after the other.
/// let mut workspace = model.training_workspace(Schedule::packed(&[3, 0, 2])?)?;
/// let y = model.forward(&mut workspace, &[0.5; 5 * 2])?;
/// assert_eq!(y.len(), 5 * 8);
/// assert_eq!(y[..2 * 8], y[3 * 8..]);
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// # Order of rows
///
/// Within a pass the rows of a step are next to each other, and the steps follow one another, the
/// first step first. The sequences are in the order of their lengths, the longest first, and
/// sequences of the same length in the order in which they were given. [`sequence`](Self::sequence)
/// tells which sequence a row of a step is, and [`start`](Self::start) where a step begins. Gradients
/// of parameters are sums over all rows, from the last row of this order to the first. So they do
/// not depend on the order in which sequences of different lengths are given; sequences of the same
/// length are summed in the order given, since no other order is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Dense { steps: usize, batch: usize },
    Ragged(Arc<Ragged>),
}

/// Sequences of different lengths, or in another order than that of a pass.
#[derive(Debug, PartialEq, Eq)]
struct Ragged {
    /// The length of each sequence, in the order given.
    lengths: Vec<usize>,
    /// The sequence of each row of a step.
    sequences: Vec<usize>,
    /// The rows of all steps.
    rows: RaggedRows,
    /// For each row, the row of the caller's arrays.
    given: Vec<usize>,
    /// The rows of the caller's arrays, with padding.
    given_rows: usize,
    layout: Layout,
    padding: Padding,
}

/// How the caller's arrays are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `[steps, B, features]`.
    TimeMajor { steps: usize },
    /// `[B, steps, features]`.
    BatchFirst { steps: usize },
    /// The sequences one after the other, without padding.
    Packed,
}

/// What the outputs hold after the end of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Zeros, as in PyTorch and ONNX.
    #[default]
    Zeros,
    /// The last output of the sequence, as in TensorFlow; zeros if it has none.
    LastOutput,
}

impl From<&Schedule> for Schedule {
    fn from(schedule: &Schedule) -> Self {
        schedule.clone()
    }
}

impl Schedule {
    /// Returns the schedule of `steps` (τ) steps of `batch` (B) sequences of the same length, with
    /// arrays `[τ, B, features]`: row `t · B + n` is sequence n at step t.
    pub const fn dense(steps: usize, batch: usize) -> Self {
        Self { shape: Shape::Dense { steps, batch } }
    }

    /// Returns the schedule of sequences of these lengths, with arrays `[steps, B, features]`, of
    /// which only the first steps of each sequence, as many as its length says, are read. The
    /// gradients with respect to the others are 0.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no sequence, or a length is above `steps`;
    /// [`Error::TooLarge`] if the rows do not fit the address space.
    pub fn padded(lengths: &[usize], steps: usize) -> Result<Self, Error> {
        Self::ragged(lengths, Layout::TimeMajor { steps })
    }

    /// Returns the schedule of sequences of these lengths, with arrays `[B, steps, features]`, as
    /// [`padded`](Self::padded).
    ///
    /// # Errors
    /// As [`padded`](Self::padded).
    pub fn batch_first(lengths: &[usize], steps: usize) -> Result<Self, Error> {
        Self::ragged(lengths, Layout::BatchFirst { steps })
    }

    /// Returns the schedule of sequences of these lengths, with arrays that hold the sequences one
    /// after the other, `[Σ lengths, features]`.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no sequence, [`Error::TooLarge`] if the rows do not fit the
    /// address space.
    pub fn packed(lengths: &[usize]) -> Result<Self, Error> {
        Self::ragged(lengths, Layout::Packed)
    }

    /// Sets what the outputs hold after the end of a sequence: zeros at first.
    pub fn with_padding(mut self, padding: Padding) -> Self {
        if let Shape::Ragged(ragged) = &mut self.shape {
            let Ragged { lengths, sequences, rows, given, .. } = &**ragged;
            *ragged = Arc::new(Ragged {
                lengths: lengths.clone(),
                sequences: sequences.clone(),
                rows: rows.clone(),
                given: given.clone(),
                padding,
                ..**ragged
            });
        }
        self
    }

    fn ragged(lengths: &[usize], layout: Layout) -> Result<Self, Error> {
        const WHAT: &str = "the schedule";
        check_size("batch", lengths.len())?;
        let batch = lengths.len();
        let sum = lengths.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
        let rows = product(WHAT, &[sum.ok_or(Error::TooLarge { what: WHAT })?])?;
        let given_rows = match layout {
            Layout::Packed => rows,
            Layout::TimeMajor { steps } | Layout::BatchFirst { steps } => {
                if let Some(&longest) = lengths.iter().find(|&&len| len > steps) {
                    let (what, given) = ("length", longest.to_string());
                    let expected = format!("at most the {steps} steps of the arrays").into();
                    return Err(Error::Value { what, given, expected });
                }
                product(WHAT, &[batch, steps])?
            }
        };
        let mut sequences: Vec<_> = (0..batch).collect();
        sequences.sort_by_key(|&n| std::cmp::Reverse(lengths[n]));
        let mut firsts = Vec::with_capacity(batch);
        firsts.extend(lengths.iter().scan(0, |before, len| {
            *before += len;
            Some(*before - len)
        }));
        let (mut starts, mut given) = (vec![0], Vec::with_capacity(rows));
        let mut count = batch;
        for step in 0..lengths[sequences[0]] {
            while lengths[sequences[count - 1]] <= step {
                count -= 1;
            }
            given.extend(sequences[..count].iter().map(|&n| match layout {
                Layout::TimeMajor { .. } => step * batch + n,
                Layout::BatchFirst { steps } => n * steps + step,
                Layout::Packed => firsts[n] + step,
            }));
            starts.push(given.len());
        }
        let rows = RaggedRows::new(starts, batch)?;
        let lengths = lengths.to_vec();
        let padding = Padding::Zeros;
        let ragged = Ragged { lengths, sequences, rows, given, given_rows, layout, padding };
        Ok(Self { shape: Shape::Ragged(Arc::new(ragged)) })
    }

    /// Returns τ, the number of steps of the longest sequence.
    #[inline]
    pub fn steps(&self) -> usize {
        self.step_rows().steps()
    }

    /// Returns B, the number of sequences.
    #[inline]
    pub fn batch(&self) -> usize {
        self.step_rows().batch()
    }

    /// Returns the first row of `step`, counted from 0. For `step` = τ it returns the number of all
    /// rows.
    #[inline]
    pub fn start(&self, step: usize) -> usize {
        self.step_rows().start(step)
    }

    /// Returns the number of all rows, padding not included: the sum of the lengths.
    #[inline]
    pub fn rows(&self) -> usize {
        self.start(self.steps())
    }

    /// Returns which sequence, in the order given, row `row` of each step is.
    #[inline]
    pub fn sequence(&self, row: usize) -> usize {
        match &self.shape {
            Shape::Dense { .. } => row,
            Shape::Ragged(ragged) => ragged.sequences[row],
        }
    }

    /// Returns the length of the sequence that is row `row` of each step.
    #[inline]
    pub(crate) fn len_of(&self, row: usize) -> usize {
        match &self.shape {
            Shape::Dense { steps, .. } => *steps,
            Shape::Ragged(ragged) => ragged.lengths[ragged.sequences[row]],
        }
    }

    /// Returns the rows of the caller's arrays, padding included.
    pub fn given_rows(&self) -> usize {
        match &self.shape {
            Shape::Dense { steps, batch } => steps * batch,
            Shape::Ragged(ragged) => ragged.given_rows,
        }
    }

    /// Returns the row of the caller's arrays for each row of a pass, or `None` if they are the
    /// same.
    pub(crate) fn given(&self) -> Option<&[usize]> {
        match &self.shape {
            Shape::Dense { .. } => None,
            Shape::Ragged(ragged) => Some(&ragged.given),
        }
    }

    /// Whether all sequences have the same length, and rows are in the order given.
    pub(crate) fn is_dense(&self) -> bool {
        matches!(self.shape, Shape::Dense { .. })
    }

    /// Fills the rows of the caller's array `y` that are padding.
    pub(crate) fn fill_padding(&self, y: &mut [f32], width: usize) {
        let Shape::Ragged(ragged) = &self.shape else { return };
        let (batch, steps) = match ragged.layout {
            Layout::Packed => return,
            Layout::TimeMajor { steps } | Layout::BatchFirst { steps } => (self.batch(), steps),
        };
        for (n, &len) in ragged.lengths.iter().enumerate() {
            let row = |step: usize| match ragged.layout {
                Layout::BatchFirst { .. } => n * steps + step,
                _ => step * batch + n,
            };
            for step in len..steps {
                let to = row(step) * width;
                match ragged.padding {
                    Padding::LastOutput if len > 0 => {
                        let from = row(len - 1) * width;
                        y.copy_within(from..from + width, to);
                    }
                    _ => y[to..to + width].fill(0.0),
                }
            }
        }
    }

    /// Returns the rows of all steps, for the kernels.
    #[inline]
    pub(crate) fn step_rows(&self) -> StepRows<'_> {
        match &self.shape {
            Shape::Dense { steps, batch } => StepRows::dense(*steps, *batch),
            Shape::Ragged(ragged) => ragged.rows.step_rows(),
        }
    }

    /// Returns the number of rows, or an error if they do not fit the address space or, in sequences
    /// of the same length, there are none.
    pub(crate) fn checked_rows(&self) -> Result<usize, Error> {
        match &self.shape {
            Shape::Ragged(_) => Ok(self.rows()),
            Shape::Dense { steps, batch } => {
                check_size("steps", *steps)?;
                check_size("batch", *batch)?;
                product("the schedule", &[*steps, *batch])
            }
        }
    }

    /// Returns the schedule of the steps `steps` alone. It has the same sequences; those that end
    /// before these steps have no row. Rows of the caller's arrays stay the same, unless all
    /// sequences have the same length: then the arrays begin with the first row of these steps.
    pub(crate) fn stretch(&self, steps: &Range<usize>) -> Self {
        let ragged = match &self.shape {
            Shape::Dense { batch, .. } => return Self::dense(steps.len(), *batch),
            Shape::Ragged(ragged) => ragged,
        };
        let rows = self.start(steps.start)..self.start(steps.end);
        let starts = (steps.start..=steps.end).map(|step| self.start(step) - rows.start).collect();
        let within = |&len: &usize| len.min(steps.end).saturating_sub(steps.start);
        let batch = self.batch();
        let ragged = Ragged {
            lengths: ragged.lengths.iter().map(within).collect(),
            sequences: ragged.sequences.clone(),
            rows: RaggedRows::new(starts, batch).expect("steps of a schedule are a schedule"),
            given: ragged.given[rows].to_vec(),
            given_rows: ragged.given_rows,
            layout: ragged.layout,
            padding: ragged.padding,
        };
        Self { shape: Shape::Ragged(Arc::new(ragged)) }
    }

    /// Cuts the steps into stretches of at most `most` rows, or one step.
    pub(crate) fn stretches(&self, most: usize) -> impl Iterator<Item = Range<usize>> {
        let rows = self.step_rows();
        let mut next = 0;
        std::iter::from_fn(move || {
            if next == rows.steps() {
                return None;
            }
            let first = next;
            next += (most / rows.count(first)).max(1);
            // Steps have fewer and fewer rows, so that more of them may fit.
            while next < rows.steps() && rows.start(next + 1) - rows.start(first) <= most {
                next += 1;
            }
            next = next.min(rows.steps());
            Some(first..next)
        })
    }
}
