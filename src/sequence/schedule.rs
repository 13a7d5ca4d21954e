//! Which sequence has a row at which step, and where. Knows steps and sequences; must not know what
//! a row holds.

mod ragged;

use crate::Error;
use crate::error::{check_len, check_size, product};
use bptt_kernels::recurrence::StepRows;
pub use ragged::Padding;
use ragged::{Layout, Ragged, Segment};
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
/// length are summed from the last one given to the first.
///
/// Where the caller's arrays have this order too, passes read and write them in place; otherwise the
/// rows are copied once. They have it if no sequence has padding and there is one sequence, or all
/// have one length and the arrays are time-major. The schedule is a dense one then:
///
/// ```
/// use bptt::Schedule;
///
/// assert_eq!(Schedule::packed(&[9])?, Schedule::dense(9, 1));
/// assert_eq!(Schedule::batch_first(&[9], 9)?, Schedule::dense(9, 1));
/// assert_eq!(Schedule::padded(&[4, 4], 4)?, Schedule::dense(4, 2));
/// assert_ne!(Schedule::batch_first(&[4, 4], 4)?, Schedule::dense(4, 2));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Dense { steps: usize, batch: usize },
    Ragged(Arc<Ragged>),
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
            Arc::make_mut(ragged).padding = padding;
        }
        self
    }

    /// Makes sequences begin anew in the middle, as episodes in reinforcement learning do. Each of
    /// `resets` is the number of a sequence and one of its steps, before which its state is zero, or
    /// the one that [`Workspace::set_reset_state`](crate::Workspace::set_reset_state) sets. What lies
    /// between two resets is a sequence of its own to all passes and runs beside the others, so
    /// resets cost nothing.
    ///
    /// ```
    /// use bptt::{Lstm, Network, Runtime, Schedule};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 8)?);
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// // Two sequences of six steps. The second one begins anew at step 4.
    /// let schedule = Schedule::dense(6, 2).with_resets(&[(1, 4)])?;
    /// let mut workspace = model.training_workspace(schedule)?;
    /// let y = model.forward(&mut workspace, &[0.5; 6 * 2])?;
    /// let row = |step: usize, n: usize| &y[(step * 2 + n) * 8..][..8];
    /// assert_eq!(row(4, 1), row(0, 1));
    /// assert_ne!(row(4, 0), row(0, 0));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such sequence or step, or the schedule has resets already;
    /// [`Error::TooLarge`] if the rows do not fit the address space.
    pub fn with_resets(self, resets: &[(usize, usize)]) -> Result<Self, Error> {
        let Ragged { lengths, layout, padding, .. } = self.without_resets()?;
        let ragged = Ragged::new(lengths, layout, padding, resets)?;
        Ok(Self { shape: Shape::Ragged(Arc::new(ragged)) })
    }

    /// Makes sequences begin anew before each step for which `mask` is true. It has the rows of the
    /// caller's arrays, such as `[τ, B]`; padding is not read. See [`with_resets`](Self::with_resets).
    ///
    /// # Errors
    /// [`Error::Length`] if the mask has another number of rows; the errors of
    /// [`with_resets`](Self::with_resets).
    pub fn with_reset_mask(self, mask: &[bool]) -> Result<Self, Error> {
        check_len("the mask of resets", mask.len(), self.given_rows())?;
        let resets = self.without_resets()?.resets_of(mask);
        self.with_resets(&resets)
    }

    /// Returns the sequences as those of different lengths, or an error if they have resets.
    fn without_resets(&self) -> Result<Ragged, Error> {
        match &self.shape {
            Shape::Dense { steps, batch } => {
                check_size("steps", *steps)?;
                product("the schedule", &[*steps, *batch])?;
                let layout = Layout::TimeMajor { steps: *steps };
                Ragged::new(vec![*steps; *batch], layout, Padding::Zeros, &[])
            }
            Shape::Ragged(ragged) if self.has_resets() => {
                let given = format!("cut into {} parts by resets", ragged.segments.len());
                let expected = "a schedule without resets".into();
                Err(Error::Value { what: "the schedule", given, expected })
            }
            Shape::Ragged(ragged) => Ok((**ragged).clone()),
        }
    }

    fn ragged(lengths: &[usize], layout: Layout) -> Result<Self, Error> {
        let ragged = Ragged::new(lengths.to_vec(), layout, Padding::Zeros, &[])?;
        if let Some(steps) = ragged.dense_steps() {
            return Ok(Self::dense(steps, lengths.len()));
        }
        Ok(Self { shape: Shape::Ragged(Arc::new(ragged)) })
    }

    /// Returns τ, the number of steps of a pass: those of the longest sequence or, with
    /// [resets](Self::with_resets), of the longest part of one.
    #[inline]
    pub fn steps(&self) -> usize {
        self.step_rows().steps()
    }

    /// Returns B, the number of sequences that a pass runs side by side: those that were given or,
    /// with [resets](Self::with_resets), all parts of them.
    #[inline]
    pub fn batch(&self) -> usize {
        self.step_rows().batch()
    }

    /// Returns the number of sequences that were given.
    #[inline]
    pub fn sequences(&self) -> usize {
        match &self.shape {
            Shape::Dense { batch, .. } => *batch,
            Shape::Ragged(ragged) => ragged.lengths.len(),
        }
    }

    /// Returns the number of steps of the longest sequence that was given.
    pub(crate) fn longest(&self) -> usize {
        match &self.shape {
            Shape::Dense { steps, .. } => *steps,
            Shape::Ragged(ragged) => ragged.lengths.iter().copied().max().unwrap_or(0),
        }
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

    /// Returns which sequence, in the order given, row `row` of each step belongs to.
    #[inline]
    pub fn sequence(&self, row: usize) -> usize {
        self.segment(row).sequence
    }

    /// Returns the step of its sequence that row `row` of the first step is: 0 unless the row begins
    /// at a [reset](Self::with_resets).
    #[inline]
    pub fn first_step(&self, row: usize) -> usize {
        self.segment(row).first
    }

    /// Returns the number of steps that have a row `row`.
    #[inline]
    pub(crate) fn len_of(&self, row: usize) -> usize {
        self.segment(row).len
    }

    /// Returns the sequence whose given state row `row` begins from, or `None` if the row begins at a
    /// reset.
    pub(crate) fn begins(&self, row: usize) -> Option<usize> {
        let Segment { sequence, first, is_reset, .. } = self.segment(row);
        (first == 0 && !is_reset).then_some(sequence)
    }

    /// Returns the sequence that ends with row `row`, or `None` if a reset follows.
    pub(crate) fn ends(&self, row: usize) -> Option<usize> {
        let Segment { sequence, is_last, .. } = self.segment(row);
        is_last.then_some(sequence)
    }

    /// Whether sequences begin anew in the middle, or at their first step.
    pub(crate) fn has_resets(&self) -> bool {
        match &self.shape {
            Shape::Dense { .. } => false,
            Shape::Ragged(ragged) => ragged.segments.iter().any(|segment| segment.is_reset),
        }
    }

    #[inline]
    fn segment(&self, row: usize) -> Segment {
        match &self.shape {
            Shape::Dense { steps, .. } => {
                Segment { sequence: row, first: 0, len: *steps, is_reset: false, is_last: true }
            }
            Shape::Ragged(ragged) => ragged.segments[row],
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
        if let Shape::Ragged(ragged) = &self.shape {
            ragged.fill_padding(y, width);
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
        match &self.shape {
            Shape::Dense { batch, .. } => Self::dense(steps.len(), *batch),
            Shape::Ragged(ragged) => Self { shape: Shape::Ragged(Arc::new(ragged.stretch(steps))) },
        }
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

    /// Returns the most rows of a [stretch](Self::stretches).
    pub(crate) fn most_rows(&self, most: usize) -> usize {
        let rows = |steps: Range<usize>| self.start(steps.end) - self.start(steps.start);
        self.stretches(most).map(rows).max().unwrap_or(0)
    }
}
