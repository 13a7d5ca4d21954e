//! The backward pass of a layer whose units move in groups: the steps from the last, and for
//! each group the sums over the steps at which it moved, and its part of ∂L/∂x.

use crate::clocked::{Clocked, Place, gather, runs};
use crate::plan::arena::Holds;
use crate::plan::regions::Regions;
use crate::plan::{Arena, Plan};
use crate::sections::All;
use crate::spec::{Sizes, Spec};
use crate::{Accumulate, Error, Isa, Parameters, Weights};
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, ClockedBackward, Recurrent};
use bptt_kernels::team::Pass;
use bptt_kernels::{KernelError, PackedMatrix};
use std::ops::Range;

/// What a backward pass is given at its ends, and asked for; lengths have been checked.
pub(in crate::plan) struct Ends<'a> {
    pub dy: Option<&'a [f32]>,
    pub dh_last: Option<&'a [f32]>,
    pub dx: Option<&'a mut [f32]>,
    pub dh0: Option<&'a mut [f32]>,
    pub accumulate: Accumulate,
}

impl<C: Spec> Plan<C> {
    /// What [`backward`](Self::backward) does, with arguments that have been checked.
    pub(in crate::plan) fn backward_clocked(
        &self,
        clocked: Clocked<'_>,
        (weights, recurrent): (&Weights<C>, Recurrent<'_>),
        x: &[f32],
        ends: Ends<'_>,
        arena: &mut Arena<C>,
        parameters: &mut Parameters<C>,
    ) -> Result<(), Error> {
        arena.holds = Holds::Backward;
        let Ends { dy, dh_last, dx, dh0, accumulate } = ends;
        let (steps, batch, isa, state) = (self.steps, self.batch, self.isa, self.before_len());
        let Sizes { input, hidden, .. } = self.layer.sizes();
        let granted = self.regions.granted(&mut arena.memory);
        let Regions { gates: kept, extra: gathered_h, h, dh, x: gathered_x, scratch, .. } = granted;
        match dh_last {
            Some(dh_last) => dh.copy_from_slice(dh_last),
            None => dh.fill(0.0),
        }
        let (clock, activations) = (clocked.at(arena.step), clocked.activations);
        let dz = &mut kept[..clocked.kept_len(arena.step, steps, batch)];
        let work = self.layer.multiply_adds(steps * batch).saturating_mul(2);
        arena.team.pass(work, |pass| -> Result<(), KernelError> {
            ClockedBackward {
                clock,
                schedule: self.schedule(),
                activations,
                weights: recurrent.weights,
                z: &mut *dz,
                h: &h[state..],
                h_stride: hidden,
                dy,
                dy_stride: hidden,
                dh: &mut *dh,
                scratch: &mut *scratch,
            }
            .run(isa, pass)?;
            let mut rest = &*dz;
            let (All { input: du, recurrent: dw, bias: db, .. }, _) = parameters.named_mut();
            for (at, place) in clocked.places((input, hidden)).enumerate() {
                let moves = 0..clock.moves(at, steps);
                let (dz, tail) = rest.split_at(moves.len() * batch * place.group.units);
                rest = tail;
                let Place { u, w, b, .. } = place.clone();
                let sums = Sums { isa, clock, at, place, batch, sizes: (input, hidden), dz, x, h };
                let gathered = (&mut *gathered_x, &mut *gathered_h);
                let to = (&mut du[u], &mut dw[w], &mut db[b]);
                let accumulate = accumulate == Accumulate::Yes;
                sums.add_up(moves, to, accumulate, (gathered, &mut *scratch), pass)?;
            }
            let Some(dx) = dx else { return Ok(()) };
            let by_input = ByInput { isa, clock, steps, batch, dz };
            by_input.run(weights.inputs_back(), dx, (gathered_x, scratch), pass)
        })?;
        if let Some(dh0) = dh0 {
            dh0.copy_from_slice(dh);
        }
        Ok(())
    }
}

/// The gradients of a group's parameters.
struct Sums<'a> {
    isa: Isa,
    clock: Clock<'a>,
    /// The group's number.
    at: usize,
    place: Place,
    batch: usize,
    /// I and H.
    sizes: (usize, usize),
    dz: &'a [f32],
    /// Of each step, and the states before the first and after each.
    x: &'a [f32],
    h: &'a [f32],
}

impl Sums<'_> {
    /// Adds up those of U, W and b over its moves, from the last.
    fn add_up(
        &self,
        moves: Range<usize>,
        (du, dw, db): (&mut [f32], &mut [f32], &mut [f32]),
        mut accumulate: bool,
        ((gathered_x, gathered_h), scratch): ((&mut [f32], &mut [f32]), &mut [f32]),
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Self { isa, batch, sizes: (input, hidden), .. } = *self;
        let (units, columns) = (self.place.group.units, hidden - self.place.group.first);
        if moves.is_empty() && !accumulate {
            [du, dw, db].into_iter().for_each(|gradient| gradient.fill(0.0));
            return Ok(());
        }
        for run in runs(moves, &self.place.group, batch, false).rev() {
            let depth = run.len() * batch;
            let x = self.inputs(run.clone(), gathered_x);
            let h = self.states(run.clone(), gathered_h);
            let a = &self.dz[run.start * batch * units..run.end * batch * units];
            let products = [Rhs::new(h, &mut *dw, columns), Rhs::new(x, &mut *du, input)];
            let (rows, stride, sums, scratch) = (units, units, Some(&mut *db), &mut *scratch);
            WeightGradients { depth, a, stride, rows, products, sums, accumulate, scratch }
                .run(isa, pass)?;
            accumulate = true;
        }
        Ok(())
    }

    /// Whether the rows of these moves lie together.
    fn lie_together(&self, run: &Range<usize>) -> bool {
        run.len() == 1 || self.place.group.period == 1
    }

    /// The inputs that the group has seen in these moves, gathered where they have to be.
    fn inputs<'a>(&'a self, run: Range<usize>, gathered: &'a mut [f32]) -> &'a [f32] {
        let (row, (input, _)) = (self.batch, self.sizes);
        if self.lie_together(&run) {
            let first = self.clock.step_of(self.at, run.start) * row * input;
            return &self.x[first..][..run.len() * row * input];
        }
        let gathered = &mut gathered[..run.len() * row * input];
        gather((&self.clock, self.at), run, self.x, gathered);
        gathered
    }

    /// The states that it has seen, of the units that it reads.
    fn states<'a>(&'a self, run: Range<usize>, gathered: &'a mut [f32]) -> &'a [f32] {
        let (_, hidden) = self.sizes;
        let (state, first) = (self.batch * hidden, self.place.group.first);
        let of = |nth| &self.h[self.clock.step_of(self.at, nth) * state..];
        if first == 0 && self.lie_together(&run) {
            return &of(run.start)[..run.len() * state];
        }
        let columns = hidden - first;
        let gathered = &mut gathered[..run.len() * self.batch * columns];
        for (nth, to) in run.zip(gathered.chunks_exact_mut(self.batch * columns)) {
            let rows = of(nth).chunks_exact(hidden).zip(to.chunks_exact_mut(columns));
            rows.for_each(|(from, to)| to.copy_from_slice(&from[first..]));
        }
        gathered
    }
}

/// `∂L/∂x = Σ dz U` over the groups, in their order.
struct ByInput<'a> {
    isa: Isa,
    clock: Clock<'a>,
    steps: usize,
    batch: usize,
    dz: &'a [f32],
}

impl ByInput<'_> {
    fn run<'w>(
        self,
        weights: impl Iterator<Item = &'w PackedMatrix>,
        dx: &mut [f32],
        (gathered, scratch): (&mut [f32], &mut [f32]),
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Self { isa, clock, steps, batch, dz: mut rest } = self;
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
                        .run(isa, pass)?;
                    continue;
                }
                let c = &mut gathered[..run.len() * row];
                gather((&clock, at), run.clone(), dx, c);
                Gemm { rows, a, weights, start, c: &mut *c, stride, scratch: &mut *scratch }
                    .run(isa, pass)?;
                for (nth, from) in run.zip(c.chunks_exact(row)) {
                    dx[clock.step_of(at, nth) * row..][..row].copy_from_slice(from);
                }
            }
            start = Start::Accumulate;
        }
        Ok(())
    }
}
