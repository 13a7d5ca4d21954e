//! Decides whether helpers pay. Where another process uses some of the cores, a pass may wait for a
//! thread that is not running for longer than helpers save. The system does not say so, hence
//! passes are timed. Knows times; must not know threads.
//!
//! Passes of about the same work (the same power of two of multiply-adds) are compared: with
//! helpers and alone. While helpers pay, a few passes now and then run alone, to have a time to
//! compare with. While helpers do not pay, passes run alone, and a few now and then try helpers,
//! more and more rarely.

use std::time::{Duration, Instant};

/// After this many passes with helpers a few are run alone to be timed: the first time, and after
/// that.
const FIRST_ALONE: u32 = 2;
/// See [`FIRST_ALONE`].
const NEXT_ALONE: u32 = 512;
/// As [`FIRST_ALONE`], where passes are [long](LONG). A program may have only a few such passes, of
/// which one alone would be a large part.
const FIRST_LONG_ALONE: u32 = 16;
/// The fewest passes with helpers, since the last one alone, from which helpers can be judged.
const FEW: u32 = 4;
/// Passes in a trial, of helpers or alone. The first of them does not count: it wakes helpers, or
/// has to fetch data that helpers left in another core's cache.
const TRIAL: u32 = 3;
/// A pass alone that takes at least this long is a whole trial: fetching data from another core's
/// cache is a small part of it, and three such passes would take long.
const LONG: Duration = Duration::from_millis(10);
/// How many passes run alone before the first trial of helpers. The number doubles after each
/// failed trial, up to the second value.
const PATIENCE: (u32, u32) = (8, 128);
/// The longest time until a trial is due, in milliseconds for each pass of patience, so that long
/// passes are tried sooner.
const MS_OF_PATIENCE: u32 = 4;
/// Helpers are called again if they take less than this share of the time alone.
const BEGIN: f32 = 0.9;
/// Helpers stay for as long as they take at most this share of the time alone.
const GO_ON: f32 = 0.98;
/// The weight of the newest time in a running mean.
const NEWEST: f32 = 0.125;
/// How many powers of two of work are told apart; the last one stands for all larger work too.
const ORDERS: usize = 12;

/// How a pass is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Helped,
    Alone,
}

/// Times of passes, for each power of two of work.
#[derive(Debug, Default)]
pub(super) struct Pays {
    orders: [Times; ORDERS],
}

#[derive(Debug, Default)]
struct Times {
    /// Running means of the nanoseconds that a thousand multiply-adds take with helpers and alone;
    /// 0 before the first.
    helped: f32,
    alone: f32,
    /// The fastest time in the current trial without helpers.
    fastest: f32,
    /// Whether passes run alone, except for trials.
    is_alone: bool,
    /// Whether the last pass was [long](LONG).
    is_long: bool,
    /// Passes since the mode last changed or the other mode was last tried.
    passes: u32,
    /// Passes to run alone before the next trial of helpers.
    patience: u32,
    /// Passes left in a trial of helpers, or passes done in a trial without.
    trial: u32,
    /// When the last trial was, or when passes began to run alone.
    since: Option<Instant>,
}

impl Pays {
    fn times(&mut self, work: usize) -> &mut Times {
        let order = (work.max(1).ilog2() as usize).saturating_sub(19);
        &mut self.orders[order.min(ORDERS - 1)]
    }

    /// How to run the next pass, of `work` multiply-adds.
    pub(super) fn next(&mut self, work: usize) -> Mode {
        self.times(work).next()
    }

    /// Records that a pass of `work` multiply-adds took `time`.
    pub(super) fn took(&mut self, work: usize, mode: Mode, time: Duration) {
        let cost = time.as_nanos() as f32 * 1000.0 / work.max(1) as f32;
        self.times(work).took(mode, cost, time >= LONG);
    }
}

impl Times {
    fn next(&mut self) -> Mode {
        if !self.is_alone {
            let due = match (self.alone == 0.0, self.is_long) {
                (false, _) => NEXT_ALONE,
                (true, false) => FIRST_ALONE,
                (true, true) => FIRST_LONG_ALONE,
            };
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
        self.is_long = is_long;
        match (mode, self.is_alone) {
            (Mode::Alone, false) => self.tried_alone(cost),
            (Mode::Alone, true) => mean(&mut self.alone, cost),
            (Mode::Helped, false) => {
                // Takes the fastest of the first few passes, so that a slow one among them decides
                // nothing.
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

    /// Records a pass alone while helpers are in use. The fastest of a trial counts, without its
    /// first pass. If the time before was faster, the two are averaged.
    fn tried_alone(&mut self, cost: f32) {
        self.trial = if self.is_long { TRIAL } else { self.trial + 1 };
        match self.trial {
            1 => {}
            2 => self.fastest = cost,
            _ if self.is_long => self.fastest = cost,
            _ => self.fastest = self.fastest.min(cost),
        }
        if self.trial == TRIAL {
            let before = if self.alone == 0.0 { self.fastest } else { self.alone };
            self.alone = self.fastest.min(0.5 * (before + self.fastest));
            (self.helped, self.passes, self.trial) = (0.0, 0, 0);
        }
    }

    /// Records a pass of a trial of helpers. The mean decides, without the first pass.
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

/// Updates a running mean. A pass that was held up counts as at most three times the mean.
fn mean(mean: &mut f32, cost: f32) {
    *mean = if *mean == 0.0 { cost } else { *mean + NEWEST * (cost.min(3.0 * *mean) - *mean) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: usize = 1 << 22;

    /// Runs `count` passes that take `helped` µs with helpers and `alone` µs without; returns how
    /// many went alone.
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

    /// The first pass wakes threads and touches memory for the first time, so it is slow.
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

    /// The first pass alone after passes with helpers is slower than later ones.
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
    fn of_long_passes_one_is_taken_alone_and_none_of_the_first() {
        let mut pays = Pays::default();
        assert_eq!(passes(&mut pays, 15, [50_000, 90_000]), 0);
        assert_eq!(passes(&mut pays, 25, [50_000, 90_000]), 1);
    }

    #[test]
    fn long_passes_do_without_helpers_that_do_not_pay() {
        let mut pays = Pays::default();
        let went_alone = passes(&mut pays, 200, [110_000, 90_000]);
        assert!(went_alone > 140, "{went_alone}");
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
