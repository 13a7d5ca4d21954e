//! Options of a network's training passes, and the making of their workspace.

use super::model::Model;
use super::plan::Planned;
use super::workspace::Workspace;
use crate::Error;
use crate::blocks::Wanted;
use crate::params::Parameters;
use crate::sequence::Schedule;

impl Model {
    /// Begins the planning of training passes over `schedule`, to which options can be added.
    pub fn training(&mut self, schedule: impl Into<Schedule>) -> Training<'_> {
        Training::new(self, schedule.into())
    }

    /// Allocates the memory of training passes over `schedule`: one allocation for the passes and
    /// one for the gradients of the parameters. The first call also packs the model's weights in
    /// the layouts that backward passes read, which takes memory in the model.
    ///
    /// # Errors
    /// [`Error::Value`] if the schedule has no rows, [`Error::TooLarge`] or [`Error::OutOfMemory`]
    /// if the memory cannot be allocated, [`Error::Mismatch`] if the model is
    /// [quantised](Self::quantised), for inference only.
    pub fn training_workspace(
        &mut self,
        schedule: impl Into<Schedule>,
    ) -> Result<Workspace, Error> {
        self.training(schedule).workspace()
    }
}

/// A plan of training passes over a schedule, with options, from which a [`Workspace`] is made.
///
/// ```
/// use bptt::{Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(8, 16)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let training = model.training(Schedule::dense(20, 4)).with_input_gradients();
/// println!("it will take {} bytes", training.bytes()?);
/// let workspace = training.workspace()?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Debug)]
pub struct Training<'a> {
    model: &'a mut Model,
    schedule: Schedule,
    wanted: Wanted,
}

impl<'a> Training<'a> {
    pub(super) fn new(model: &'a mut Model, schedule: Schedule) -> Self {
        let wanted = Wanted { parameters: true, input: false, state: false };
        Self { model, schedule, wanted }
    }

    /// Makes backward passes also compute ∂L/∂x: see [`Workspace::input_gradients`].
    pub fn with_input_gradients(mut self) -> Self {
        self.wanted.input = true;
        self
    }

    /// Makes backward passes also compute the gradient with respect to the state before the first
    /// step: see [`Workspace::state_gradients`].
    pub fn with_state_gradients(mut self) -> Self {
        self.wanted.state = true;
        self
    }

    fn plan(&self) -> Result<Planned, Error> {
        Planned::new(self.model.network(), self.schedule.clone(), self.model.runtime(), self.wanted)
    }

    /// Returns the exact number of bytes that the workspace will take, without the gradients of the
    /// parameters, which take as many bytes as the parameters.
    ///
    /// # Errors
    /// [`Error::Value`] if the schedule has no rows, [`Error::TooLarge`] if the workspace does not
    /// fit the address space, [`Error::Mismatch`] if input gradients were asked for but the input
    /// is tokens.
    pub fn bytes(&self) -> Result<usize, Error> {
        Ok(self.plan()?.layout.bytes())
    }

    /// Allocates the workspace.
    ///
    /// # Errors
    /// The errors of [`bytes`](Self::bytes); [`Error::OutOfMemory`] if the memory cannot be
    /// allocated; [`Error::Mismatch`] if the model is [quantised](Model::quantised), for inference
    /// only.
    pub fn workspace(self) -> Result<Workspace, Error> {
        let planned = self.plan()?;
        self.model.require(&planned.wanted)?;
        let gradients = Parameters::zeros(self.model.manifest().clone())?;
        Workspace::new(self.model.network().clone(), self.model.runtime(), planned, gradients)
    }
}
