//! The example `char_lm`: its modules' own tests, and the program from outside.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod common;

/// For the tests inside, and for [`program`].
#[allow(dead_code)]
#[path = "../examples/char_lm/main.rs"]
mod example;

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

/// Where [`program`] finds its arguments, with this between them.
const ARGUMENTS: (&str, char) = ("CHAR_LM_ARGUMENTS", '\u{1f}');

/// What [`program`] writes to stdout before the program does.
const START: &[u8] = b"\nstart of the program's output\n";

/// Runs in the processes that [`char_lm`] starts: the program.
#[test]
#[ignore = "is run by the other tests"]
fn program() {
    let (variable, separator) = ARGUMENTS;
    let Ok(arguments) = std::env::var(variable) else { return };
    std::io::stdout().write_all(START).unwrap();
    example::program(arguments.split(separator).map(Into::into));
    std::process::exit(0);
}

/// The program with arguments, in a process of its own.
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

/// Whether this process, which may run on an emulator, can start others.
fn can_start() -> bool {
    match try_char_lm(&["--help"]) {
        // ENOEXEC: not a program of this machine.
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

/// Refused, with a message that has `mention` in it and nothing on stdout.
fn refused(output: &Output, mention: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{mention}: {error}");
    assert!(output.stdout.is_empty(), "{mention}");
    assert!(error.contains(mention), "{mention:?} is not in {error:?}");
    assert!(!error.contains("panicked"), "{error}");
}

/// An empty directory of this test's own.
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

/// The two figures of the last line, which are there exactly once.
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
        ("embedding", &[256, 4][..]),
        ("lstm.input_weights", &[32, 4]),
        ("lstm.recurrent_weights", &[32, 8]),
        ("lstm.bias", &[32]),
        ("readout.weights", &[256, 8]),
        ("readout.bias", &[256]),
    ] {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, shape), "{name}");
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["hidden_size"], "8");

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
    let rest = ["--updates", "1000", "--learning-rate", "0.01", "--text", &text, "--out", &out];
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

#[test]
fn bad_arguments() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("arguments");
    let (text, weights) = (directory.text(), directory.weights("weights"));
    for (arguments, mention) in [
        (&["--hidden", "0"][..], "'0'"),
        (&["--hidden", "99999999999999999999"], "--hidden"),
        (&["--embedding", "-3"], "-3"),
        (&["--batch", "0"], "--batch"),
        (&["--steps", "x"], "'x'"),
        (&["--threads", "0"], "--threads"),
        (&["--threads", "9", "--batch", "8"], "--threads 9"),
        (&["--updates", "0"], "--updates"),
        (&["--seconds", "0"], "--seconds"),
        (&["--seconds", "NaN"], "NaN"),
        (&["--seconds", "inf"], "inf"),
        (&["--seconds", "3", "--updates", "3"], "--updates"),
        (&["--learning-rate", "-1"], "-1"),
        (&["--clip", "0"], "--clip"),
        (&["--temperature", "-0.5"], "-0.5"),
        (&["--temperature", "NaN"], "NaN"),
        (&["--seed", "-1"], "-1"),
        (&["--generate", "5"], "--load"),
        (&["--generate", "5", "--load", &weights, "--out", &text], "--out"),
        (&["--hidden", "9", "--load", &weights], "--hidden 9"),
        (&["--embedding", "9", "--load", &weights, "--generate", "3"], "--embedding 9"),
        (&["--unheard-of"], "--unheard-of"),
        (&["stray"], "stray"),
    ] {
        // Where the arguments were good, this would be a fault too: no such text.
        refused(&char_lm(arguments), mention);
    }
}

#[test]
fn bad_texts() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("texts");
    let weights = directory.weights("weights");
    let before = std::fs::read(&weights).unwrap();
    let none = directory.path("none");
    let (empty, short) = (directory.file("empty", ""), directory.file("short", "a".repeat(999)));
    let some = directory.file("some", "abc ".repeat(250));
    let folder = directory.path("");
    for (text, batch, mention) in [
        (&none, "4", &none[..]),
        (&empty, "4", "0 bytes"),
        (&short, "4", "999 bytes"),
        (&folder, "4", &folder[..]),
        (&some, "600", "600 streams"),
    ] {
        let arguments = ["--text", text, "--batch", batch, "--updates", "1", "--out", &weights];
        refused(&char_lm(arguments), mention);
        assert_eq!(std::fs::read(&weights).unwrap(), before, "{mention}");
    }
    let names = ["empty", "short", "some", "text", "weights"];
    assert_eq!(directory.names(), names);
}

#[test]
fn bad_destinations() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("destinations");
    let text = directory.text();
    let notes = directory.file("notes", "not to be lost");
    let (folder, nowhere) = (directory.path(""), directory.path("no/where"));
    let empty = directory.file("empty", "");
    for (out, mention) in [
        (&notes, "not overwritten"),
        (&empty, "not overwritten"),
        (&folder, "not overwritten"),
        (&nowhere, &nowhere[..]),
    ] {
        let output = char_lm([&SMALL[..], &["--text", &text, "--out", out]].concat());
        refused(&output, mention);
        refused(&output, out);
    }
    assert_eq!(std::fs::read(&notes).unwrap(), b"not to be lost");
    assert_eq!(directory.names(), ["empty", "notes", "text"]);
}

#[test]
fn bad_weights() {
    if !can_start() {
        return;
    }
    let directory = Directory::new("weights");
    let (text, weights) = (directory.text(), directory.weights("weights"));
    let whole = std::fs::read(&weights).unwrap();
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    let (_, header) = SafeTensors::read_metadata(&whole).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let write = |tensors: Vec<(String, TensorView)>, metadata| {
        safetensors::serialize(tensors, Some(metadata)).unwrap()
    };
    let with = |key: &str, value: &str| {
        let mut metadata = metadata.clone();
        metadata.insert(key.into(), value.into());
        write(tensors.tensors(), metadata)
    };
    let mut one_less = tensors.tensors();
    one_less.retain(|(name, _)| name != "lstm.bias");
    let mut reshaped = tensors.tensors();
    for (name, view) in &mut reshaped {
        if name == "readout.weights" {
            *view = TensorView::new(Dtype::F32, vec![8, 256], view.data()).unwrap();
        }
    }
    let nan = f32::NAN.to_le_bytes();
    let mut not_finite = whole.clone();
    let last = not_finite.len() - 4;
    not_finite[last..].copy_from_slice(&nan);
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());

    for (name, bytes, mention) in [
        ("empty", vec![], "not a weights file"),
        ("text file", b"fn main() {}\n".to_vec(), "not a weights file"),
        ("cut", whole[..whole.len() - 1].to_vec(), "not a weights file"),
        ("cut header", whole[..100].to_vec(), "not a weights file"),
        ("endless", endless, "not a weights file"),
        ("other model", with("model", "another"), "another"),
        ("other cell", with("candidate", "logistic"), "logistic"),
        ("no number", with("hidden_size", "eight"), "eight"),
        ("no units", with("hidden_size", "0"), "hidden_size"),
        ("other size", with("hidden_size", "7"), "[32, 4]"),
        ("huge", with("hidden_size", "1000000"), "smaller"),
        ("too huge", with("hidden_size", &usize::MAX.to_string()), "too large"),
        ("no metadata", write(tensors.tensors(), HashMap::new()), "no model"),
        ("one less", write(one_less, metadata.clone()), "lstm.bias"),
        ("reshaped", write(reshaped, metadata.clone()), "[8, 256]"),
        ("not finite", not_finite, "not finite"),
    ] {
        let path = directory.file(name, &bytes);
        for arguments in [
            &["--load", &path, "--generate", "9"][..],
            &["--load", &path, "--text", &text, "--updates", "1", "--out", &weights],
            &["--out", &path, "--text", &text, "--updates", "1"],
        ] {
            let output = char_lm(arguments);
            refused(&output, mention);
            refused(&output, &path);
        }
        assert_eq!(std::fs::read(path).unwrap(), bytes, "{name}");
    }
    assert_eq!(std::fs::read(&weights).unwrap(), whole);
    let absent = directory.path("absent");
    refused(&char_lm(["--load", &absent, "--generate", "9"]), &absent);
    assert!(directory.names().iter().all(|name| !name.ends_with(".tmp")));
}
