//! The example `char_lm`: its parts, and the whole program run as a process.

use safetensors::{Dtype, SafeTensors};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod common;

#[allow(dead_code)]
#[path = "../examples/char_lm/main.rs"]
mod example;

#[path = "char_lm/parts.rs"]
mod parts;

#[path = "char_lm/refusals.rs"]
mod refusals;

/// The smallest sensible training.
const SMALL: [&str; 11] = [
    "--quiet",
    "--updates",
    "3",
    "--hidden",
    "8",
    "--embedding",
    "4",
    "--batch",
    "4",
    "--steps",
    "8",
];

/// The environment variable in which [`program`] finds its arguments, and the character between
/// them.
const ARGUMENTS: (&str, char) = ("CHAR_LM_ARGUMENTS", '\u{1f}');

/// The line that [`program`] prints to stdout before it runs the example.
const START: &[u8] = b"\nstart of the program's output\n";

/// Runs the example, in the processes that [`char_lm`] starts.
#[test]
#[ignore = "is run by the other tests"]
fn program() {
    let (variable, separator) = ARGUMENTS;
    let Ok(arguments) = std::env::var(variable) else { return };
    std::io::stdout().write_all(START).unwrap();
    example::program(arguments.split(separator).map(Into::into));
    std::process::exit(0);
}

/// Runs the example with arguments, in a process of its own.
fn try_char_lm(arguments: &[&str]) -> std::io::Result<Output> {
    let (variable, separator) = ARGUMENTS;
    let arguments = [&["char_lm"], arguments].concat().join(&separator.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "program", "--ignored", "--nocapture"]);
    let mut output = command.env(variable, arguments).output()?;
    let mut windows = output.stdout.windows(START.len());
    let start = windows.position(|window| window == START).expect("the program was started");
    output.stdout.drain(..start + START.len());
    Ok(output)
}

fn char_lm<'a>(arguments: impl AsRef<[&'a str]>) -> Output {
    try_char_lm(arguments.as_ref()).unwrap()
}

/// Whether this process can start others; it cannot if it runs on an emulator.
fn can_start() -> bool {
    match try_char_lm(&["--help"]) {
        // ENOEXEC: the file is no program for this machine.
        Err(error) if error.raw_os_error() == Some(8) || error.kind() == ErrorKind::Unsupported => {
            common::say(&format!("char_lm NOT tested: {error}"));
            false
        }
        output => stdout(&output.unwrap()).contains("--text"),
    }
}

fn stdout(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts that the program refuses the arguments, with a message that contains `mention` and
/// nothing on stdout.
fn refused(output: &Output, mention: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{mention}: {error}");
    assert!(output.stdout.is_empty(), "{mention}");
    assert!(error.contains(mention), "{mention:?} is not in {error:?}");
    assert!(!error.contains("panicked"), "{error}");
}

/// An empty directory for one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("char_lm_{name}"));
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }

    fn text(&self) -> String {
        let line = "the quick brown fox jumps over the lazy dog and goes on\n";
        self.file("text", line.repeat(80))
    }

    fn weights(&self, name: &str) -> String {
        let (text, out) = (self.text(), self.path(name));
        stdout(&char_lm([&SMALL[..], &["--text", &text, "--out", &out]].concat()));
        out
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The two figures of the last line, which must be there exactly once.
fn figures(stdout: &str) -> [f64; 2] {
    let line = stdout.lines().next().unwrap();
    let rest = line.strip_prefix("held-out bits/char: ").unwrap();
    let (network, ngram) = rest.split_once("; order-3 n-gram: ").unwrap();
    [network, ngram].map(|figure| figure.parse().unwrap())
}

#[test]
fn trains_saves_generates_and_goes_on() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("trains");
    let (text, out) = (directory.text(), directory.path("weights"));
    let output = char_lm([&SMALL[..], &["--text", &text, "--out", &out]].concat());
    let [network, ngram] = figures(&stdout(&output));
    assert!(network > 4.0 && network < 9.0, "{network}");
    assert!(ngram > 0.0 && ngram < 1.0, "{ngram}");
    assert!(output.stderr.is_empty());
    assert_eq!(directory.names(), ["text", "weights"]);

    let bytes = std::fs::read(&out).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("0.weight", &[256, 4][..]),
        ("1.weight_ih", &[32, 4]),
        ("1.weight_hh", &[32, 8]),
        ("1.bias", &[32]),
        ("2.weight", &[256, 8]),
        ("2.bias", &[256]),
    ] {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, shape), "{name}");
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert!(header.metadata().as_ref().unwrap()["network"].contains("\"hidden_size\":8"));

    let generate = |options: &[&str]| {
        stdout(&char_lm([&["--load", &out, "--generate", "50"][..], options].concat()))
    };
    assert!(generate(&[]).chars().count() > 40);
    assert_eq!(generate(&["--seed", "7"]), generate(&["--seed", "7"]));
    assert_ne!(generate(&["--seed", "7"]), generate(&["--seed", "8"]));
    let likeliest = ["--temperature", "0", "--prompt", "the "];
    assert_eq!(generate(&likeliest), generate(&[&likeliest[..], &["--seed", "8"]].concat()));

    // From the same weights, the next run starts better than the first one did.
    let more = ["--load", &out, "--out", &out, "--text", &text, "--quiet", "--updates", "200"];
    let [better, same] = figures(&stdout(&char_lm(more)));
    assert!(better < network - 1.0, "{better} after {network}");
    assert_eq!(same, ngram);
    assert_ne!(std::fs::read(&out).unwrap(), bytes);
    assert_eq!(directory.names(), ["text", "weights"]);
}

#[test]
fn learns_a_text() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("learns");
    let (text, out) = (directory.text(), directory.path("weights"));
    let options = ["--hidden", "32", "--embedding", "16", "--batch", "8", "--steps", "16"];
    let rest = ["--updates", "2000", "--learning-rate", "0.01", "--text", &text, "--out", &out];
    let [network, _] = figures(&stdout(&char_lm([&options[..], &rest].concat())));
    assert!(network < 0.5, "{network}");
    let greedy = ["--load", &out, "--generate", "19", "--temperature", "0", "--prompt"];
    let text = stdout(&char_lm([&greedy[..], &["the quick brown "]].concat()));
    assert_eq!(text, "fox jumps over the \n");
}

#[test]
fn the_seed_decides() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("seed");
    let text = directory.text();
    let run = |name: &str, options: &[&str]| {
        let out = directory.path(name);
        let given = ["--text", &text, "--out", &out];
        let output = stdout(&char_lm([&SMALL[..], &given, options].concat()));
        let bytes = std::fs::read(out).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut data: Vec<_> =
            tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
        data.sort();
        (output, data)
    };
    let first = run("first", &["--seed", "5"]);
    assert_eq!(first, run("again", &["--seed", "5"]));
    assert_ne!(first.1, run("other", &["--seed", "6"]).1);
}

#[test]
fn trains_on_this_repository_and_shows_how() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("repository");
    let out = directory.path("weights");
    let options = ["--seconds", "0.2", "--hidden", "8", "--embedding", "4"];
    let output = char_lm([&options[..], &["--out", &out]].concat());
    let [_, ngram] = figures(&stdout(&output));
    assert!(ngram > 1.0 && ngram < 4.0, "{ngram}");
    let shown = String::from_utf8(output.stderr).unwrap();
    for part in ["the text of", "KB/s", "GFLOP/s", "training", "held-out", &out] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}
