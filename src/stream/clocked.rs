//! Streams of a layer whose units move in groups.

use super::{Memory, Stream, remember};
use crate::arena::{Layout, Region, grant};
use crate::clocked::{Clocked, InputProduct, ROWS_ALONE};
use crate::layer::{Layer, Sizes};
use crate::plan::CHUNK_ROWS;
use crate::{Error, Isa, Weights};
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{ClockedForward, clocked_scratch_len};
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{Dense, KernelError};
use std::ops::Range;

impl<C: Layer> Stream<C> {
    pub(super) fn laid_out_clocked(
        layer: C,
        batch: usize,
        isa: Isa,
        threads: usize,
    ) -> Result<Self, Error> {
        let Sizes { input, hidden, .. } = layer.sizes();
        let chunk_steps = (CHUNK_ROWS / batch).max(1);
        let (mut kept, mut gathered) = (0, 0);
        if let Some(clocked) = layer.clocked() {
            kept = clocked.most_kept(chunk_steps, batch)?;
            if batch < ROWS_ALONE {
                [gathered, _] = clocked.gathered((chunk_steps, batch), (input, hidden))?;
            }
        }
        let mut layout = Layout::default();
        let h = layout.book(&[batch, hidden])?;
        let next = layout.book(&[batch, hidden])?;
        let extra = layout.book(&[gathered])?;
        let gates = layout.book(&[kept])?;
        let product = gemm::team_scratch_len(threads, chunk_steps * batch, input)?;
        let scratch = layout.book(&[product.max(clocked_scratch_len(batch, hidden)?)])?;
        let floats = layout.allocate()?;
        let none = Region::default();
        let [s, s_next, normal, normal_extra, inverse, waiting] = [none; 6];
        let memory = Memory {
            floats,
            h,
            s,
            next,
            s_next,
            normal,
            normal_extra,
            inverse,
            extra,
            gates,
            waiting,
            scratch,
        };
        let team = Team::new(threads)?;
        let (alone, keeps, backwards, step) = (None, None, true, 0);
        Ok(Self { layer, batch, isa, chunk_steps, memory, alone, keeps, backwards, step, team })
    }

    /// What [`step`](Self::step) and [`predict`](Self::predict) do, with lengths that have
    /// been checked.
    pub(super) fn advance_clocked(
        &mut self,
        weights: &Weights<C>,
        x: &[f32],
        output: Option<&Dense>,
        o: &mut [f32],
    ) -> Result<(), Error> {
        let Some(clocked) = self.layer.clocked() else { return Ok(()) };
        let (isa, batch, start) = (self.isa, self.batch, self.step);
        // Reckoning it takes as long as a product of few units.
        let work = if self.team.threads() > 1 { self.layer.multiply_adds(batch) } else { 0 };
        let m = &mut self.memory;
        let [h, next, gathered, gates, scratch] =
            grant(&mut m.floats, [m.h, m.next, m.extra, m.gates, m.scratch]);
        self.team.pass(work, |pass: &mut Pass<'_>| -> Result<(), KernelError> {
            let mut stretch = Stretch { clocked, isa, batch, start, gates, gathered, scratch };
            stretch.run(weights, x, (h, next), pass)?;
            remember(h, next);
            match output {
                Some(dense) => dense.run(isa, batch, next, o, scratch, pass),
                None => Ok(()),
            }
        })?;
        self.step += 1;
        Ok(())
    }

    /// What [`forward`](Self::forward) does, with lengths that have been checked.
    pub(super) fn forward_clocked(
        &mut self,
        weights: &Weights<C>,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        let Some(clocked) = self.layer.clocked() else { return Ok(()) };
        let (isa, batch, mut start) = (self.isa, self.batch, self.step);
        let Sizes { input, hidden, .. } = self.layer.sizes();
        let steps = self.chunk_steps;
        let rows = x.len() / input;
        let work = self.layer.work_in_stretches(rows, steps * batch);
        let m = &mut self.memory;
        let [h, gathered, gates, scratch] =
            grant(&mut m.floats, [m.h, m.extra, m.gates, m.scratch]);
        self.team.pass(work, |pass: &mut Pass<'_>| -> Result<(), KernelError> {
            let stretch = steps * batch;
            for (x, y) in x.chunks(stretch * input).zip(y.chunks_mut(stretch * hidden)) {
                let mut stretch = Stretch { clocked, isa, batch, start, gates, gathered, scratch };
                stretch.run(weights, x, (h, y), pass)?;
                remember(h, y);
                start += (y.len() / (batch * hidden)) as u64;
            }
            Ok(())
        })?;
        self.step = start;
        Ok(())
    }
}

/// Some steps of a stream, and the memory for them.
struct Stretch<'a> {
    clocked: Clocked<'a>,
    isa: Isa,
    batch: usize,
    start: u64,
    gates: &'a mut [f32],
    gathered: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Stretch<'_> {
    /// The states after the steps over `x`, from the one before.
    fn run<C: Layer>(
        &mut self,
        weights: &Weights<C>,
        x: &[f32],
        (h0, h): (&[f32], &mut [f32]),
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Self { clocked, isa, batch, start, .. } = *self;
        let (clock, activations) = (clocked.at(start), clocked.activations);
        let steps = h.len() / h0.len();
        let stretch: Range<usize> = 0..steps;
        let z = &mut self.gates[..clocked.kept_len(start, steps, batch)];
        let (bias, scratch) = (&weights.bias, &mut *self.scratch);
        let product = InputProduct {
            isa,
            clock,
            steps,
            stretch: stretch.clone(),
            batch,
            x,
            bias,
            z: &mut *z,
            gathered: &mut *self.gathered,
            scratch: &mut *scratch,
        };
        product.run(weights.inputs(), pass)?;
        let weights = weights.forward().weights;
        let pass_over = ClockedForward {
            clock,
            steps,
            batch,
            stretch,
            activations,
            weights,
            z,
            h0,
            h,
            scratch,
        };
        pass_over.run(isa, pass)
    }
}
