//! The state that sequences begin anew from where the schedule has resets, and its gradient. Knows
//! where states lie in the memory of passes; must not know what a block keeps.

use super::{Holds, Workspace};
use crate::Error;
use crate::network::plan::Place;
use crate::params::{Sequences, State};

impl Workspace {
    /// Sets the state that sequences begin anew from at each [reset](crate::Schedule::with_resets) to
    /// `one`, a state of one sequence. At first, and again after [`reset_state`](Self::reset_state)
    /// and [`replan`](Self::replan), they begin anew from zero, or from the
    /// [learned](crate::Network::with_learned_state) state.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `one` belongs to another network or has more than one sequence. Nothing
    /// is written then.
    pub fn set_reset_state(&mut self, one: &State) -> Result<(), Error> {
        let (planned, schedule) = (self.plans.first(), &self.schedule);
        let sequences = Sequences::new("reset state", &planned.state, schedule.batch())?;
        one.check("reset state", &sequences.with_batch(1)?)?;
        let rows = || (0..schedule.batch()).filter(|&row| schedule.begins(row).is_none());
        let values = &mut self.memory[self.plans.place(Place::State)];
        rows().for_each(|row| sequences.write(row, values, one.as_slice()));
        rows().for_each(|row| self.learned.set(row, false));
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Returns the gradient of the loss with respect to the state that sequences begin anew from, a
    /// state of one sequence: the sum over all resets, from the last row of a pass to the first.
    ///
    /// # Errors
    /// As [`state_gradients`](Self::state_gradients).
    pub fn reset_state_gradients(&self) -> Result<State, Error> {
        self.expect_state_gradients("reset_state_gradients")?;
        let (planned, schedule) = (self.plans.first(), &self.schedule);
        let sequences = Sequences::new("reset state", &planned.state, schedule.batch())?;
        let reads_step = self.network.reads_step();
        let mut sum = State::of_one(sequences, 0, reads_step)?;
        let values = &self.memory[self.plans.place(Place::StateGradient)];
        for row in (0..schedule.batch()).rev().filter(|&row| schedule.begins(row).is_none()) {
            sequences.add(row, values, sum.as_mut_slice());
        }
        Ok(sum)
    }
}
