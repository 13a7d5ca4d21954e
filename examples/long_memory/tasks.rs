//! The two tasks: sequences that are drawn, and what should be said at their ends.

use rand::{RngExt, rngs::StdRng};

/// Different symbols to be copied. An input has two more features: nothing, and "now".
pub const SYMBOLS: usize = 4;

/// Symbols to be copied in one sequence.
pub const LENGTH: usize = 3;

/// A task that asks for memory over a lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Two values of a sequence as long as the lag are marked, one in each half; after the
    /// last step their sum is asked for (Hochreiter and Schmidhuber 1997).
    Adding,
    /// A few symbols, the lag without any, and then the symbols are asked for, in their order.
    Copying,
}

/// Sequences side by side.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// The inputs, `[τ, B, I]`.
    pub x: Vec<f32>,
    /// What is asked for.
    pub targets: Answers,
}

/// The answers for the last steps of a batch.
#[derive(Debug, PartialEq)]
pub enum Answers {
    /// A number of each sequence, after the last step.
    Sums(Vec<f32>),
    /// A class of each sequence at each of the last [`LENGTH`] steps.
    Symbols(Vec<u32>),
}

impl Default for Answers {
    fn default() -> Self {
        Self::Sums(Vec::new())
    }
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Copying => "copying",
        }
    }

    /// I.
    pub fn inputs(self) -> usize {
        match self {
            Self::Adding => 2,
            Self::Copying => SYMBOLS + 2,
        }
    }

    /// O.
    pub fn outputs(self) -> usize {
        match self {
            Self::Adding => 1,
            Self::Copying => SYMBOLS,
        }
    }

    /// τ.
    pub fn steps(self, lag: usize) -> usize {
        match self {
            Self::Adding => lag,
            Self::Copying => LENGTH + lag + LENGTH,
        }
    }

    /// The last steps, at which something is asked for.
    pub fn asked(self) -> usize {
        match self {
            Self::Adding => 1,
            Self::Copying => LENGTH,
        }
    }

    /// Draws a batch.
    pub fn draw(self, lag: usize, batch: usize, rng: &mut StdRng) -> Batch {
        match self {
            Self::Adding => adding(lag, batch, rng),
            Self::Copying => copying(lag, batch, rng),
        }
    }
}

fn adding(steps: usize, batch: usize, rng: &mut StdRng) -> Batch {
    let mut x = vec![0.0; steps * batch * 2];
    x.chunks_exact_mut(2).for_each(|x| x[0] = rng.random::<f32>());
    let half = steps / 2;
    let sums = (0..batch).map(|sequence| {
        let marked = [rng.random_range(..half), rng.random_range(half..steps)];
        let values = marked.map(|step| {
            let at = (step * batch + sequence) * 2;
            x[at + 1] = 1.0;
            x[at]
        });
        values[0] + values[1]
    });
    let sums = sums.collect();
    Batch { x, targets: Answers::Sums(sums) }
}

fn copying(lag: usize, batch: usize, rng: &mut StdRng) -> Batch {
    let (steps, features) = (Task::Copying.steps(lag), SYMBOLS + 2);
    let symbols: Vec<u32> =
        (0..LENGTH * batch).map(|_| rng.random_range(..SYMBOLS as u32)).collect();
    let mut x = vec![0.0; steps * batch * features];
    for (row, x) in x.chunks_exact_mut(features).enumerate() {
        let step = row / batch;
        let feature = match symbols.get(row) {
            Some(&symbol) => symbol as usize,
            // "Now": at the first of the steps that are asked.
            None if step == steps - LENGTH => SYMBOLS + 1,
            None => SYMBOLS,
        };
        x[feature] = 1.0;
    }
    Batch { x, targets: Answers::Symbols(symbols) }
}
