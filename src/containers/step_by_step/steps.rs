//! The steps of a stream of a block that is run step by step. Must not know what the feed or the block
//! computes.

use super::{Fed, Feed, FeedPlan, Shape};
use crate::Error;
use crate::blocks::{Block, Next, Packed, Steps, StreamPlan};
use crate::containers::ChildrenPacked;
use crate::memory::{Layout, Region, regions};
use crate::sequence::Input;
use bptt_kernels::rowwise::StridedMut;
use bptt_kernels::team::Pass as Threads;

regions! {
    /// The memory of the steps.
    struct Parts {
        /// What the steps of the block have booked.
        own,
        /// What the feed has booked.
        feed,
        /// What the block reads in a step, `[B, of_block]`.
        read,
    }
}

/// The planned steps.
#[derive(Debug)]
pub(in crate::containers) struct StepByStepSteps {
    steps: Box<dyn Steps>,
    shape: Shape,
    feed: Box<dyn Feed>,
    batch: usize,
    parts: Parts<Region>,
}

impl StepByStepSteps {
    /// Plans the steps of `block`, with what it reads.
    pub(in crate::containers) fn planned(
        block: &dyn Block,
        shape: Shape,
        feed: FeedPlan,
        plan: &mut StreamPlan<'_>,
    ) -> Result<Self, Error> {
        let (mut own, batch) = (Layout::in_lines("the stream"), plan.batch);
        let steps = block.stream(&mut StreamPlan { layout: &mut own, ..*plan })?;
        let FeedPlan { feed, floats, .. } = feed;
        let dims: Parts<&[usize]> =
            Parts { own: &[own.floats()], feed: &[floats], read: &[batch, shape.of_block] };
        let parts = dims.booked(plan.layout)?;
        Ok(Self { steps, shape, feed, batch, parts })
    }
}

impl Steps for StepByStepSteps {
    fn prepare(
        &mut self,
        packed: &dyn Packed,
        memory: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let (_, block) = packed.as_form::<ChildrenPacked>()?.last_of_two();
        self.steps.prepare(block, self.parts.own.of_mut(memory), threads)
    }

    fn work_to_prepare(&self) -> usize {
        self.steps.work_to_prepare()
    }

    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, source, y, steps, memory, state, step, threads, .. } = next;
        let Shape { input, of_block, output, .. } = self.shape;
        let batch = self.batch;
        let (of_feed, block) = packed.as_form::<ChildrenPacked>()?.last_of_two();
        let x = x.features(steps * batch, input)?;
        let Parts { own, feed: of_feed_memory, read } = self.parts.granted(memory);
        let noise = next.noise.within_a_block().of_block(0);
        for (nth, y) in (0..steps).zip(y.chunks_exact_mut(batch * output)) {
            let x = &x[nth * batch * input..][..batch * input];
            for (to, from) in read.chunks_exact_mut(of_block).zip(x.chunks_exact(input)) {
                to[..input].copy_from_slice(from);
            }
            let before = &state[self.shape.before(batch, batch)];
            let fed = Fed {
                packed: of_feed,
                source,
                step: 0,
                rows: 0..batch,
                before,
                memory: &mut *of_feed_memory,
                threads: &mut *threads,
            };
            let made = StridedMut { values: &mut read[input..], stride: of_block };
            self.feed.forward(fed, made)?;
            let (own_state, of_block_state) = state.split_at_mut(self.shape.own_state(batch));
            self.steps.run(Next {
                packed: block,
                x: Input::Features(read),
                source,
                y: &mut *y,
                steps: 1,
                memory: &mut *own,
                state: of_block_state,
                step: step + nth as u64,
                noise: noise.later(nth),
                teacher_forcing: next.teacher_forcing,
                threads: &mut *threads,
            })?;
            if !own_state.is_empty() {
                own_state.copy_from_slice(y);
            }
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let [of_feed, _] = self.feed.work();
        steps.saturating_mul(of_feed).saturating_add(self.steps.work(steps))
    }
}
