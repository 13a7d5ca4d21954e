//! The program's answers to arguments and files that it refuses, seen from outside.

use super::{Directory, SMALL, can_start, char_lm, refused};
use bptt::{Dense, Network, Runtime};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;

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
        (&["--threads", "257"], "--threads"),
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
        // Even with good arguments this would be refused: there is no such text.
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
    let with = |from: &str, to: &str| {
        let mut metadata = metadata.clone();
        let network = metadata.get_mut("network").unwrap();
        assert!(network.contains(from));
        *network = network.replace(from, to);
        write(tensors.tensors(), metadata)
    };
    let with_units = |units: &str| with(":8", &format!(":{units}"));
    let mut one_less = tensors.tensors();
    one_less.retain(|(name, _)| name != "1.bias");
    let mut reshaped = tensors.tensors();
    for (name, view) in &mut reshaped {
        if name == "2.weight" {
            *view = TensorView::new(Dtype::F32, vec![8, 256], view.data()).unwrap();
        }
    }
    let nan = f32::NAN.to_le_bytes();
    let mut not_finite = whole.clone();
    let last = not_finite.len() - 4;
    not_finite[last..].copy_from_slice(&nan);
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let other_form = HashMap::from([("bptt".to_string(), "1000".to_string())]);
    let dense = Network::new(Dense::new(256, 4).unwrap());
    let runtime = Runtime::best().unwrap();
    let other = dense.model(dense.parameters().unwrap(), runtime).unwrap();

    for (name, bytes, mention) in [
        ("empty", vec![], "not a weights file"),
        ("text file", b"fn main() {}\n".to_vec(), "not a weights file"),
        ("cut", whole[..whole.len() - 1].to_vec(), "not a weights file"),
        ("cut header", whole[..100].to_vec(), "not a weights file"),
        ("endless", endless, "not a weights file"),
        ("other form", write(tensors.tensors(), other_form), "bptt 1000"),
        ("other model", other.to_safetensors().unwrap(), "not a model of this program"),
        ("other tokens", with("\"tokens\":256", "\"tokens\":255"), "[255, 4]"),
        ("other cell", with("tanh", "sigmoid"), "not a model of this program"),
        ("no cell", with("tanh", "unheard-of"), "unheard-of"),
        ("no number", with_units("\"eight\""), "eight"),
        ("no units", with_units("0"), "hidden_size"),
        ("other size", with_units("7"), "[32, 4]"),
        ("huge", with_units("1000000"), "1.weight_ih"),
        ("too huge", with_units(&(usize::MAX / 2).to_string()), "too large"),
        ("no metadata", write(tensors.tensors(), HashMap::new()), "the form of the file"),
        ("one less", write(one_less, metadata.clone()), "1.bias"),
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
