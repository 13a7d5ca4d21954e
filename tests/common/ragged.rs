//! Sequences of different lengths: the layouts of the caller's arrays, and a loss in their order.

use bptt::{Error, Loss, Outputs, Runtime, Schedule, TargetRows};

/// The layouts of the caller's arrays, with the steps of those that are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    TimeMajor(usize),
    BatchFirst(usize),
    Packed,
}

impl Layout {
    pub fn schedule(self, lengths: &[usize]) -> Schedule {
        match self {
            Self::TimeMajor(steps) => Schedule::padded(lengths, steps),
            Self::BatchFirst(steps) => Schedule::batch_first(lengths, steps),
            Self::Packed => Schedule::packed(lengths),
        }
        .unwrap()
    }

    /// The row of sequence `n` at `step` in the caller's arrays.
    pub fn row(self, lengths: &[usize], n: usize, step: usize) -> usize {
        match self {
            Self::TimeMajor(_) => step * lengths.len() + n,
            Self::BatchFirst(steps) => n * steps + step,
            Self::Packed => lengths[..n].iter().sum::<usize>() + step,
        }
    }

    /// The rows of all sequences, with `padding` in between.
    pub fn joined(self, sequences: &[Vec<f32>], width: usize, padding: f32) -> Vec<f32> {
        let lengths: Vec<_> = sequences.iter().map(|x| x.len() / width).collect();
        let mut all = vec![padding; self.schedule(&lengths).given_rows() * width];
        for (n, x) in sequences.iter().enumerate() {
            for (step, row) in x.chunks(width).enumerate() {
                all[self.row(&lengths, n, step) * width..][..width].copy_from_slice(row);
            }
        }
        all
    }

    /// The rows of sequence `n`.
    pub fn of(self, all: &[f32], lengths: &[usize], n: usize, width: usize) -> Vec<f32> {
        let row = |step| &all[self.row(lengths, n, step) * width..][..width];
        (0..lengths[n]).flat_map(row).copied().collect()
    }
}

/// A loss with a given gradient, whose rows are in the order of the caller.
#[derive(Debug)]
pub struct Given<'a>(pub &'a [f32]);

impl Loss for Given<'_> {
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        assert_eq!(self.0.len(), targets.given() * size);
        Ok(())
    }

    fn value(&self, _: Runtime, _: Outputs<'_>) -> Result<f64, Error> {
        Ok(0.0)
    }

    fn gradient(&self, _: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, .. } = outputs;
        for (row, y) in y.chunks_mut(size).enumerate() {
            y.copy_from_slice(&self.0[targets.target(row) * size..][..size]);
        }
        Ok(0.0)
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}
