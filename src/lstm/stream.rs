//! Inference: the state carried from call to call, nothing else kept.

use super::plan::CHUNK_ROWS;
use super::{Lstm, LstmState, LstmWeights};
use crate::arena::{Layout, Region, grant};
use crate::error::{check_len, check_size, check_threads};
use crate::{Error, Isa, ReadoutWeights};
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::lstm::{self, Cells, Dims, Forward, GATES, Gates, Single};
use bptt_kernels::team::Team;
use bptt_kernels::{AlignedBuffer, Dense};

/// B sequences that are fed as they come, any number of steps per call, in memory
/// that does not grow, in f32 and each rounded up to 16: the state and the next one's h,
/// `3BH`, the gates of R = max(B, ⌊192 / B⌋ · B) rows, `4RH` and 16R more where 4H is a
/// multiple of 256, and the rows of a product's left operand, packed,
/// `max(min(R, 96 N) · I, B (I + H))` for N threads, with I and H rounded up to 16.
///
/// ```
/// use bptt::{Init, Isa, Lstm, Purpose};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let lstm = Lstm::new(1, 16)?;
/// let parameters = lstm.init(Init::Orthogonal, &mut SmallRng::seed_from_u64(1))?;
/// let weights = lstm.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut stream = lstm.stream(1, Isa::best()?)?;
/// let mut y = [0.0; 16];
/// for sample in [0.5, 0.25, -0.5] {
///     stream.step(&weights, &[sample], &mut y)?;
/// }
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// `cargo bench --bench latency` gives the median step with few units and the tail.
#[derive(Clone, Debug)]
pub struct LstmStream {
    lstm: Lstm,
    batch: usize,
    isa: Isa,
    chunk_steps: usize,
    memory: Memory,
    /// Which way the last single step swept.
    backwards: bool,
    team: Team,
}

#[derive(Clone, Debug)]
struct Memory {
    floats: AlignedBuffer,
    h: Region,
    s: Region,
    /// Room for the next h.
    next: Region,
    gates: Region,
    scratch: Region,
}

impl Memory {
    fn state_mut(&mut self) -> [&mut [f32]; 2] {
        grant(&mut self.floats, [self.h, self.s])
    }
}

impl LstmStream {
    pub(super) fn new(lstm: Lstm, batch: usize, isa: Isa) -> Result<Self, Error> {
        Self::laid_out(lstm, batch, isa, 1)
    }

    /// The same stream, from the zero state, on up to `threads` threads: the one that
    /// calls and helpers from the rayon pool that it calls in, as
    /// [`LstmPlan::with_threads`](super::LstmPlan::with_threads) has it. One, which is
    /// what a stream has from the start, never touches rayon: for real-time threads.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256, [`Error::TooLarge`] or
    /// [`Error::OutOfMemory`] where there is no room for their scratch.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        Self::laid_out(self.lstm, self.batch, self.isa, check_threads(threads)?)
    }

    fn laid_out(lstm: Lstm, batch: usize, isa: Isa, threads: usize) -> Result<Self, Error> {
        check_size("batch", batch)?;
        let chunk_steps = (CHUNK_ROWS / batch).max(1);
        let mut layout = Layout::default();
        let state = [batch, lstm.hidden_size];
        let h = layout.book(&state)?;
        let s = layout.book(&state)?;
        let next = layout.book(&state)?;
        let gates = layout.book(&[chunk_steps, batch, gemm::spread(GATES * lstm.hidden_size)])?;
        let rows = chunk_steps * batch;
        let product = gemm::team_scratch_len(threads, rows, lstm.input_size)?;
        let step = lstm::forward_scratch_len(batch, lstm.hidden_size, lstm.input_size)?;
        let scratch = layout.book(&[product.max(step)])?;
        let floats = layout.allocate()?;
        let memory = Memory { floats, h, s, next, gates, scratch };
        let team = Team::new(threads)?;
        Ok(Self { lstm, batch, isa, chunk_steps, memory, backwards: true, team })
    }

    /// The bytes that the stream holds.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.memory.floats)
    }

    /// The state after the last step: zero in a new stream.
    pub fn state(&self) -> LstmState<'_> {
        let Memory { floats, h, s, .. } = &self.memory;
        LstmState { h: h.of(floats), s: s.of(floats) }
    }

    /// Goes on from another state.
    ///
    /// # Errors
    /// [`Error::Length`] where a part is not `[B, H]`; nothing is written then.
    pub fn set_state(&mut self, state: LstmState<'_>) -> Result<(), Error> {
        let expected = self.batch * self.lstm.hidden_size;
        check_len("h", state.h.len(), expected)?;
        check_len("s", state.s.len(), expected)?;
        let [h, s] = self.memory.state_mut();
        h.copy_from_slice(state.h);
        s.copy_from_slice(state.s);
        Ok(())
    }

    /// Starts anew from the zero state.
    pub fn reset(&mut self) {
        let [h, s] = self.memory.state_mut();
        h.fill(0.0);
        s.fill(0.0);
    }

    /// One step: `x` `[B, I]` in, `y = h` `[B, H]` out. The bits are those of a pass
    /// over the whole sequence.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream; nothing is written then.
    #[inline]
    pub fn step(&mut self, weights: &LstmWeights, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
        check_len("y", y.len(), self.batch * self.lstm.hidden_size)?;
        self.advance(weights, x, None, &mut [])?;
        y.copy_from_slice(self.state().h);
        Ok(())
    }

    /// One step and its outputs: `x` `[B, I]` in, `o = c + V h` `[B, O]` out. The bits are
    /// those of [`step`](Self::step) and of [`ReadoutPlan::forward`](crate::ReadoutPlan) after
    /// it; with few units it is much faster than these two.
    ///
    /// ```
    /// use bptt::{Init, Isa, Lstm, Purpose, Readout};
    /// # use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// // An effect: a sample in, a sample out.
    /// let (lstm, dense, isa) = (Lstm::new(1, 16)?, Readout::new(16, 1)?, Isa::best()?);
    /// # let mut rng = SmallRng::seed_from_u64(1);
    /// let weights = lstm.pack(&lstm.init(Init::Glorot, &mut rng)?, Purpose::Inference, isa)?;
    /// let readout = dense.pack(&dense.init(Init::Glorot, &mut rng)?, Purpose::Inference, isa)?;
    /// let mut stream = lstm.stream(1, isa)?;
    /// for sample in [0.5, 0.25, -0.5] {
    ///     let mut out = [0.0];
    ///     stream.predict(&weights, &readout, &[sample], &mut out)?;
    /// }
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream, or the readout not for H inputs; nothing is written then.
    #[inline]
    pub fn predict(
        &mut self,
        weights: &LstmWeights,
        readout: &ReadoutWeights,
        x: &[f32],
        o: &mut [f32],
    ) -> Result<(), Error> {
        readout.check_inputs(self.lstm.hidden_size, self.isa)?;
        check_len("o", o.len(), self.batch * readout.output_size())?;
        self.advance(weights, x, Some(&readout.forward), o)
    }

    /// A step, and the outputs of a layer after it, whose sizes have been checked.
    #[inline]
    fn advance(
        &mut self,
        weights: &LstmWeights,
        x: &[f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        weights.check(&self.lstm, self.isa)?;
        check_len("x", x.len(), self.batch * self.lstm.input_size)?;
        if self.batch > 1 || self.team.helps(self.lstm.multiply_adds(1)) {
            self.advance_all(weights, x, output, o)?;
        } else {
            let activations = self.lstm.activations();
            let LstmWeights { recurrent, input, bias, .. } = weights;
            self.backwards ^= true;
            let (backwards, memory) = (self.backwards, &mut self.memory);
            let [h, s, next] = grant(&mut memory.floats, [memory.h, memory.s, memory.next]);
            Single { activations, input, recurrent, bias, x, h, next, s, backwards, output, o }
                .run(self.isa)?;
        }
        Ok(())
    }

    /// [`advance`](Self::advance) of any batch, on any threads. Not inlined: it would be in
    /// the way of the short one.
    #[inline(never)]
    fn advance_all(
        &mut self,
        weights: &LstmWeights,
        x: &[f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        let (isa, batch, hidden) = (self.isa, self.batch, self.lstm.hidden_size);
        let activations = self.lstm.activations();
        let LstmWeights { recurrent, input, bias, .. } = weights;
        let work = self.lstm.multiply_adds(batch);
        let memory = &mut self.memory;
        let regions = [memory.h, memory.s, memory.next, memory.scratch];
        let [h, s, next, scratch] = grant(&mut memory.floats, regions);
        self.team.pass(work, |pass| {
            let forward = Forward {
                dims: Dims { steps: 1, batch, hidden },
                activations,
                recurrent,
                gates: Gates::Fused { x, input, bias },
                h0: h,
                h: &mut *next,
                cells: Cells::InPlace(s),
                scratch: &mut *scratch,
            };
            forward.run(isa, pass)?;
            h.copy_from_slice(next);
            match output {
                Some(dense) => dense.run(isa, batch, h, o, scratch, pass),
                None => Ok(()),
            }
        })?;
        Ok(())
    }

    /// Any number of steps: `x` `[steps, B, I]` in, `y` `[steps, B, H]` out. The
    /// input's products are taken for a stretch of time at once, so this is much
    /// faster than single steps where the input is at hand.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream; nothing is written then.
    pub fn forward(
        &mut self,
        weights: &LstmWeights,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        weights.check(&self.lstm, self.isa)?;
        let (i, hidden, batch) = (self.lstm.input_size, self.lstm.hidden_size, self.batch);
        let steps = x.len() / (batch * i);
        check_len("x", x.len(), steps * batch * i)?;
        check_len("y", y.len(), steps * batch * hidden)?;
        let memory = &mut self.memory;
        let regions = [memory.h, memory.s, memory.gates, memory.scratch];
        let [h, s, gates, scratch] = grant(&mut memory.floats, regions);
        let stride = gemm::spread(GATES * hidden);
        let work = self.lstm.work_in_stretches(steps * batch, self.chunk_steps * batch);
        self.team.pass(work, |pass| {
            let chunk = self.chunk_steps * batch;
            for (x, y) in x.chunks(chunk * i).zip(y.chunks_mut(chunk * hidden)) {
                let rows = x.len() / i;
                let gates = &mut gates[..rows * stride];
                let start = Start::Bias(&weights.bias);
                let input = &weights.input;
                Gemm { rows, a: x, weights: input, start, c: gates, stride, scratch }
                    .run(self.isa, pass)?;
                Forward {
                    dims: Dims { steps: rows / batch, batch, hidden },
                    activations: self.lstm.activations(),
                    recurrent: &weights.recurrent,
                    gates: Gates::Discard { z: gates, stride },
                    h0: h,
                    h: y,
                    cells: Cells::InPlace(s),
                    scratch,
                }
                .run(self.isa, pass)?;
                h.copy_from_slice(&y[y.len() - batch * hidden..]);
            }
            Ok(())
        })
    }
}
