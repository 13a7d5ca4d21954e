//! Which sequences begin from the learned state. Must not know where states lie.

use crate::params::Move;

/// For each row of a step, whether the sequence in it begins from the learned state. Empty if the
/// state of the network is not learned.
#[derive(Debug, Default)]
pub(super) struct Learned(Vec<bool>);

impl Learned {
    /// All of `rows` rows begin from the learned state, if it `is_learned`.
    pub fn all(is_learned: bool, rows: usize) -> Self {
        Self(vec![true; if is_learned { rows } else { 0 }])
    }

    /// Notes whether `row` begins from the learned state; without one there is nothing to note.
    pub fn set(&mut self, row: usize, begins: bool) {
        if let Some(row) = self.0.get_mut(row) {
            *row = begins;
        }
    }

    pub fn get(&self, row: usize) -> bool {
        self.0.get(row).is_some_and(|row| *row)
    }

    /// Moves what is noted as the states of the rows are moved.
    pub fn make(&mut self, moves: &[Move]) {
        for &one in moves {
            match one {
                Move::Copy { from, to } => self.set(to, self.get(from)),
                Move::Swap(a, b) if !self.0.is_empty() => self.0.swap(a, b),
                Move::Swap(..) => {}
            }
        }
    }

    /// Returns the rows that begin from the learned state, from the last to the first.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).rev().filter(|&row| self.0[row])
    }
}
