//! The steps of a backward pass that has been checked, as pointers.

use super::noise::Noise;
use super::norm::NormAt;
use super::second::Second;
use crate::cells::{Back, Epilogue, Geometry, MOST_SUMS, Source};
use crate::fetch::{Fetches, When};
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::regularise::Block;
use crate::recurrence::{self, Origin, Recurrent, Steps, Term, Units};
use crate::simd::Simd;
use crate::tile::{Grid, load_lanes, store_lanes};
use std::ptr::{null, null_mut};

/// What a product of a step is of. With several delays they are all of the same.
#[inline(always)]
fn source<C: Epilogue>(term: usize) -> Source {
    if const { C::BACK.len() == 1 } { C::BACK[0] } else { C::BACK[term % C::BACK.len()] }
}

/// A checked pass: the steps from the last, and after them what is left, ∂L/∂h of the
/// states before the first step.
pub(super) struct Pointers<'a, C> {
    pub last: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        match self.last.steps {
            0 => 0,
            steps => steps + self.last.recurrent.history(),
        }
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        let last = self.last;
        let t = last.steps as isize - index as isize;
        Step { t, ..last }
    }

    #[inline(always)]
    fn second(&self, index: usize) -> Option<Second<'a, C>> {
        let step = self.first(index);
        let weights = step.recurrent.second?;
        (step.t > 0).then_some(Second { step, weights })
    }
}

/// One step: pointers to the first row of each operand at the first step.
#[derive(Clone, Copy)]
pub(super) struct Step<'a, C> {
    pub batch: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub steps: usize,
    /// The step, from 1; the states before the first step are those of 0 and below.
    pub t: isize,
    pub gates: *mut f32,
    pub extra: *mut f32,
    /// Of step 1 − D.
    pub h: *const f32,
    /// Of step 0.
    pub s: *const f32,
    pub dh: *mut f32,
    pub ds: *mut f32,
    pub dy: Option<*const f32>,
    pub dh_all: *mut f32,
    /// References, since a step is copied for each.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row in the whole batch.
    pub first_row: usize,
    /// Rows of a step in memory, those of other parts of the batch among them.
    pub all: usize,
    /// Room for the rows of the products' left operands, so many floats for each.
    pub scratch: *mut f32,
    pub room: usize,
}

impl<C: Epilogue> Step<'_, C> {
    /// Floats from the first step to step `t` in what has `width` for each row, and its
    /// first at step `first`.
    #[inline(always)]
    pub(super) fn offset(&self, t: isize, first: isize, width: usize) -> usize {
        (t - first) as usize * self.all * width
    }

    /// Where ∂L/∂h of a step comes in, of the last D in their order, or is carried.
    #[inline(always)]
    pub(super) fn incoming(&self) -> *const f32 {
        if const { C::CARRIES } {
            return self.dh;
        }
        let place = self.t - 1 + self.recurrent.history() as isize - self.steps as isize;
        self.dh.wrapping_add(place as usize * self.all * self.outputs)
    }

    /// Whether it does: ∂L/∂h of the last steps goes on from what the caller gives, and that
    /// of all where the cell carries a part; of the others it is a sum alone.
    #[inline(always)]
    pub(super) fn is_given(&self) -> bool {
        let last = self.t + self.recurrent.history() as isize > self.steps as isize;
        last || const { C::CARRIES }
    }

    /// Where that of a state before the first step goes out. Of less than D steps some
    /// come in and go out again: later ones, whose place is taken, have been read.
    #[inline(always)]
    fn outgoing(&self) -> *mut f32 {
        let place = self.t - 1 + self.recurrent.history() as isize;
        self.dh.wrapping_add(place as usize * self.all * self.outputs)
    }

    #[inline(always)]
    pub(super) fn place(&self, Units { row, first, lanes }: Units) -> Back {
        let t = self.t;
        let history = self.recurrent.history() as isize;
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
        let gates = row * C::GATES * self.hidden + first;
        let extra = row * C::EXTRA * self.hidden + first;
        let at_h = self.offset(t, 1 - history, self.outputs) + outputs;
        let h = self.h.wrapping_add(at_h);
        let h_prev = h.wrapping_sub(self.all * self.outputs);
        let (mut h_seen, mut mask, mut s_made) = (h_prev, null(), null_mut());
        if let Some(noise) = self.noise {
            let (first_h, first_s) = (self.first_row * self.outputs, self.first_row * self.hidden);
            if !noise.mask.is_null() {
                mask = noise.mask.wrapping_add(first_h + outputs);
            }
            if !noise.seen.is_null() {
                let before = at_h - self.all * self.outputs;
                h_seen = noise.seen.wrapping_add(first_h + before);
            }
            if !noise.s_made.is_null() {
                let step = self.offset(t, 1, self.hidden);
                s_made = noise.s_made.wrapping_add(first_s + step + units);
            }
        }
        let cells = self.all * self.hidden;
        let s = self.s.wrapping_add(self.offset(t, 0, self.hidden) + units);
        Back {
            lanes,
            unit: first,
            hidden: self.hidden,
            gates: self.gates.wrapping_add(self.offset(t, 1, C::GATES * self.hidden) + gates),
            extra: self.extra.wrapping_add(self.offset(t, 1, C::EXTRA * self.hidden) + extra),
            h_prev,
            h_seen,
            mask,
            h,
            s_prev: s.wrapping_sub(cells),
            s_made,
            dh: self.dh.wrapping_add(outputs),
            ds: self.ds.wrapping_add(units),
        }
    }

    /// What the cell's gradients read and write of the rows from `row`, every `every`th
    /// vector of these columns.
    #[inline(always)]
    pub(super) fn fetch_cell(&self, fetches: &mut Fetches, columns: &Columns, row: usize) {
        let place = self.place(Units { row, first: 0, lanes: 0 });
        let stride = C::GATES * self.hidden;
        for gate in 0..C::GATES {
            let gate = place.gates.wrapping_add(gate * self.hidden);
            fetches.push(columns.fetch(gate, stride, 1, When::After));
        }
        if const { C::CELLS } {
            for state in [place.s_prev, place.ds.cast_const()] {
                fetches.push(columns.fetch(state, self.hidden, 1, When::After));
            }
        } else {
            let h = if const { C::CARRIES } { place.h_prev } else { place.h };
            fetches.push(columns.fetch(h, self.outputs, 1, When::After));
            if const { C::EXTRA > 0 } {
                let stride = C::EXTRA * self.hidden;
                fetches.push(columns.fetch(place.extra, stride, 1, When::After));
            }
        }
    }
}

impl<C: Epilogue> recurrence::Step for Step<'_, C> {
    const SUMS: usize = 1;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.batch
    }

    #[inline(always)]
    fn weights(&self) -> &PackedMatrix {
        &self.recurrent.weights[0]
    }

    #[inline(always)]
    fn terms(&self) -> usize {
        self.recurrent.weights.len()
    }

    /// The longest delay first: what lies in a later stretch of time is what that one's
    /// pass has begun the sum with.
    #[inline(always)]
    fn term(&self, index: usize) -> Option<Term<'_>> {
        let after = self.t + self.recurrent.delays[index] as isize;
        if after < 1 || after > self.steps as isize {
            return None;
        }
        let (rows, stride) = match source::<C>(index) {
            Source::Gates { first, .. } => {
                let stride = C::GATES * self.hidden;
                (self.by_sums(after).wrapping_add(first * self.hidden), stride)
            }
            Source::Extra => {
                let stride = C::EXTRA * self.hidden;
                let extra = match self.norm {
                    Some(norm) => norm.da_extra.wrapping_add(self.first_row * stride),
                    None => self.extra,
                };
                (extra.wrapping_add(self.offset(after, 1, stride)), stride)
            }
        };
        Some(Term { rows, stride, weights: &self.recurrent.weights[index] })
    }

    /// A sum that goes on from what comes in; of masked products it is that of these alone.
    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        let given = self.is_given() && !self.masks();
        if given { Some(Origin { start: self.incoming(), stride: self.outputs }) } else { None }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    /// What a cell reads from far away: gates, states, and the gradients that are
    /// carried and come from outside.
    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if self.t < 1 {
            return fetches;
        }
        let at = self.offset(self.t, 1, self.outputs) + row * self.outputs;
        if const { C::PROJECTS } {
            let all = self.dh_all.wrapping_add(at);
            fetches.push(columns.fetch(all, self.outputs, 1, When::After));
        } else {
            self.fetch_cell(&mut fetches, columns, row);
        }
        if let Some(dy) = self.dy {
            fetches.push(columns.fetch(dy.wrapping_add(at), self.outputs, 1, When::After));
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        let (units, outputs) = (row * self.hidden, row * self.outputs);
        Step {
            batch: rows,
            gates: self.gates.wrapping_add(C::GATES * units),
            extra: self.extra.wrapping_add(C::EXTRA * units),
            h: self.h.wrapping_add(outputs),
            s: self.s.wrapping_add(units),
            dh: self.dh.wrapping_add(outputs),
            ds: self.ds.wrapping_add(units),
            dy: self.dy.map(|dy| dy.wrapping_add(outputs)),
            dh_all: self.dh_all.wrapping_add(outputs),
            first_row: self.first_row + row,
            scratch: self.scratch.wrapping_add(row * self.room),
            ..self
        }
    }

    /// The gradients of some units of a row, from their ∂L/∂h without `dy`; before the
    /// first step that is all there is.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [dh, ..]: [S::V; MOST_SUMS]) {
        let unit = at.row * self.outputs + at.first;
        // SAFETY: the caller's.
        unsafe {
            if self.t < 1 {
                store_lanes(s, self.outgoing().add(unit), dh, at.lanes);
                return;
            }
            let unit = self.offset(self.t, 1, self.outputs) + unit;
            // The part from outside comes last, so that a sequence cut in two gives
            // the bits of the whole: the sum over the step after is the same number
            // whether it stays in a register or is carried in `dh`.
            let dh = match self.dy {
                Some(dy) => s.add(dh, load_lanes(s, dy.add(unit), at.lanes)),
                None => dh,
            };
            if const { C::PROJECTS } {
                store_lanes(s, self.dh_all.add(unit), dh, at.lanes);
            } else {
                self.cell.backward(s, &self.place(at), dh);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.noise.is_some()
    }

    #[inline(always)]
    fn prepare<S: Simd>(&self, s: S, at: Block, sums: Grid) {
        self.before(s, at, sums, true, const { C::CELLS && !C::PROJECTS });
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        if const { !C::PROJECTS } {
            self.rejoin(s, at);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.norm.is_some() && const { !C::PROJECTS } && self.t >= 1
    }

    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        // SAFETY: the caller's.
        unsafe { self.end_first(s, row) };
    }
}
