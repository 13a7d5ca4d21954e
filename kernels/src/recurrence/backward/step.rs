//! One step of a backward pass, as pointers that have been checked.

use crate::cells::{BackwardPointers, BackwardUnits, Epilogue};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::Columns;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::ZoneoutAt;
use crate::recurrence::schedule::StepRows;
use crate::recurrence::step::Units;
use crate::rows::{Rows, RowsMut};
use std::ops::Deref;
use std::ptr::NonNull;

/// The noise of a pass: pointers to the first row of the first step.
pub(super) struct Noise {
    pub zoneout: ZoneoutAt,
    /// ∂L/∂h from outside, which is added before zoneout is applied.
    pub dy: Option<Rows>,
    /// Where zoneout stores its parts for the step before, if there is zoneout.
    pub kept: Option<KeptAt>,
    /// Dropout of the hidden states that the products saw, if there was any.
    pub masked: Option<Masked>,
    /// Where the cell stores c as it computed it, before zoneout, if the caller asks for it.
    pub c_made: Option<*mut f32>,
}

/// The parts of ∂L/∂h and ∂L/∂c that zoneout leaves to the step before.
#[derive(Clone, Copy)]
pub(super) struct KeptAt {
    pub dh: *mut f32,
    pub dc: *mut f32,
}

/// A dropout mask, and the hidden states multiplied by it.
#[derive(Clone, Copy)]
pub(super) struct Masked {
    pub mask: *const f32,
    pub seen: History,
}

/// The hidden states over time.
#[derive(Clone, Copy)]
pub(super) struct History {
    /// The states before the first step, a row for each sequence, the oldest state first.
    pub before: *const f32,
    /// The states after each step, in the rows of the schedule.
    pub h: *const f32,
    /// Floats from one row of `h` to the next.
    pub stride: usize,
}

impl History {
    /// Returns the history for the rows from `row` on of each step.
    #[inline(always)]
    pub(super) fn from(self, row: usize, outputs: usize) -> Self {
        let (before, h) = (row * outputs, row * self.stride);
        Self { before: self.before.wrapping_add(before), h: self.h.wrapping_add(h), ..self }
    }
}

/// The normalisation of a pass: pointers to the first row of the first step.
pub(super) struct NormAt {
    pub gain: *const f32,
    pub normal: *const f32,
    pub normal_extra: *const f32,
    pub inverse: *const f32,
    pub da: *mut f32,
    pub da_extra: *mut f32,
}

/// The operands of a step: pointers to the first row of each at the first step.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a, C> {
    /// Rows of the step, or of a part of it.
    pub batch: usize,
    pub schedule: &'a StepRows<'a>,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    /// The step, counted from 1; 0 and below stand for the states before the first step.
    pub t: isize,
    /// The products, counted from the first, that come from steps after the end of the rows'
    /// sequences, and so do not exist. The longest delay comes first.
    pub ended: usize,
    /// Whether the rows' sequences end with this step.
    pub is_last: bool,
    /// The row of the schedule with which the step starts, or 0 if it is not one of the schedule's.
    pub start: usize,
    /// The row of the schedule with which the step before it starts, or 0.
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
    /// These two are references because the operands are copied for each step.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The index of the first row here among the rows of the step.
    pub first_row: usize,
    /// Scratch for the packed left operands, `room` floats for each row.
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
    /// Makes a step of these operands.
    ///
    /// # Safety
    /// They are what `Backward::check` requires of slices, for `batch` rows of a step; `t` is one
    /// of the schedule's steps or one of the D states before them; and for as long as the step is
    /// used
    ///
    /// 1. the states, the masked states with their mask, ∂L/∂h from outside, the keys and what the
    ///    forward pass left of the norm are readable, and nobody writes them;
    /// 2. these are readable and writable, and nobody else's: gates and the extra block, of the
    ///    step and of the D steps after it; ∂L/∂h and ∂L/∂c, with the parts that zoneout keeps of
    ///    them; ∂L/∂h of all steps; c as the cell computed it; what the norm stores; `room` floats
    ///    of scratch for each row;
    /// 3. the weights are packed for the instruction set that the step runs on, and the cell has
    ///    been checked for `hidden` units.
    #[inline(always)]
    pub(super) unsafe fn new(operands: Operands<'a, C>) -> Self {
        Self(operands)
    }

    /// Returns the row of the schedule with which step `t` starts, which must be one of the
    /// schedule's.
    #[inline(always)]
    pub(super) fn start(&self, t: isize) -> usize {
        self.schedule.start((t - 1) as usize)
    }

    /// Returns the hidden states before this step, which must be one of the pass.
    #[inline(always)]
    pub(super) fn states_prev(&self, history: History) -> Rows {
        if self.t > 1 {
            return Rows::new(history.h, history.stride).from(self.start_prev, 0);
        }
        let latest = self.recurrent.history() - 1;
        Rows::new(history.before, self.outputs).from(latest * self.schedule.batch(), 0)
    }

    /// Returns the hidden states after this step.
    #[inline(always)]
    pub(super) fn states(&self) -> Rows {
        Rows::new(self.history.h, self.history.stride).from(self.start, 0)
    }

    /// Returns where the ∂L/∂h of this step that is given comes in, and where that of a state
    /// before the first step goes out. What it overwrites is ∂L/∂h of a state D steps later, which
    /// has been read before.
    #[inline(always)]
    pub(super) fn given(&self) -> *mut f32 {
        if const { C::CARRIES } {
            return self.dh;
        }
        let place = (self.t - 1).rem_euclid(self.recurrent.history() as isize);
        self.dh.wrapping_add(place as usize * self.state())
    }

    /// Whether a part of ∂L/∂h of this step is given: for the last D steps of its sequences by the
    /// caller, and for all steps if the cell carries a part. For the other steps ∂L/∂h is a sum of
    /// products alone.
    #[inline(always)]
    pub(super) fn is_given(&self) -> bool {
        self.ended > 0 || const { C::CARRIES }
    }

    /// Returns the floats of a hidden state of all sequences, BR.
    #[inline(always)]
    fn state(&self) -> usize {
        self.schedule.batch() * self.outputs
    }

    /// Returns the places of some units.
    ///
    /// # Safety
    /// The units are of the step, which is one of the pass and not before it, and nobody else
    /// has them.
    #[inline(always)]
    pub(super) unsafe fn place(&self, at: Units) -> BackwardUnits<C> {
        // SAFETY: `Step::new` has been promised the operands of all rows (1, 2) and the cell (3);
        // the units are some of them.
        unsafe { BackwardUnits::new(self.pointers(at)) }
    }

    /// Returns the places of some units as pointers.
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

    /// Prefetches what the cell reads and writes for its gradients in these columns, for the rows
    /// from `row` on.
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
