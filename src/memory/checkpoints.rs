//! The order in which a long pass is run if there is no room for all of its activations: which
//! states are kept, and from which of them the steps are run again. Knows numbers of units and of
//! states; must not know what a unit or a state is.

/// What to do next. There is one current state, which the actions move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run these units forward from the current state, which then stands after them.
    Advance(std::ops::Range<usize>),
    /// Keep a copy of the current state as this checkpoint.
    Keep(usize),
    /// Copy this checkpoint to the current state.
    Restore(usize),
    /// Run this unit forward from the current state and keep its activations, then run it backward.
    Unit(usize),
}

/// A pass over units that are run backward from the last to the first, with a number of checkpoints,
/// which are copies of the state. The first checkpoint is the state before the first unit.
///
/// The number of units that are run forward more than once is the least possible with that many
/// checkpoints: see [`repeated`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    units: usize,
    checkpoints: usize,
    /// The units that are still to be run backward, as ranges that follow one another. Range i begins
    /// at checkpoint i.
    ranges: Vec<(usize, usize)>,
    /// The unit that the current state stands before, unless no action can begin there.
    at: Option<usize>,
}

impl Course {
    /// Begins a course over `units` with 1 or more `checkpoints`.
    pub(crate) fn new(units: usize, checkpoints: usize) -> Self {
        let checkpoints = checkpoints.min(units);
        let ranges = Vec::with_capacity(checkpoints);
        let mut course = Self { units, checkpoints, ranges, at: None };
        course.restart();
        course
    }

    /// Begins again. The current state has to be that before the first unit, and so has checkpoint 0.
    pub(crate) fn restart(&mut self) {
        self.ranges.clear();
        self.ranges.push((0, self.units));
        self.at = Some(0);
    }
}

impl Iterator for Course {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let checkpoint = self.ranges.len() - 1;
        let (first, end) = *self.ranges.last()?;
        if first == end {
            return None;
        }
        let free = self.checkpoints - checkpoint;
        // The next unit to run backward is the last one. If there is room, a checkpoint on the way
        // there is kept.
        let keep = end - first > 1 && free > 1;
        let goal = if keep { first + split(end - first, free) } else { end - 1 };
        let at = match self.at {
            Some(at) if (first..=goal).contains(&at) => at,
            _ => {
                self.at = Some(first);
                return Some(Action::Restore(checkpoint));
            }
        };
        if at < goal {
            self.at = Some(goal);
            return Some(Action::Advance(at..goal));
        }
        if keep {
            self.ranges[checkpoint] = (first, goal);
            self.ranges.push((goal, end));
            return Some(Action::Keep(checkpoint + 1));
        }
        self.at = None;
        if goal == first && checkpoint > 0 {
            self.ranges.pop();
        } else {
            self.ranges[checkpoint] = (first, goal);
        }
        Some(Action::Unit(goal))
    }
}

/// Returns C(a + b, a), or `u128::MAX` if it does not fit.
fn binomial(a: usize, b: usize) -> u128 {
    let (less, more) = (a.min(b) as u128, a.max(b) as u128);
    let mut product = 1u128;
    for k in 1..=less {
        // C(more + k, k) = C(more + k − 1, k − 1) · (more + k) / k, which is a whole number.
        let Some(times) = product.checked_mul(more + k) else { return u128::MAX };
        product = times / k;
    }
    product
}

/// Returns the least r for which `checkpoints` are enough to run `units` backward while no unit is
/// run forward more than r times without its activations being kept: C(s + r, s) ≥ n.
fn repetitions(units: usize, checkpoints: usize) -> usize {
    if checkpoints == 1 {
        return units - 1;
    }
    (0..).find(|&r| binomial(checkpoints, r) >= units as u128).unwrap_or(0)
}

/// Returns how many units are run forward without their activations being kept, in a course over
/// `units` (n) with `checkpoints` (s), of which the state before the first unit is one:
/// `p(n, s) = r n − C(s + r, r − 1)` with the least r for which C(s + r, s) ≥ n (Griewank and Walther
/// 2000, algorithm 799). Each unit is also run once with its activations kept.
pub(crate) fn repeated(units: usize, checkpoints: usize) -> u128 {
    let r = repetitions(units, checkpoints);
    if r == 0 { 0 } else { r as u128 * units as u128 - binomial(checkpoints + 1, r - 1) }
}

/// Returns how many of 2 or more `units` to run forward before the next checkpoint is kept, if
/// `checkpoints`, 2 or more, are left, of which one is the state before these units. The result is
/// one for which the number of repeated units is the least.
fn split(units: usize, checkpoints: usize) -> usize {
    let (n, s, r) = (units as u128, checkpoints, repetitions(units, checkpoints));
    // The units before the new checkpoint must not need more than r − 1 repetitions, those after it
    // not more than r with one checkpoint less.
    let least = n.saturating_sub(binomial(s - 1, r)).max(1);
    let fewest = if r >= 2 { binomial(s, r - 2) } else { 1 };
    least.max(fewest).min(n - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least number of repeated units, by trying all places of the next checkpoint.
    fn least(units: usize, checkpoints: usize, known: &mut [Vec<Option<u128>>]) -> u128 {
        if units == 1 {
            return 0;
        }
        if checkpoints == 1 {
            return (units * (units - 1) / 2) as u128;
        }
        if let Some(known) = known[units][checkpoints] {
            return known;
        }
        let of = |mid: usize| {
            let after = least(units - mid, checkpoints - 1, known);
            mid as u128 + after + least(mid, checkpoints, known)
        };
        let found = (1..units).map(of).min().unwrap();
        known[units][checkpoints] = Some(found);
        found
    }

    /// Runs a course, and returns how many units it repeats.
    fn run(units: usize, checkpoints: usize) -> u128 {
        let mut kept = vec![None; checkpoints];
        kept[0] = Some(0);
        let (mut at, mut advanced, mut next) = (0, 0, units);
        for action in Course::new(units, checkpoints) {
            match action {
                Action::Advance(range) => {
                    assert_eq!(range.start, at);
                    at = range.end;
                    advanced += range.len() as u128;
                }
                Action::Keep(checkpoint) => kept[checkpoint] = Some(at),
                Action::Restore(checkpoint) => at = kept[checkpoint].unwrap(),
                Action::Unit(unit) => {
                    assert_eq!((unit, unit + 1), (at, next));
                    next = unit;
                    at = usize::MAX;
                }
            }
        }
        assert_eq!(next, 0);
        advanced
    }

    #[test]
    fn a_course_repeats_as_few_units_as_is_possible() {
        let mut known = vec![vec![None; 13]; 61];
        for units in 1..=60 {
            for checkpoints in 1..=12 {
                let expected = least(units, checkpoints, &mut known);
                assert_eq!(repeated(units, checkpoints), expected, "{units} {checkpoints}");
                assert_eq!(run(units, checkpoints), expected, "{units} {checkpoints}");
            }
        }
    }

    #[test]
    fn the_published_numbers() {
        for (units, checkpoints, all) in [(10, 2, 30), (10, 3, 25), (100, 5, 416), (1000, 10, 4636)]
        {
            assert_eq!(units as u128 + repeated(units, checkpoints), all);
            assert_eq!(units as u128 + run(units, checkpoints), all);
        }
        assert_eq!(repeated(1000, 1), 1000 * 999 / 2);
    }

    #[test]
    fn a_long_course_begins_again() {
        let mut course = Course::new(100_000, 7);
        let first: Vec<_> = course.by_ref().collect();
        course.restart();
        assert!(course.eq(first));
        assert_eq!(run(100_000, 7), repeated(100_000, 7));
    }
}
