//! A step of a backward pass that has been checked, as pointers.

use crate::cells::{Back, Epilogue};
use crate::fetch::{Fetches, When};
use crate::pack::Columns;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::regularise::Zone;
use crate::recurrence::step::Units;
use std::ptr::{null, null_mut};

/// Noise in a pass: pointers to the first row at the first step.
pub(super) struct Noise {
    pub zone: Zone,
    /// ∂L/∂h from outside, which comes before it.
    pub dy: *const f32,
    /// What zoneout has left of ∂L/∂h and ∂L/∂s to the step before.
    pub dh_kept: *mut f32,
    pub ds_kept: *mut f32,
    /// The share that products saw of h, null where that is all, and, of step 1 − D on, what
    /// that left.
    pub mask: *const f32,
    pub seen: *const f32,
    /// Where s goes as the cell made it, or null.
    pub s_made: *mut f32,
}

/// Normalisation in a pass: pointers to the first row at the first step.
pub(super) struct NormAt {
    pub gain: *const f32,
    pub normal: *const f32,
    pub normal_extra: *const f32,
    pub inverse: *const f32,
    pub da: *mut f32,
    pub da_extra: *mut f32,
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
    pub(super) fn outgoing(&self) -> *mut f32 {
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
