//! Which groups of units move at which step. Knows periods and steps; must not know what a move
//! computes.

use crate::KernelError;
use crate::error::check_len;

/// Units that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number of units.
    pub units: usize,
    /// The index of the first unit. The group reads all units from this one on.
    pub first: usize,
    /// The group moves at the steps t with `t mod period = 0`.
    pub period: usize,
}

/// When a group moves in a pass.
#[derive(Clone, Copy, Debug)]
struct Moves {
    /// The step of its first move.
    first: usize,
    /// The number of steps from one move to the next.
    period: usize,
}

/// The groups of units and the step at which a pass begins, from which follows when each group
/// moves.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// The groups, in the order of their units.
    pub groups: &'a [Group],
    /// The number of steps that the sequence has taken before the pass.
    pub start: u64,
}

impl Clock<'_> {
    /// Returns at how many of the pass's first `steps` steps a group moves.
    #[inline(always)]
    pub fn moves(&self, group: usize, steps: usize) -> usize {
        let Moves { first, period } = self.moves_of(group);
        // Without divisions where possible: for few units they would take longer than the products.
        match steps.saturating_sub(first) {
            left if left <= 1 || period == 1 => left,
            left => (left - 1) / period + 1,
        }
    }

    /// Returns the step of the pass at which a group moves for the `nth` time. Both count from 0.
    #[inline(always)]
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

    /// Returns when a group moves in the pass.
    #[inline(always)]
    fn moves_of(&self, group: usize) -> Moves {
        let period = self.groups[group].period;
        let late = match period as u64 {
            period if period.is_power_of_two() => self.start & (period - 1),
            period => self.start % period,
        };
        Moves { first: if late == 0 { 0 } else { period - late as usize }, period }
    }

    /// Checks that there are groups and that they follow one another, and returns H.
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
}
