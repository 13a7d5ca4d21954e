//! Whether helpers pay: where another process takes a part of the cores, a pass may wait for a
//! thread that does not run for longer than helpers save. Nobody can be asked, so passes are
//! timed. Knows times; must not know threads.
//!
//! Passes of about the same work, a power of two of multiply-adds, are held against each other:
//! with helpers and alone. A few are taken alone now and then, so that there is something to hold
//! the others against. While helpers do not pay, passes go alone, and now and then a few are
//! tried with helpers, the more rarely the longer it has been so.

use std::time::{Duration, Instant};

/// Passes with helpers after which a few are taken alone to be timed, at first and later.
const FIRST_ALONE: u32 = 2;
/// See [`FIRST_ALONE`].
const NEXT_ALONE: u32 = 512;
/// Passes with helpers, since the last one alone, that say something of them.
const FEW: u32 = 4;
/// Passes in a trial, of helpers or alone. The first does not count: it wakes helpers, or finds
/// in another core's cache what they have left there.
const TRIAL: u32 = 3;
/// A pass alone from this time on is a trial of its own: what it finds in another core's cache
/// is little of it, and three would be long.
const LONG: Duration = Duration::from_millis(10);
/// Passes alone before the first trial; twice as many after each that has failed, to the most.
const PATIENCE: (u32, u32) = (8, 128);
/// How long it takes at the most until a trial is due, in milliseconds for each pass of
/// patience: passes of 10 ms are tried after three, not after eight.
const MS_OF_PATIENCE: u32 = 4;
/// The share of the time alone below which helpers pay, to begin with them and to go on.
const BEGIN: f32 = 0.9;
/// See [`BEGIN`].
const GO_ON: f32 = 0.98;
/// The weight of the newest time in a mean.
const NEWEST: f32 = 0.125;
/// Orders of work that are told apart; the last has all that is larger.
const ORDERS: usize = 12;

/// How a pass is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Helped,
    Alone,
}

/// Times of passes, by the order of their work.
#[derive(Debug, Default)]
pub(super) struct Pays {
    orders: [Times; ORDERS],
}

#[derive(Debug, Default)]
struct Times {
    /// Mean nanoseconds for a thousand multiply-adds with helpers and alone, 0 before the first.
    helped: f32,
    alone: f32,
    /// The fastest of a trial alone.
    fastest: f32,
    /// Whether passes go alone, but for trials.
    is_alone: bool,
    /// Passes since the mode was last changed or the other one tried.
    passes: u32,
    /// Passes to go alone before the next trial.
    patience: u32,
    /// What is left of a trial of helpers, or what has been of one alone.
    trial: u32,
    /// When the last trial was, or the passes began to go alone.
    since: Option<Instant>,
}

impl Pays {
    fn times(&mut self, work: usize) -> &mut Times {
        let order = (work.max(1).ilog2() as usize).saturating_sub(19);
        &mut self.orders[order.min(ORDERS - 1)]
    }

    /// How the next pass of so much work is to be taken.
    pub(super) fn next(&mut self, work: usize) -> Mode {
        self.times(work).next()
    }

    /// Takes note of how long a pass took.
    pub(super) fn took(&mut self, work: usize, mode: Mode, time: Duration) {
        let cost = time.as_nanos() as f32 * 1000.0 / work.max(1) as f32;
        self.times(work).took(mode, cost, time >= LONG);
    }
}

impl Times {
    fn next(&mut self) -> Mode {
        if !self.is_alone {
            let due = if self.alone == 0.0 { FIRST_ALONE } else { NEXT_ALONE };
            return if self.passes >= due { Mode::Alone } else { Mode::Helped };
        }
        if self.trial > 0 {
            return Mode::Helped;
        }
        let most = Duration::from_millis((self.patience * MS_OF_PATIENCE).into());
        let waited = self.since.is_some_and(|since| since.elapsed() > most);
        if self.passes < self.patience && !(waited && self.passes > 0) {
            return Mode::Alone;
        }
        self.trial = TRIAL;
        Mode::Helped
    }

    fn took(&mut self, mode: Mode, cost: f32, is_long: bool) {
        self.passes = self.passes.saturating_add(1);
        match (mode, self.is_alone) {
            (Mode::Alone, false) => self.tried_alone(cost, is_long),
            (Mode::Alone, true) => mean(&mut self.alone, cost),
            (Mode::Helped, false) => {
                // One slow pass among the first decides nothing.
                if self.passes <= FEW && self.helped > 0.0 {
                    self.helped = self.helped.min(cost);
                } else {
                    mean(&mut self.helped, cost);
                }
                let known = self.alone > 0.0 && self.passes >= FEW;
                if known && self.helped > GO_ON * self.alone {
                    *self = Self { alone: self.alone, is_alone: true, ..Self::default() };
                    self.patience = PATIENCE.0;
                    self.since = Some(Instant::now());
                }
            }
            (Mode::Helped, true) => self.tried(cost),
        }
    }

    /// A pass alone among those with helpers: the fastest of a trial but the first counts, and
    /// half of what it was before where that was faster.
    fn tried_alone(&mut self, cost: f32, is_long: bool) {
        self.trial = if is_long { TRIAL } else { self.trial + 1 };
        match self.trial {
            1 => {}
            2 => self.fastest = cost,
            _ if is_long => self.fastest = cost,
            _ => self.fastest = self.fastest.min(cost),
        }
        if self.trial == TRIAL {
            let before = if self.alone == 0.0 { self.fastest } else { self.alone };
            self.alone = self.fastest.min(0.5 * (before + self.fastest));
            (self.helped, self.passes, self.trial) = (0.0, 0, 0);
        }
    }

    /// A pass of a trial of helpers: the mean of all but the first decides.
    fn tried(&mut self, cost: f32) {
        if self.trial < TRIAL {
            self.helped += cost / (TRIAL - 1) as f32;
        } else {
            self.helped = 0.0;
        }
        self.trial = self.trial.saturating_sub(1);
        if self.trial > 0 {
            return;
        }
        self.passes = 0;
        if self.helped < BEGIN * self.alone {
            self.is_alone = false;
        } else {
            self.patience = (2 * self.patience).min(PATIENCE.1);
            self.since = Some(Instant::now());
        }
    }
}

/// A mean that forgets; a pass that something stopped counts as three times the mean at most.
fn mean(mean: &mut f32, cost: f32) {
    *mean = if *mean == 0.0 { cost } else { *mean + NEWEST * (cost.min(3.0 * *mean) - *mean) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: usize = 1 << 22;

    /// So many passes that take these times with helpers and alone; how many went alone.
    fn passes(pays: &mut Pays, count: usize, [helped, alone]: [u64; 2]) -> usize {
        let mut were_alone = 0;
        for _ in 0..count {
            let mode = pays.next(WORK);
            let (time, is_alone) = match mode {
                Mode::Helped => (helped, 0),
                Mode::Alone => (alone, 1),
            };
            were_alone += is_alone;
            pays.took(WORK, mode, Duration::from_micros(time));
        }
        were_alone
    }

    #[test]
    fn helpers_that_pay_come_to_nearly_all_passes() {
        let mut pays = Pays::default();
        assert_eq!(pays.next(WORK), Mode::Helped, "the first one");
        assert!(passes(&mut pays, 2000, [500, 900]) <= 12);
    }

    #[test]
    fn helpers_that_do_not_pay_stay_away_until_they_do() {
        let mut pays = Pays::default();
        let went_alone = passes(&mut pays, 2000, [1100, 900]);
        assert!(went_alone > 1850, "{went_alone}");
        let went_alone = passes(&mut pays, 200, [500, 900]);
        assert!(went_alone <= 130, "{went_alone}");
        assert!(passes(&mut pays, 400, [500, 900]) <= 3);
        let went_alone = passes(&mut pays, 1000, [1100, 900]);
        assert!(went_alone > 850, "{went_alone}");
    }

    /// The first one wakes threads and touches memory for the first time.
    #[test]
    fn one_slow_pass_decides_nothing() {
        for before in 0..20 {
            let mut pays = Pays::default();
            passes(&mut pays, before, [500, 900]);
            passes(&mut pays, 1, [9000, 900]);
            let went_alone = passes(&mut pays, 400, [500, 900]);
            assert!(went_alone <= 3, "{went_alone}, the slow one after {before}");
        }
    }

    /// The first pass alone after those with helpers is slower than these.
    #[test]
    fn what_helpers_left_elsewhere_is_not_held_against_being_alone() {
        let (mut pays, mut last, mut went_alone) = (Pays::default(), Mode::Helped, 0);
        for _ in 0..200 {
            let mode = pays.next(WORK);
            let time = match (last, mode) {
                (_, Mode::Helped) => 1100,
                (Mode::Helped, Mode::Alone) => 1200,
                (Mode::Alone, Mode::Alone) => 900,
            };
            went_alone += u32::from(mode == Mode::Alone);
            pays.took(WORK, mode, Duration::from_micros(time));
            last = mode;
        }
        assert!(went_alone > 160, "{went_alone}");
    }

    #[test]
    fn long_passes_try_helpers_soon() {
        let mut pays = Pays::default();
        passes(&mut pays, 2 + 3 + 4, [1100, 900]);
        assert_eq!(pays.next(WORK), Mode::Alone);
        pays.took(WORK, Mode::Alone, Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(pays.next(WORK), Mode::Helped);
    }

    #[test]
    fn of_long_passes_one_is_taken_alone() {
        let mut pays = Pays::default();
        assert_eq!(passes(&mut pays, 40, [50_000, 90_000]), 1);
    }

    #[test]
    fn orders_of_work_are_apart() {
        let mut pays = Pays::default();
        passes(&mut pays, 200, [1100, 900]);
        assert_eq!(pays.next(WORK), Mode::Alone);
        assert_eq!(pays.next(2 * WORK), Mode::Helped);
        assert_eq!(pays.next(usize::MAX), Mode::Helped);
    }
}
