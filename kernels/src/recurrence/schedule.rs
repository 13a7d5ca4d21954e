//! Where the row of each sequence at each step lies in memory. Knows steps and sequences; must not
//! know what a row holds.

/// The order in memory of the steps of some sequences. A row is one sequence at one step. The rows
/// of a step are next to each other, and the steps follow one another, the first step first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    steps: usize,
    batch: usize,
}

impl Schedule {
    /// Returns the schedule of `steps` (τ) steps of `batch` (B) sequences of the same length: row
    /// `t · B + n` is sequence n at step t.
    pub const fn dense(steps: usize, batch: usize) -> Self {
        Self { steps, batch }
    }

    /// Returns τ, the number of steps of the longest sequence.
    #[inline(always)]
    pub const fn steps(self) -> usize {
        self.steps
    }

    /// Returns B, the number of sequences, which is the maximum number of rows of a step.
    #[inline(always)]
    pub const fn batch(self) -> usize {
        self.batch
    }

    /// Returns the first row of `step`, counted from 0. For `step` = τ it returns the number of all
    /// rows.
    #[inline(always)]
    pub const fn start(self, step: usize) -> usize {
        step * self.batch
    }
}
