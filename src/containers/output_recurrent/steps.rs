//! The steps of a stream of a block that reads its own outputs. Must not know how the block computes
//! its steps.

use super::feed::{Feed, Row};
use crate::Error;
use crate::blocks::{Block, Next, Packed, Steps, StreamPlan};
use crate::memory::{Layout, Region, regions};
use crate::regularisation::Noise;
use crate::sequence::{Input, Schedule};
use bptt_kernels::team::Pass as Threads;

regions! {
    /// The memory of the steps.
    struct Parts {
        /// What the steps of the block have booked.
        own,
        /// The input of a step of all sequences.
        x,
        /// The keys of a step of all sequences, `[B, 2]`.
        keys,
    }
}

/// The planned steps.
#[derive(Debug)]
pub(super) struct OutputRecurrentSteps {
    steps: Box<dyn Steps>,
    feed: Feed,
    /// One step of all sequences.
    step: Schedule,
    parts: Parts<Region>,
}

impl OutputRecurrentSteps {
    pub(super) fn planned(
        block: &dyn Block,
        feed: Feed,
        plan: &mut StreamPlan<'_>,
    ) -> Result<Self, Error> {
        let (mut own, batch) = (Layout::in_lines("the stream"), plan.batch);
        let steps = block.stream(&mut StreamPlan { layout: &mut own, ..*plan })?;
        let dims: Parts<&[usize]> =
            Parts { own: &[own.floats()], x: &[batch, feed.width()], keys: &[batch, 2] };
        let parts = dims.booked(plan.layout)?;
        Ok(Self { steps, feed, step: Schedule::dense(1, batch), parts })
    }

    /// Puts together the input of a step in `parts`, from row `first` of `x` on.
    fn feed(
        &self,
        parts: &mut Parts<&mut [f32]>,
        (x, first): (Input<'_>, usize),
        own_state: &[f32],
        noise: Noise,
        teacher_forcing: f32,
    ) {
        let (width, output, batch) = (self.feed.width(), self.feed.output, self.step.batch());
        let keys: &mut [u32] = bytemuck::cast_slice_mut(parts.keys);
        noise.derive_keys(&self.step, keys);
        let (before, has_output) = own_state.split_at(batch * output);
        for n in 0..batch {
            let before = &before[n * output..][..output];
            let row = Row {
                key: [keys[2 * n], keys[2 * n + 1]],
                before: (has_output[n] != 0.0).then_some(before),
            };
            let to = &mut parts.x[n * width..][..width];
            self.feed.put(x, first + n, row, teacher_forcing, to);
        }
    }
}

impl Steps for OutputRecurrentSteps {
    fn prepare(
        &mut self,
        packed: &dyn Packed,
        memory: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        self.steps.prepare(packed, self.parts.own.of_mut(memory), threads)
    }

    fn work_to_prepare(&self) -> usize {
        self.steps.work_to_prepare()
    }

    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, source, y, steps, memory, state, step, noise, .. } = next;
        let (teacher_forcing, threads) = (next.teacher_forcing, next.threads);
        let (batch, output) = (self.step.batch(), self.feed.output);
        x.check(steps * batch, self.feed.input)?;
        let (own_state, state) = state.split_at_mut(batch * (output + 1));
        let mut parts = self.parts.granted(memory);
        let within = noise.within_a_block().of_block(0);
        // With teacher forcing no step waits for outputs of another one.
        let chunk = if teacher_forcing < 1.0 { 1 } else { steps };
        for (nth, y) in y.chunks_mut((chunk * batch * output).max(1)).enumerate() {
            let (steps, first) = (y.len() / (batch * output), nth * chunk);
            let x = match teacher_forcing < 1.0 {
                true => {
                    let (from, noise) = ((x, first * batch), noise.later(first));
                    self.feed(&mut parts, from, own_state, noise, teacher_forcing);
                    self.feed.input(parts.x)
                }
                false => x,
            };
            self.steps.run(Next {
                packed,
                x,
                source,
                y: &mut *y,
                steps,
                memory: &mut *parts.own,
                state: &mut *state,
                step: step + first as u64,
                noise: within.later(first),
                teacher_forcing,
                threads: &mut *threads,
            })?;
            let (last, has_output) = own_state.split_at_mut(batch * output);
            last.copy_from_slice(&y[y.len() - batch * output..]);
            has_output.fill(1.0);
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        self.steps.work(steps)
    }
}
