//! Which rows of the memory over time are whose. Knows steps and sequences; must not know what a
//! row holds.

/// Where the steps of some sequences lie in the memory over time. A row is one sequence at one
/// step; the rows of a step stand together, and the steps one after another, the first one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    steps: usize,
    batch: usize,
}

impl Schedule {
    /// `steps` (τ) steps of `batch` (B) sequences, all of one length: row `t · B + n` is sequence
    /// n at step t.
    pub const fn dense(steps: usize, batch: usize) -> Self {
        Self { steps, batch }
    }

    /// τ, the steps of the longest sequence.
    #[inline(always)]
    pub const fn steps(self) -> usize {
        self.steps
    }

    /// B, the sequences, which are the most rows that a step has.
    #[inline(always)]
    pub const fn batch(self) -> usize {
        self.batch
    }

    /// The row at which a step, counted from 0, starts. That of step τ is the number of all rows.
    #[inline(always)]
    pub const fn start(self, step: usize) -> usize {
        step * self.batch
    }
}
