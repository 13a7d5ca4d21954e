//! A problem with its data, and what a contender does with it.

use serde::Deserialize;
use std::path::{Path, PathBuf};

pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Infer,
    Train,
}

/// The request that sets a problem.
#[derive(Deserialize)]
pub struct Setup {
    dir: PathBuf,
    input: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
    mode: Mode,
    threads: usize,
}

/// A problem: U `[4H, I]`, W `[4H, H]`, b `[4H]` with the gates i, f, g, o, x
/// `[T, B, I]` and dy `[T, B, H]`.
pub struct Problem {
    pub input: usize,
    pub hidden: usize,
    pub batch: usize,
    pub steps: usize,
    pub train: bool,
    pub threads: usize,
    pub u: Vec<f32>,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
}

impl Problem {
    pub fn load(setup: Setup) -> Fallible<Self> {
        let Setup { dir, input, hidden, batch, steps, mode, threads } = setup;
        let load = |name: &str, len| read(&dir.join(name), len);
        Ok(Self {
            input,
            hidden,
            batch,
            steps,
            train: mode == Mode::Train,
            threads,
            u: load("u.bin", 4 * hidden * input)?,
            w: load("w.bin", 4 * hidden * hidden)?,
            b: load("b.bin", 4 * hidden)?,
            x: load("x.bin", steps * batch * input)?,
            dy: load("dy.bin", steps * batch * hidden)?,
        })
    }
}

/// A library's LSTM, set up for a problem.
pub trait Contender {
    /// What is timed: all steps forward from zero states, and in training back again
    /// with all gradients.
    fn pass(&mut self) -> Fallible<()>;

    /// What the last pass computed: y, and in training du, dw, db and dx.
    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>>;
}

fn read(path: &Path, len: usize) -> Fallible<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    let (values, rest) = bytes.as_chunks();
    if values.len() != len || !rest.is_empty() {
        return Err(format!("{}: expected {len} f32", path.display()).into());
    }
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

pub fn write(path: &Path, values: &[f32]) -> Fallible<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(std::fs::write(path, bytes)?)
}
