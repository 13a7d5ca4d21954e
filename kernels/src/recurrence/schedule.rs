//! Where the row of each sequence at each step lies in memory. Knows steps and sequences; must not
//! know what a row holds.

use crate::gemm::layout::{Span, cut};
use crate::{KernelError, checked_len};
use std::ops::Range;

/// The order in memory of the steps of some sequences. A row is one sequence at one step. The rows
/// of a step are next to each other, and the steps follow one another, the first step first.
///
/// The sequences are in the order of their lengths, the longest first. So the rows of a step are
/// those of the first sequences, and row n of a step continues row n of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRows<'a> {
    batch: usize,
    starts: Starts<'a>,
}

/// The first row of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starts<'a> {
    /// Each of this many steps has a row for each sequence.
    Dense(usize),
    /// The first row of each step, followed by the number of all rows.
    Ragged(&'a [usize]),
}

/// The rows of sequences of different lengths, which lends them as [`StepRows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaggedRows {
    batch: usize,
    starts: Vec<usize>,
}

impl RaggedRows {
    /// Takes the rows of `batch` (B) sequences of different lengths: row `starts[t] + n` is sequence
    /// n at step t, and the last of `starts` is the number of all rows. Sequences without any step
    /// come last, and are counted in B only.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] if `starts` is empty, does not begin with 0, or a step has no row,
    /// more rows than the step before, or more than B.
    pub fn new(starts: Vec<usize>, batch: usize) -> Result<Self, KernelError> {
        let Some(0) = starts.first() else {
            let (what, given) = ("the first row", starts.first().copied().unwrap_or(usize::MAX));
            return Err(KernelError::Dimension { what, given, expected: "0".into() });
        };
        let mut most = batch;
        for pair in starts.windows(2) {
            let given = pair[1].saturating_sub(pair[0]);
            if given == 0 || given > most {
                let (what, expected) = ("rows of a step", format!("1 to {most}"));
                return Err(KernelError::Dimension { what, given, expected });
            }
            most = given;
        }
        Ok(Self { batch, starts })
    }

    /// Returns the rows.
    #[inline]
    pub fn step_rows(&self) -> StepRows<'_> {
        StepRows { batch: self.batch, starts: Starts::Ragged(&self.starts) }
    }
}

impl StepRows<'_> {
    /// Returns the rows of `steps` (τ) steps of `batch` (B) sequences of the same length: row
    /// `t · B + n` is sequence n at step t.
    pub const fn dense(steps: usize, batch: usize) -> Self {
        Self { batch, starts: Starts::Dense(steps) }
    }

    /// Returns τ, the number of steps of the longest sequence.
    #[inline(always)]
    pub const fn steps(self) -> usize {
        match self.starts {
            Starts::Dense(steps) => steps,
            Starts::Ragged(starts) => starts.len() - 1,
        }
    }

    /// Returns B, the number of sequences, which is the maximum number of rows of a step.
    #[inline(always)]
    pub const fn batch(self) -> usize {
        self.batch
    }

    /// Returns the first row of `step`, counted from 0. For `step` = τ it returns the number of all
    /// rows.
    #[inline(always)]
    pub const fn start(self, step: usize) -> usize {
        match self.starts {
            Starts::Dense(_) => step * self.batch,
            Starts::Ragged(starts) => starts[step],
        }
    }

    /// Returns the number of rows of `step`: the sequences that are longer than `step`, which is 0
    /// from τ on.
    #[inline(always)]
    pub const fn count(self, step: usize) -> usize {
        match self.starts {
            Starts::Dense(steps) if step < steps => self.batch,
            Starts::Ragged(starts) if step + 1 < starts.len() => starts[step + 1] - starts[step],
            _ => 0,
        }
    }

    /// Returns a copy of these rows, with the first row of each step.
    pub(super) fn to_ragged(self) -> RaggedRows {
        let starts = (0..=self.steps()).map(|step| self.start(step)).collect();
        RaggedRows { batch: self.batch, starts }
    }

    /// Whether all steps have a row for each sequence.
    #[inline(always)]
    pub(crate) const fn is_dense(self) -> bool {
        matches!(self.starts, Starts::Dense(_))
    }

    /// Returns the floats of rows of `blocks` times `width` floats.
    #[inline]
    pub(crate) fn floats(
        self,
        what: &'static str,
        blocks: usize,
        width: usize,
    ) -> Result<usize, KernelError> {
        match self.starts {
            Starts::Dense(steps) => checked_len(what, &[steps, self.batch, blocks, width]),
            Starts::Ragged(_) => checked_len(what, &[self.start(self.steps()), blocks, width]),
        }
    }

    /// Returns the floats of rows of `width` floats, for the steps of `stretch`.
    #[inline]
    pub(crate) fn floats_in(
        self,
        what: &'static str,
        stretch: &Range<usize>,
        width: usize,
    ) -> Result<usize, KernelError> {
        match self.starts {
            Starts::Dense(_) => checked_len(what, &[stretch.len(), self.batch, width]),
            Starts::Ragged(starts) => {
                checked_len(what, &[starts[stretch.end] - starts[stretch.start], width])
            }
        }
    }

    /// Returns the sequences of part `part` of `parts`. In the steps of `stretch` the parts have
    /// about the same number of rows.
    #[inline(always)]
    pub(crate) fn part(self, stretch: &Range<usize>, parts: usize, part: usize) -> Span {
        if self.is_dense() {
            return cut(self.batch, parts, part);
        }
        let first = self.first_of_part(stretch, parts, part);
        Span { first, len: self.first_of_part(stretch, parts, part + 1) - first }
    }

    /// Returns the first sequence of part `part` of `parts`: the sequences before it have the rows
    /// of the parts before it. It is found by halving, since the rows of the first n sequences grow
    /// with n.
    #[inline(always)]
    fn first_of_part(self, stretch: &Range<usize>, parts: usize, part: usize) -> usize {
        if part == parts {
            return self.batch;
        }
        let rows = self.start(stretch.end) - self.start(stretch.start);
        // rows · part / parts, without an overflow.
        let wanted = rows / parts * part + rows % parts * part / parts;
        let (mut low, mut high) = (0, self.batch);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut of_middle = 0;
            for step in stretch.start..stretch.end {
                of_middle += self.count(step).min(middle);
            }
            if of_middle < wanted { low = middle + 1 } else { high = middle }
        }
        low
    }
}
