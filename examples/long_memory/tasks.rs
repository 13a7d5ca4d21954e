//! The two tasks: how sequences are drawn, and which answers are expected at their ends.

use bptt::{Error, Loss, Outputs, Runtime, SoftmaxCrossEntropy, SquaredError, TargetRows};
use rand::{RngExt, rngs::StdRng};

/// The number of different symbols to be copied. An input has two more features: "nothing" and
/// "now".
pub const SYMBOLS: usize = 4;

/// Symbols to be copied in one sequence.
pub const LENGTH: usize = 3;

/// A task that asks for memory over a lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Two values of a sequence, one in each half, are marked; after the last step the network has
    /// to give their sum (Hochreiter and Schmidhuber 1997). The sequence is as long as the lag.
    Adding,
    /// A few symbols come first, then the lag without any, and then the network has to repeat the
    /// symbols in their order.
    Copying,
}

/// A batch of sequences, with a loss that depends on the last rows only.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// The inputs, `[τ, B, I]`.
    pub x: Vec<f32>,
    /// The expected answers in the last rows.
    pub answers: Answers,
}

#[derive(Debug, PartialEq)]
pub enum Answers {
    /// A number for each sequence, after the last step.
    Sums(Vec<f32>),
    /// A class for each sequence at each of the last [`LENGTH`] steps.
    Symbols(Vec<u32>),
}

impl Task {
    pub fn name(self) -> &'static str {
        if self == Self::Adding { "adding" } else { "copying" }
    }

    /// I and O.
    pub fn sizes(self) -> (usize, usize) {
        if self == Self::Adding { (2, 1) } else { (SYMBOLS + 2, SYMBOLS) }
    }

    /// τ.
    pub fn steps(self, lag: usize) -> usize {
        if self == Self::Adding { lag } else { LENGTH + lag + LENGTH }
    }

    /// Draws a batch.
    pub fn draw(self, lag: usize, batch: usize, rng: &mut StdRng) -> Batch {
        let (steps, features) = (self.steps(lag), self.sizes().0);
        let mut x = vec![0.0; steps * batch * features];
        let answers = match self {
            Self::Adding => {
                x.chunks_exact_mut(2).for_each(|x| x[0] = rng.random::<f32>());
                let sums = (0..batch).map(|sequence| {
                    let halves = [0..steps / 2, steps / 2..steps];
                    let marked = halves.map(|half| (rng.random_range(half) * batch + sequence) * 2);
                    marked.into_iter().for_each(|at| x[at + 1] = 1.0);
                    x[marked[0]] + x[marked[1]]
                });
                Answers::Sums(sums.collect())
            }
            Self::Copying => {
                let symbols = (0..LENGTH * batch).map(|_| rng.random_range(..SYMBOLS as u32));
                let symbols: Vec<u32> = symbols.collect();
                for (row, x) in x.chunks_exact_mut(features).enumerate() {
                    // "Now" is the input at the first of the steps with answers.
                    let silent = SYMBOLS + usize::from(row / batch == steps - LENGTH);
                    x[symbols.get(row).map_or(silent, |&symbol| symbol as usize)] = 1.0;
                }
                Answers::Symbols(symbols)
            }
        };
        Batch { x, answers }
    }
}

impl Batch {
    /// The number of outputs before the rows with answers.
    fn before(&self, len: usize, outputs: usize) -> usize {
        match &self.answers {
            Answers::Sums(sums) => len - sums.len() * outputs,
            Answers::Symbols(classes) => len - classes.len() * outputs,
        }
    }

    /// The error of outputs: the mean squared error, or the share of wrong symbols.
    pub fn error(&self, y: &[f32], outputs: usize) -> f64 {
        let rows = y[self.before(y.len(), outputs)..].chunks_exact(outputs);
        let square = |(y, sum): (&[f32], &f32)| f64::from(y[0] - sum).powi(2);
        let wrong = |(y, class): &(&[f32], &u32)| {
            (0..outputs).max_by(|&a, &b| y[a].total_cmp(&y[b])) != Some(**class as usize)
        };
        match &self.answers {
            Answers::Sums(sums) => rows.zip(sums).map(square).sum::<f64>() / sums.len() as f64,
            Answers::Symbols(all) => rows.zip(all).filter(wrong).count() as f64 / all.len() as f64,
        }
    }
}

impl Loss for Batch {
    fn check(&self, _targets: TargetRows<'_>, _size: usize) -> Result<(), Error> {
        Ok(())
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.gradient(runtime, outputs)
    }

    /// The gradient of the mean cross-entropy, or of half the mean squared error.
    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, .. } = outputs;
        let (rest, asked) = y.split_at_mut(self.before(y.len(), size));
        rest.fill(0.0);
        match &self.answers {
            Answers::Symbols(classes) => {
                SoftmaxCrossEntropy::mean(classes).gradient(runtime, Outputs::new(asked, size))
            }
            Answers::Sums(sums) => {
                let loss = SquaredError::mean(sums).gradient(runtime, Outputs::new(asked, size))?;
                asked.iter_mut().for_each(|d| *d /= 2.0);
                Ok(loss / 2.0)
            }
        }
    }
}
