//! Drawn cases, shrunk where one fails.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// What `PROPTEST_CASES` is taken to be where it is not set: with half of it each test has
/// half of its cases.
const USUAL: u32 = 64;

/// `test` on `cases` values, or more or fewer as `PROPTEST_CASES` says.
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
