//! `BPTT_ISA`, which is read once per process, so each value is tested in a process of its own.

mod common;

use bptt::{Error, Isa};
use std::io::ErrorKind;
use std::process::Command;

/// Prints the best instruction set, in the processes that [`best_where`] starts.
#[test]
#[ignore = "is run by the other tests"]
fn child() {
    match Isa::best() {
        Ok(isa) => println!("\nbest: {isa}."),
        Err(error) => println!("\nrefused: {}.", Error::from(error)),
    }
}

/// What a process prints for a value of the variable; `None` if this process runs on an emulator
/// and cannot start another.
fn best_where(variable: Option<&str>) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    match variable {
        Some(name) => command.env("BPTT_ISA", name),
        None => command.env_remove("BPTT_ISA"),
    };
    let output = match command.output() {
        // ENOEXEC: the file is no program for this machine.
        Err(error) if error.raw_os_error() == Some(8) || error.kind() == ErrorKind::Unsupported => {
            common::say(&format!("BPTT_ISA NOT tested: {error}"));
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        text.lines().find(|line| line.starts_with("best: ") || line.starts_with("refused: "));
    Some(line.unwrap_or_else(|| panic!("{text}")).to_owned())
}

#[test]
fn without_it_the_best_is_taken() {
    common::isas();
    if let Some(line) = best_where(None) {
        assert_eq!(line, format!("best: {}.", Isa::available()[0]));
    }
}

/// A shell may be unable to unset the variable, or a file of settings may have nothing after the
/// `=`.
#[test]
fn empty_it_is_as_good_as_unset() {
    if let Some(line) = best_where(Some("")) {
        assert_eq!(line, format!("best: {}.", Isa::available()[0]));
    }
}

#[test]
fn each_that_is_here_can_be_chosen() {
    for isa in Isa::available() {
        if let Some(line) = best_where(Some(isa.name())) {
            assert_eq!(line, format!("best: {isa}."));
        }
    }
}

#[test]
fn an_unknown_or_absent_one_is_refused_with_those_that_are_here() {
    let all: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    let absent = ["avx512", "avx2", "neon"].into_iter().filter(|name| !all.contains(name));
    for name in absent.chain(["AVX2", "mmx", " "]) {
        if let Some(line) = best_where(Some(name)) {
            let all = all.join(", ");
            let expected = format!(
                "refused: BPTT_ISA: instruction set {name:?} is not available; this CPU has: {all}."
            );
            assert_eq!(line, expected);
        }
    }
}
