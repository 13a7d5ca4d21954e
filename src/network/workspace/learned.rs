//! Passes that begin from the learned state. Knows which rows do; must not know what a block keeps.

use super::Workspace;
use crate::network::packing::Packing;
use crate::network::plan::Place;
use crate::params::{Move, Sequences};
use crate::{Accumulate, Error};

/// For each row of a step, whether the sequence in it begins from the learned state. Empty if the
/// state of the network is not learned.
#[derive(Debug, Default)]
pub(super) struct Learned(Vec<bool>);

impl Learned {
    /// All of `rows` rows begin from the learned state, if it `is_learned`.
    pub fn all(is_learned: bool, rows: usize) -> Self {
        Self(vec![true; if is_learned { rows } else { 0 }])
    }

    /// Notes whether `row` begins from the learned state.
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
    fn rows(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).rev().filter(|&row| self.0[row])
    }
}

impl Workspace {
    /// Returns an error, for `call`, if sequence `n` in row `row` begins from the learned state. The
    /// workspace does not know it before a pass.
    pub(super) fn expect_set(&self, call: &'static str, row: usize) -> Result<(), Error> {
        if !self.learned.get(row) {
            return Ok(());
        }
        let (given, expected) = ("a sequence that begins from the learned state", "a state set");
        Err(Error::Order { call, given, expected })
    }

    /// Notes that the rows of the caller's sequences no longer begin from the learned state. Those
    /// that begin at a reset still do.
    pub(super) fn note_state_set(&mut self) {
        for row in 0..self.schedule.batch() {
            if self.schedule.begins(row).is_some() {
                self.learned.set(row, false);
            }
        }
    }

    /// Copies the learned state to the rows that begin from it, before a forward pass.
    pub(super) fn begin_learned(&mut self, packing: &Packing) -> Result<(), Error> {
        let Some(one) = packing.learned_state() else { return Ok(()) };
        let planned = self.plans.first();
        let sequences = Sequences::new("learned state", &planned.state, self.schedule.batch())?;
        for block in &planned.steps {
            let values = &mut self.memory[self.plans.place(Place::State, block)];
            self.learned.rows().for_each(|row| sequences.write(row, &block.state, values, one));
        }
        Ok(())
    }

    /// Adds up the gradients of the learned state after a backward pass, which are the last of the
    /// gradients of the parameters.
    pub(super) fn sum_learned(
        &mut self,
        packing: &Packing,
        accumulate: Accumulate,
    ) -> Result<(), Error> {
        let Some(one) = packing.learned_state() else { return Ok(()) };
        let gradients = self.gradients.as_mut_slice();
        let first = gradients.len() - one.len();
        let sum = &mut gradients[first..];
        if accumulate == Accumulate::No {
            sum.fill(0.0);
        }
        let planned = self.plans.first();
        let sequences = Sequences::new("learned state", &planned.state, self.schedule.batch())?;
        for block in &planned.steps {
            let values = &self.memory[self.plans.place(Place::StateGradient, block)];
            self.learned.rows().for_each(|row| sequences.add(row, &block.state, values, sum));
        }
        Ok(())
    }
}
