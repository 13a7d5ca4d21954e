//! Which groups of units move when. Knows periods and steps; must not know what moving is.

use crate::error::check_len;
use crate::recurrence::schedule::Schedule;
use crate::{KernelError, checked_len};

/// Units that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many they are.
    pub units: usize,
    /// The first of them; what they read are all units from it.
    pub first: usize,
    /// They move at the steps t with `t mod period = 0`.
    pub period: usize,
}

/// When a group moves in a pass.
#[derive(Clone, Copy, Debug)]
struct Moves {
    /// The step at which it moves first.
    first: usize,
    /// How many steps lie between its moves.
    period: usize,
}

/// Which groups move when.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// The groups, in the order of their units.
    pub groups: &'a [Group],
    /// The steps that the sequence has taken before the pass.
    pub start: u64,
}

impl Clock<'_> {
    /// How many of the pass's first `steps` steps a group moves at.
    #[inline(always)]
    pub fn moves(&self, group: usize, steps: usize) -> usize {
        let Moves { first, period } = self.moves_of(group);
        // A step of few units would take longer over divisions than over its products.
        match steps.saturating_sub(first) {
            left if left <= 1 || period == 1 => left,
            left => (left - 1) / period + 1,
        }
    }

    /// The step of the pass, from 0, at which a group moves for the nth time, from 0.
    #[inline]
    pub fn step_of(&self, group: usize, nth: usize) -> usize {
        let Moves { first, period } = self.moves_of(group);
        first + nth * period
    }

    /// Whether a group moves at a step of the pass.
    #[inline(always)]
    pub(super) fn moves_at(&self, group: usize, step: usize) -> bool {
        let Moves { first, period } = self.moves_of(group);
        step == first || (step > first && (step - first).is_multiple_of(period))
    }

    /// When a group moves in the pass.
    #[inline(always)]
    fn moves_of(&self, group: usize) -> Moves {
        let period = self.groups[group].period;
        let late = match period as u64 {
            period if period.is_power_of_two() => self.start & (period - 1),
            period => self.start % period,
        };
        Moves { first: if late == 0 { 0 } else { period - late as usize }, period }
    }

    /// H, where the groups are some and follow one another.
    pub(super) fn check(&self) -> Result<usize, KernelError> {
        let mut hidden = 0usize;
        for &Group { units, first, period } in self.groups {
            for (what, given) in [("units of a group", units), ("period", period)] {
                if given == 0 {
                    let expected = "1 or more".into();
                    return Err(KernelError::Dimension { what, given, expected });
                }
            }
            check_len("units before a group", first, hidden)?;
            let all = hidden.checked_add(units);
            hidden = all.ok_or(KernelError::TooLarge { what: "the groups" })?;
        }
        if hidden == 0 {
            let expected = "1 or more".into();
            return Err(KernelError::Dimension { what: "groups", given: 0, expected });
        }
        Ok(hidden)
    }

    /// Floats of `[moves, B, units]` for each group.
    pub(super) fn moved(&self, schedule: Schedule, hidden: usize) -> Result<usize, KernelError> {
        let (steps, batch) = (schedule.steps(), schedule.batch());
        checked_len("z", &[steps, batch, hidden])?;
        let groups = self.groups.iter().enumerate();
        Ok(groups.map(|(at, group)| self.moves(at, steps) * batch * group.units).sum())
    }
}
