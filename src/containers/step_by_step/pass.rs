//! A pass step by step: a planned pass of the block for each step, and the feed before it. Knows states
//! and rows; must not know what the feed or the block computes.

use super::{Fed, Feed, FeedGradients, FeedPlan, Shape};
use crate::Error;
use crate::blocks::{Backward, Block, Forward, Found, LeftBy, Pass, Plan, SourceRows, Wanted};
use crate::containers::ChildrenPacked;
use crate::memory::{Layout, Region, regions};
use crate::params::Manifest;
use crate::sequence::{Input, Schedule};
use bptt_kernels::rowwise::{Strided, StridedMut};

regions! {
    /// The memory of a pass.
    struct Parts {
        /// What the passes of all steps have booked.
        own,
        /// What the feed has booked.
        feed,
        /// What the block has read, `[rows, of_block]`; the backward pass overwrites it by the gradient.
        read,
        /// The gradient with respect to what it has read in a step.
        dread,
        /// The states before all steps, and the one after the last step.
        states,
        /// The gradient with respect to the state after a step, and before it.
        dafter,
        dbefore,
        /// The gradient with respect to the output of a step, and of the one before.
        dy,
        dy_before,
    }
}

/// A planned pass.
#[derive(Debug)]
pub(in crate::containers) struct StepByStepPass {
    shape: Shape,
    schedule: Schedule,
    feed: Box<dyn Feed>,
    /// The number of the feed's parameters, which come before those of the block.
    of_feed: usize,
    /// The plans of steps. Steps with the same number of rows have the same plan.
    plans: Vec<StepPlan>,
    /// For each step, its plan and where its memory begins in `own`.
    steps: Vec<Step>,
    /// The floats of a state.
    state: usize,
    parts: Parts<Region>,
}

/// The planned pass of a block over one step.
#[derive(Debug)]
struct StepPlan {
    rows: usize,
    pass: Box<dyn Pass>,
    floats: usize,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    plan: usize,
    start: usize,
}

impl StepByStepPass {
    /// Plans the passes of `block`, with what it reads.
    pub(in crate::containers) fn planned(
        block: &dyn Block,
        shape: Shape,
        feed: FeedPlan,
        plan: &mut Plan<'_>,
    ) -> Result<Self, Error> {
        let what = "the workspace";
        let (rows, batch) = (plan.schedule.checked_rows()?, plan.schedule.batch());
        let (mut plans, mut steps): (Vec<StepPlan>, Vec<Step>) = (Vec::new(), Vec::new());
        let (mut own, schedule) = (Layout::in_lines(what), plan.schedule.clone());
        let readers = plan.source.map(SourceRows::readers);
        let backward = plan.gradients.any();
        let through_step = Wanted { state: backward, ..plan.gradients.through_input() };
        for step in 0..schedule.steps() {
            let rows = schedule.start(step + 1) - schedule.start(step);
            if plans.last().is_none_or(|plan| plan.rows != rows) {
                // The passes of all steps are those of the same blocks.
                if let (Some(source), Some(readers)) = (plan.source, readers) {
                    source.plan_again(readers);
                }
                let mut layout = Layout::in_lines(what);
                let pass = block.plan(&mut Plan {
                    schedule: schedule.stretch(&(step..step + 1)),
                    gradients: through_step,
                    recompute: false,
                    layout: &mut layout,
                    ..*plan
                })?;
                plans.push(StepPlan { rows, pass, floats: layout.floats() });
            }
            let plan = plans.len() - 1;
            // Without a backward pass the steps use the same memory, one after the other.
            let start = if backward { own.book(&[plans[plan].floats])?.range().start } else { 0 };
            steps.push(Step { plan, start });
        }
        if !backward {
            own.book(&[plans.iter().map(|plan| plan.floats).max().unwrap_or(0)])?;
        }
        let mut state = Manifest::default();
        block.state(batch, &mut state)?;
        let state = shape.own_state(batch) + state.len();
        let FeedPlan { feed, floats, parameters: of_feed } = feed;
        let backward = usize::from(backward);
        let Shape { of_block, output, .. } = shape;
        let dims: Parts<&[usize]> = Parts {
            own: &[own.floats()],
            feed: &[floats],
            read: &[rows, of_block],
            dread: &[backward, batch, of_block],
            states: &[steps.len() + 1, state],
            dafter: &[backward, state],
            dbefore: &[backward, state],
            dy: &[backward, batch, output],
            dy_before: &[backward, batch, output],
        };
        let parts = dims.booked(plan.layout)?;
        Ok(Self { shape, schedule, feed, of_feed, plans, steps, state, parts })
    }

    /// Returns the plan and the memory of step `step`.
    fn step<'m>(&self, step: usize, own: &'m mut [f32]) -> (&StepPlan, &'m mut [f32]) {
        let Step { plan, start } = self.steps[step];
        let plan = &self.plans[plan];
        (plan, &mut own[start..start + plan.floats])
    }
}

impl Pass for StepByStepPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, source, y, y_stride, memory, state, last, .. } = forward;
        let Forward { step: taken, noise, mode, threads, .. } = forward;
        let packed = packed.as_form::<ChildrenPacked>()?;
        let Shape { input, of_block, output, .. } = self.shape;
        let x = x.features(self.schedule.rows(), input)?;
        let batch = self.schedule.batch();
        let own_state = self.shape.own_state(batch);
        let (of_feed, block) = packed.last_of_two();
        let Parts { own, feed: of_feed_memory, read, states, .. } = self.parts.granted(memory);
        for (to, from) in read.chunks_exact_mut(of_block).zip(x.chunks_exact(input)) {
            to[..input].copy_from_slice(from);
        }
        states[..self.state].copy_from_slice(state);
        let noise = noise.within_a_block().of_block(0);
        for step in 0..self.steps.len() {
            let rows = self.schedule.start(step)..self.schedule.start(step + 1);
            let (state, after) = states[step * self.state..].split_at_mut(self.state);
            let before = &state[self.shape.before(batch, rows.len())];
            let fed = Fed {
                packed: of_feed,
                source,
                step,
                rows: rows.clone(),
                before,
                memory: &mut *of_feed_memory,
                threads: &mut *threads,
            };
            let made = StridedMut { values: &mut read[input..], stride: of_block };
            self.feed.forward(fed, made)?;
            let (plan, own) = self.step(step, own);
            let y = &mut y[rows.start * y_stride..];
            plan.pass.forward(Forward {
                packed: block,
                x: Input::Features(&read[rows.start * of_block..rows.end * of_block]),
                source,
                y: &mut y[..(rows.len() - 1) * y_stride + output],
                y_stride,
                memory: own,
                state: &state[own_state..],
                last: &mut after[own_state..self.state],
                step: taken + step as u64,
                noise: noise.later(step),
                mode,
                threads: &mut *threads,
            })?;
            // Sequences that have ended keep their state.
            after[..own_state].copy_from_slice(&state[..own_state]);
            let of_rows = y.chunks(y_stride).take(rows.len());
            for (to, y) in after[..own_state].chunks_exact_mut(output).zip(of_rows) {
                to.copy_from_slice(&y[..output]);
            }
        }
        last.copy_from_slice(&states[self.steps.len() * self.state..]);
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, source, y, y_stride, dy, dy_stride, memory, dlast, .. } = backward;
        let Backward { dstate, mut dx, mut dsource, gradients, threads, .. } = backward;
        let packed = packed.as_form::<ChildrenPacked>()?;
        let Shape { input, of_block, output, .. } = self.shape;
        let batch = self.schedule.batch();
        let own_state = self.shape.own_state(batch);
        let (of_feed, block) = packed.last_of_two();
        let parts = self.parts.granted(memory);
        let Parts { own, feed: of_feed_memory, read, dread, states, .. } = parts;
        let Parts { dafter, dbefore, dy: dy_of_step, dy_before, .. } = parts;
        let (feed_gradients, block_gradients) = gradients.split_at_mut(self.of_feed);
        let mut accumulate = backward.accumulate;
        match dlast {
            Some(dlast) => dafter.copy_from_slice(dlast),
            None => dafter.fill(0.0),
        }
        if self.steps.is_empty() && !accumulate {
            feed_gradients.fill(0.0);
            block_gradients.fill(0.0);
        }
        for step in (0..self.steps.len()).rev() {
            let rows = self.schedule.start(step)..self.schedule.start(step + 1);
            let count = rows.len();
            // The gradient with respect to the output comes from the outside and, where the output is a
            // state of its own, from the next step.
            let dy_of_step = &mut dy_of_step[..count * output];
            let of_rows = dy[rows.start * dy_stride..].chunks(dy_stride);
            for (to, from) in dy_of_step.chunks_exact_mut(output).zip(of_rows) {
                to.copy_from_slice(&from[..output]);
            }
            let (own_after, block_after) = dafter.split_at_mut(own_state);
            let from_next = dy_of_step.iter_mut().zip(&mut *own_after);
            from_next.for_each(|(to, from)| *to += std::mem::take(from));
            let (plan, own) = self.step(step, own);
            let state = &states[step * self.state..][..self.state];
            let dread = &mut dread[..count * of_block];
            let y = match plan.pass.reads_output() {
                true => &y[rows.start * y_stride..][..(count - 1) * y_stride + output],
                false => &[],
            };
            plan.pass.backward(Backward {
                packed: block,
                x: Input::Features(&read[rows.start * of_block..rows.end * of_block]),
                source,
                y,
                y_stride,
                dy: dy_of_step,
                dy_stride: output,
                memory: own,
                state: &state[own_state..],
                step: backward.step + step as u64,
                dlast: Some(block_after),
                dstate: &mut dbefore[own_state..],
                dx: Some(&mut *dread),
                dsource: dsource.reborrow(),
                gradients: &mut *block_gradients,
                accumulate,
                threads: &mut *threads,
            })?;
            // Sequences that have ended keep the gradient of their state.
            dbefore[..own_state].copy_from_slice(own_after);
            if let Some(dx) = &mut dx {
                let dx = dx[rows.start * input..rows.end * input].chunks_exact_mut(input);
                dx.zip(dread.chunks_exact(of_block)).for_each(|(to, from)| {
                    to.copy_from_slice(&from[..input]);
                });
            }
            read[rows.start * of_block..rows.end * of_block].copy_from_slice(dread);
            let fed = Fed {
                packed: of_feed,
                source,
                step,
                rows: rows.clone(),
                before: &state[self.shape.before(batch, count)],
                memory: &mut *of_feed_memory,
                threads: &mut *threads,
            };
            let dy_before = &mut dy_before[..count * output];
            let to = FeedGradients {
                made: Strided { values: &read[input..], stride: of_block },
                before: &mut *dy_before,
                source: dsource.reborrow(),
                parameters: &mut *feed_gradients,
                accumulate,
            };
            self.feed.backward(fed, to)?;
            let to = &mut dbefore[self.shape.before(batch, count)];
            to.iter_mut().zip(&*dy_before).for_each(|(to, from)| *to += from);
            dafter.copy_from_slice(dbefore);
            accumulate = true;
        }
        dstate.copy_from_slice(dafter);
        Ok(())
    }

    fn reads_output(&self) -> bool {
        self.plans.iter().any(|plan| plan.pass.reads_output())
    }

    fn work(&self) -> [usize; 2] {
        let of_feed = self.feed.work();
        [0, 1].map(|way| {
            let works = self.steps.iter().map(|step| self.plans[step.plan].pass.work()[way]);
            works.fold(of_feed[way], usize::saturating_add)
        })
    }

    /// Finds values of the feed. Those of the block are spread over the passes of its steps.
    fn find(&self, name: &str, _left_by: LeftBy, _step: u64) -> Option<Found> {
        self.feed.find(name).map(|region| Found::Memory(region.within(self.parts.feed)))
    }
}
