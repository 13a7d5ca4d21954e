//! The moves of a group in a pass, and which rows they have. Knows clocks and schedules; must not
//! know what a row holds.

use bptt_kernels::recurrence::{Clock, Group, MoveRows};
use bptt_kernels::tuning::{CHUNK_ROWS, ROWS_ALONE};
use std::ops::Range;

/// The moves of one group in a pass, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves<'a> {
    clock: Clock<'a>,
    rows: MoveRows<'a>,
    /// The index of the group.
    at: usize,
}

/// Returns the most rows of several moves that are handled together: those of as many moves of
/// `batch` rows as have at most 192 together, but at least one.
pub(super) fn most_together(batch: usize) -> usize {
    (CHUNK_ROWS / batch).max(1) * batch
}

impl<'a> Moves<'a> {
    /// Returns the moves of each group, in their order.
    pub fn of_groups(clock: Clock<'a>, rows: MoveRows<'a>) -> impl Iterator<Item = Self> {
        (0..clock.groups.len()).map(move |at| Self { clock, rows, at })
    }

    /// Returns the group.
    pub fn group(self) -> &'a Group {
        &self.clock.groups[self.at]
    }

    /// Returns the moves at the steps of `stretch`.
    pub fn within(self, stretch: &Range<usize>) -> Range<usize> {
        self.clock.moves(self.at, stretch.start)..self.clock.moves(self.at, stretch.end)
    }

    /// Returns the moves at all steps.
    pub fn all(self) -> Range<usize> {
        self.within(&(0..self.rows.schedule().steps()))
    }

    /// Returns the rows of these moves among the rows of all moves of the group.
    pub fn rows(self, moves: &Range<usize>) -> Range<usize> {
        let before = |nth| self.rows.before(&self.clock, self.at, nth);
        before(moves.start)..before(moves.end)
    }

    /// Returns the number of rows of all moves.
    pub fn all_rows(self) -> usize {
        self.rows(&self.all()).end
    }

    /// Returns the step of a move.
    pub fn step(self, nth: usize) -> usize {
        self.clock.step_of(self.at, nth)
    }

    /// Returns the rows of a move among the rows of all steps.
    pub fn rows_of_step(self, nth: usize) -> Range<usize> {
        let (schedule, step) = (self.rows.schedule(), self.step(nth));
        let first = schedule.start(step);
        first..first + schedule.count(step)
    }

    /// Splits `moves` into runs whose rows are handled together, the last run first. The rows of a
    /// run are gathered, unless they [lie together](Self::lie_together). With `alone`, and so many
    /// rows in a move that gathering does not pay, each run is a single move.
    pub fn runs(self, mut moves: Range<usize>, alone: bool) -> impl Iterator<Item = Range<usize>> {
        let together = most_together(self.rows.schedule().batch());
        std::iter::from_fn(move || {
            let last = moves.clone().next_back()?;
            let mut first = last;
            if self.group().period == 1 {
                first = moves.start;
            } else if !alone || self.rows_of_step(last).len() < ROWS_ALONE {
                let fits = |first: usize| self.rows(&(first..last + 1)).len() <= together;
                while first > moves.start && fits(first - 1) {
                    first -= 1;
                }
            }
            moves.end = first;
            Some(first..last + 1)
        })
    }

    /// Returns whether the rows of these moves lie together among those of all steps.
    fn lie_together(self, run: &Range<usize>) -> bool {
        run.len() == 1 || self.group().period == 1
    }

    /// Returns the rows of a run among the rows of all steps, if they lie together there.
    pub fn together(self, run: &Range<usize>) -> Option<Range<usize>> {
        let first = self.rows_of_step(run.start).start;
        self.lie_together(run).then(|| first..first + self.rows(run).len())
    }

    /// Returns the rows of a run: those of `from`, which has rows of `width` floats for all steps.
    /// They are copied to `gathered` unless they lie together.
    pub fn rows_in<'b>(
        self,
        run: &Range<usize>,
        width: usize,
        from: &'b [f32],
        gathered: &'b mut [f32],
    ) -> &'b [f32] {
        match self.together(run) {
            Some(rows) => &from[rows.start * width..rows.end * width],
            None => self.gather(run, width, from, gathered),
        }
    }

    /// Copies the rows of a run, one after the other, to the beginning of `to`, and returns them.
    pub fn gather<'b>(
        self,
        run: &Range<usize>,
        width: usize,
        from: &[f32],
        to: &'b mut [f32],
    ) -> &'b mut [f32] {
        let mut end = 0;
        for nth in run.clone() {
            let rows = self.rows_of_step(nth);
            let (first, len) = (end, rows.len() * width);
            end += len;
            to[first..end].copy_from_slice(&from[rows.start * width..][..len]);
        }
        &mut to[..end]
    }

    /// Copies rows that have been gathered back to where they came from.
    pub fn spread(self, run: &Range<usize>, width: usize, gathered: &[f32], to: &mut [f32]) {
        let mut rest = gathered;
        for nth in run.clone() {
            let rows = self.rows_of_step(nth);
            let (from, tail) = rest.split_at(rows.len() * width);
            to[rows.start * width..rows.end * width].copy_from_slice(from);
            rest = tail;
        }
    }
}
