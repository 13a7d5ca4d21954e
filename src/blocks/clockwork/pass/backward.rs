//! The backward pass of a clockwork: back-propagation through the steps, from the last to the
//! first; then, for each group, the weight gradients, summed over the steps at which it moved, and
//! its part of ∂L/∂x.

use super::{ClockworkPass, Regions};
use crate::blocks::Backward;
use crate::blocks::clockwork::groups::{Gathered, Place};
use crate::blocks::clockwork::moves::Moves;
use crate::blocks::clockwork::packed::ClockworkPacked;
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, ClockedBackward, Group, MoveRows};
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
        let (clocked, rows, isa) = (&self.clocked, self.move_rows(), self.isa);
        let x = x.features(self.rows(), clocked.input)?;
        let Regions { kept, inputs, states, scratch } = self.regions.granted(memory);
        match dlast {
            Some(dlast) => dstate.copy_from_slice(dlast),
            None => dstate.fill(0.0),
        }
        let (clock, activation) = (clocked.at(step), clocked.activation);
        let dz = &mut kept[..clocked.kept_len(step, rows)];
        ClockedBackward {
            clock,
            schedule: rows,
            activation,
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
            for (moves, place) in Moves::of_groups(clock, rows).zip(clocked.places()) {
                let (dz, tail) = rest.split_at(moves.all_rows() * place.group.units);
                rest = tail;
                let Place { u, w, b, .. } = place;
                let sums = Sums {
                    isa,
                    moves,
                    schedule: &self.schedule,
                    ago: self.ragged.as_ref().map(|ragged| &ragged.ago[..]),
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
                sums.add_up(to, accumulate, gathered, &mut *scratch, threads)?;
            }
        }
        let Some(dx) = dx else { return Ok(()) };
        let by_input = ByInput { isa, clock, rows, dz };
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
    moves: Moves<'a>,
    schedule: &'a Schedule,
    /// For a group that moves at each step, where each row finds the state before it, if the states
    /// do not lie in order.
    ago: Option<&'a [usize]>,
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
    /// Computes the gradients of U, W and b: sums over all moves, from the last to the first.
    fn add_up(
        &self,
        to: Gradients<'_>,
        mut accumulate: bool,
        gathered: Gathered<&mut [f32]>,
        scratch: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), KernelError> {
        let Gradients { u: du, w: dw, b: db } = to;
        let Self { isa, moves, input, hidden, .. } = *self;
        let &Group { units, first, .. } = moves.group();
        if moves.all().is_empty() && !accumulate {
            [du, dw, db].into_iter().for_each(|gradient| gradient.fill(0.0));
            return Ok(());
        }
        for run in moves.runs(moves.all(), false) {
            let (rows, columns) = (moves.rows(&run), hidden - first);
            let x = moves.rows_in(&run, input, self.x, gathered.inputs);
            let h = self.states(&run, gathered.states);
            let a = &self.dz[rows.start * units..rows.end * units];
            let products = [Rhs { b: h, c: &mut *dw, columns }, Rhs::new(x, &mut *du, input)];
            let (depth, stride, sums, scratch) = (rows.len(), units, Some(&mut *db), &mut *scratch);
            WeightGradients { depth, a, stride, rows: units, products, sums, accumulate, scratch }
                .run(isa, threads)?;
            accumulate = true;
        }
        Ok(())
    }

    /// Returns the states of the units that the group reads, as it read them at the moves of a run.
    /// They stay where they are if the group moves at each step and reads all units; otherwise they
    /// are copied to `gathered`.
    fn states<'a>(&'a self, run: &Range<usize>, gathered: &'a mut [f32]) -> Joined<'a> {
        let Self { moves, schedule, hidden, h0, h, h_stride: stride, .. } = *self;
        let &Group { first, period, .. } = moves.group();
        if first == 0 && period == 1 {
            // The state after the last step is read by no move.
            let others = schedule.start(run.len() - 1);
            let len = others.checked_sub(1).map_or(0, |last| last * stride + hidden);
            return Joined { first: h0, rest: &h[..len], stride, order: self.ago };
        }
        let columns = hidden - first;
        let gathered = &mut gathered[..moves.rows(run).len() * columns];
        let mut to = gathered.chunks_exact_mut(columns);
        for nth in run.clone() {
            let (before, stride) = match moves.step(nth) {
                0 => (h0, hidden),
                step => (&h[schedule.start(step - 1) * stride..], stride),
            };
            for (row, to) in (0..moves.rows_of_step(nth).len()).zip(&mut to) {
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
    rows: MoveRows<'a>,
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
        let Self { isa, clock, rows, dz: mut rest } = self;
        let mut start = Start::Zero;
        if clock.groups[0].period > 1 {
            dx.fill(0.0);
            start = Start::Accumulate;
        }
        for (moves, weights) in Moves::of_groups(clock, rows).zip(weights) {
            let (units, stride) = (moves.group().units, weights.outputs());
            let (dz, tail) = rest.split_at(moves.all_rows() * units);
            rest = tail;
            for run in moves.runs(moves.all(), true) {
                let rows = moves.rows(&run);
                let a = &dz[rows.start * units..rows.end * units];
                let c = match moves.together(&run) {
                    Some(rows) => &mut dx[rows.start * stride..rows.end * stride],
                    None => moves.gather(&run, stride, dx, gathered),
                };
                let (rows, scratch) = (rows.len(), &mut *scratch);
                Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, threads)?;
                if moves.together(&run).is_none() {
                    moves.spread(&run, stride, gathered, dx);
                }
            }
            start = Start::Accumulate;
        }
        Ok(())
    }
}
