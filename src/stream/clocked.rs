//! Streams of a layer whose units move in groups.

use super::Stream;
use super::memory::{Alone, Beside, remember};
use crate::clocked::{Clocked, InputProduct};
use crate::spec::{Sizes, Spec};
use crate::{Error, Isa, Weights};
use bptt_kernels::recurrence::{ClockedForward, Schedule};
use bptt_kernels::team::Pass;
use bptt_kernels::{Dense, KernelError};
use std::ops::Range;

impl<C: Spec> Stream<C> {
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
        let (alone, Beside { scratch, .. }) = self.memory.granted();
        let Alone { h, next, extra: gathered, gates, .. } = alone;
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
        let (alone, Beside { scratch, .. }) = self.memory.granted();
        let Alone { h, extra: gathered, gates, .. } = alone;
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
    fn run<C: Spec>(
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
            schedule: Schedule::dense(steps, batch),
            stretch,
            activations,
            weights,
            z,
            h0,
            h,
            h_stride: h0.len() / batch,
            scratch,
        };
        pass_over.run(isa, pass)
    }
}
