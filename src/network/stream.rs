//! Inference that carries the state of its sequences from call to call and keeps nothing else. Must
//! not know how a block computes its steps.

mod encoder;
mod source;
mod state;

use super::Network;
use super::fused::Single;
use super::packing::Packing;
use crate::blocks::{Next, Source, Steps, StreamPlan};
use crate::containers::StackSteps;
use crate::error::{check_len, check_multiple, check_size};
use crate::memory::{Layout, Region, Rest};
use crate::params::{Manifest, Sequences, State};
use crate::regularisation::{Noise, check_teacher_forcing};
use crate::sequence::{Input, InputSize, Schedule};
use crate::{Error, Runtime};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::{Pass as Threads, Team};
use encoder::StreamEncoder;
use std::sync::Arc;

/// Inference for B sequences whose steps arrive over time, any number of steps per call. The stream
/// carries the state from call to call.
///
/// A stream keeps the parameters that its model had when the stream was made.
///
/// Its memory is one allocation that does not grow. It holds these regions of f32, each rounded up
/// to a multiple of 16 floats:
///
/// - the state of all blocks;
/// - for each block, what its steps need;
/// - with an [encoder](crate::Encoder), the memory of its pass, and the state before the first step;
/// - two regions of T = max(1, ⌊192 / B⌋) · B rows for outputs that one block hands to the next.
///   The blocks alternate between them, and each region has the floats per row of the widest output
///   that uses it. The last block writes its output to the caller instead.
///
/// The plan takes some hundred bytes per block in addition.
///
/// An [`Embedding`](crate::Embedding) of V tokens at the beginning of the network and a recurrent
/// layer after it run as one if V is at most 4N, where N is the number of terms (inputs and hidden
/// states) that each gate sums. The layer then takes tokens, and its steps also need a table with a
/// row `b + U e` for each token: `V · GH` floats, with GH rounded up to 16. A layer whose input is
/// [`Delayed`](crate::Delayed) does without the table.
///
/// ```
/// use bptt::{Dense, Lstm, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // An audio effect: one sample in, one sample out.
/// let network = Network::new(Lstm::new(1, 16)?).then(Dense::new(16, 1)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut stream = model.stream(1)?;
/// for sample in [0.5, 0.25, -0.5] {
///     let mut out = [0.0];
///     stream.step(&[sample], &mut out)?;
/// }
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// `cargo bench --bench latency` measures the median and the tail of the time that a step takes.
#[derive(Debug)]
pub struct Stream {
    /// The kernel for one step of one sequence, if the network has one.
    single: Option<Single>,
    // The field above is dropped first, so a model that has the packing alone has its blocks alone.
    packing: Arc<Packing>,
    network: Network,
    batch: usize,
    input: InputSize,
    output: usize,
    steps: StackSteps,
    /// The memory that the steps have booked.
    own: Region,
    /// The memory of the first block's steps.
    first: Region,
    /// The region of the state of all blocks, in the order of the manifest.
    state: Region,
    manifest: Arc<Manifest>,
    memory: AlignedBuffer,
    encoder: Option<StreamEncoder>,
    /// The number of steps that have been taken.
    step: u64,
    noise: Noise,
    teacher_forcing: f32,
    runtime: Runtime,
    team: Team,
}

impl Stream {
    pub(super) fn new(
        network: &Network,
        packing: Arc<Packing>,
        batch: usize,
        sources: Option<&Schedule>,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        check_size("batch", batch)?;
        let what = "the stream";
        let encoder = StreamEncoder::new(network, batch, sources, runtime)?;
        let whole = |error: Error| error.of_whole(what);
        let manifest = network.state_manifest(batch).map_err(whole)?;
        let mut layout = Layout::in_lines(what);
        let state = layout.book(&[manifest.len()])?;
        let mut own = Layout::in_lines(what);
        let source = encoder.as_ref().map(|encoder| &encoder.plan.source.rows);
        let plan = &mut StreamPlan { batch, runtime, source, layout: &mut own };
        let mut steps = network.blocks.steps(plan).map_err(whole)?;
        let own = layout.book(&[own.floats()])?;
        let encoder =
            encoder.map(|encoder| encoder.booked(manifest.len(), &mut layout)).transpose()?;
        let single = Single::of(network, &packing, runtime, batch)?;
        let (mut memory, mut team) = (layout.allocate()?, runtime.team()?);
        team.pass(steps.work_to_prepare(), |threads: &mut Threads<'_>| {
            steps.prepare(packing.blocks(), own.of_mut(&mut memory), threads)
        })?;
        let mut stream = Self {
            packing,
            batch,
            input: network.input(),
            output: network.output_size(),
            network: network.clone(),
            first: steps.first().within(own),
            steps,
            own,
            state,
            manifest: Arc::new(manifest),
            memory,
            single,
            encoder,
            step: 0,
            noise: Noise::default(),
            teacher_forcing: 1.0,
            runtime,
            team,
        };
        stream.reset();
        Ok(stream)
    }

    /// Returns the exact number of bytes of the stream's memory.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.memory)
    }

    /// Returns the network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns a copy of the state after the last step. In a new stream it is zero, or
    /// [learned](crate::Network::with_learned_state).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the copy cannot be allocated.
    pub fn state(&self) -> Result<State, Error> {
        let reads_step = self.network.reads_step();
        let mut state = State::zeros(self.manifest.clone(), self.batch, reads_step)?;
        state.as_mut_slice().copy_from_slice(self.state.of(&self.memory));
        Ok(state.after(self.step))
    }

    /// Sets the seed and the position from which blocks draw that read [their own
    /// outputs](crate::OutputRecurrent). Steps that the stream has taken count from there. Streams draw
    /// no other random numbers.
    pub fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
    }

    /// Sets the probability with which blocks that read [their own outputs](crate::OutputRecurrent)
    /// read those that the caller gives instead: 1 at first, 0 to run free.
    ///
    /// # Errors
    /// [`Error::Value`] unless it is from 0 to 1.
    pub fn set_teacher_forcing(&mut self, probability: f32) -> Result<(), Error> {
        self.teacher_forcing = check_teacher_forcing(probability)?;
        Ok(())
    }

    /// Returns the values of the state after the last step, in the order of [`State::manifest`].
    pub fn state_slice(&self) -> &[f32] {
        self.state.of(&self.memory)
    }

    /// Sets the state from which the next step continues.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `state` belongs to another network or has another batch size,
    /// [`Error::Value`] if it has taken 2⁶³ steps or more. Nothing is written then.
    pub fn set_state(&mut self, state: &State) -> Result<(), Error> {
        state.check("state", &self.manifest)?;
        self.state.of_mut(&mut self.memory).copy_from_slice(state.as_slice());
        self.step = state.step();
        Ok(())
    }

    /// Resets the state to that before the first step: zero, or the
    /// [learned](crate::Network::with_learned_state) one.
    pub fn reset(&mut self) {
        let state = self.state.of_mut(&mut self.memory);
        state.fill(0.0);
        let sequences = Sequences::new("state", &self.manifest, self.batch);
        if let (Some(one), Ok(sequences)) = (self.packing.learned_state(), sequences) {
            (0..self.batch).for_each(|n| sequences.of_learned().write(n, state, one));
        }
        if let Some(encoder) = &self.encoder {
            let (begin, state) = (encoder.begin.range(), self.state.range().start);
            self.memory.copy_within(begin, state);
        }
        self.step = 0;
    }

    /// Runs one step: it reads `x` `[B, features]`, or tokens `[B]`, and writes the outputs to `y`
    /// `[B, outputs]`. The outputs have the same bits as in a pass over the whole sequence.
    ///
    /// # Errors
    /// [`Error::Length`] if `x` or `y` has a wrong length, [`Error::Token`] if a token is too
    /// large, [`Error::Mismatch`] if `x` is tokens instead of features or the reverse. Nothing is
    /// written then.
    #[inline]
    pub fn step<'x>(&mut self, x: impl Into<Input<'x>>, y: &mut [f32]) -> Result<(), Error> {
        let x = x.into();
        check_len("y", y.len(), self.batch * self.output)?;
        let (Some(Single { steps, packed, dense }), Input::Features(x)) = (&mut self.single, x)
        else {
            return self.all(x, y, 1);
        };
        let mut rest = Rest::all(&mut self.memory);
        let (state, memory) = (rest.grant(self.state), rest.grant(self.first));
        if let Some(dense) = dense {
            steps.single(packed, x, memory, state, Some(&dense.forward), y)?;
        } else {
            steps.single(packed, x, memory, state, None, &mut [])?;
            y.copy_from_slice(&state[..y.len()]);
        }
        self.step += 1;
        Ok(())
    }

    /// Runs any number of steps: it reads `x` `[steps, B, features]`, or tokens `[steps, B]`, and
    /// writes the outputs to `y` `[steps, B, outputs]`. The matrix products of the input are
    /// computed for many steps at once, so this is much faster than single steps if the input is
    /// already available.
    ///
    /// # Errors
    /// The errors of [`step`](Self::step); [`Error::Multiple`] if `x` does not hold whole steps.
    pub fn forward<'x>(&mut self, x: impl Into<Input<'x>>, y: &mut [f32]) -> Result<(), Error> {
        let x = x.into();
        x.check_kind(self.input)?;
        let width = match self.input {
            InputSize::Features(size) => self.batch * size,
            InputSize::Tokens(_) => self.batch,
        };
        check_multiple("x", x.len(), width)?;
        let steps = x.len() / width;
        check_len("y", y.len(), steps * self.batch * self.output)?;
        self.all(x, y, steps)
    }

    /// Runs any number of steps through all blocks.
    fn all(&mut self, x: Input<'_>, y: &mut [f32], steps: usize) -> Result<(), Error> {
        x.check(steps * self.batch, self.input)?;
        self.check_source()?;
        let Self { steps: blocks, memory, packing, team, step, noise, teacher_forcing, .. } = self;
        let mut rest = Rest::all(memory);
        let (state, memory) = (rest.grant(self.state), rest.grant(self.own));
        let source = match &self.encoder {
            Some(encoder) => encoder.plan.read(rest.grant(encoder.own)),
            None => Source::default(),
        };
        team.pass(blocks.work(steps), |threads: &mut Threads<'_>| {
            let (packed, step, teacher_forcing) = (packing.blocks(), *step, *teacher_forcing);
            let noise = Noise { step: noise.step.wrapping_add(step), ..*noise };
            blocks.run(Next {
                packed,
                x,
                source,
                y,
                steps,
                memory,
                state,
                step,
                noise,
                teacher_forcing,
                threads,
            })
        })?;
        *step += steps as u64;
        Ok(())
    }
}
