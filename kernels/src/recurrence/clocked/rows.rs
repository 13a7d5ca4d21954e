//! Which rows a group's moves have. Knows clocks and schedules; must not know what a move computes.

use super::clock::{Clock, Group};
use crate::KernelError;
use crate::error::check_len;
use crate::recurrence::schedule::{RaggedRows, StepRows};

/// The rows of all steps, and how many of them each group's moves have.
#[derive(Clone, Copy, Debug)]
pub struct MoveRows<'a> {
    schedule: StepRows<'a>,
    /// The rows of the moves of each group, or `None` where all steps have B rows.
    groups: Option<&'a [Moves]>,
}

/// The rows of the moves of some groups over sequences of different lengths, which lends them as
/// [`MoveRows`].
#[derive(Clone, Debug)]
pub struct RaggedMoves {
    rows: RaggedRows,
    groups: Vec<Moves>,
}

/// The rows of the moves of one group, wherever its clock stands at the first step.
#[derive(Clone, Debug)]
struct Moves {
    period: usize,
    /// For each step t, the rows of the steps t, t − period, t − 2 period, …: those that have been
    /// computed after a move at step t.
    after: Vec<usize>,
}

impl Moves {
    fn new(schedule: StepRows<'_>, period: usize) -> Self {
        let mut after: Vec<usize> = Vec::with_capacity(schedule.steps());
        for step in 0..schedule.steps() {
            let before = step.checked_sub(period).map_or(0, |last| after[last]);
            after.push(before + schedule.count(step));
        }
        Self { period, after }
    }
}

impl RaggedMoves {
    /// Counts the rows of each group's moves, for `clock.start`s of any kind.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] if a period is 0.
    pub fn new(schedule: StepRows<'_>, groups: &[Group]) -> Result<Self, KernelError> {
        if groups.iter().any(|group| group.period == 0) {
            return Err(KernelError::Dimension {
                what: "period",
                given: 0,
                expected: "1 or more".into(),
            });
        }
        let groups = groups.iter().map(|group| Moves::new(schedule, group.period)).collect();
        Ok(Self { rows: schedule.to_ragged(), groups })
    }

    /// Returns the rows.
    #[inline]
    pub fn move_rows(&self) -> MoveRows<'_> {
        MoveRows { schedule: self.rows.step_rows(), groups: Some(&self.groups) }
    }
}

impl<'a> MoveRows<'a> {
    /// Returns the rows of `steps` (τ) steps of `batch` (B) sequences of the same length, for any
    /// groups.
    pub const fn dense(steps: usize, batch: usize) -> Self {
        Self { schedule: StepRows::dense(steps, batch), groups: None }
    }

    /// Returns the rows of all steps.
    #[inline(always)]
    pub const fn schedule(self) -> StepRows<'a> {
        self.schedule
    }

    /// Returns the rows of the moves of a group before its `nth`. With the number of its moves for
    /// `nth` these are the rows of all its moves.
    #[inline(always)]
    pub fn before(self, clock: &Clock<'_>, group: usize, nth: usize) -> usize {
        match (self.groups, nth) {
            (None, _) => nth * self.schedule.batch(),
            (Some(_), 0) => 0,
            (Some(groups), _) => groups[group].after[clock.step_of(group, nth - 1)],
        }
    }

    /// Returns the floats of a group's moves at the first `steps` steps, `[rows of moves, units]`.
    #[inline(always)]
    pub(super) fn floats(self, clock: &Clock<'_>, group: usize, steps: usize) -> usize {
        self.before(clock, group, clock.moves(group, steps)) * clock.groups[group].units
    }

    /// Returns the floats of all groups' `[rows of moves, units]`, or an error if those of `hidden`
    /// units at all steps would not fit the address space.
    pub(super) fn all_floats(self, clock: &Clock<'_>, hidden: usize) -> Result<usize, KernelError> {
        self.schedule.floats("z", 1, hidden)?;
        let steps = self.schedule.steps();
        Ok((0..clock.groups.len()).map(|at| self.floats(clock, at, steps)).sum())
    }

    /// Checks that these are the rows of the clock's groups.
    pub(super) fn check(self, clock: &Clock<'_>) -> Result<(), KernelError> {
        let Some(groups) = self.groups else { return Ok(()) };
        check_len("groups of the schedule", groups.len(), clock.groups.len())?;
        for (&Moves { period: given, .. }, group) in groups.iter().zip(clock.groups) {
            if given != group.period {
                let (what, expected) = ("period of the schedule", group.period.to_string());
                return Err(KernelError::Dimension { what, given, expected });
            }
        }
        Ok(())
    }
}
