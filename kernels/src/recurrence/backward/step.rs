//! A step of a backward pass that has been checked, as pointers.

use crate::cells::{BackwardPointers, BackwardUnits, Epilogue};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::Columns;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::Zone;
use crate::recurrence::step::Units;
use crate::rows::Rows;
use std::ops::Deref;
use std::ptr::NonNull;

/// Noise in a pass: pointers to the first row at the first step.
pub(super) struct Noise {
    pub zone: Zone,
    /// ∂L/∂h from outside, which comes before it.
    pub dy: Option<*const f32>,
    /// What zoneout has left of ∂L/∂h and ∂L/∂c to the step before, where there is some.
    pub kept: Option<(*mut f32, *mut f32)>,
    pub masked: Option<Masked>,
    /// Where c goes as the cell made it, if anybody asks.
    pub c_made: Option<*mut f32>,
}

/// The share that products saw of h, where that is not all, and, of step 1 − D on, what that
/// left.
#[derive(Clone, Copy)]
pub(super) struct Masked {
    pub mask: *const f32,
    pub seen: *const f32,
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

/// What a step reads and writes: pointers to the first row of each operand at the first step.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a, C> {
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
    pub c: *const f32,
    pub dh: *mut f32,
    pub dc: *mut f32,
    pub dy: Option<NonNull<f32>>,
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

/// One step.
#[derive(Clone, Copy)]
pub(super) struct Step<'a, C>(Operands<'a, C>);

impl<'a, C> Deref for Step<'a, C> {
    type Target = Operands<'a, C>;
    #[inline(always)]
    fn deref(&self) -> &Operands<'a, C> {
        &self.0
    }
}

impl<'a, C: Epilogue> Step<'a, C> {
    /// A step of these operands.
    ///
    /// # Safety
    /// They are what `Backward::check` asks of slices, from `batch` rows of a batch of `all` on,
    /// `t` is one of its steps or of the D before them, and for as long as the step is used
    ///
    /// 1. states, those that were masked with their mask, ∂L/∂h from outside, the keys and what
    ///    the forward pass left of the norm are readable, and nobody writes them;
    /// 2. these are readable and writable, and nobody else's: gates and the extra block, of the
    ///    step and of the D after it; ∂L/∂h and ∂L/∂c, with what zoneout keeps of them; ∂L/∂h of
    ///    all steps; c as the cell made it; what the norm leaves; `room` floats of scratch for
    ///    each row;
    /// 3. the weights are packed for the set of instructions that the step is taken on, and the
    ///    cell has been checked for `hidden` units.
    #[inline(always)]
    pub(super) unsafe fn new(operands: Operands<'a, C>) -> Self {
        Self(operands)
    }

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

    /// The places of some units.
    ///
    /// # Safety
    /// The units are of the step, which is one of the pass and not before it, and nobody else
    /// has them.
    #[inline(always)]
    pub(super) unsafe fn place(&self, at: Units) -> BackwardUnits<C> {
        // SAFETY: `Step::new` has been promised all rows' operands (1, 2) and the cell (3); of
        // these the units are some.
        unsafe { BackwardUnits::new(self.pointers(at)) }
    }

    /// The same as pointers.
    #[inline(always)]
    pub(super) fn pointers(&self, Units { row, first, lanes }: Units) -> BackwardPointers {
        let t = self.t;
        let history = self.recurrent.history() as isize;
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
        let gates = row * C::GATES * self.hidden + first;
        let extra = row * C::EXTRA * self.hidden + first;
        let at_h = self.offset(t, 1 - history, self.outputs) + outputs;
        let h = self.h.wrapping_add(at_h);
        let h_prev = h.wrapping_sub(self.all * self.outputs);
        let (mut h_seen, mut mask, mut c_made) = (h_prev, None, None);
        if let Some(noise) = self.noise {
            let (first_h, first_s) = (self.first_row * self.outputs, self.first_row * self.hidden);
            if let Some(masked) = noise.masked {
                mask = NonNull::new(masked.mask.wrapping_add(first_h + outputs).cast_mut());
                let before = at_h - self.all * self.outputs;
                h_seen = masked.seen.wrapping_add(first_h + before);
            }
            if let Some(made) = noise.c_made {
                let step = self.offset(t, 1, self.hidden);
                c_made = NonNull::new(made.wrapping_add(first_s + step + units));
            }
        }
        let cells = self.all * self.hidden;
        let c = self.c.wrapping_add(self.offset(t, 0, self.hidden) + units);
        BackwardPointers {
            lanes,
            unit: first,
            hidden: self.hidden,
            gates: self.gates.wrapping_add(self.offset(t, 1, C::GATES * self.hidden) + gates),
            extra: self.extra.wrapping_add(self.offset(t, 1, C::EXTRA * self.hidden) + extra),
            h_prev,
            h_seen,
            mask,
            h,
            c_prev: c.wrapping_sub(cells),
            c_made,
            dh: self.dh.wrapping_add(outputs),
            dc: self.dc.wrapping_add(units),
        }
    }

    /// What the cell's gradients read and write of the rows from `row`, every `every`th
    /// vector of these columns.
    #[inline(always)]
    pub(super) fn prefetch_cell(&self, prefetches: &mut Prefetches, columns: &Columns, row: usize) {
        let place = self.pointers(Units { row, first: 0, lanes: 0 });
        for gate in 0..C::GATES {
            let gate = place.gates.wrapping_add(gate * self.hidden);
            let gates = Rows::new(gate, C::GATES * self.hidden);
            prefetches.push(columns.prefetch(gates, 1, When::After));
        }
        if const { C::CELLS } {
            for state in [place.c_prev, place.dc.cast_const()] {
                prefetches.push(columns.prefetch(Rows::new(state, self.hidden), 1, When::After));
            }
        } else {
            let h = if const { C::CARRIES } { place.h_prev } else { place.h };
            prefetches.push(columns.prefetch(Rows::new(h, self.outputs), 1, When::After));
            if const { C::EXTRA > 0 } {
                let extra = Rows::new(place.extra, C::EXTRA * self.hidden);
                prefetches.push(columns.prefetch(extra, 1, When::After));
            }
        }
    }
}
