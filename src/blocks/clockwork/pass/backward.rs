//! The backward pass of a clockwork: back-propagation through the steps, from the last to the
//! first; then, for each group, the weight gradients, summed over the steps at which it moved, and
//! its part of ∂L/∂x.

use super::{ClockworkPass, Regions};
use crate::blocks::Backward;
use crate::blocks::clockwork::groups::{Gathered, Place, gather, runs};
use crate::blocks::clockwork::packed::ClockworkPacked;
use crate::{Error, Isa};
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, ClockedBackward, StepRows};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{Joined, KernelError, PackedMatrix};
use std::ops::Range;

impl ClockworkPass {
    pub(super) fn run_backward(
        &self,
        packed: &ClockworkPacked,
        backward: Backward<'_, '_>,
    ) -> Result<(), Error> {
        let Backward { x, y, y_stride, dy, dy_stride, memory, state, step, dlast, .. } = backward;
        let Backward { dstate, dx, gradients, accumulate, threads, .. } = backward;
        let (clocked, schedule, isa) = (&self.clocked, self.schedule.step_rows(), self.isa);
        let x = x.features(self.rows(), clocked.input)?;
        let Regions { kept, inputs, states, scratch } = self.regions.granted(memory);
        match dlast {
            Some(dlast) => dstate.copy_from_slice(dlast),
            None => dstate.fill(0.0),
        }
        let (clock, activations) = (clocked.at(step), clocked.activations);
        let dz = &mut kept[..clocked.kept_len(step, schedule)];
        ClockedBackward {
            clock,
            schedule,
            activations,
            weights: &packed.back,
            z: &mut *dz,
            h: y,
            h_stride: y_stride,
            dy: Some(dy),
            dy_stride,
            dh: dstate,
            scratch: &mut *scratch,
        }
        .run(isa, threads)?;
        if self.wanted.parameters {
            let mut rest = &*dz;
            let (du, dw) = gradients.split_at_mut(clocked.hidden * clocked.input);
            let (dw, db) = dw.split_at_mut(dw.len() - clocked.hidden);
            for (at, place) in clocked.places().enumerate() {
                let moves = 0..clock.moves(at, schedule.steps());
                let (dz, tail) = rest.split_at(moves.len() * schedule.batch() * place.group.units);
                rest = tail;
                let Place { u, w, b, .. } = place.clone();
                let sums = Sums {
                    isa,
                    clock,
                    at,
                    place,
                    schedule,
                    input: clocked.input,
                    hidden: clocked.hidden,
                    dz,
                    x,
                    h0: state,
                    h: y,
                    h_stride: y_stride,
                };
                let gathered = Gathered { inputs: &mut *inputs, states: &mut *states };
                let to = Gradients { u: &mut du[u], w: &mut dw[w], b: &mut db[b] };
                sums.add_up(moves, to, accumulate, gathered, &mut *scratch, threads)?;
            }
        }
        let Some(dx) = dx else { return Ok(()) };
        let by_input = ByInput { isa, clock, schedule, dz };
        Ok(by_input.run(packed.inputs_back.iter(), dx, inputs, scratch, threads)?)
    }
}

/// Where the gradients of a group's parameters go.
struct Gradients<'a> {
    u: &'a mut [f32],
    w: &'a mut [f32],
    b: &'a mut [f32],
}

/// What the gradients of one group's parameters are computed from.
struct Sums<'a> {
    isa: Isa,
    clock: Clock<'a>,
    /// The index of the group.
    at: usize,
    place: Place,
    schedule: StepRows<'a>,
    /// Features in a row of the input, I.
    input: usize,
    /// Units in all groups together, H.
    hidden: usize,
    /// ∂L/∂z of the group, `[moves, B, units]`.
    dz: &'a [f32],
    /// The input of each step, `[τ, B, I]`.
    x: &'a [f32],
    /// The state before the first step, `[B, H]`.
    h0: &'a [f32],
    /// The states after each step, `[τ, B, H]`, in rows that are `h_stride` floats apart.
    h: &'a [f32],
    h_stride: usize,
}

impl Sums<'_> {
    /// Computes the gradients of U, W and b: sums over `moves`, from the last to the first.
    fn add_up(
        &self,
        moves: Range<usize>,
        to: Gradients<'_>,
        mut accumulate: bool,
        gathered: Gathered<&mut [f32]>,
        scratch: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), KernelError> {
        let Gradients { u: du, w: dw, b: db } = to;
        let Self { isa, input, hidden, .. } = *self;
        let batch = self.schedule.batch();
        let (units, columns) = (self.place.group.units, hidden - self.place.group.first);
        if moves.is_empty() && !accumulate {
            [du, dw, db].into_iter().for_each(|gradient| gradient.fill(0.0));
            return Ok(());
        }
        for run in runs(moves, &self.place.group, batch, false).rev() {
            let depth = run.len() * batch;
            let x = self.inputs(run.clone(), gathered.inputs);
            let h = self.states(run.clone(), gathered.states);
            let a = &self.dz[run.start * batch * units..run.end * batch * units];
            let products = [Rhs { b: h, c: &mut *dw, columns }, Rhs::new(x, &mut *du, input)];
            let (rows, stride, sums, scratch) = (units, units, Some(&mut *db), &mut *scratch);
            WeightGradients { depth, a, stride, rows, products, sums, accumulate, scratch }
                .run(isa, threads)?;
            accumulate = true;
        }
        Ok(())
    }

    /// Returns whether the rows of these moves lie together without being gathered.
    fn lie_together(&self, run: &Range<usize>) -> bool {
        run.len() == 1 || self.place.group.period == 1
    }

    /// Returns the inputs that the group read at these moves. They are copied to `gathered` unless
    /// they lie together.
    fn inputs<'a>(&'a self, run: Range<usize>, gathered: &'a mut [f32]) -> &'a [f32] {
        let (row, input) = (self.schedule.batch(), self.input);
        if self.lie_together(&run) {
            let first = self.clock.step_of(self.at, run.start) * row * input;
            return &self.x[first..][..run.len() * row * input];
        }
        let gathered = &mut gathered[..run.len() * row * input];
        gather(&self.clock, self.at, run, self.x, gathered);
        gathered
    }

    /// Returns the states of the units that the group reads, as it read them at these moves. They
    /// stay where they are if the group moves at each step and reads all units; otherwise they are
    /// copied to `gathered`.
    fn states<'a>(&'a self, run: Range<usize>, gathered: &'a mut [f32]) -> Joined<'a> {
        let (batch, first) = (self.schedule.batch(), self.place.group.first);
        let (hidden, stride) = (self.hidden, self.h_stride);
        let columns = hidden - first;
        if first == 0 && self.place.group.period == 1 {
            let others = (run.len() - 1) * batch;
            let len = others.checked_sub(1).map_or(0, |last| last * stride + hidden);
            return Joined { first: self.h0, rest: &self.h[..len], stride, order: None };
        }
        let gathered = &mut gathered[..run.len() * batch * columns];
        for (nth, to) in run.zip(gathered.chunks_exact_mut(batch * columns)) {
            let (before, stride) = match self.clock.step_of(self.at, nth) {
                0 => (self.h0, hidden),
                step => (&self.h[self.schedule.start(step - 1) * stride..], stride),
            };
            for (row, to) in to.chunks_exact_mut(columns).enumerate() {
                to.copy_from_slice(&before[row * stride + first..][..columns]);
            }
        }
        Joined::whole(gathered, columns)
    }
}

/// The gradient of the input, `∂L/∂x = Σ dz U`, summed over the groups in their order.
struct ByInput<'a> {
    isa: Isa,
    clock: Clock<'a>,
    schedule: StepRows<'a>,
    /// ∂L/∂z, `[moves, B, units]` for each group, one group after the other.
    dz: &'a [f32],
}

impl ByInput<'_> {
    fn run<'w>(
        self,
        weights: impl Iterator<Item = &'w PackedMatrix>,
        dx: &mut [f32],
        gathered: &mut [f32],
        scratch: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), KernelError> {
        let Self { isa, clock, schedule, dz: mut rest } = self;
        let (steps, batch) = (schedule.steps(), schedule.batch());
        let mut start = Start::Zero;
        if clock.groups[0].period > 1 {
            dx.fill(0.0);
            start = Start::Accumulate;
        }
        for ((at, group), weights) in clock.groups.iter().enumerate().zip(weights) {
            let (move_len, row) = (batch * group.units, batch * weights.outputs());
            let (dz, tail) = rest.split_at(clock.moves(at, steps) * move_len);
            rest = tail;
            for run in runs(0..clock.moves(at, steps), group, batch, true) {
                let a = &dz[run.start * move_len..run.end * move_len];
                let (rows, stride) = (run.len() * batch, weights.outputs());
                let first = clock.step_of(at, run.start) * row;
                if run.len() == 1 || group.period == 1 {
                    let c = &mut dx[first..][..run.len() * row];
                    Gemm { rows, a, weights, start, c, stride, scratch: &mut *scratch }
                        .run(isa, threads)?;
                    continue;
                }
                let c = &mut gathered[..run.len() * row];
                gather(&clock, at, run.clone(), dx, c);
                Gemm { rows, a, weights, start, c: &mut *c, stride, scratch: &mut *scratch }
                    .run(isa, threads)?;
                for (nth, from) in run.zip(c.chunks_exact(row)) {
                    dx[clock.step_of(at, nth) * row..][..row].copy_from_slice(from);
                }
            }
            start = Start::Accumulate;
        }
        Ok(())
    }
}
