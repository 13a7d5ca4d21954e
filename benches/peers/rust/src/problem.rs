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

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    Lstm,
    /// Reset gate after the product.
    Gru,
    /// tanh.
    Vanilla,
}

impl Cell {
    /// G.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Vanilla => 1,
        }
    }
}

/// The request that sets a problem.
#[derive(Deserialize)]
pub struct Setup {
    cell: Cell,
    dir: PathBuf,
    input: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
    #[serde(default)]
    lengths: Vec<usize>,
    mode: Mode,
    threads: usize,
}

/// A problem: U `[GH, I]`, W `[GH, H]`, b `[GH]` with the gates i, f, g, o or r, u, n, of
/// a GRU b_hn `[H]`, empty of others, x `[T, B, I]` and dy `[T, B, H]`.
pub struct Problem {
    pub cell: Cell,
    pub input: usize,
    pub hidden: usize,
    pub batch: usize,
    pub steps: usize,
    /// Of each sequence; empty where all have T steps.
    pub lengths: Vec<usize>,
    pub train: bool,
    pub threads: usize,
    pub u: Vec<f32>,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub b_hn: Vec<f32>,
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
}

impl Problem {
    pub fn load(setup: Setup) -> Fallible<Self> {
        let Setup { cell, dir, input, hidden, batch, steps, lengths, mode, threads } = setup;
        let load = |name: &str, len| read(&dir.join(name), len);
        let rows = cell.gates() * hidden;
        Ok(Self {
            cell,
            input,
            hidden,
            batch,
            steps,
            lengths,
            train: mode == Mode::Train,
            threads,
            u: load("u.bin", rows * input)?,
            w: load("w.bin", rows * hidden)?,
            b: load("b.bin", rows)?,
            b_hn: if cell == Cell::Gru { load("b_hn.bin", hidden)? } else { Vec::new() },
            x: load("x.bin", steps * batch * input)?,
            dy: load("dy.bin", steps * batch * hidden)?,
        })
    }

    /// Refuses sequences of different lengths, for a library that has one length for all.
    pub fn expect_one_length(&self) -> Fallible<()> {
        if self.lengths.is_empty() { Ok(()) } else { Err("has one length for all".into()) }
    }
}

/// A library's layer, set up for a problem.
pub trait Contender {
    /// What is timed: all steps forward from zero states, and in training back again
    /// with all gradients.
    fn pass(&mut self) -> Fallible<()>;

    /// What the last pass computed: y, of different lengths h_n, and in training du, dw, db, of a
    /// GRU db_hn, and dx.
    fn results(&mut self) -> Fallible<Vec<(&str, Vec<f32>)>>;
}

pub fn read(path: &Path, len: usize) -> Fallible<Vec<f32>> {
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
