//! The steps of a stream through an embedding and the recurrent layer after it. A token's part of
//! the gates, `b + U e` for its embedding e, is a row of a table that is computed once, so a step
//! needs no product with U. The bits are the same as without the table, since a sum may be stored
//! and continued later.

use super::part::{Table, stride};
use super::{RecurrentSteps, chunk_steps};
use crate::blocks::recurrent::{Recurrent, RecurrentPacked};
use crate::blocks::{Next, Steps};
use crate::memory::{Layout, Region};
use crate::{Error, Runtime};
use bptt_kernels::gemm::Gemm;
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::tuning::TABLE_OF_WEIGHTS;

/// The planned steps of an embedding and a recurrent layer.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedSteps {
    steps: RecurrentSteps,
    /// The number of tokens.
    tokens: usize,
    /// Floats in a row of the table, GH.
    width: usize,
    table: Region,
}

impl EmbeddedSteps {
    /// Plans the steps of an embedding of `tokens` tokens and this layer, or returns nothing if the
    /// table is not worth its memory. A layer that sees its input a step late gets no table either:
    /// its state holds the input that waits, not that input's part of the gates.
    pub(crate) fn planned(
        tokens: usize,
        layer: &Recurrent,
        batch: usize,
        runtime: Runtime,
        layout: &mut Layout,
    ) -> Result<Option<Self>, Error> {
        if layer.late || tokens > TABLE_OF_WEIGHTS.saturating_mul(layer.terms()) {
            return Ok(None);
        }
        let width = layer.geometry().gates * layer.sizes.hidden;
        let steps = RecurrentSteps::planned(layer.clone(), batch, runtime, layout)?;
        let table = layout.book(&[tokens, stride(width)])?;
        Ok(Some(Self { steps, tokens, width, table }))
    }

    /// Returns the multiply-adds of making the table.
    pub(crate) fn work_to_fill(&self) -> usize {
        let input = self.steps.layer.sizes.input;
        self.tokens.saturating_mul(self.width).saturating_mul(input)
    }

    /// Computes the table in the booked memory from the rows of the `embedding`, `[tokens, I]`.
    pub(crate) fn fill(
        &self,
        embedding: &[f32],
        packed: &RecurrentPacked,
        memory: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let (own, table) = memory.split_at_mut(self.table.range().start);
        let table = &mut table[..self.table.len()];
        let (weights, start, stride) = (&packed.input, packed.start(), stride(self.width));
        let (_, beside) = self.steps.memory.granted(own);
        // The scratch has room for this many rows at a time.
        let most = chunk_steps(self.steps.batch) * self.steps.batch;
        let inputs = embedding.chunks(most * weights.depth());
        for (a, c) in inputs.zip(table.chunks_mut(most * stride)) {
            let (rows, scratch) = (c.len() / stride, &mut *beside.scratch);
            Gemm { rows, a, weights, start, c, stride, scratch }.run(packed.isa(), threads)?;
        }
        Ok(())
    }
}

impl Steps for EmbeddedSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let packed = next.packed.as_form::<RecurrentPacked>()?;
        let (memory, table) = next.memory.split_at_mut(self.table.range().start);
        let table = Table { rows: &table[..self.table.len()], width: self.width };
        self.steps.stretches(packed, Some(table), Next { memory, ..next })
    }

    fn work(&self, steps: usize) -> usize {
        self.steps.work(steps)
    }
}
