//! The steps of a stream through a recurrent layer: they carry the state on and keep nothing else.

mod embedded;
mod memory;
mod part;

use super::inputs::Inputs;
use super::state::StateLens;
use super::{Recurrent, RecurrentPacked, Sizes, StateParts, remember};
use crate::blocks::{Next, Steps};
use crate::error::check_len;
use crate::memory::Layout;
use crate::{Error, Isa, Runtime};
use bptt_kernels::Dense;
use bptt_kernels::gemm::{self, Gemm};
use bptt_kernels::recurrence::{Dims, Forward, Gates, Single, StepRows, Zoneout, single_room};
pub(crate) use embedded::EmbeddedSteps;
pub(crate) use memory::chunk_steps;
use memory::{Alone, Beside, Memory, cell_states, copy_back, norm};
use part::{InputPart, Table};

/// The planned steps of a recurrent layer. Their memory does not grow with the stream. It has, in
/// f32 and with each part rounded up to 16 (G, H and R as for a training pass):
///
/// - the next hidden state, `BR`; with zoneout, the next cell state if there is one, `BH`; if a
///   step has a second product (with a projection, and in a GRU with its reset gate before the
///   product), its lhs, `BH`; with [layer normalisation](crate::LayerNorm), the normalised sums,
///   `GBH`, and the inverse deviations, `GB`; in a GRU with its reset gate after the product,
///   another `BH` of normalised sums, and `(G + 1) B` inverse deviations instead of `GB`;
/// - the gates of T = max(1, ⌊192 / B⌋) · B rows: `GTH`, and 16T more if GH is a multiple of 256;
/// - packed rows of a product's lhs, each rounded up to 16: the larger of `min(T, 96 N) · I` for N
///   threads and B rows for the products of a step. A row of a step's first product has R for each
///   delay and, except in a GRU, I, each rounded up to 16; a row of a second product has H.
#[derive(Clone, Debug)]
pub(crate) struct RecurrentSteps {
    layer: Recurrent,
    batch: usize,
    /// Floats in each part of the state.
    lens: StateLens,
    isa: Isa,
    memory: Memory,
    /// Whether a single step has a kernel of its own; if so, the floats of `gates` that this kernel
    /// uses.
    alone: Option<usize>,
    /// Whether the last single step swept the units from the last to the first. Steps take turns,
    /// so that each begins with what the step before left in the cache.
    backwards: bool,
}

impl RecurrentSteps {
    pub(crate) fn planned(
        layer: Recurrent,
        batch: usize,
        runtime: Runtime,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let threads = runtime.checked_threads()?;
        let memory = Memory::booked(&layer, batch, threads, layout)?;
        let plain =
            *layer.delays == [1] && !layer.is_normed() && layer.regularisation.rates().is_none();
        let helped = runtime.team()?.helps(layer.multiply_adds(1));
        let alone = (plain && batch == 1 && !helped)
            .then(|| single_room(&layer.geometry(), layer.sizes.hidden)[0]);
        let lens = layer.state_lens(batch);
        Ok(Self { layer, batch, lens, isa: runtime.isa(), memory, alone, backwards: true })
    }

    /// Returns whether one step of one sequence has a kernel of its own, which can also run a dense
    /// layer after it.
    pub(crate) fn is_single(&self) -> bool {
        self.alone.is_some()
    }

    /// Takes a step of one sequence in a kernel of its own, which leaves the next h in `state`. If
    /// there is an `output` layer, a dense layer after this one, the kernel also writes its outputs
    /// to `o`.
    ///
    /// # Errors
    /// [`Error`] if a length does not fit; nothing is written then.
    #[inline]
    pub(crate) fn single(
        &mut self,
        packed: &RecurrentPacked,
        x: &[f32],
        memory: &mut [f32],
        state: &mut [f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        let Some(room) = self.alone else { return Err(no_single()) };
        check_len("x", x.len(), self.layer.sizes.input)?;
        let StateParts { h, c, x: waiting } = self.lens.split_mut(state);
        let Alone { next, extra, gates } = self.memory.alone.granted(memory);
        self.backwards ^= true;
        let single = Single {
            hidden: self.layer.sizes.hidden,
            cell: &self.layer.cell(&packed.vectors),
            input: &packed.input,
            recurrent: packed.forward(),
            bias: &packed.bias,
            x: if self.layer.late { &*waiting } else { x },
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
        if self.layer.late {
            waiting.copy_from_slice(x);
        }
        Ok(())
    }

    /// Takes one step of a batch of any size, on any number of threads.
    fn step(&self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, memory, state, threads, .. } = next;
        let packed = packed.as_form::<RecurrentPacked>()?;
        let (isa, batch, layer) = (self.isa, self.batch, &self.layer);
        let Sizes { input, hidden, output: outputs } = layer.sizes;
        let x = x.features(batch, input)?;
        let StateParts { h, c, x: waiting } = self.lens.split_mut(state);
        let (alone, beside) = self.memory.granted(memory);
        let Alone { next, extra, gates } = alone;
        let Beside { c_next, normal, normal_extra, inverse, scratch } = beside;
        let seen = if layer.late { &*waiting } else { x };
        let (weights, bias) = (&packed.input, &packed.bias);
        let gates = if layer.geometry().fuses {
            Gates::Fused { x: seen, input: weights, bias }
        } else {
            let (start, stride) = (packed.start(), gemm::spread(weights.outputs()));
            let z = &mut gates[..batch * stride];
            Gemm { rows: batch, a: seen, weights, start, c: z, stride, scratch }
                .run(isa, threads)?;
            Gates::Discard { z, stride }
        };
        Forward {
            dims: Dims { schedule: StepRows::dense(1, batch), hidden, outputs },
            stretch: 0..1,
            cell: layer.cell(&packed.vectors),
            recurrent: packed.forward(),
            gates,
            extra,
            h0: h,
            h: &mut *next,
            h_stride: outputs,
            cells: cell_states(c, c_next),
            zoneout: self.zoneout(),
            dropout: None,
            norm: norm(packed, normal, normal_extra, inverse),
            scratch: &mut *scratch,
        }
        .run(isa, threads)?;
        remember(h, next, outputs, outputs);
        copy_back(1, c, c_next);
        y.copy_from_slice(next);
        if layer.late {
            waiting.copy_from_slice(x);
        }
        Ok(())
    }

    /// Returns zoneout as inference has it: units keep a share of the old h and c, instead of
    /// keeping them at random. The share is the probability with which training keeps them.
    fn zoneout(&self) -> Option<Zoneout<'static>> {
        self.layer.regularisation.rates().map(|rates| Zoneout { rates, keys: None })
    }

    /// Takes any number of steps. In each stretch of time the input's part of the gates comes
    /// first, for all steps at once: products with the inputs or, for tokens, rows of `table`.
    fn stretches(
        &self,
        packed: &RecurrentPacked,
        table: Option<Table<'_>>,
        next: Next<'_, '_>,
    ) -> Result<(), Error> {
        let Next { x, y, steps, memory, state, threads, .. } = next;
        let (isa, batch, layer) = (self.isa, self.batch, &self.layer);
        let Sizes { input, hidden, output } = layer.sizes;
        let StateParts { h, c, x: waiting } = self.lens.split_mut(state);
        let mut part = match table {
            None => InputPart::Products(Inputs::new(waiting, x.features(steps * batch, input)?)),
            Some(table) => InputPart::Rows(table, x.tokens(steps * batch, table.tokens())?),
        };
        let (alone, beside) = self.memory.granted(memory);
        let Alone { extra, gates, .. } = alone;
        let Beside { c_next, normal, normal_extra, inverse, scratch } = beside;
        let stride = gemm::spread(packed.input.outputs());
        for y in y.chunks_mut(chunk_steps(batch) * batch * output) {
            let z = &mut gates[..y.len() / output * stride];
            part.take(packed, z, stride, scratch, threads)?;
            let steps = y.len() / (batch * output);
            Forward {
                dims: Dims { schedule: StepRows::dense(steps, batch), hidden, outputs: output },
                stretch: 0..steps,
                cell: layer.cell(&packed.vectors),
                recurrent: packed.forward(),
                gates: Gates::Discard { z, stride },
                extra: &mut *extra,
                h0: h,
                h: &mut *y,
                h_stride: output,
                cells: cell_states(c, c_next),
                zoneout: self.zoneout(),
                dropout: None,
                norm: norm(packed, normal, normal_extra, inverse),
                scratch: &mut *scratch,
            }
            .run(isa, threads)?;
            remember(h, y, output, output);
            copy_back(steps, c, c_next);
        }
        if layer.late && steps > 0 {
            let x = x.features(steps * batch, input)?;
            waiting.copy_from_slice(&x[x.len() - waiting.len()..]);
        }
        Ok(())
    }
}

#[cold]
fn no_single() -> Error {
    let (given, expected) =
        ("a layer without a kernel for it".into(), "one with such a kernel".into());
    Error::Mismatch { what: "single step", given, expected }
}

impl Steps for RecurrentSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let packed = next.packed.as_form::<RecurrentPacked>()?;
        if next.steps == 1 {
            if !self.is_single() {
                return self.step(next);
            }
            let Next { x, y, memory, state, .. } = next;
            let x = x.features(1, self.layer.sizes.input)?;
            self.single(packed, x, memory, state, None, &mut [])?;
            y.copy_from_slice(self.lens.split(state).h);
            return Ok(());
        }
        self.stretches(packed, None, next)
    }

    fn work(&self, steps: usize) -> usize {
        match steps {
            1 => self.layer.multiply_adds(self.batch),
            _ => self
                .layer
                .work_in_stretches(steps * self.batch, chunk_steps(self.batch) * self.batch),
        }
    }
}
