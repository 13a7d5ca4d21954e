//! Drawn cases, which are shrunk when one fails.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// The value of `PROPTEST_CASES` if it is not set; with half of it each test has half of its cases.
const USUAL: u32 = 64;

/// Runs `test` on `cases` values, or on more or fewer if `PROPTEST_CASES` says so.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    let share = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { USUAL };
    config.cases = (cases.saturating_mul(share) / USUAL).max(1);
    let run = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
