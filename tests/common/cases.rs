//! Drawn cases, shrunk where one fails.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// `test` on `cases` values, or as many as `PROPTEST_CASES` says.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let run = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}
