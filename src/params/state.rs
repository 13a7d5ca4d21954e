//! The state that a network carries from step to step.

use super::manifest::Manifest;
use super::sequences::Sequences;
use crate::Error;
use crate::error::{check_len, check_size, check_step};
use std::sync::Arc;

/// The state that a network carries from step to step, for each of its sequences, or a gradient
/// with respect to it: one contiguous buffer and a manifest of its tensors. The page of a layer
/// lists its tensors: all layers have the hidden state `h` `[B, R]`, some have more, such as the
/// cell state `c` `[B, H]`.
///
/// ```
/// use bptt::{Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(3, 16)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut state = model.state(2)?;
/// state.tensor_mut("0.c")?.fill(0.5);
/// let mut stream = model.stream(2)?;
/// stream.set_state(&state)?;
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// # Single sequences
///
/// The state of a single sequence is a state of one sequence. It can be read from a state of
/// several and set in it, and the sequences can change their order, as beams do. A
/// [`Stream`](crate::Stream) and a [`Workspace`](crate::Workspace) have the same methods for the
/// states that they hold.
///
/// The sequences of a state have one number of [steps](Self::step) in common. A sequence that has
/// taken another number can still be set, and takes on the number of the others, unless the network
/// has a block that [reads it](crate::blocks::Block::reads_step), as a
/// [`Clockwork`](crate::Clockwork) does: then it is refused. A state of one sequence has no others,
/// so the number is replaced.
///
/// ```
/// use bptt::{Gru, Network, Reset, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Gru::new(1, 4, Reset::After)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut prefix = model.stream(1)?;
/// prefix.step(&[0.5], &mut [0.0; 4])?;
/// // Three beams continue it.
/// let mut beams = model.stream(3)?;
/// beams.set_state(&prefix.state()?.broadcast(3)?)?;
/// beams.step(&[0.1, 0.2, 0.3], &mut [0.0; 3 * 4])?;
/// // The last one is the best: two go on from it, and one from the first.
/// beams.reorder_state(&[2, 0, 2])?;
/// assert_eq!(beams.sequence_state(0)?, beams.sequence_state(2)?);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    manifest: Arc<Manifest>,
    values: Vec<f32>,
    batch: usize,
    step: u64,
    /// Whether the network has a block that reads `step`.
    reads_step: bool,
}

impl State {
    /// Allocates the state before the first step, which is all zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it cannot be allocated.
    pub(crate) fn zeros(
        manifest: Arc<Manifest>,
        batch: usize,
        reads_step: bool,
    ) -> Result<Self, Error> {
        let mut values = Vec::new();
        let (len, bytes) = (manifest.len(), size_of::<f32>() * manifest.len());
        values.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
        values.resize(len, 0.0);
        Ok(Self { manifest, values, batch, step: 0, reads_step })
    }

    /// Returns the names, shapes and ranges of the tensors.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns B, the number of sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Returns all values, in the order of the manifest.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Returns all values, mutably, in the order of the manifest.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Returns the tensor named `name`, row-major.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such tensor; the error lists all tensors.
    pub fn tensor(&self, name: &str) -> Result<&[f32], Error> {
        Ok(&self.values[self.manifest.expect(name)?.range()])
    }

    /// Returns the tensor named `name`, mutably.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_mut(&mut self, name: &str) -> Result<&mut [f32], Error> {
        let range = self.manifest.expect(name)?.range();
        Ok(&mut self.values[range])
    }

    /// Returns the number of steps that the sequences have taken. A
    /// [`Clockwork`](crate::Clockwork) needs it to know which of its groups move at a step. After a
    /// pass over sequences of different lengths it counts the steps of the longest. In a gradient it
    /// has no meaning.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets the number of steps that the sequences have taken.
    ///
    /// # Errors
    /// [`Error::Value`] if `step` is 2⁶³ or more.
    pub fn set_step(&mut self, step: u64) -> Result<(), Error> {
        self.step = check_step(step)?;
        Ok(())
    }

    /// Returns the state with its number of steps set to `step`, which may be above the limit of
    /// [`set_step`](Self::set_step).
    pub(crate) fn after(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// Returns an error, about `what`, unless the tensors are those of the manifest `expected` and
    /// the number of steps is below 2⁶³.
    pub(crate) fn check(&self, what: &'static str, expected: &Manifest) -> Result<(), Error> {
        check_step(self.step)?;
        if *self.manifest != *expected {
            let (given, expected) = (self.manifest.to_string(), expected.to_string());
            return Err(Error::Mismatch { what, given, expected });
        }
        check_len(what, self.values.len(), expected.len())
    }

    /// Returns a copy of the state of sequence `n`, counted from 0.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no sequence `n`; [`Error::Mismatch`] if a block's state does not
    /// have the batch as its last dimension but one; [`Error::OutOfMemory`] if the copy cannot be
    /// allocated.
    pub fn sequence(&self, n: usize) -> Result<Self, Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        let mut one = Self::of_one(sequences, n, self.reads_step)?;
        sequences.read(n, &self.values, &mut one.values);
        Ok(one.after(self.step))
    }

    /// Sets the state of sequence `n` to `one`, a state of one sequence. What happens if it has
    /// taken another number of steps, [the top of the page](#single-sequences) says.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no sequence `n`, if `one` has taken 2⁶³ steps or more, or if it
    /// has taken another number of steps and the network reads that number; [`Error::Mismatch`] if
    /// `one` belongs to another network or has several sequences, or a block's state does not have
    /// the batch as its last dimension but one. Nothing is written then.
    pub fn set_sequence(&mut self, n: usize, one: &Self) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        self.step = one.check_joins(sequences, n, self.step, self.reads_step)?;
        sequences.write(n, &mut self.values, &one.values);
        Ok(())
    }

    /// Resets the state of sequence `n` to zero, as before its first step unless the state is
    /// [learned](crate::Network::with_learned_state).
    ///
    /// # Errors
    /// As [`set_sequence`](Self::set_sequence) of a state before the first step.
    pub fn reset_sequence(&mut self, n: usize) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        sequences.check(n)?;
        self.step = sequences.joined_step(0, self.step, self.reads_step)?;
        sequences.reset(n, &mut self.values);
        Ok(())
    }

    /// Makes each sequence i the former sequence `order[i]`. A sequence may come in `order` several
    /// times or not at all. Only sequences that change are copied.
    ///
    /// # Errors
    /// [`Error::Length`] unless `order` has a number for each sequence, [`Error::Value`] if one of
    /// them is no sequence; [`Error::Mismatch`] if a block's state does not have the batch as its
    /// last dimension but one. Nothing is written then.
    pub fn reorder(&mut self, order: &[usize]) -> Result<(), Error> {
        let sequences = Sequences::new("state", &self.manifest, self.batch)?;
        let moves = sequences.moves(order)?;
        sequences.make(&moves, &mut self.values);
        Ok(())
    }

    /// Returns the state of `batch` sequences that all have this state of one sequence.
    ///
    /// # Errors
    /// [`Error::Value`] if this is a state of several sequences or `batch` is 0;
    /// [`Error::Mismatch`] if a block's state does not have the batch as its last dimension but one;
    /// [`Error::TooLarge`] or [`Error::OutOfMemory`] if the state cannot be allocated.
    pub fn broadcast(&self, batch: usize) -> Result<Self, Error> {
        check_size("batch", batch)?;
        if self.batch != 1 {
            let (what, given) = ("number of sequences", self.batch.to_string());
            return Err(Error::Value { what, given, expected: "1".into() });
        }
        let own = Sequences::new("state", &self.manifest, 1)?;
        let manifest = Arc::new(own.with_batch(batch)?);
        let mut all = Self::zeros(manifest, batch, self.reads_step)?;
        let sequences = Sequences::new("state", &all.manifest, batch)?;
        for n in 0..batch {
            sequences.write(n, &mut all.values, &self.values);
        }
        Ok(all.after(self.step))
    }

    /// Allocates the state of one of these sequences, sequence `n`.
    pub(crate) fn of_one(
        sequences: Sequences<'_>,
        n: usize,
        reads_step: bool,
    ) -> Result<Self, Error> {
        sequences.check(n)?;
        Self::zeros(Arc::new(sequences.with_batch(1)?), 1, reads_step)
    }

    /// Returns the number of steps after this state was set as that of sequence `n`, when the
    /// others have taken `others` steps. Returns an error if it does not fit.
    pub(crate) fn check_joins(
        &self,
        sequences: Sequences<'_>,
        n: usize,
        others: u64,
        reads_step: bool,
    ) -> Result<u64, Error> {
        sequences.check(n)?;
        let what = "state of a sequence";
        if self.batch != 1 {
            let (given, expected) = (format!("{} sequences", self.batch), "1 sequence".into());
            return Err(Error::Mismatch { what, given, expected });
        }
        self.check(what, &sequences.with_batch(1)?)?;
        sequences.joined_step(self.step, others, reads_step)
    }
}
