//! The memory of a network's training passes, and access to the results in it. Knows the order of
//! passes; must not know what a block keeps.

mod passes;

use super::Network;
use super::packing::{Packing, Version};
use super::plan::{Order, Parts, Planned, Step};
use crate::blocks::LeftBy;
use crate::error::{check_len, check_step};
use crate::loss::{Loss, TargetRows};
use crate::memory::Region;
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
    planned: Planned,
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
        planned: Planned,
        gradients: Parameters,
    ) -> Result<Self, Error> {
        Ok(Self {
            network,
            runtime,
            memory: planned.layout.allocate()?,
            planned,
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
        self.planned.layout.bytes()
    }

    /// Returns the schedule, which says which row is which sequence at which step.
    pub fn schedule(&self) -> &Schedule {
        &self.planned.schedule
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
        state.check("state", &self.planned.state)?;
        for Step { parts, start, state: at, .. } in &self.planned.steps {
            let memory = &mut self.memory[*start..];
            let to = parts.state.of_mut(memory);
            self.planned.copy_state(at, &state.as_slice()[at.clone()], to, Order::OfPasses);
        }
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
        for Step { parts, start, .. } in &self.planned.steps {
            let Parts { state, last, .. } = parts.granted(&mut self.memory[*start..]);
            state.copy_from_slice(last);
        }
        self.step = step;
        self.holds = Holds::Nothing;
        Ok(())
    }

    /// Returns the number of steps that the sequences have taken after a pass.
    fn last_step(&self) -> u64 {
        self.step + self.planned.schedule.steps() as u64
    }

    /// Makes forward passes begin from the zero state again.
    pub fn reset_state(&mut self) {
        for Step { parts, start, .. } in &self.planned.steps {
            parts.state.of_mut(&mut self.memory[*start..]).fill(0.0);
        }
        self.step = 0;
        self.holds = Holds::Nothing;
    }

    /// Copies one part of each block, which `part` chooses, into a state.
    fn collect(&self, part: impl Fn(&Parts<Region>) -> Region) -> Result<State, Error> {
        let mut state = State::zeros(self.planned.state.clone())?;
        for Step { parts, start, state: at, .. } in &self.planned.steps {
            let from = part(parts).of(&self.memory[*start..]);
            let to = &mut state.as_mut_slice()[at.clone()];
            self.planned.copy_state(at, from, to, Order::OfCaller);
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
        Ok(self.collect(|parts| parts.last)?.after(self.last_step()))
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
        gradient.check("gradient by the last state", &self.planned.state)?;
        self.has_last_gradient = true;
        for Step { parts, start, state: at, .. } in &self.planned.steps {
            let memory = &mut self.memory[*start..];
            let to = parts.dlast.of_mut(memory);
            self.planned.copy_state(at, &gradient.as_slice()[at.clone()], to, Order::OfPasses);
        }
        Ok(())
    }

    /// Returns the gradient of the loss with respect to the state before the first step.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a backward pass, or was planned without
    /// [state gradients](crate::Training::with_state_gradients); [`Error::OutOfMemory`] if the
    /// gradient cannot be allocated.
    pub fn state_gradients(&self) -> Result<State, Error> {
        let call = "state_gradients";
        self.expect(call, Holds::Backward)?;
        if !self.planned.wanted[0].state {
            let (given, expected) = ("a pass without these gradients", "a pass with them");
            return Err(Error::Order { call, given, expected });
        }
        self.collect(|parts| parts.dstate)
    }

    /// Returns ∂L/∂x, `[rows, features]`.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a backward pass, or was planned without
    /// [input gradients](crate::Training::with_input_gradients).
    pub fn input_gradients(&self) -> Result<&[f32], Error> {
        let call = "input_gradients";
        self.expect(call, Holds::Backward)?;
        if !self.planned.wanted[0].input {
            let (given, expected) = ("a pass without these gradients", "a pass with them");
            return Err(Error::Order { call, given, expected });
        }
        let Planned { schedule, dx, other, .. } = &self.planned;
        let dx = if schedule.is_dense() { dx } else { &other.dx };
        Ok(dx.of(&self.memory))
    }

    /// Returns the outputs of the last forward pass, `[rows, outputs]`, with the rows of the input.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a forward pass.
    pub fn outputs(&self) -> Result<&[f32], Error> {
        self.expect("outputs", Holds::Forward)?;
        let Planned { schedule, steps, other, .. } = &self.planned;
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
        let Step { pass, parts, start, .. } = self.planned.steps.get(block)?;
        let memory = &self.memory[*start..];
        let last = block + 1 == self.planned.steps.len();
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
        packing.check_gradients(&self.planned.wanted, &self.gradients)
    }

    /// Returns an error unless `x` fits the network's input. Tokens of padding are not looked at.
    pub(super) fn check_input(&self, x: Input<'_>) -> Result<(), Error> {
        let (schedule, size) = (&self.planned.schedule, self.network.input());
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
        loss.check(TargetRows::of(&self.planned.schedule), outputs)
    }
}
