//! The errors that a call is expected to return.

use bptt::Error;
use std::borrow::Cow;

pub fn length(what: &'static str, given: usize, expected: usize) -> Error {
    Error::Length { what, given, expected }
}

pub fn value(what: &'static str, given: &str, expected: impl Into<Cow<'static, str>>) -> Error {
    Error::Value { what, given: given.into(), expected: expected.into() }
}

/// Panics unless the error is a mismatch of `what` whose two sides contain these texts.
#[track_caller]
pub fn assert_mismatch(error: Error, what: &str, given: &str, expected: &str) {
    let Error::Mismatch { what: of, given: made_for, expected: needed } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*of, what);
    assert!(made_for.contains(given), "{made_for}");
    assert!(needed.contains(expected), "{needed}");
    assert_eq!(error.to_string(), format!("{what}: made for {made_for}, expected {needed}"));
}
