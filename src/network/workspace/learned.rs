//! Passes that begin from the learned state. Knows which rows do; must not know what a block keeps.

use super::Workspace;
use crate::network::packing::Packing;
use crate::network::plan::Place;
use crate::params::Sequences;
use crate::{Accumulate, Error};

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
        let sequences =
            Sequences::new("learned state", &planned.state, self.schedule.batch())?.of_learned();
        let values = &mut self.memory[self.plans.place(Place::State)];
        self.learned.rows().for_each(|row| sequences.write(row, values, one));
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
        let sequences =
            Sequences::new("learned state", &planned.state, self.schedule.batch())?.of_learned();
        let values = &self.memory[self.plans.place(Place::StateGradient)];
        self.learned.rows().for_each(|row| sequences.add(row, values, sum));
        Ok(())
    }
}
