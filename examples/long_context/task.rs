//! The task: to name the symbol of the first step at the last one.

use bptt::SoftmaxCrossEntropy;
use rand::{RngExt, rngs::StdRng};

/// The number of different symbols.
pub const SYMBOLS: usize = 4;

/// The features of a step (I): one for each symbol, the marker, and the cue.
pub const INPUTS: usize = SYMBOLS + 2;

/// The feature that is 1 at the first step, whose symbol counts.
const MARKER: usize = SYMBOLS;

/// The feature that is 1 at the last step, at which the symbol is to be named.
const CUE: usize = SYMBOLS + 1;

/// The bound of the noise. Each step's noise is small beside a symbol, but all steps of a lag add up
/// to more than the symbol.
const NOISE: f32 = 0.1;

/// A batch of sequences.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// The inputs, `[τ, B, I]`.
    pub x: Vec<f32>,
    /// The class of each row, `[τ, B]`: in the last step it is the symbol of the first one.
    pub classes: Vec<u32>,
    /// Whether a row counts in the loss, `[τ, B]`: only the last step does.
    pub mask: Vec<bool>,
    /// B.
    pub batch: usize,
}

/// τ: the symbol, and `lag` steps after it.
pub fn steps(lag: usize) -> usize {
    lag + 1
}

impl Batch {
    /// Draws `batch` sequences. At the steps between the first and the last the features of the symbols
    /// are noise.
    pub fn draw(lag: usize, batch: usize, rng: &mut StdRng) -> Self {
        let rows = steps(lag) * batch;
        let last = rows - batch;
        let mut x = vec![0.0; rows * INPUTS];
        let mut classes = vec![0; rows];
        for (row, x) in x.chunks_exact_mut(INPUTS).enumerate() {
            if row >= last {
                x[CUE] = 1.0;
                continue;
            }
            if row < batch {
                let symbol = rng.random_range(..SYMBOLS);
                (x[symbol], x[MARKER]) = (1.0, 1.0);
                classes[last + row] = symbol as u32;
            } else {
                x[..SYMBOLS].fill_with(|| rng.random_range(-NOISE..NOISE));
            }
        }
        let mask = (0..rows).map(|row| row >= last).collect();
        Self { x, classes, mask, batch }
    }

    /// The inputs of the steps before step `step`, and those from it on.
    pub fn split(&self, step: usize) -> (&[f32], &[f32]) {
        self.x.split_at(step * self.batch * INPUTS)
    }

    /// The loss of the steps from `step` on.
    pub fn loss_from(&self, step: usize) -> SoftmaxCrossEntropy<'_> {
        let first = step * self.batch;
        SoftmaxCrossEntropy::mean(&self.classes[first..]).with_mask(&self.mask[first..])
    }

    /// The number of sequences whose symbol has the largest of the outputs `y` `[τ, B, 4]` of the
    /// last step.
    pub fn right(&self, y: &[f32]) -> usize {
        let last = self.classes.len() - self.batch;
        let rows = y.chunks_exact(SYMBOLS).zip(&self.classes).skip(last);
        let named = |y: &[f32]| (0..SYMBOLS).max_by(|&a, &b| y[a].total_cmp(&y[b]));
        rows.filter(|(y, class)| named(y) == Some(**class as usize)).count()
    }
}
