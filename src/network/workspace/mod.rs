//! The memory of a network's passes, and access to the results in it. Knows the order of
//! passes; must not know what a block keeps.

mod bridge;
mod checks;
mod chunks;
mod divided;
mod encoder;
mod encoding;
mod learned;
mod passes;
mod resets;
mod sequences;
mod state;
mod whole;

pub(super) use checks::check_input;
pub(super) use encoder::EncoderRun;

use super::Network;
use super::begins::Learned;
use super::division::{Asked, Plans, Recomputation};
use super::packing::Version;
use super::plan::{Place, Planned};
use crate::blocks::{Found, LeftBy};
use crate::memory::Memory;
use crate::params::Parameters;
use crate::regularisation::{Mode, Noise};
use crate::sequence::Schedule;
use crate::{Error, Runtime};

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

/// The memory of a network's passes over a schedule, which gives access to their results. It is for
/// [training](crate::Model::training_workspace) or for [inference](crate::Model::inference_workspace).
///
/// The workspace is one allocation, or lies in memory that the caller
/// [hands in](crate::Training::workspace_in). [`Training::bytes`](crate::Training::bytes) tells its
/// exact size beforehand. The gradients of the parameters are a second allocation, and the plan takes
/// some hundred bytes per block; with different lengths, 16 bytes per row and 8 for each delay of a
/// layer, and 8 per step for each group of a [`Clockwork`](crate::Clockwork) and once more. The
/// workspace holds these regions of f32, each rounded up to a multiple of 16 floats:
///
/// - The output of each block, `[rows, outputs]`, and what the block's pass keeps, which the table
///   below gives.
/// - Four regions of the size of the state of all blocks.
/// - ∂L/∂x `[rows, features]`, if it was asked for.
/// - Two regions for the gradients with respect to the outputs of blocks. The blocks but the last
///   one alternate between them, from the last block to the first, and each region has `rows` times
///   the floats of the widest output that uses it. The gradient with respect to the network's own
///   output overwrites this output, as after a [`Dense`](crate::Dense) layer, unless the backward
///   pass of the last block reads it: then it has a region of its own.
///
/// - With [chunks](crate::Training::with_chunked_outputs) of the outputs: the last blocks have none of
///   these regions for all rows, but those of a workspace of their own for the rows of a chunk, with
///   the gradient with respect to their input.
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
///
/// A workspace for inference has no regions for gradients, and only two of the size of the state. Of each
/// layer it keeps the output, H floats or R per row. A clockwork keeps the same as in training, and a
/// layer with zoneout its cell states, too. The gates of one stretch of time belong to the scratch. A
/// stretch has at most 192 rows, or one step; for cells that are scanned it has as many for each thread.
#[derive(Debug)]
pub struct Workspace {
    network: Network,
    runtime: Runtime,
    /// The schedule of the whole pass.
    schedule: Schedule,
    asked: Asked,
    plans: Plans,
    memory: Memory,
    gradients: Parameters,
    noise: Noise,
    teacher_forcing: f32,
    /// The steps that the sequences have taken before the pass.
    step: u64,
    /// Whether a gradient with respect to the last state has been set.
    has_last_gradient: bool,
    /// Which sequences begin from the learned state.
    learned: Learned,
    holds: Holds,
    /// The version of the parameters of the last forward pass.
    version: Version,
    team: Team,
}

impl Workspace {
    /// Makes a workspace for the planned passes, in `memory`, or in memory of its own.
    pub(super) fn new(
        network: Network,
        runtime: Runtime,
        schedule: Schedule,
        asked: Asked,
        plans: Plans,
        gradients: Parameters,
        memory: Option<Memory>,
    ) -> Result<Self, Error> {
        let memory = match memory {
            Some(memory) => memory,
            None => plans.layout().allocate()?.into(),
        };
        let mut workspace = Self {
            network,
            runtime,
            schedule,
            asked,
            memory,
            plans,
            gradients,
            noise: Noise::default(),
            teacher_forcing: 1.0,
            step: 0,
            has_last_gradient: false,
            learned: Learned::default(),
            holds: Holds::Nothing,
            version: Version::NONE,
            team: runtime.team()?,
        };
        workspace.begin_anew();
        Ok(workspace)
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
    /// options of the first ones, and begin anew, as after [`reset_state`](Self::reset_state). Without a
    /// [budget](crate::Training::with_budget) any schedule serves that fits the memory.
    /// With one, the bytes of the memory are the budget from now on.
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
    /// [`Error::Value`] if the schedule has no rows, or needs more bytes than the workspace's memory has;
    /// [`Error::TooLarge`] if it needs more than the address space. The workspace is as before then.
    pub fn replan(&mut self, schedule: impl Into<Schedule>) -> Result<(), Error> {
        let (schedule, room) = (schedule.into(), self.memory.bytes());
        let budget = self.asked.budget.map(|_| room);
        self.replan_as(schedule, Asked { budget, ..self.asked.clone() })
    }

    /// Plans the workspace anew as [`replan`](Self::replan) does, with another schedule of the
    /// [source](crate::Training::with_source), too.
    ///
    /// # Errors
    /// The errors of [`replan`](Self::replan); [`Error::Mismatch`] if the network has no encoder, or the
    /// source does not have as many sequences.
    pub fn replan_with_source(
        &mut self,
        schedule: impl Into<Schedule>,
        sources: impl Into<Schedule>,
    ) -> Result<(), Error> {
        let sources = Some(sources.into());
        self.replan_as(schedule.into(), Asked { sources, ..self.asked.clone() })
    }

    fn replan_as(&mut self, schedule: Schedule, asked: Asked) -> Result<(), Error> {
        let plans = Plans::new(&self.network, self.runtime, &schedule, &asked)?;
        check_room(&plans, self.memory.bytes())?;
        (self.schedule, self.plans) = (schedule, plans);
        self.asked.sources = asked.sources;
        self.begin_anew();
        Ok(())
    }

    /// Makes passes begin anew in memory with any content.
    fn begin_anew(&mut self) {
        self.has_last_gradient = false;
        // Rows that end at a reset have no gradient from behind it.
        self.memory[self.plans.place(Place::LastGradient)].fill(0.0);
        self.reset_state();
    }

    /// Returns the memory of the workspace, for another one.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Returns the schedule, which says which row is which sequence at which step.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Returns the gradients of the parameters from the last backward pass; zeros before the first. A
    /// workspace for inference has none.
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

    /// Sets the probability with which blocks that read [their own
    /// outputs](crate::OutputRecurrent) read those that the caller gives instead, in passes from now
    /// on: 1, as at first, is teacher forcing, 0 is running free, and a number between is scheduled
    /// sampling.
    ///
    /// # Errors
    /// [`Error::Value`] unless it is from 0 to 1.
    pub fn set_teacher_forcing(&mut self, probability: f32) -> Result<(), Error> {
        self.teacher_forcing = crate::regularisation::check_teacher_forcing(probability)?;
        Ok(())
    }

    /// Returns the mode of a pass, which trains if it is asked to and may be followed by a backward pass.
    pub(super) fn mode(&self, training: bool) -> Mode {
        let training = training && self.asked.wanted.any();
        Mode { training, teacher_forcing: self.teacher_forcing }
    }

    pub(super) fn next_noise(&mut self) {
        self.noise.seed = self.noise.seed.wrapping_add(1);
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
            Plans::Whole(whole) if whole.schedule.is_dense() => whole.parts.dx,
            Plans::Whole(whole) => whole.parts.dx_of_caller,
        };
        Ok(dx.of(&self.memory))
    }

    /// Returns the gradient of the loss with respect to the input of the [encoder](crate::Encoder),
    /// `[rows, features]`, with the rows of the source.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a backward pass, or was planned without
    /// [source gradients](crate::Training::with_source_gradients).
    pub fn source_gradients(&self) -> Result<&[f32], Error> {
        let call = "source_gradients";
        self.expect(call, Holds::Backward)?;
        let (Some(encoder), true) = (self.plans.encoder(), self.asked.wanted.source) else {
            let (given, expected) = ("a pass without these gradients", "a pass with them");
            return Err(Error::Order { call, given, expected });
        };
        let of_source = &encoder.planned;
        let dx = match of_source.schedule.is_dense() {
            true => of_source.parts.dx,
            false => of_source.parts.dx_of_caller,
        };
        let own = encoder.parts.own;
        Ok(dx.within(own).of(&self.memory[encoder.start..]))
    }

    /// Returns the outputs of the last forward pass, `[rows, outputs]`, with the rows of the input.
    ///
    /// # Errors
    /// [`Error::Order`] if the last pass was not a forward pass.
    pub fn outputs(&self) -> Result<&[f32], Error> {
        self.expect("outputs", Holds::Forward)?;
        let Planned { schedule, parts, .. } = self.plans.first();
        let y = if schedule.is_dense() { parts.y } else { parts.y_of_caller };
        Ok(y.of(&self.memory))
    }

    /// Returns values that the last pass left in the workspace, by name. For block n these are:
    ///
    /// - `n.y`: its outputs `[rows, outputs]`. After a backward pass, the last block has none if
    ///   its gradient overwrote them.
    /// - `n.gates`, of a layer after a forward pass: all gates in the cell's order, `[τ, B, G, H]`.
    /// - `n.preactivation_gradients`, of a layer after a backward pass: the gradients with respect
    ///   to the pre-activations of the gates.
    /// - `n.c`, of a layer with a cell state, after both passes: the cell states `[τ, B, H]`.
    /// - `n.weights`, of attention, after both passes: the weight that each row gives to each step of
    ///   its source, `[rows, S]`, where S is the longest source. Steps that a source lacks have 0.
    ///
    /// Rows are in the [order of the pass](crate::Schedule#order-of-rows), whatever the order of the
    /// caller's arrays is.
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
        let Plans::Whole(planned) = &self.plans else { return None };
        let Planned { pass, parts, .. } = &**planned;
        let region = match pass.find(name, left_by, self.step)? {
            Found::Memory(region) => region.within(parts.own),
            Found::Output if left_by == LeftBy::Forward || pass.reads_output() => parts.y,
            Found::Output => return None,
        };
        Some(region.of(&self.memory))
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
}

/// Returns an error unless the planned passes fit memory of `room` bytes.
pub(super) fn check_room(plans: &Plans, room: usize) -> Result<(), Error> {
    let bytes = plans.layout().bytes();
    if bytes <= room {
        return Ok(());
    }
    let (given, expected) =
        (format!("{bytes} bytes"), format!("at most {room}, its memory").into());
    Err(Error::Value { what: "the workspace", given, expected })
}
