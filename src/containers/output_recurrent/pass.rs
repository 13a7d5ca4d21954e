//! A pass of a block that reads its own outputs. What it reads is found step by step, with a stream of
//! the block; then a pass over all rows computes the outputs, which have the bits of the stream's.

use super::feed::{Feed, Row};
use crate::Error;
use crate::blocks::recurrent::last_rows;
use crate::blocks::{Backward, Block, Forward, Found, LeftBy, Next, Pass, Plan, Steps, StreamPlan};
use crate::memory::{Layout, Region, regions};
use crate::params::Manifest;
use crate::sequence::{Input, InputSize, Schedule};
use std::sync::{Mutex, PoisonError};

regions! {
    /// The memory of a pass.
    struct Parts {
        /// What the pass of the block has booked.
        own,
        /// What the block has read, `[rows, features]`, or tokens.
        read,
        /// Whether each row has read outputs of its own, 1 or 0.
        is_own,
        /// The key of each row, `[rows, 2]`.
        keys,
        /// The input, the outputs and the state of a step of all sequences.
        x,
        y,
        state,
        /// What the steps of the block have booked.
        steps,
    }
}

/// A planned pass.
#[derive(Debug)]
pub(super) struct OutputRecurrentPass {
    pass: Box<dyn Pass>,
    /// A lock, since steps change and a pass does not. No two passes ever wait for each other.
    steps: Mutex<Box<dyn Steps>>,
    feed: Feed,
    schedule: Schedule,
    parts: Parts<Region>,
}

impl OutputRecurrentPass {
    pub(super) fn planned(
        block: &dyn Block,
        feed: Feed,
        plan: &mut Plan<'_>,
    ) -> Result<Self, Error> {
        let (rows, batch) = (plan.schedule.checked_rows()?, plan.schedule.batch());
        let what = "the workspace";
        let (mut own, mut of_steps) = (Layout::in_lines(what), Layout::in_lines(what));
        let schedule = plan.schedule.clone();
        let (layout, recompute) = (&mut own, false);
        let pass = block.plan(&mut Plan { schedule, recompute, layout, ..*plan })?;
        let (runtime, source, layout) = (plan.runtime, plan.source, &mut of_steps);
        let steps = block.stream(&mut StreamPlan { batch, runtime, source, layout })?;
        let mut state = Manifest::default();
        block.state(batch, &mut state)?;
        let dims: Parts<&[usize]> = Parts {
            own: &[own.floats()],
            read: &[rows, feed.width()],
            is_own: &[rows],
            keys: &[rows, 2],
            x: &[batch, feed.width()],
            y: &[batch, feed.output],
            state: &[state.len()],
            steps: &[of_steps.floats()],
        };
        let parts = dims.booked(plan.layout)?;
        let (steps, schedule) = (Mutex::new(steps), plan.schedule.clone());
        Ok(Self { pass, steps, feed, schedule, parts })
    }

    /// Returns the floats of `output` and of `has_output` in the state, which come before that of the
    /// block.
    fn own_state(&self) -> [usize; 2] {
        let batch = self.schedule.batch();
        [batch * self.feed.output, batch]
    }

    /// Finds what the block reads, step by step, and stores it in `read`.
    fn feed(
        &self,
        parts: &mut Parts<&mut [f32]>,
        forward: &mut Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { packed, x, source, state, step, noise, mode, threads, .. } = forward;
        let (feed, schedule, batch) = (self.feed, &self.schedule, self.schedule.batch());
        let (width, output) = (feed.width(), feed.output);
        let keys: &mut [u32] = bytemuck::cast_slice_mut(parts.keys);
        noise.derive_keys(schedule, keys);
        let [of_output, of_flags] = self.own_state();
        let (before, of_block) = state.split_at(of_output + of_flags);
        let (before, has_output) = before.split_at(of_output);
        parts.y.copy_from_slice(before);
        parts.state.copy_from_slice(of_block);
        // Sequences that have ended go on with zeros, and nobody looks at them.
        parts.x.fill(0.0);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.prepare(*packed, parts.steps, threads)?;
        let noise = noise.within_a_block().of_block(0);
        for t in 0..schedule.steps() {
            let rows = schedule.start(t)..schedule.start(t + 1);
            for (n, at) in rows.enumerate() {
                let is_known = t > 0 || has_output[n] != 0.0;
                let row = Row {
                    key: [keys[2 * at], keys[2 * at + 1]],
                    before: is_known.then(|| &parts.y[n * output..][..output]),
                };
                let to = &mut parts.x[n * width..][..width];
                let is_own = feed.put(*x, at, row, mode.teacher_forcing, to);
                parts.read[at * width..][..width].copy_from_slice(to);
                parts.is_own[at] = f32::from(u8::from(is_own));
            }
            // Nobody reads the outputs of the last step.
            if t + 1 == schedule.steps() {
                break;
            }
            steps.run(Next {
                packed: *packed,
                x: feed.input(parts.x),
                source: *source,
                y: &mut *parts.y,
                steps: 1,
                memory: &mut *parts.steps,
                state: &mut *parts.state,
                step: *step + t as u64,
                noise: noise.later(t),
                teacher_forcing: mode.teacher_forcing,
                threads,
            })?;
        }
        debug_assert_eq!(parts.y.len(), batch * output);
        Ok(())
    }
}

impl Pass for OutputRecurrentPass {
    fn forward(&self, mut forward: Forward<'_, '_>) -> Result<(), Error> {
        forward.x.check(self.schedule.rows(), self.feed.input)?;
        let memory = std::mem::take(&mut forward.memory);
        let mut parts = self.parts.granted(memory);
        let is_fed = forward.mode.teacher_forcing < 1.0;
        match is_fed {
            true => self.feed(&mut parts, &mut forward)?,
            // The backward pass finds its input where it always is.
            false => {
                parts.is_own.fill(0.0);
                match forward.x {
                    Input::Features(x) => parts.read.copy_from_slice(x),
                    Input::Tokens(x) => parts.read.copy_from_slice(bytemuck::cast_slice(x)),
                }
            }
        }
        let Forward { packed, source, y, y_stride, state, last, step, .. } = forward;
        let Forward { noise, mode, threads, .. } = forward;
        let ([of_output, of_flags], output) = (self.own_state(), self.feed.output);
        let (own_state, state) = state.split_at(of_output + of_flags);
        let (own_last, last) = last.split_at_mut(of_output + of_flags);
        self.pass.forward(Forward {
            packed,
            x: self.feed.input(parts.read),
            source,
            y: &mut *y,
            y_stride,
            memory: parts.own,
            state,
            last,
            step,
            noise: noise.within_a_block().of_block(0),
            mode,
            threads,
        })?;
        let (before, had) = own_state.split_at(of_output);
        let (last, has) = own_last.split_at_mut(of_output);
        last_rows(&self.schedule, before, y, y_stride, output, last);
        for (n, (has, had)) in has.iter_mut().zip(had).enumerate() {
            *has = if self.schedule.len_of(n) > 0 { 1.0 } else { *had };
        }
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { state, dlast, dstate, mut dx, memory, .. } = backward;
        let parts = self.parts.granted(memory);
        let of_own: usize = self.own_state().iter().sum();
        let (own_dstate, dstate) = dstate.split_at_mut(of_own);
        own_dstate.fill(0.0);
        self.pass.backward(Backward {
            x: self.feed.input(parts.read),
            memory: parts.own,
            state: &state[of_own..],
            dlast: dlast.map(|dlast| &dlast[of_own..]),
            dstate,
            dx: dx.as_deref_mut(),
            ..backward
        })?;
        if let (Some(dx), InputSize::Features(width)) = (dx, self.feed.input) {
            let own = dx.chunks_exact_mut(width).zip(&*parts.is_own);
            for (dx, _) in own.filter(|(_, is_own)| **is_own != 0.0) {
                dx[width - self.feed.output..].fill(0.0);
            }
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        self.pass.reads_output()
    }

    fn work(&self) -> [usize; 2] {
        let [forward, backward] = self.pass.work();
        // At most there are the steps, too.
        [forward.saturating_mul(2), backward]
    }

    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Found> {
        match name {
            "read" => Some(Found::Memory(self.parts.read)),
            _ => {
                let found = self.pass.find(name.strip_prefix("block.")?, left_by, step)?;
                Some(match found {
                    Found::Memory(region) => Found::Memory(region.within(self.parts.own)),
                    Found::Output => Found::Output,
                })
            }
        }
    }
}
