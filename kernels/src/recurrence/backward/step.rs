//! A step of a backward pass that has been checked, as pointers.

use crate::cells::{BackwardPointers, BackwardUnits, Epilogue};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::Columns;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::Zone;
use crate::recurrence::schedule::Schedule;
use crate::recurrence::step::Units;
use crate::rows::{Rows, RowsMut};
use std::ops::Deref;
use std::ptr::NonNull;

/// Noise in a pass: pointers to the first row at the first step.
pub(super) struct Noise {
    pub zone: Zone,
    /// ∂L/∂h from outside, which comes before it.
    pub dy: Option<Rows>,
    /// What zoneout has left to the step before, where there is some.
    pub kept: Option<KeptAt>,
    pub masked: Option<Masked>,
    /// Where c goes as the cell made it, if anybody asks.
    pub c_made: Option<*mut f32>,
}

/// What zoneout has left of ∂L/∂h and ∂L/∂c to the step before.
#[derive(Clone, Copy)]
pub(super) struct KeptAt {
    pub dh: *mut f32,
    pub dc: *mut f32,
}

/// The share that products saw of h, where that is not all, and what that left.
#[derive(Clone, Copy)]
pub(super) struct Masked {
    pub mask: *const f32,
    pub seen: History,
}

/// The hidden states over time.
#[derive(Clone, Copy)]
pub(super) struct History {
    /// Those before the first step, a row for each sequence, the oldest state first.
    pub before: *const f32,
    /// Those of the steps, a row for each of the schedule, and floats from one to the next.
    pub h: *const f32,
    pub stride: usize,
}

impl History {
    /// The same for the rows from this one of each step.
    #[inline(always)]
    pub(super) fn from(self, row: usize, outputs: usize) -> Self {
        let (before, h) = (row * outputs, row * self.stride);
        Self { before: self.before.wrapping_add(before), h: self.h.wrapping_add(h), ..self }
    }
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
    /// Rows of the step.
    pub batch: usize,
    pub schedule: &'a Schedule,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    /// The step, from 1; the states before the first step are those of 0 and below.
    pub t: isize,
    /// The schedule's row with which the step starts, and the step before, where there are such.
    pub start: usize,
    pub start_prev: usize,
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub history: History,
    /// The cell state before the first step.
    pub c0: *const f32,
    pub c: *const f32,
    pub dh: *mut f32,
    pub dc: *mut f32,
    pub dy: Option<NonNull<f32>>,
    pub dy_stride: usize,
    pub dh_all: *mut f32,
    /// References, since a step is copied for each.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row among those of its step.
    pub first_row: usize,
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
    /// They are what `Backward::check` asks of slices, of `batch` rows of a step, `t` is one of the
    /// schedule's steps or of the D before them, and for as long as the step is used
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

    /// The row of the schedule with which a step starts, which is one of the schedule's.
    #[inline(always)]
    pub(super) fn start(&self, t: isize) -> usize {
        self.schedule.start((t - 1) as usize)
    }

    /// The hidden states before the step, which is one of the pass.
    #[inline(always)]
    pub(super) fn states_prev(&self, history: History) -> Rows {
        if self.t > 1 {
            return Rows::new(history.h, history.stride).from(self.start_prev, 0);
        }
        let latest = self.recurrent.history() - 1;
        Rows::new(history.before, self.outputs).from(latest * self.schedule.batch(), 0)
    }

    /// Those after it.
    #[inline(always)]
    fn states(&self) -> Rows {
        Rows::new(self.history.h, self.history.stride).from(self.start, 0)
    }

    /// Where ∂L/∂h of a step comes in, of the last D in their order, or is carried.
    #[inline(always)]
    pub(super) fn incoming(&self) -> *const f32 {
        if const { C::CARRIES } {
            return self.dh;
        }
        self.outgoing().wrapping_sub(self.schedule.steps() * self.state())
    }

    /// Whether it does: ∂L/∂h of the last steps goes on from what the caller gives, and that
    /// of all where the cell carries a part; of the others it is a sum alone.
    #[inline(always)]
    pub(super) fn is_given(&self) -> bool {
        let last = self.t + self.recurrent.history() as isize > self.schedule.steps() as isize;
        last || const { C::CARRIES }
    }

    /// Where that of a state before the first step goes out. Of less than D steps some
    /// come in and go out again: later ones, whose place is taken, have been read.
    #[inline(always)]
    pub(super) fn outgoing(&self) -> *mut f32 {
        let place = self.t - 1 + self.recurrent.history() as isize;
        self.dh.wrapping_add(place as usize * self.state())
    }

    /// Floats of the hidden states of all sequences.
    #[inline(always)]
    fn state(&self) -> usize {
        self.schedule.batch() * self.outputs
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
        let (t, start) = (self.t, self.start);
        let units = row * self.hidden + first;
        let h_prev = self.states_prev(self.history).at(row, first);
        let (mut h_seen, mut mask, mut c_made) = (h_prev, None, None);
        if let Some(noise) = self.noise {
            let row = self.first_row + row;
            if let Some(masked) = noise.masked {
                let place = Rows::new(masked.mask, self.outputs).at(row, first);
                mask = NonNull::new(place.cast_mut());
                h_seen = self.states_prev(masked.seen).at(row, first);
            }
            if let Some(made) = noise.c_made {
                c_made = NonNull::new(RowsMut::new(made, self.hidden).at(start + row, first));
            }
        }
        let c_prev = match t {
            ..=1 => self.c0,
            _ => self.c.wrapping_add(self.start_prev * self.hidden),
        };
        BackwardPointers {
            lanes,
            unit: first,
            hidden: self.hidden,
            gates: RowsMut::new(self.gates, C::GATES * self.hidden).at(start + row, first),
            extra: RowsMut::new(self.extra, C::EXTRA * self.hidden).at(start + row, first),
            h_prev,
            h_seen,
            mask,
            h: self.states().at(row, first),
            c_prev: c_prev.wrapping_add(units),
            c_made,
            dh: RowsMut::new(self.dh, self.outputs).at(row, first),
            dc: self.dc.wrapping_add(units),
        }
    }

    /// What the cell's gradients read and write of the rows from `row` in these columns.
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
            let h = match const { C::CARRIES } {
                true => self.states_prev(self.history),
                false => self.states(),
            };
            prefetches.push(columns.prefetch(h.from(row, 0), 1, When::After));
            if const { C::EXTRA > 0 } {
                let extra = Rows::new(place.extra, C::EXTRA * self.hidden);
                prefetches.push(columns.prefetch(extra, 1, When::After));
            }
        }
    }
}
