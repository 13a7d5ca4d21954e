//! Passes that are divided into stretches, which run one after the other in the same memory. Knows
//! the order of stretches and what is kept between them; must not know what a block keeps.

use super::encoding::{AskedOfEncoder, Encoding};
use super::passes::{Compute, From, Run, Sums, scatter};
use super::{Holds, Workspace};
use crate::loss::{Loss, TargetRows};
use crate::memory::{Action, Course};
use crate::network::division::{Divided, Kept, Plans, kept_len};
use crate::network::packing::Packing;
use crate::network::plan::{Place, Planned};
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, Inputs, Schedule};
use crate::{Accumulate, Error, Runtime};
use bptt_kernels::team::Team;

/// The stretches of a pass.
struct Stretches<'a> {
    /// The schedule of the whole pass.
    schedule: &'a Schedule,
    divided: &'a Divided,
    packing: &'a Packing,
    /// The input of the whole pass.
    x: Input<'a>,
    /// The steps that the sequences have taken before the whole pass.
    step: u64,
    noise: Noise,
    mode: Mode,
    runtime: Runtime,
    /// The memory of a stretch.
    memory: &'a mut [f32],
    kept: Kept<&'a mut [f32]>,
    encoder: Encoding<'a>,
    team: &'a mut Team,
}

impl Workspace {
    /// Runs a forward pass and a backward pass, and returns the loss.
    pub(in super::super) fn forward_backward(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
        accumulate: Accumulate,
    ) -> Result<f64, Error> {
        if let Plans::Whole(_) = self.plans {
            self.forward(packing, inputs, self.mode(true))?;
            return self.backward(packing, inputs, loss, accumulate);
        }
        self.holds = Holds::Nothing;
        self.begin_learned(packing)?;
        let Plans::Divided(divided) = &mut self.plans else { unreachable!("it is not whole") };
        let mut course = std::mem::take(&mut divided.course);
        course.restart();
        let (has_last_gradient, mode) = (self.has_last_gradient, self.mode(true));
        let value = self.stretches(packing, inputs, mode).and_then(|(mut stretches, gradients)| {
            stretches.encode()?;
            stretches.gradients(&mut course, loss, gradients, accumulate, has_last_gradient)
        });
        if let Plans::Divided(divided) = &mut self.plans {
            divided.course = course;
        }
        let value = value?;
        self.sum_learned(packing, accumulate)?;
        self.holds = Holds::Backward;
        Ok(value)
    }

    /// Runs a forward pass and returns the loss.
    pub(in super::super) fn evaluate(
        &mut self,
        packing: &Packing,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        if let Plans::Whole(_) = self.plans {
            self.forward(packing, inputs, self.mode(false))?;
            return self.loss(packing, inputs, loss);
        }
        self.holds = Holds::Nothing;
        self.begin_learned(packing)?;
        let mode = self.mode(false);
        let (mut stretches, _) = self.stretches(packing, inputs, mode)?;
        stretches.encode()?;
        let value = stretches.loss(loss)?;
        self.holds = Holds::LastState;
        Ok(value)
    }

    /// Returns the stretches of a pass that is divided, and where the gradients go.
    fn stretches<'a>(
        &'a mut self,
        packing: &'a Packing,
        inputs: Inputs<'a>,
        mode: Mode,
    ) -> Result<(Stretches<'a>, &'a mut [f32]), Error> {
        let Self { plans, schedule, memory, gradients, team, learned, .. } = self;
        let (step, noise, runtime) = (self.step, self.noise, self.runtime);
        let plans: &'a Plans = plans;
        let asked = AskedOfEncoder { source: inputs.source, noise, mode, runtime };
        let (encoder, memory) = Encoding::of(plans, packing, asked, learned, memory)?;
        let Plans::Divided(divided) = plans else { unreachable!("the caller has seen that it is") };
        let x = inputs.x;
        let (memory, kept) = memory.split_at_mut(divided.start);
        let kept = divided.kept.granted(kept);
        let stretches = Stretches {
            schedule,
            divided,
            packing,
            x,
            step,
            noise,
            mode,
            runtime,
            memory,
            kept,
            encoder,
            team,
        };
        Ok((stretches, gradients.as_mut_slice()))
    }
}

impl<'a> Stretches<'a> {
    /// Runs all stretches forward and backward, in the order that takes the least work with the
    /// states that can be kept. Returns the loss.
    fn gradients(
        &mut self,
        course: &mut Course,
        loss: &dyn Loss,
        gradients: &mut [f32],
        accumulate: Accumulate,
        has_last_gradient: bool,
    ) -> Result<f64, Error> {
        let state = self.kept.now.len();
        self.encoder.clear_gradients();
        let (gradients, of_encoder) = gradients.split_at_mut(self.packing.blocks().len());
        let of_all = accumulate == Accumulate::Yes;
        let Kept { checkpoints, now, dnow, dlast, dx, .. } = &mut self.kept;
        now.copy_from_slice(&checkpoints[..state]);
        match has_last_gradient {
            true => dnow.copy_from_slice(dlast),
            false => dnow.fill(0.0),
        }
        // Rows of padding have no gradient.
        dx.fill(0.0);
        let (mut value, mut accumulate) = (0.0, of_all);
        for action in course {
            let Kept { checkpoints, now, .. } = &mut self.kept;
            match action {
                Action::Keep(nth) => checkpoints[nth * state..][..state].copy_from_slice(now),
                Action::Restore(nth) => now.copy_from_slice(&checkpoints[nth * state..][..state]),
                Action::Advance(groups) => {
                    for nth in self.of_groups(groups) {
                        self.forward(nth, Compute::State)?;
                    }
                }
                Action::Unit(group) => {
                    let stretches = self.of_groups(group..group + 1);
                    let last = stretches.end - 1;
                    for nth in stretches.start..last {
                        let at = nth - stretches.start;
                        self.kept.begins[at * state..][..state].copy_from_slice(self.kept.now);
                        self.forward(nth, Compute::State)?;
                        self.keep_blocks(nth, at);
                    }
                    self.forward(last, Compute::All)?;
                    if last + 1 == self.divided.stretches.len() {
                        self.kept.last.copy_from_slice(self.kept.now);
                    }
                    for nth in stretches.clone().rev() {
                        if nth < last {
                            let at = nth - stretches.start;
                            let Kept { begins, now, .. } = &mut self.kept;
                            now.copy_from_slice(&begins[at * state..][..state]);
                            self.restore_blocks(nth, at);
                            self.forward(nth, Compute::Again)?;
                        }
                        value = self.backward(nth, loss, value, gradients, accumulate)?;
                        accumulate = true;
                    }
                }
            }
        }
        let sums = Sums { gradients: of_encoder, accumulate: of_all };
        self.encoder.backward(self.kept.dnow, self.team, sums)?;
        Ok(value)
    }

    /// Runs the encoder, if there is one, before all stretches.
    fn encode(&mut self) -> Result<(), Error> {
        let state = self.kept.now.len();
        self.encoder.forward(&mut self.kept.checkpoints[..state], self.team)
    }

    /// Runs all stretches forward and returns the loss.
    fn loss(&mut self, loss: &dyn Loss) -> Result<f64, Error> {
        let state = self.kept.now.len();
        self.kept.now.copy_from_slice(&self.kept.checkpoints[..state]);
        let mut value = 0.0;
        for nth in 0..self.divided.stretches.len() {
            self.forward(nth, Compute::All)?;
            let (run, targets) = (self.run(nth), self.targets(nth));
            value = run.value(self.memory, self.team, loss, targets, value)?;
        }
        self.kept.last.copy_from_slice(self.kept.now);
        Ok(value)
    }

    /// Returns the stretches of these groups.
    fn of_groups(&self, groups: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let Divided { group, stretches, .. } = self.divided;
        groups.start * group..(groups.end * group).min(stretches.len())
    }

    /// Returns the rows of the targets of stretch `nth`.
    fn targets(&self, nth: usize) -> TargetRows<'a> {
        let steps = &self.divided.stretches[nth];
        let rows = self.schedule.start(steps.start)..self.schedule.start(steps.end);
        TargetRows::of(self.schedule).within(rows)
    }

    /// Returns the pass over stretch `nth`.
    fn run(&self, nth: usize) -> Run<'a> {
        let (steps, planned) = (&self.divided.stretches[nth], self.divided.plan(nth));
        let rows = self.schedule.start(steps.start)..self.schedule.start(steps.end);
        let all = self.schedule.given_rows();
        // The rows of a stretch are next to each other only in sequences of the same length.
        let x = match (self.x, self.schedule.is_dense()) {
            (x, false) => x,
            (Input::Tokens(tokens), true) => Input::Tokens(&tokens[rows]),
            (Input::Features(x), true) => {
                let width = x.len() / all;
                Input::Features(&x[rows.start * width..rows.end * width])
            }
        };
        let first = steps.start as u64;
        let noise = self.noise.later(steps.start);
        let (packed, step, runtime) = (self.packing.blocks(), self.step + first, self.runtime);
        Run { planned, packed, x, step, noise, mode: self.mode, runtime }
    }

    /// Runs stretch `nth` forward from the current state, which then is the one after it.
    fn forward(&mut self, nth: usize, compute: Compute) -> Result<(), Error> {
        let run = self.run(nth);
        let planned = run.planned;
        self.memory[planned.place(Place::State)].copy_from_slice(self.kept.now);
        run.forward(self.memory, self.team, self.encoder.source(), compute)?;
        if compute != Compute::Again {
            self.kept.now.copy_from_slice(&self.memory[planned.place(Place::Last)]);
        }
        Ok(())
    }

    /// Runs stretch `nth` backward, whose activations the memory holds. Returns the loss so far.
    fn backward(
        &mut self,
        nth: usize,
        loss: &dyn Loss,
        loss_so_far: f64,
        gradients: &mut [f32],
        accumulate: bool,
    ) -> Result<f64, Error> {
        let run = self.run(nth);
        let planned: &Planned = run.planned;
        self.memory[planned.place(Place::LastGradient)].copy_from_slice(self.kept.dnow);
        let (targets, has_last_gradient) = (self.targets(nth), true);
        let encoder = self.encoder.with_gradients();
        let from =
            From { encoder, loss, targets, loss_so_far, has_last_gradient, gradients, accumulate };
        let value = run.backward(self.memory, self.team, from)?;
        self.kept.dnow.copy_from_slice(&self.memory[planned.place(Place::StateGradient)]);
        if !planned.parts.dx.is_empty() {
            let (dx, to) = (planned.parts.dx.of(self.memory), &mut self.kept.dx);
            let width = dx.len() / planned.rows;
            match planned.schedule.given() {
                Some(given) => scatter(given, dx, to, width),
                None => {
                    let first = self.schedule.start(self.divided.stretches[nth].start) * width;
                    to[first..first + dx.len()].copy_from_slice(dx);
                }
            }
        }
        Ok(value)
    }

    /// Keeps what blocks need to compute stretch `nth` again, as number `at` of its group.
    fn keep_blocks(&mut self, nth: usize, at: usize) {
        let mut to = at * kept_len(self.divided.plan(0));
        for region in self.divided.plan(nth).keeps().unwrap_or_default() {
            let len = region.len();
            self.kept.blocks[to..to + len].copy_from_slice(region.of(self.memory));
            to += len;
        }
    }

    /// Puts what [`keep_blocks`](Self::keep_blocks) has kept back into the memory of a stretch.
    fn restore_blocks(&mut self, nth: usize, at: usize) {
        let mut from = at * kept_len(self.divided.plan(0));
        for region in self.divided.plan(nth).keeps().unwrap_or_default() {
            let len = region.len();
            region.of_mut(self.memory).copy_from_slice(&self.kept.blocks[from..from + len]);
            from += len;
        }
    }
}
