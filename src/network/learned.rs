//! The state before the first step as a parameter of a network. Knows the names and the range of its
//! tensors; must not know passes.

use super::{Model, Network};
use crate::Error;
use crate::params::{Manifest, Sequences, State};

/// What the names of the parameters of a learned state begin with, before a dot.
const NAME: &str = "initial_state";

impl Network {
    /// Makes the state before the first step a parameter, so that training learns it. Without this
    /// the state is zero.
    ///
    /// The parameters get a tensor for each tensor of the state of one sequence, after those of the
    /// blocks: `0.h` `[1, H]` of the state is the parameter `initial_state.0.h` `[1, H]`. They are
    /// zero at first. All sequences begin from this one state, and so do the parts of a sequence
    /// after each [reset](crate::Schedule::with_resets). Sequences whose state was set or carried on
    /// from another pass do not. The gradient is the sum of ∂L/∂state, the gradient with respect to
    /// the state before the first step, over all that do, from the last row of a step to the first.
    ///
    /// ```
    /// use bptt::{Adam, Dense, Lstm, Network, Runtime, Schedule, SquaredError};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 4)?).then(Dense::new(4, 1)?).with_learned_state();
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut workspace = model.training_workspace(Schedule::dense(3, 2))?;
    /// let loss = SquaredError::mean(&[1.0; 3 * 2]);
    /// model.train(&mut workspace, &[0.5; 3 * 2], &loss, &mut Adam::new(0.1))?;
    ///
    /// assert!(model.parameters().tensor("initial_state.0.c")?.iter().all(|c| *c != 0.0));
    /// // Streams begin from it as well.
    /// assert_eq!(model.stream(2)?.state()?, model.state(2)?);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn with_learned_state(mut self) -> Self {
        self.learned_state = true;
        self
    }

    /// Returns whether the state before the first step is a
    /// [parameter](Self::with_learned_state).
    pub fn has_learned_state(&self) -> bool {
        self.learned_state
    }

    /// Returns the tensors of the state of one sequence that can be learned, or made by a
    /// [bridge](crate::Bridge).
    pub(super) fn learned_manifest(&self) -> Result<Manifest, Error> {
        let state = self.state_manifest(1)?;
        Sequences::new("learned state", &state, 1)?.learned()
    }

    /// Declares the parameters of a learned state, after those of the blocks.
    pub(super) fn declare_learned(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if self.learned_state {
            let state = self.learned_manifest()?;
            manifest.within(NAME, |manifest| {
                let mut tensors = state.tensors().iter();
                tensors.try_for_each(|tensor| manifest.declare(tensor.name(), tensor.shape()))
            })?;
        }
        Ok(())
    }
}

impl Model {
    /// Allocates the state of `batch` sequences before the first step: all zeros, unless it is
    /// [learned](Network::with_learned_state). A pass that begins from it because it was
    /// [set](crate::Workspace::set_state) does not learn it.
    ///
    /// # Errors
    /// [`Error::Value`] if `batch` is 0, [`Error::TooLarge`] or [`Error::OutOfMemory`] if the state
    /// cannot be allocated.
    pub fn state(&self, batch: usize) -> Result<State, Error> {
        let mut state = self.network().state(batch)?;
        if let Some(one) = self.packing().learned_state() {
            let manifest = state.manifest().clone();
            let sequences = Sequences::new("state", &manifest, batch)?.of_learned();
            for n in 0..batch {
                sequences.write(n, state.as_mut_slice(), one);
            }
        }
        Ok(state)
    }
}
