//! The states that passes begin from and end in, and their gradients. Knows where they lie in the
//! memory of passes; must not know what a block keeps.

use super::{Holds, Workspace};
use crate::Error;
use crate::error::check_step;
use crate::network::begins::Learned;
use crate::network::plan::{Order, Place};
use crate::params::State;

impl Workspace {
    /// Sets the state that forward passes begin from. At first it is zero, or
    /// [learned](crate::Network::with_learned_state).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `state` belongs to another network or has another batch size,
    /// [`Error::Value`] if it has taken 2⁶³ steps or more. Nothing is written then.
    pub fn set_state(&mut self, state: &State) -> Result<(), Error> {
        state.check("state", &self.plans.first().given_state)?;
        self.fill(Place::State, state);
        self.note_state_set();
        self.step = state.step();
        // A backward pass reads the state that its forward pass began from, which is gone now.
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Makes the next forward pass begin from the state after the last step of the last pass, for a
    /// long sequence that is cut into several passes.
    ///
    /// # Errors
    /// [`Error::Order`] if no pass was run, [`Error::Value`] if the sequences have taken 2⁶³ steps
    /// or more. Nothing is written then.
    pub fn carry_state(&mut self) -> Result<(), Error> {
        self.expect_any("carry_state")?;
        let step = check_step(self.last_step())?;
        if self.schedule.has_resets() {
            // Sequences end in other rows than those in which they begin.
            let last = self.collect(Place::Last)?;
            self.fill(Place::State, &last);
        } else {
            let to = self.plans.place(Place::State).start;
            self.memory.copy_within(self.plans.place(Place::Last), to);
        }
        self.note_state_set();
        self.step = step;
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Returns the number of steps that the sequences have taken after a pass.
    pub(super) fn last_step(&self) -> u64 {
        self.step + self.schedule.longest() as u64
    }

    /// Makes forward passes begin anew, also where the schedule has
    /// [resets](crate::Schedule::with_resets): from zero, or from the
    /// [learned](crate::Network::with_learned_state) state.
    pub fn reset_state(&mut self) {
        self.memory[self.plans.place(Place::State)].fill(0.0);
        self.learned = Learned::all(self.network.begins_otherwise(), self.schedule.batch());
        self.step = 0;
        self.holds = Holds::Nothing;
    }

    /// Copies a state to `place`.
    pub(super) fn fill(&mut self, place: Place, state: &State) {
        let to = &mut self.memory[self.plans.place(place)];
        self.plans.first().copy_state(place, state.as_slice(), to, Order::OfPasses);
    }

    /// Returns a copy of the state that lies at `place`.
    fn collect(&self, place: Place) -> Result<State, Error> {
        let planned = self.plans.first();
        let (batch, reads_step) = (self.schedule.sequences(), self.network.reads_step());
        let mut state = State::zeros(planned.given_state.clone(), batch, reads_step)?;
        let from = &self.memory[self.plans.place(place)];
        planned.copy_state(place, from, state.as_mut_slice(), Order::OfCaller);
        Ok(state)
    }

    /// Returns the state after the last step of the last forward pass.
    ///
    /// # Errors
    /// [`Error::Order`] if no pass was run, [`Error::OutOfMemory`] if the state cannot be
    /// allocated.
    pub fn last_state(&self) -> Result<State, Error> {
        self.expect_any("last_state")?;
        Ok(self.collect(Place::Last)?.after(self.last_step()))
    }

    /// Sets the gradient of the loss with respect to the state after the last step, for all
    /// backward passes from now on. It comes in addition to what the loss says about the outputs.
    /// It serves a long sequence that is cut into several passes, whose backward passes run from
    /// the last to the first. `None`, as at first, means zero.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `gradient` belongs to another network or has another batch size, or the
    /// workspace is for inference. Nothing is written then.
    pub fn set_last_gradient(&mut self, gradient: Option<&State>) -> Result<(), Error> {
        let Some(gradient) = gradient else {
            self.has_last_gradient = false;
            return Ok(());
        };
        self.check_backward()?;
        gradient.check("gradient by the last state", &self.plans.first().given_state)?;
        self.has_last_gradient = true;
        self.fill(Place::LastGradient, gradient);
        Ok(())
    }

    /// Returns the gradient of the loss with respect to the state before the first step.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a backward pass, or was planned without
    /// [state gradients](crate::Training::with_state_gradients); [`Error::OutOfMemory`] if the
    /// gradient cannot be allocated.
    pub fn state_gradients(&self) -> Result<State, Error> {
        self.expect_state_gradients("state_gradients")?;
        self.collect(Place::StateGradient)
    }

    /// Returns an error unless the workspace holds the gradients of the state before the first step.
    pub(super) fn expect_state_gradients(&self, call: &'static str) -> Result<(), Error> {
        self.expect(call, Holds::Backward)?;
        if self.asked.wanted.state {
            return Ok(());
        }
        let (given, expected) = ("a pass without these gradients", "a pass with them");
        Err(Error::Order { call, given, expected })
    }
}
