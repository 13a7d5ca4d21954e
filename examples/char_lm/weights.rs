//! Weights files: safetensors, with what the model is in the metadata.
//!
//! The tensors are f32, row-major, the LSTM's with the gates in the order i, f, g, o:
//! `embedding` `[256, I]`, `lstm.input_weights` `[4H, I]`, `lstm.recurrent_weights`
//! `[4H, H]`, `lstm.bias` `[4H]`, `readout.weights` `[256, H]`, `readout.bias` `[256]`.

use super::Failure;
use super::model::{BYTES, Model};
use bptt::{Candidate, Layer, Lstm};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The metadata's `model`.
const MODEL: &str = "bptt char_lm 1";

/// The names and shapes of a model's tensors.
fn shapes(model: &Model) -> [(&'static str, Vec<usize>); 6] {
    let (i, h) = (model.embedding_size(), model.hidden_size());
    [
        ("embedding", vec![BYTES, i]),
        ("lstm.input_weights", vec![4 * h, i]),
        ("lstm.recurrent_weights", vec![4 * h, h]),
        ("lstm.bias", vec![4 * h]),
        ("readout.weights", vec![BYTES, h]),
        ("readout.bias", vec![BYTES]),
    ]
}

/// `char_lm.safetensors` beside the program: in the build directory.
pub fn default_path() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| format!("{error}; use --out FILE"))?;
    Ok(program.with_file_name("char_lm.safetensors"))
}

/// `Ok` where [`save`] may write: nothing is there yet, or weights of this program.
pub fn check_destination(path: &Path) -> Result<(), Failure> {
    if path.try_exists().map_err(|error| format!("{}: {error}", path.display()))? {
        load(path).map_err(|error| format!("not overwritten: {error}"))?;
    }
    let temporary = temporary(path)?;
    create(&temporary, &[])?;
    Ok(std::fs::remove_file(temporary)?)
}

/// Writes the weights to a file beside `path` first, which then takes its place.
pub fn save(path: &Path, model: &Model) -> Result<(), Failure> {
    let parameters = &model.parameters;
    let (lstm, readout) = (&parameters.lstm, &parameters.readout);
    let data = [
        &parameters.embedding,
        lstm.input_weights(),
        lstm.recurrent_weights(),
        lstm.bias(),
        readout.weights(),
        readout.bias(),
    ]
    .map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    let mut tensors = Vec::new();
    for ((name, shape), data) in shapes(model).into_iter().zip(&data) {
        tensors.push((name, TensorView::new(Dtype::F32, shape, data)?));
    }
    let metadata = [
        ("model", MODEL.into()),
        ("embedding_size", model.embedding_size().to_string()),
        ("hidden_size", model.hidden_size().to_string()),
        ("gates", "input, forget, candidate, output".into()),
        ("candidate", "tanh".into()),
    ];
    debug_assert_eq!(model.lstm.candidate(), Candidate::Tanh);
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value): (_, String)| (key.into(), value)).collect();
    let bytes = safetensors::serialize(tensors, Some(metadata))?;

    let temporary = temporary(path)?;
    let placed = create(&temporary, &bytes).and_then(|()| {
        let moved = std::fs::rename(&temporary, path);
        moved.map_err(|error| format!("{}: {error}", path.display()).into())
    });
    if placed.is_err() {
        // What is left of it is of no use; the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

/// A name beside `path` for what is not whole yet.
fn temporary(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.file_name().ok_or_else(|| format!("{}: not a file", path.display()))?;
    let mut name = name.to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Reads a file that [`save`] wrote.
pub fn load(path: &Path) -> Result<Model, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    read(&bytes).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn read(bytes: &[u8]) -> Result<Model, Failure> {
    let no = |error: &dyn std::fmt::Display| format!("not a weights file: {error}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| no(&error))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| no(&error))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| no(&"it has no metadata"))?;
    let entry = |key| metadata.get(key).ok_or_else(|| no(&format!("no {key} in its metadata")));
    if entry("model")? != MODEL {
        return Err(no(&format!("its model is {:?}, expected {MODEL:?}", entry("model")?)).into());
    }
    if entry("candidate")? != "tanh" {
        return Err(format!("candidate is {:?}, expected \"tanh\"", entry("candidate")?).into());
    }
    let size = |key| -> Result<usize, Failure> {
        let text = entry(key)?;
        Ok(text.parse().map_err(|_| format!("{key} is {text:?}, expected a number"))?)
    };
    let lstm = Lstm::new(size("embedding_size")?, size("hidden_size")?)?;
    // What the file holds bounds what is allocated for it.
    if lstm.parameter_count() > bytes.len() {
        return Err("the tensors are smaller than the sizes in its metadata".into());
    }
    let mut model = Model::zeros(lstm)?;
    let shapes = shapes(&model);
    let parameters = &mut model.parameters;
    let [u, w, b, ..] = parameters.lstm.split_mut();
    let [v, c] = parameters.readout.split_mut();
    for ((name, shape), to) in shapes.iter().zip([&mut parameters.embedding, u, w, b, v, c]) {
        let tensor = tensors.tensor(name).map_err(|error| no(&error))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let (dtype, is) = (tensor.dtype(), tensor.shape());
            return Err(format!("{name} is {dtype:?} {is:?}, expected F32 {shape:?}").into());
        }
        for (to, from) in to.iter_mut().zip(tensor.data().chunks_exact(4)) {
            *to = f32::from_le_bytes(from.try_into().expect("four bytes"));
        }
        if !to.iter().all(|value| value.is_finite()) {
            return Err(format!("{name} has values that are not finite").into());
        }
    }
    model.pack()?;
    Ok(model)
}
