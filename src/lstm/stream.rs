//! Inference: the state carried from call to call, nothing else kept.

use super::plan::CHUNK_ROWS;
use super::{Lstm, LstmState, LstmWeights};
use crate::arena::{Layout, Region, grant};
use crate::error::{check_len, check_size, check_threads};
use crate::{Error, Isa};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::lstm::{self, Cells, Dims, Forward, GATES, Gates};
use bptt_kernels::team::Team;

/// B sequences that are fed as they come, any number of steps per call, in memory
/// that does not grow, in f32 and each rounded up to 16: the state `2BH`, the gates of
/// R = max(B, ⌊192 / B⌋ · B) rows `4RH`, and the rows of a product's left operand,
/// packed, `max(min(R, 96 N) · I, B (I + H))` for N threads, with I and H rounded up to 16.
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
    memory: AlignedBuffer,
    h: Region,
    s: Region,
    gates: Region,
    scratch: Region,
    team: Team,
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
        let h = layout.book(&[batch, lstm.hidden_size])?;
        let s = layout.book(&[batch, lstm.hidden_size])?;
        let gates = layout.book(&[chunk_steps, batch, GATES, lstm.hidden_size])?;
        let rows = chunk_steps * batch;
        let product = gemm::team_scratch_len(threads, rows, lstm.input_size)?;
        let step = lstm::forward_scratch_len(batch, lstm.hidden_size, lstm.input_size)?;
        let scratch = layout.book(&[product.max(step)])?;
        let memory = layout.allocate()?;
        let team = Team::new(threads)?;
        Ok(Self { lstm, batch, isa, chunk_steps, memory, h, s, gates, scratch, team })
    }

    /// The bytes that the stream holds.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.memory)
    }

    /// The state after the last step: zero in a new stream.
    pub fn state(&self) -> LstmState<'_> {
        LstmState { h: self.h.of(&self.memory), s: self.s.of(&self.memory) }
    }

    /// Goes on from another state.
    ///
    /// # Errors
    /// [`Error::Length`] where a part is not `[B, H]`; nothing is written then.
    pub fn set_state(&mut self, state: LstmState<'_>) -> Result<(), Error> {
        let expected = self.batch * self.lstm.hidden_size;
        check_len("h", state.h.len(), expected)?;
        check_len("s", state.s.len(), expected)?;
        let [h, s] = grant(&mut self.memory, [self.h, self.s]);
        h.copy_from_slice(state.h);
        s.copy_from_slice(state.s);
        Ok(())
    }

    /// Starts anew from the zero state.
    pub fn reset(&mut self) {
        let [h, s] = grant(&mut self.memory, [self.h, self.s]);
        h.fill(0.0);
        s.fill(0.0);
    }

    /// One step: `x` `[B, I]` in, `y = h` `[B, H]` out. The bits are those of a pass
    /// over the whole sequence.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream; nothing is written then.
    pub fn step(&mut self, weights: &LstmWeights, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
        weights.check(&self.lstm, self.isa)?;
        check_len("x", x.len(), self.batch * self.lstm.input_size)?;
        check_len("y", y.len(), self.batch * self.lstm.hidden_size)?;
        let [h, s, scratch] = grant(&mut self.memory, [self.h, self.s, self.scratch]);
        let forward = Forward {
            dims: Dims { steps: 1, batch: self.batch, hidden: self.lstm.hidden_size },
            activations: self.lstm.activations(),
            recurrent: &weights.recurrent,
            gates: Gates::Fused { x, input: &weights.input, bias: &weights.bias },
            h0: h,
            h: y,
            cells: Cells::InPlace(s),
            scratch,
        };
        let work = self.lstm.multiply_adds(self.batch);
        self.team.pass(work, |pass| forward.run(self.isa, pass))?;
        h.copy_from_slice(y);
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
        let [h, s, gates, scratch] =
            grant(&mut self.memory, [self.h, self.s, self.gates, self.scratch]);
        let work = self.lstm.work_in_stretches(steps * batch, self.chunk_steps * batch);
        self.team.pass(work, |pass| {
            let chunk = self.chunk_steps * batch;
            for (x, y) in x.chunks(chunk * i).zip(y.chunks_mut(chunk * hidden)) {
                let rows = x.len() / i;
                let gates = &mut gates[..rows * GATES * hidden];
                let start = Start::Bias(&weights.bias);
                let input = &weights.input;
                Gemm { rows, a: x, weights: input, start, c: gates, scratch }
                    .run(self.isa, pass)?;
                Forward {
                    dims: Dims { steps: rows / batch, batch, hidden },
                    activations: self.lstm.activations(),
                    recurrent: &weights.recurrent,
                    gates: Gates::Discard(gates),
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
