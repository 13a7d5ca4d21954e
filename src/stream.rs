//! Inference: the state carried from call to call, nothing else kept.

mod clocked;
mod memory;

use crate::error::{
    check_len, check_multiple, check_optional, check_size, check_step, check_threads, product,
};
use crate::inputs::Inputs;
use crate::spec::{Sizes, Spec};
use crate::state::State;
use crate::{Error, Isa, ReadoutWeights, Regularisation, Weights};
use bptt_kernels::gemm::{self, Gemm};
use bptt_kernels::recurrence::{Dims, Forward, Gates, Schedule, Single, Zoneout, single_room};
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{Dense, KernelError};
use memory::{Alone, Beside, Memory, carried, chunk_steps, norm, remember, settle};

/// B sequences that are fed as they come, any number of steps per call, in memory
/// that does not grow, in f32 and each rounded up to 16 (G, H, R and D as at
/// [`Plan`](crate::Plan)):
///
/// - the hidden states, `DBR`, and the next one, `BR`; the cell state, `BH`, where there is
///   one, and the next one with [zoneout](Self::with_regularisation); `BH` for what a step's
///   second product is of, where there is one; and `BI` where the
///   input is [late](crate::Delayed); with [layer normalisation](crate::LayerNorm) of N sums
///   `NBH` and `NB`;
/// - the gates of T = max(B, ⌊192 / B⌋ · B) rows, `GTH` and 16T more where GH is a multiple
///   of 256;
/// - the rows of a product's left operand, packed, the larger of `min(T, 96 N) · I` for N
///   threads and B rows of what a step's products are of, I included where its product is
///   part of the step, each rounded up to 16.
///
/// Of a [`Clockwork`](crate::Clockwork) the gates are those of the groups that move in
/// t = max(1, ⌊192 / B⌋) steps, `⌈t / kᵢ⌉ B Hᵢ` of each, and with less than 16 sequences and
/// a period above 1, the shortest such being k, there are `⌈t / k⌉ B I` beside them; its
/// input's product is no part of the step.
///
/// ```
/// use bptt::{Layer, Init, Isa, Lstm, Purpose};
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
pub struct Stream<C> {
    layer: C,
    batch: usize,
    isa: Isa,
    chunk_steps: usize,
    memory: Memory,
    /// Where a step has a kernel of its own, which takes some tens of nanoseconds: the room for
    /// the input's part that it needs.
    alone: Option<usize>,
    /// The shares of h and c that stay as they were, if there is zoneout.
    keeps: Option<[f32; 2]>,
    /// Which way the last single step swept.
    backwards: bool,
    /// The steps that have been taken, where they are counted.
    step: u64,
    team: Team,
}

impl<C: Spec> Stream<C> {
    pub(crate) fn new(layer: C, batch: usize, isa: Isa) -> Result<Self, Error> {
        Self::laid_out(layer, batch, isa, 1, None)
    }

    fn laid_out(
        layer: C,
        batch: usize,
        isa: Isa,
        threads: usize,
        keeps: Option<[f32; 2]>,
    ) -> Result<Self, Error> {
        check_size("batch", batch)?;
        product("the input", &[batch, layer.sizes().input])?;
        let memory = match layer.clocked() {
            Some(clocked) => Memory::of_groups(clocked, layer.sizes(), batch, threads)?,
            None => Memory::of(&layer, batch, threads, keeps.is_some())?,
        };
        let team = Team::new(threads)?;
        let plain = layer.delays() == [1] && !C::NORMED && !C::CLOCKED && keeps.is_none();
        let alone = plain && batch == 1 && !team.helps(layer.multiply_adds(1));
        let alone = alone.then(|| single_room(&layer.geometry(), layer.sizes().hidden)[0]);
        let (chunk_steps, backwards, step) = (chunk_steps(batch), true, 0);
        Ok(Self { layer, batch, isa, chunk_steps, memory, alone, keeps, backwards, step, team })
    }

    /// The same stream, from the zero state, on up to `threads` threads: the one that
    /// calls and helpers from the rayon pool that it calls in, as
    /// [`Plan::with_threads`](crate::Plan::with_threads) has it. One, which is
    /// what a stream has from the start, never touches rayon: for real-time threads.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256, [`Error::TooLarge`] or
    /// [`Error::OutOfMemory`] where there is no room for their scratch.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        Self::laid_out(self.layer, self.batch, self.isa, check_threads(threads)?, self.keeps)
    }

    /// The same stream, from the zero state, for weights that were trained with
    /// `regularisation`: with zoneout, h and c keep the share of themselves with which training
    /// kept them, `h = p ⊙ h₋ + (1 − p) ⊙ ĥ`; dropout has scaled what it left, and asks for
    /// nothing here. With zoneout a single step is one of a batch of one, and has no kernel of
    /// its own.
    ///
    /// # Errors
    /// [`Error::Value`] where the cell has no cell state and there is zoneout of it, or is a
    /// [`Clockwork`](crate::Clockwork), [`Error::TooLarge`], [`Error::OutOfMemory`].
    pub fn with_regularisation(self, regularisation: Regularisation) -> Result<Self, Error> {
        regularisation.check(&self.layer)?;
        let threads = self.team.threads();
        Self::laid_out(self.layer, self.batch, self.isa, threads, regularisation.rates())
    }

    /// The bytes that the stream holds.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.memory.floats)
    }

    /// The state after the last step: zero in a new stream.
    pub fn state(&self) -> C::State<&[f32]> {
        let Memory { floats, alone: Alone { h, c, waiting, .. }, .. } = &self.memory;
        let state: C::State<&[f32]> =
            State::from_parts(h.of(floats), c.of(floats), waiting.of(floats));
        state.at_step(self.step)
    }

    /// Goes on from another state.
    ///
    /// # Errors
    /// [`Error::Length`] where a part is not `[B, R]` or `[B, H]`, as the state says,
    /// [`Error::Value`] where it is of 2⁶³ steps or more; nothing is written then.
    pub fn set_state(&mut self, state: C::State<&[f32]>) -> Result<(), Error> {
        let given = state.into_parts();
        let [h, c, x] = self.memory.state_mut();
        let parts = [("h", Some(given.h), h), ("c", given.c, c), ("x", given.x, x)];
        for (what, given, part) in &parts {
            check_optional(what, *given, part.len())?;
        }
        self.step = check_step(given.step.unwrap_or(0))?;
        for (_, given, part) in parts {
            given.into_iter().for_each(|given| part.copy_from_slice(given));
        }
        Ok(())
    }

    /// Starts anew from the zero state.
    pub fn reset(&mut self) {
        self.memory.state_mut().into_iter().for_each(|part| part.fill(0.0));
        self.step = 0;
    }

    /// One step: `x` `[B, I]` in, `y = h` `[B, R]` out. The bits are those of a pass
    /// over the whole sequence.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream; nothing is written then.
    #[inline]
    pub fn step(&mut self, weights: &Weights<C>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
        check_len("y", y.len(), self.batch * self.layer.sizes().output)?;
        self.advance(weights, x, None, &mut [])?;
        let h = self.memory.h();
        y.copy_from_slice(&h[h.len() - y.len()..]);
        Ok(())
    }

    /// One step and its outputs: `x` `[B, I]` in, `o = c + V h` `[B, O]` out. The bits are
    /// those of [`step`](Self::step) and of [`ReadoutPlan::forward`](crate::ReadoutPlan) after
    /// it; with few units it is much faster than these two.
    ///
    /// ```
    /// use bptt::{Layer, Init, Isa, Lstm, Purpose, Readout};
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
    /// stream, or the readout not for R inputs; nothing is written then.
    #[inline]
    pub fn predict(
        &mut self,
        weights: &Weights<C>,
        readout: &ReadoutWeights,
        x: &[f32],
        o: &mut [f32],
    ) -> Result<(), Error> {
        readout.check_inputs(self.layer.sizes().output, self.isa)?;
        check_len("o", o.len(), self.batch * readout.output_size())?;
        self.advance(weights, x, Some(&readout.forward), o)
    }

    /// A step, and the outputs of a layer after it, whose sizes have been checked.
    #[inline]
    fn advance(
        &mut self,
        weights: &Weights<C>,
        x: &[f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        weights.check(&self.layer, self.isa)?;
        let sizes = self.layer.sizes();
        check_len("x", x.len(), self.batch * sizes.input)?;
        let Some(room) = self.alone else {
            return match C::CLOCKED {
                true => self.advance_clocked(weights, x, output, o),
                false => self.advance_all(weights, x, output, o),
            };
        };
        self.backwards ^= true;
        let Alone { h, c, next, extra, gates, waiting } = self.memory.granted_alone();
        let single = Single {
            hidden: sizes.hidden,
            cell: &self.layer.cell(&weights.vectors),
            input: &weights.input,
            recurrent: weights.forward(),
            bias: &weights.bias,
            x: if C::LATE { &*waiting } else { x },
            h,
            c,
            next,
            z: &mut gates[..room],
            extra,
            backwards: self.backwards,
            output,
            o,
        };
        single.run(self.isa)?;
        if C::LATE {
            waiting.copy_from_slice(x);
        }
        Ok(())
    }

    /// [`advance`](Self::advance) of any batch, on any threads. Not inlined: it would be in
    /// the way of the short one.
    #[inline(never)]
    fn advance_all(
        &mut self,
        weights: &Weights<C>,
        x: &[f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        let (isa, batch, layer) = (self.isa, self.batch, &self.layer);
        let (sizes, fuses) = (layer.sizes(), layer.geometry().fuses);
        let work = layer.multiply_adds(batch);
        let zoneout = self.keeps.map(|rates| Zoneout { rates, keys: None });
        let (alone, beside) = self.memory.granted();
        let Alone { h, c, next, extra, gates, waiting } = alone;
        let Beside { c_next, normal, normal_extra, inverse, scratch } = beside;
        let seen = if C::LATE { &*waiting } else { x };
        self.team.pass(work, |pass: &mut Pass<'_>| -> Result<(), KernelError> {
            let (input, bias) = (&weights.input, &weights.bias);
            let gates = if fuses {
                Gates::Fused { x: seen, input, bias }
            } else {
                let (start, stride) = (weights.start(), gemm::spread(input.outputs()));
                let z = &mut gates[..batch * stride];
                Gemm { rows: batch, a: seen, weights: input, start, c: z, stride, scratch }
                    .run(isa, pass)?;
                Gates::Discard { z, stride }
            };
            Forward {
                dims: Dims {
                    schedule: Schedule::dense(1, batch),
                    hidden: sizes.hidden,
                    outputs: sizes.output,
                },
                stretch: 0..1,
                cell: layer.cell(&weights.vectors),
                recurrent: weights.forward(),
                gates,
                extra,
                h0: h,
                h: &mut *next,
                h_stride: sizes.output,
                cells: carried(c, c_next),
                zoneout,
                dropout: None,
                norm: norm(weights, normal, normal_extra, inverse),
                scratch: &mut *scratch,
            }
            .run(isa, pass)?;
            remember(h, next);
            settle(1, c, c_next);
            match output {
                Some(dense) => dense.run(isa, batch, next, o, scratch, pass),
                None => Ok(()),
            }
        })?;
        if C::LATE {
            waiting.copy_from_slice(x);
        }
        Ok(())
    }

    /// Any number of steps: `x` `[steps, B, I]` in, `y` `[steps, B, R]` out. The
    /// input's products are taken for a stretch of time at once, so this is much
    /// faster than single steps where the input is at hand.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// stream; nothing is written then.
    pub fn forward(&mut self, weights: &Weights<C>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
        weights.check(&self.layer, self.isa)?;
        let (isa, batch, layer) = (self.isa, self.batch, &self.layer);
        let Sizes { input: i, hidden, output } = layer.sizes();
        check_multiple("x", x.len(), batch * i)?;
        let steps = x.len() / (batch * i);
        check_len("y", y.len(), steps * batch * output)?;
        if C::CLOCKED {
            return self.forward_clocked(weights, x, y);
        }
        let (alone, beside) = self.memory.granted();
        let Alone { h, c, extra, gates, waiting, .. } = alone;
        let Beside { c_next, normal, normal_extra, inverse, scratch } = beside;
        let stride = gemm::spread(weights.input.outputs());
        let chunk = self.chunk_steps * batch;
        let work = layer.work_in_stretches(steps * batch, chunk);
        let zoneout = self.keeps.map(|rates| Zoneout { rates, keys: None });
        self.team.pass(work, |pass: &mut Pass<'_>| {
            let mut inputs = Inputs::new(waiting, x);
            for y in y.chunks_mut(chunk * output) {
                let rows = y.len() / output;
                let z = &mut gates[..rows * stride];
                let mut to = &mut *z;
                for a in inputs.next(rows * i) {
                    let rows = a.len() / i;
                    let (now, rest) = to.split_at_mut(rows * stride);
                    let (start, weights) = (weights.start(), &weights.input);
                    Gemm { rows, a, weights, start, c: now, stride, scratch }.run(isa, pass)?;
                    to = rest;
                }
                let steps = rows / batch;
                Forward {
                    dims: Dims { schedule: Schedule::dense(steps, batch), hidden, outputs: output },
                    stretch: 0..steps,
                    cell: layer.cell(&weights.vectors),
                    recurrent: weights.forward(),
                    gates: Gates::Discard { z, stride },
                    extra: &mut *extra,
                    h0: h,
                    h: y,
                    h_stride: output,
                    cells: carried(c, c_next),
                    zoneout,
                    dropout: None,
                    norm: norm(weights, normal, normal_extra, inverse),
                    scratch: &mut *scratch,
                }
                .run(isa, pass)?;
                remember(h, y);
                settle(steps, c, c_next);
            }
            Ok::<(), KernelError>(())
        })?;
        if C::LATE && steps > 0 {
            waiting.copy_from_slice(&x[x.len() - waiting.len()..]);
        }
        Ok(())
    }
}
