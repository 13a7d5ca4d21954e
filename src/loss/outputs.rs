//! The rows of outputs that a loss is given, and the rows of targets that belong to them. Knows which
//! row is which step of which sequence; must not know losses.

use crate::Error;
use crate::sequence::Schedule;
use std::borrow::Cow;
use std::ops::Range;

/// Which rows of a loss's targets are read, and in which order. Targets have the rows of the
/// caller's arrays, padding included; the padding is not read.
#[derive(Clone, Debug)]
pub struct TargetRows<'a> {
    /// The schedule of the whole pass.
    schedule: Cow<'a, Schedule>,
    rows: Range<usize>,
}

impl<'a> TargetRows<'a> {
    /// All of `rows` rows, in order: one sequence.
    pub fn all(rows: usize) -> Self {
        Self::dense(rows, 1)
    }

    /// All rows of `steps` steps of `batch` sequences of the same length, `[steps, batch]`.
    pub fn dense(steps: usize, batch: usize) -> Self {
        Self { schedule: Cow::Owned(Schedule::dense(steps, batch)), rows: 0..steps * batch }
    }

    /// The rows of the passes over `schedule`.
    pub fn of(schedule: &'a Schedule) -> Self {
        Self { schedule: Cow::Borrowed(schedule), rows: 0..schedule.rows() }
    }

    /// Those of the rows `rows` of a pass.
    pub(crate) fn within(self, rows: Range<usize>) -> Self {
        Self { rows, ..self }
    }

    /// Returns the number of rows that the targets have, padding included.
    pub fn given(&self) -> usize {
        self.schedule.given_rows()
    }

    /// Returns the number of rows that are read, one for each row of [`Outputs::y`].
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the row of the whole pass that is the first of [`Outputs::y`].
    pub fn first(&self) -> usize {
        self.rows.start
    }

    /// Returns the number of rows of the whole pass. This is more than [`count`](Self::count) if
    /// the outputs come in several parts.
    pub fn count_of_pass(&self) -> usize {
        self.schedule.rows()
    }

    /// Returns the row of targets for row `row` of [`Outputs::y`].
    pub fn target(&self, row: usize) -> usize {
        let row = self.rows.start + row;
        self.order().map_or(row, |order| order[row])
    }

    /// Returns the row of targets for each row of the whole pass, or `None` if they are the same.
    pub(crate) fn order(&self) -> Option<&[usize]> {
        self.schedule.given()
    }

    /// Returns the rows of the whole pass that are read.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Returns the number of sequences of the whole pass, those without a step included. A sequence
    /// that is cut by [resets](crate::Schedule::with_resets) is one sequence.
    pub fn sequences(&self) -> usize {
        self.schedule.sequences()
    }

    /// Returns the row of [`Outputs::y`] that is the last step of a sequence, and the number of that
    /// sequence, for all that are there, from the last row to the first.
    pub(super) fn last_steps(&self) -> impl Iterator<Item = (usize, usize)> {
        let (schedule, rows) = (&*self.schedule, self.rows.clone());
        let steps = schedule.steps();
        let count = move |step: usize| match step < steps {
            true => schedule.start(step + 1) - schedule.start(step),
            false => 0,
        };
        let within = rows.clone();
        let steps = (0..steps).rev().filter(move |&step| {
            schedule.start(step) < within.end && schedule.start(step + 1) > within.start
        });
        // The longest sequences come first, so those that end here are the last of the step.
        let all = steps.flat_map(move |step| {
            let ending = (count(step + 1)..count(step)).rev();
            ending.filter_map(move |n| Some((schedule.start(step) + n, schedule.ends(n)?)))
        });
        let first = rows.start;
        all.filter(move |(row, _)| rows.contains(row)).map(move |(row, n)| (row - first, n))
    }

    /// Returns which rows of the outputs belong to which sequence, in the order of time. It is for
    /// losses of whole sequences, and allocates.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the outputs come in several parts.
    pub fn in_time(&self) -> Result<SequenceRows, Error> {
        if self.rows != (0..self.count_of_pass()) {
            return Err(Error::Mismatch {
                what: "loss",
                given: "whole sequences".into(),
                expected: "a sum over rows, since the outputs come in several parts".into(),
            });
        }
        // The rows of a step are parts of sequences, which resets have cut.
        let mut parts: Vec<usize> = (0..self.schedule.batch()).collect();
        parts.sort_by_key(|&part| (self.schedule.sequence(part), self.schedule.first_step(part)));
        let (mut rows, mut ends) = (Vec::with_capacity(self.rows.len()), Vec::new());
        ends.resize(self.sequences(), 0);
        for part in parts {
            let steps = 0..self.schedule.len_of(part);
            rows.extend(steps.map(|step| self.schedule.start(step) + part));
            ends[self.schedule.sequence(part)] = rows.len();
        }
        Ok(SequenceRows { rows, ends })
    }
}

/// The rows of each sequence, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceRows {
    /// The rows of all sequences, one sequence after the other.
    rows: Vec<usize>,
    /// Where each sequence ends.
    ends: Vec<usize>,
}

impl SequenceRows {
    /// Returns the number of sequences.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the rows of [`Outputs::y`] that are the steps of sequence `n`, from its first step to
    /// its last.
    ///
    /// # Panics
    /// If `n` is not below [`count`](Self::count).
    pub fn of(&self, n: usize) -> &[usize] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[n]]
    }

    /// Leaves only the rows for which `counts` is true.
    pub(super) fn retain(&mut self, mut counts: impl FnMut(usize) -> bool) {
        let (mut kept, mut from) = (0, 0);
        for end in &mut self.ends {
            for at in from..*end {
                if counts(self.rows[at]) {
                    self.rows[kept] = self.rows[at];
                    kept += 1;
                }
            }
            (from, *end) = (*end, kept);
        }
        self.rows.truncate(kept);
    }
}

/// Outputs of a network, with a row for each row of the schedule, and none for padding. A workspace
/// with a [budget](crate::Training::with_budget), or with [chunks](crate::Training::with_chunked_outputs)
/// of outputs, does not keep those of all rows: the loss is then given them in several parts, the last
/// rows first.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The outputs, `[rows, size]`.
    pub y: &'a mut [f32],
    /// The number of outputs in a row.
    pub size: usize,
    /// The rows of targets for these rows.
    pub targets: TargetRows<'a>,
    /// The loss of the parts that came before this one, which is 0 for the first part.
    pub loss_so_far: f64,
}

impl<'a> Outputs<'a> {
    /// Takes outputs `y` `[rows, size]` whose rows are in the order of the targets: one sequence.
    pub fn new(y: &'a mut [f32], size: usize) -> Self {
        let targets = TargetRows::all(y.len().checked_div(size).unwrap_or(0));
        Self { y, size, targets, loss_so_far: 0.0 }
    }

    /// Takes outputs `y` whose rows are those of a pass over `schedule`: of its steps one after the
    /// other, without padding.
    pub fn of(schedule: &'a Schedule, y: &'a mut [f32], size: usize) -> Self {
        Self { y, size, targets: TargetRows::of(schedule), loss_so_far: 0.0 }
    }
}
