//! The states of single sequences of a stream. Knows where they lie; must not know how a block
//! computes its steps.

use super::Stream;
use crate::Error;
use crate::params::{Sequences, State};

impl Stream {
    /// Returns a copy of the state of sequence `n`, counted from 0, after the last step. The other
    /// sequences are not copied.
    ///
    /// # Errors
    /// As [`State::sequence`].
    pub fn sequence_state(&self, n: usize) -> Result<State, Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        let mut one = State::of_one(sequences, n, self.network.reads_step())?;
        sequences.read(n, self.state_slice(), one.as_mut_slice());
        Ok(one.after(self.step))
    }

    /// Sets the state of sequence `n` to `one`, a state of one sequence, and leaves the others as
    /// they are: a new sequence takes the place of one that has ended.
    ///
    /// ```
    /// use bptt::{Lstm, Network, Runtime};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 4)?);
    /// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut stream = model.stream(2)?;
    /// stream.step(&[0.5, -0.5], &mut [0.0; 2 * 4])?;
    /// let ended = stream.sequence_state(1)?;
    /// stream.reset_sequence(1)?; // another sequence begins
    /// stream.step(&[0.5, 0.25], &mut [0.0; 2 * 4])?;
    /// stream.set_sequence_state(1, &ended)?; // the first one goes on
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`State::set_sequence`]. Nothing is written then.
    pub fn set_sequence_state(&mut self, n: usize, one: &State) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        self.step = one.check_joins(sequences, n, self.step, self.network.reads_step())?;
        let state = self.state.of_mut(&mut self.memory);
        sequences.write(n, state, one.as_slice());
        Ok(())
    }

    /// Resets the state of sequence `n` to that before its first step, which is zero or
    /// [learned](crate::Network::with_learned_state), and leaves the others as they are.
    ///
    /// # Errors
    /// As [`State::reset_sequence`]. Nothing is written then.
    pub fn reset_sequence(&mut self, n: usize) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        sequences.check(n)?;
        self.step = sequences.joined_step(0, self.step, self.network.reads_step())?;
        let state = self.state.of_mut(&mut self.memory);
        match self.packing.learned_state() {
            Some(one) => sequences.write(n, state, one),
            None => sequences.reset(n, state),
        }
        Ok(())
    }

    /// Makes each sequence i the former sequence `order[i]`, as when beams are chosen. A sequence
    /// may come in `order` several times or not at all. Only sequences that change are copied,
    /// within the stream's memory; a few words per sequence are allocated.
    ///
    /// # Errors
    /// As [`State::reorder`]. Nothing is written then.
    pub fn reorder_state(&mut self, order: &[usize]) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        let moves = sequences.moves(order)?;
        let state = self.state.of_mut(&mut self.memory);
        sequences.make(&moves, state);
        Ok(())
    }
}
