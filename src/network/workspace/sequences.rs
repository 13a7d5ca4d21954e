//! The states of single sequences of a workspace. Knows where they lie in the memory of passes; must
//! not know what a block keeps.

use super::{Holds, Workspace};
use crate::Error;
use crate::network::division::Plans;
use crate::network::plan::{Place, Planned};
use crate::params::{Move, Sequences, State};
use crate::sequence::Schedule;

impl Workspace {
    /// Returns a copy of the state of sequence `n` that the next forward pass begins from. `n` is
    /// its number in the order in which the [`Schedule`](crate::Schedule) was given, from 0.
    ///
    /// # Errors
    /// The errors of [`State::sequence`]; [`Error::Order`] if the sequence begins from the
    /// [learned](crate::Network::with_learned_state) state, which [`Model::state`](crate::Model::state)
    /// returns.
    pub fn sequence_state(&self, n: usize) -> Result<State, Error> {
        self.expect_set("sequence_state", row(&self.schedule, n, Place::State)?)?;
        Ok(self.read_sequence(n, Place::State)?.after(self.step))
    }

    /// Returns a copy of the state of sequence `n` after the last step of the last forward pass.
    ///
    /// # Errors
    /// [`Error::Order`] if no pass was run; the errors of [`State::sequence`].
    pub fn last_sequence_state(&self, n: usize) -> Result<State, Error> {
        self.expect_any("last_sequence_state")?;
        Ok(self.read_sequence(n, Place::Last)?.after(self.last_step()))
    }

    /// Sets the state of sequence `n`, from which the next forward pass begins, to `one`, a state of
    /// one sequence, and leaves the others as they are.
    ///
    /// ```
    /// use bptt::{Lstm, Network, Runtime, Schedule};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 4)?);
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut workspace = model.training_workspace(Schedule::dense(3, 2))?;
    /// model.forward(&mut workspace, &[0.5; 3 * 2])?;
    /// // Sequence 0 goes on in the next pass, and sequence 1 has ended: another one takes its place.
    /// workspace.carry_state()?;
    /// workspace.set_sequence_state(1, &model.state(1)?)?;
    /// model.forward(&mut workspace, &[0.25; 3 * 2])?;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`State::set_sequence`]. Nothing is written then.
    pub fn set_sequence_state(&mut self, n: usize, one: &State) -> Result<(), Error> {
        let sequences = sequences(self.plans.first())?;
        let row = row(&self.schedule, n, Place::State)?;
        self.step = one.check_joins(sequences, n, self.step, self.network.reads_step())?;
        sequences.write(row, state(&self.plans, &mut self.memory), one.as_slice());
        self.learned.set(row, false);
        // A backward pass reads the state that its forward pass began from, which is gone now.
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Makes the next forward pass begin anew for sequence `n`, from zero or from the
    /// [learned](crate::Network::with_learned_state) state, and leaves the others as they are.
    ///
    /// # Errors
    /// As [`State::reset_sequence`]. Nothing is written then.
    pub fn reset_sequence(&mut self, n: usize) -> Result<(), Error> {
        let sequences = sequences(self.plans.first())?;
        let row = row(&self.schedule, n, Place::State)?;
        self.step = sequences.joined_step(0, self.step, self.network.reads_step())?;
        sequences.reset(row, state(&self.plans, &mut self.memory));
        self.learned.set(row, true);
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Makes each sequence i begin the next forward pass from the state that the former sequence
    /// `order[i]` would have begun from. A sequence may come in `order` several times or not at
    /// all. Only sequences that change are copied, within the workspace's memory; a few words per
    /// sequence are allocated.
    ///
    /// # Errors
    /// As [`State::reorder`]. Nothing is written then.
    pub fn reorder_state(&mut self, order: &[usize]) -> Result<(), Error> {
        let (sequences, schedule) = (sequences(self.plans.first())?, &self.schedule);
        let given = Sequences::new("state", &self.plans.first().given_state, schedule.sequences())?;
        let mut moves = given.moves(order)?;
        let rows = (0..order.len()).map(|n| row(schedule, n, Place::State));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        for one in &mut moves {
            *one = match *one {
                Move::Copy { from, to } => Move::Copy { from: rows[from], to: rows[to] },
                Move::Swap(a, b) => Move::Swap(rows[a], rows[b]),
            };
        }
        sequences.make(&moves, state(&self.plans, &mut self.memory));
        self.learned.make(&moves);
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Returns a copy of sequence `n` of the state that lies at `place`.
    fn read_sequence(&self, n: usize, place: Place) -> Result<State, Error> {
        let sequences = sequences(self.plans.first())?;
        let row = row(&self.schedule, n, place)?;
        let mut one = State::of_one(sequences, row, self.network.reads_step())?;
        sequences.read(row, &self.memory[self.plans.place(place)], one.as_mut_slice());
        Ok(one)
    }
}

fn sequences(planned: &Planned) -> Result<Sequences<'_>, Error> {
    Sequences::new("state", &planned.state, planned.schedule.batch())
}

/// Returns the row of each step in which the state at `place` of sequence `n` lies.
fn row(schedule: &Schedule, n: usize, place: Place) -> Result<usize, Error> {
    let of_caller = |&row: &usize| match place {
        Place::State | Place::StateGradient => schedule.begins(row) == Some(n),
        Place::Last | Place::LastGradient => schedule.ends(row) == Some(n),
    };
    let found = match schedule.is_dense() {
        true => Some(n).filter(|&n| n < schedule.batch()),
        false => (0..schedule.batch()).find(of_caller),
    };
    found.ok_or_else(|| {
        let sequences = schedule.sequences();
        let expected = match n < sequences {
            true => "one that does not begin at a reset".into(),
            false => format!("below {sequences}, the number of sequences").into(),
        };
        Error::Value { what: "sequence", given: n.to_string(), expected }
    })
}

/// Returns the state before the first step, in the memory of a workspace.
fn state<'a>(plans: &Plans, memory: &'a mut [f32]) -> &'a mut [f32] {
    &mut memory[plans.place(Place::State)]
}
