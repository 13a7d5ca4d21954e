//! The memory of a network's training passes, and access to the results in it. Knows the order of
//! passes; must not know what a block keeps.

mod divided;
mod passes;
mod resets;
mod state;

use super::Network;
use super::division::{Plans, Recomputation};
use super::packing::{Packing, Version};
use super::plan::{Order, Place, Planned, Step};
use crate::blocks::{LeftBy, Wanted};
use crate::error::{check_len, check_step};
use crate::loss::{Loss, TargetRows};
use crate::params::{Parameters, State};
use crate::regularisation::Noise;
use crate::sequence::{Input, InputSize, Schedule};
use crate::{Error, Runtime};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::Team;

/// What a workspace holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// The last state of a forward pass whose outputs have been overwritten.
    LastState,
    Forward,
    Backward,
}

impl Holds {
    fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "no pass",
            Self::LastState => "a pass that was evaluated",
            Self::Forward => "a forward pass",
            Self::Backward => "a backward pass",
        }
    }
}

/// What the caller asked for when the workspace was planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub wanted: Wanted,
    pub budget: Option<usize>,
}

/// The memory of a network's training passes over a schedule, which gives access to their results.
///
/// The workspace is one allocation, and [`Training::bytes`](crate::Training::bytes) tells its exact
/// size beforehand. The gradients of the parameters are a second allocation, and the plan takes
/// some hundred bytes per block; with different lengths, 16 bytes per row and 8 for each delay of a
/// layer, and 8 per step for each group of a [`Clockwork`](crate::Clockwork) and once more. The
/// workspace holds these regions of f32, each rounded up to a multiple of 16 floats:
///
/// - For each block: its output `[rows, outputs]`, four regions of the size of its state, and what
///   its pass keeps, which the table below gives.
/// - ∂L/∂x `[rows, features]`, if it was asked for.
/// - Two regions for the gradients with respect to the outputs of blocks. The blocks alternate
///   between them, from the last block to the first, and each region has `rows` times the floats of
///   the widest output that uses it. The gradient with respect to the network's own output needs no
///   region if the backward pass of the last block does not read that output, as in a
///   [`Dense`](crate::Dense) layer: it overwrites the output.
///
/// - If the [`Schedule`] has different lengths or another order than `[τ, B, features]`: the input in
///   the order of the passes, `[rows, features]`, and the outputs and, if asked for, ∂L/∂x in the
///   order of the caller, with padding.
///
/// The pass of a layer keeps these floats per row, which is a step of a sequence:
///
/// | layer | floats, output included |
/// | --- | --- |
/// | [`Vanilla`](crate::Vanilla), [`Skip`](crate::Skip) | 2H |
/// | [`Leaky`](crate::Leaky) | 2H, 3H with a learned α |
/// | [`Clockwork`](crate::Clockwork) | H + Σ Hᵢ / kᵢ |
/// | [`Gru`](crate::Gru) | 5H |
/// | [`Lstm`](crate::Lstm) | 6H, 5H with coupled gates; 6H + 2R, 5H + 2R projected to R |
/// | [`LayerNorm`](crate::LayerNorm) of a layer with N sums | those of the layer, and 2NH + N |
///
/// Each pass has scratch memory as well, which does not grow with the number of steps. A dense
/// layer keeps nothing but scratch. With different lengths a [`Delayed`](crate::Delayed) layer keeps
/// the inputs as its rows read them, `[rows, features]`, and a clockwork keeps Hᵢ floats for each row
/// of the steps 0, kᵢ, 2kᵢ, …: the most that its groups need, wherever their clock stands.
#[derive(Debug)]
pub struct Workspace {
    network: Network,
    runtime: Runtime,
    /// The schedule of the whole pass.
    schedule: Schedule,
    asked: Asked,
    plans: Plans,
    memory: AlignedBuffer,
    gradients: Parameters,
    noise: Noise,
    /// The steps that the sequences have taken before the pass.
    step: u64,
    /// Whether a gradient with respect to the last state has been set.
    has_last_gradient: bool,
    holds: Holds,
    /// The version of the parameters of the last forward pass.
    version: Version,
    team: Team,
}

impl Workspace {
    /// Allocates the memory of the planned passes.
    pub(super) fn new(
        network: Network,
        runtime: Runtime,
        schedule: Schedule,
        asked: Asked,
        plans: Plans,
        gradients: Parameters,
    ) -> Result<Self, Error> {
        Ok(Self {
            network,
            runtime,
            schedule,
            asked,
            memory: plans.layout().allocate()?,
            plans,
            gradients,
            noise: Noise::default(),
            step: 0,
            has_last_gradient: false,
            holds: Holds::Nothing,
            version: Version::NONE,
            team: runtime.team()?,
        })
    }

    /// Returns the exact number of bytes of the workspace, without the gradients of the parameters.
    pub fn bytes(&self) -> usize {
        self.recomputation().bytes
    }

    /// Returns what each pass computes more than once because of its
    /// [budget](crate::Training::with_budget), and the bytes of the workspace.
    pub fn recomputation(&self) -> Recomputation {
        self.plans.recomputation()
    }

    /// Plans the workspace anew, for passes over another schedule in the same memory. They have the
    /// options of the first ones, and begin at the zero state. Without a
    /// [budget](crate::Training::with_budget) any schedule serves that needs no more memory than the
    /// first one. With one, the bytes of the workspace are the budget from now on.
    ///
    /// ```
    /// use bptt::{Accumulate, Lstm, Network, Runtime, Schedule, SquaredError};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let network = Network::new(Lstm::new(1, 4)?);
    /// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut workspace = model.training_workspace(Schedule::dense(100, 8))?;
    /// for lengths in [[50, 3, 20], [9, 100, 41]] {
    ///     workspace.replan(Schedule::packed(&lengths)?)?;
    ///     let rows: usize = lengths.iter().sum();
    ///     let (x, targets) = (vec![0.5; rows], vec![0.25; rows * 4]);
    ///     let loss = SquaredError::mean(&targets);
    ///     model.gradients(&mut workspace, &x, &loss, Accumulate::No)?;
    /// }
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if the schedule has no rows, or needs more bytes than the workspace has;
    /// [`Error::TooLarge`] if it needs more than the address space. The workspace is as before then.
    pub fn replan(&mut self, schedule: impl Into<Schedule>) -> Result<(), Error> {
        let (schedule, Asked { wanted, budget }) = (schedule.into(), self.asked);
        let room = size_of_val(&*self.memory);
        let budget = budget.map(|_| room);
        let plans = Plans::new(&self.network, self.runtime, &schedule, wanted, budget)?;
        if plans.layout().bytes() > room {
            let given = format!("{} bytes", plans.layout().bytes());
            let expected = format!("at most {room}, for which it was made").into();
            return Err(Error::Value { what: "the workspace", given, expected });
        }
        (self.schedule, self.plans) = (schedule, plans);
        self.has_last_gradient = false;
        for block in &self.plans.first().steps {
            // Rows that end at a reset have no gradient from behind it.
            self.memory[self.plans.place(Place::LastGradient, block)].fill(0.0);
        }
        self.reset_state();
        Ok(())
    }

    /// Returns the schedule, which says which row is which sequence at which step.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Returns the gradients of the parameters from the last backward pass; zeros before the first.
    pub fn gradients(&self) -> &Parameters {
        &self.gradients
    }

    /// Returns the gradients of the parameters, mutably.
    pub fn gradients_mut(&mut self) -> &mut Parameters {
        &mut self.gradients
    }

    /// Sets the seed and the position from which forward passes draw their noise. The seed is 0 at
    /// first, and [`Model::train`](crate::Model::train) adds 1 to it after each update.
    pub fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
    }

    /// Returns the seed and the position from which forward passes draw their noise.
    pub fn noise(&self) -> Noise {
        self.noise
    }

    pub(super) fn next_noise(&mut self) {
        self.noise.seed = self.noise.seed.wrapping_add(1);
    }

    /// Sets the state that forward passes begin from, which is zero at first.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `state` belongs to another network or has another batch size,
    /// [`Error::Value`] if it has taken 2⁶³ steps or more. Nothing is written then.
    pub fn set_state(&mut self, state: &State) -> Result<(), Error> {
        state.check("state", &self.plans.first().given_state)?;
        self.fill(Place::State, state);
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
            for block in &self.plans.first().steps {
                let from = self.plans.place(Place::Last, block);
                let to = self.plans.place(Place::State, block).start;
                self.memory.copy_within(from, to);
            }
        }
        self.step = step;
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Returns the number of steps that the sequences have taken after a pass.
    fn last_step(&self) -> u64 {
        self.step + self.schedule.longest() as u64
    }

    /// Makes forward passes begin from the zero state again, also where the schedule has
    /// [resets](Schedule::with_resets).
    pub fn reset_state(&mut self) {
        for block in &self.plans.first().steps {
            self.memory[self.plans.place(Place::State, block)].fill(0.0);
        }
        self.step = 0;
        self.holds = Holds::Nothing;
    }

    /// Copies a state to `place`.
    fn fill(&mut self, place: Place, state: &State) {
        let planned = self.plans.first();
        for block in &planned.steps {
            let from = &state.as_slice()[planned.given_state_of(&block.state)];
            let to = &mut self.memory[self.plans.place(place, block)];
            planned.copy_state(place, &block.state, from, to, Order::OfPasses);
        }
    }

    /// Returns a copy of the state that lies at `place`.
    fn collect(&self, place: Place) -> Result<State, Error> {
        let planned = self.plans.first();
        let (batch, reads_step) = (self.schedule.sequences(), self.network.reads_step());
        let mut state = State::zeros(planned.given_state.clone(), batch, reads_step)?;
        for block in &planned.steps {
            let from = &self.memory[self.plans.place(place, block)];
            let to = &mut state.as_mut_slice()[planned.given_state_of(&block.state)];
            planned.copy_state(place, &block.state, from, to, Order::OfCaller);
        }
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
    /// [`Error::Mismatch`] if `gradient` belongs to another network or has another batch size.
    /// Nothing is written then.
    pub fn set_last_gradient(&mut self, gradient: Option<&State>) -> Result<(), Error> {
        let Some(gradient) = gradient else {
            self.has_last_gradient = false;
            return Ok(());
        };
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
    fn expect_state_gradients(&self, call: &'static str) -> Result<(), Error> {
        self.expect(call, Holds::Backward)?;
        if self.asked.wanted.state {
            return Ok(());
        }
        let (given, expected) = ("a pass without these gradients", "a pass with them");
        Err(Error::Order { call, given, expected })
    }

    /// Returns ∂L/∂x, `[rows, features]`.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a backward pass, or was planned without
    /// [input gradients](crate::Training::with_input_gradients).
    pub fn input_gradients(&self) -> Result<&[f32], Error> {
        let call = "input_gradients";
        self.expect(call, Holds::Backward)?;
        if !self.asked.wanted.input {
            let (given, expected) = ("a pass without these gradients", "a pass with them");
            return Err(Error::Order { call, given, expected });
        }
        let dx = match &self.plans {
            Plans::Divided(divided) => {
                return Ok(divided.kept.dx.of(&self.memory[divided.start..]));
            }
            Plans::Whole(whole) if whole.schedule.is_dense() => whole.dx,
            Plans::Whole(whole) => whole.other.dx,
        };
        Ok(dx.of(&self.memory))
    }

    /// Returns the outputs of the last forward pass, `[rows, outputs]`, with the rows of the input.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a forward pass.
    pub fn outputs(&self) -> Result<&[f32], Error> {
        self.expect("outputs", Holds::Forward)?;
        let Planned { schedule, steps, other, .. } = self.plans.first();
        let Step { parts, start, .. } = &steps[steps.len() - 1];
        Ok(if schedule.is_dense() {
            parts.y.of(&self.memory[*start..])
        } else {
            other.y.of(&self.memory)
        })
    }

    /// Returns values that the last pass left in the workspace, by name. For block n these are:
    ///
    /// - `n.y`: its outputs `[rows, outputs]`. After a backward pass, the last block has none if
    ///   its gradient overwrote them.
    /// - `n.gates`, of a layer after a forward pass: all gates in the cell's order, `[τ, B, G, H]`.
    /// - `n.preactivation_gradients`, of a layer after a backward pass: the gradients with respect
    ///   to the pre-activations of the gates.
    /// - `n.c`, of a layer with a cell state, after both passes: the cell states `[τ, B, H]`.
    ///
    /// # Errors
    /// [`Error::Order`] if no pass was run, or the last one was only
    /// [evaluated](crate::Model::evaluate); [`Error::Value`] if the pass left nothing of that name.
    pub fn activations(&self, name: &str) -> Result<&[f32], Error> {
        let left_by = match self.holds {
            Holds::Backward => LeftBy::Backward,
            _ => LeftBy::Forward,
        };
        if left_by == LeftBy::Forward {
            self.expect("activations", Holds::Forward)?;
        }
        self.find(name, left_by).ok_or_else(|| Error::Value {
            what: "activations",
            given: name.into(),
            expected: format!("what {} has left", self.holds.describe()).into(),
        })
    }

    fn find(&self, name: &str, left_by: LeftBy) -> Option<&[f32]> {
        let (block, name) = name.split_once('.')?;
        let block: usize = block.parse().ok()?;
        let Plans::Whole(planned) = &self.plans else { return None };
        let Step { pass, parts, start, .. } = planned.steps.get(block)?;
        let memory = &self.memory[*start..];
        let last = block + 1 == planned.steps.len();
        if name == "y" && (left_by == LeftBy::Forward || !last || pass.reads_output()) {
            return Some(parts.y.of(memory));
        }
        Some(pass.find(name, left_by, self.step)?.of(parts.own.of(memory)))
    }

    fn expect(&self, call: &'static str, expected: Holds) -> Result<(), Error> {
        if self.holds == expected {
            return Ok(());
        }
        let (given, expected) = (self.holds.describe(), expected.describe());
        Err(Error::Order { call, given, expected })
    }

    fn expect_any(&self, call: &'static str) -> Result<(), Error> {
        if self.holds == Holds::Nothing { self.expect(call, Holds::Forward) } else { Ok(()) }
    }

    /// Returns an error unless the workspace holds a forward pass with the parameters of `version`.
    pub(super) fn expect_forward_of(&self, version: Version) -> Result<(), Error> {
        let call = "backward";
        self.expect(call, Holds::Forward)?;
        if self.version == version {
            return Ok(());
        }
        let given = "a pass of other parameters, or of these before a change";
        Err(Error::Order { call, given, expected: "a forward pass of these parameters" })
    }

    /// Returns an error if the pass is divided, so that the workspace keeps no outputs.
    pub(super) fn check_keeps_outputs(&self) -> Result<(), Error> {
        match self.plans {
            Plans::Whole(_) => Ok(()),
            Plans::Divided(_) => Err(Error::Mismatch {
                what: "workspace",
                given: "a budget, within which it keeps no outputs".into(),
                expected: "no budget, for outputs; or a call that needs a loss".into(),
            }),
        }
    }

    /// Returns an error unless the workspace is for passes of `network` on `runtime`.
    pub(super) fn check(&self, network: &Network, runtime: Runtime) -> Result<(), Error> {
        if self.runtime == runtime && self.network.computes_as(network) {
            return Ok(());
        }
        let describe = |network: &Network, runtime: Runtime, other: &Network| {
            let (isa, threads) = (runtime.isa(), runtime.thread_count());
            format!("{} on {isa}, threads {threads}", network.describe_beside(other))
        };
        Err(Error::Mismatch {
            what: "workspace",
            given: describe(&self.network, self.runtime, network),
            expected: describe(network, runtime, &self.network),
        })
    }

    /// Returns an error unless backward passes with `packing` can compute the gradients of this
    /// workspace.
    pub(super) fn check_gradients(&self, packing: &Packing) -> Result<(), Error> {
        packing.check_gradients(self.plans.wanted(), &self.gradients)
    }

    /// Returns an error unless `x` fits the network's input. Tokens of padding are not looked at.
    pub(super) fn check_input(&self, x: Input<'_>) -> Result<(), Error> {
        let (schedule, size) = (&self.schedule, self.network.input());
        match (schedule.given(), x, size) {
            (Some(given), Input::Tokens(tokens), InputSize::Tokens(size)) => {
                check_len("tokens", tokens.len(), schedule.given_rows())?;
                match given.iter().find(|&&row| tokens[row] as usize >= size) {
                    Some(&row) => Err(Error::Token { row, given: tokens[row], tokens: size }),
                    None => Ok(()),
                }
            }
            _ => x.check(schedule.given_rows(), size),
        }
    }

    /// Returns an error unless `x` fits the network's input and `loss` fits its outputs.
    pub(super) fn check_loss(
        &self,
        x: Input<'_>,
        loss: &dyn Loss,
        outputs: usize,
    ) -> Result<(), Error> {
        self.check_input(x)?;
        if matches!(self.plans, Plans::Divided(_)) && !loss.is_sum_over_rows() {
            return Err(Error::Mismatch {
                what: "loss",
                given: "all outputs at once".into(),
                expected: "a sum over rows, since a workspace with a budget divides them".into(),
            });
        }
        loss.check(TargetRows::of(&self.schedule), outputs)
    }
}
