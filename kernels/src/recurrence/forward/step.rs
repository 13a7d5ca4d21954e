//! One step of a forward pass, as pointers that have been checked.

use crate::cells::{Epilogue, ForwardPointers, ForwardUnits};
use crate::gemm::rhs::PackedMatrix;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::ZoneoutAt;
use crate::recurrence::schedule::StepRows;
use crate::recurrence::step::Units;
use crate::rows::{Rows, RowsMut, further};
use std::ops::Deref;
use std::ptr::NonNull;

/// Where the input's part of the gates comes from.
#[derive(Clone, Copy)]
pub(in crate::recurrence) enum Input<'a> {
    Computed(Rows),
    Fused { x: Rows, weights: &'a PackedMatrix, bias: *const f32 },
}

/// The hidden states over time, `[D, B, R]` before the first step and `[τ, B, R]` after it.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct History<'a> {
    /// The states before the first step, a row for each sequence, the oldest state first.
    pub before: Rows,
    /// The states after each step, in the rows of the schedule.
    pub h: RowsMut,
    /// The number of states before the first step, D.
    pub depth: usize,
    pub schedule: StepRows<'a>,
}

impl History<'_> {
    /// Returns the state that step `t - delay` has left, where steps count from 0; it may lie
    /// before the first step.
    #[inline(always)]
    pub(super) fn ago(&self, t: usize, delay: usize) -> Rows {
        if t >= delay {
            self.h.from(self.schedule.start(t - delay), 0).as_rows()
        } else {
            self.before.from((self.depth + t - delay) * self.schedule.batch(), 0)
        }
    }

    /// Returns the state that step `t` leaves.
    #[inline(always)]
    pub(super) fn of(&self, t: usize) -> RowsMut {
        self.h.from(self.schedule.start(t), 0)
    }
}

/// The noise of a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct Noise<'a> {
    pub zoneout: ZoneoutAt,
    /// Dropout of the hidden states that the products see, if there is any.
    pub masked: Option<Masked<'a>>,
}

/// A dropout mask, and the hidden states multiplied by it.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Masked<'a> {
    pub mask: *const f32,
    pub seen: History<'a>,
}

/// The normalisation of a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct NormAt {
    pub epsilon: f32,
    pub gain: *const f32,
    pub bias: *const f32,
    pub normal: *mut f32,
    pub normal_extra: *mut f32,
    pub inverse: *mut f32,
}

/// The operands of a step: pointers to the first row of each.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Operands<'a, C> {
    /// Rows of the step.
    pub batch: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are stored, if they are kept.
    pub gates: Option<NonNull<f32>>,
    pub extra: *mut f32,
    /// The step, counted from 0.
    pub t: usize,
    /// The hidden states before the step.
    pub h_prev: Rows,
    /// The hidden states after the step.
    pub h: RowsMut,
    /// These three are references because the operands are copied for each step.
    pub history: &'a History<'a>,
    pub noise: Option<&'a Noise<'a>>,
    pub norm: Option<&'a NormAt>,
    /// The index of the first row here among the rows of the step.
    pub first_row: usize,
    pub c_prev: *const f32,
    pub c: *mut f32,
    /// Scratch for the packed left operands, `room` floats for each row.
    pub scratch: *mut f32,
    pub room: usize,
}

/// One step.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Step<'a, C>(Operands<'a, C>);

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
    /// They are what `Forward::check` requires of slices, for `batch` rows of one of the schedule's
    /// steps, and for as long as the step is used
    ///
    /// 1. `z` or `x` and the bias, the states before the first step and their masked copies, the
    ///    gain and bias of the norm, the mask and the keys are readable, and nobody writes them;
    /// 2. these are readable and writable, and nobody else's: gates and the extra block of the
    ///    step; h, the masked copy of h, and c; what the norm stores; `room` floats of scratch for
    ///    each row, of which a batch of one needs none;
    /// 3. the weights are packed for the instruction set that the step runs on, and the cell has
    ///    been checked for `hidden` units.
    #[inline(always)]
    pub(in crate::recurrence) unsafe fn new(operands: Operands<'a, C>) -> Self {
        Self(operands)
    }

    /// Returns the row of the schedule with which the rows here begin.
    #[inline(always)]
    pub(super) fn schedule_row(&self) -> usize {
        self.history.schedule.start(self.t) + self.first_row
    }

    /// Returns the places of some units.
    ///
    /// # Safety
    /// The units are of the step, and nobody else has them.
    #[inline(always)]
    pub(super) unsafe fn place(&self, Units { row, first, lanes }: Units) -> ForwardUnits<C> {
        let units = row * self.hidden + first;
        let gates = row * C::GATES * self.hidden + first;
        let at = ForwardPointers {
            lanes,
            unit: first,
            hidden: self.hidden,
            input: match self.input {
                Input::Computed(z) => z.at(row, first),
                Input::Fused { .. } => std::ptr::dangling(),
            },
            gates: further(self.gates, gates),
            extra: self.extra.wrapping_add(row * C::EXTRA * self.hidden + first),
            h_prev: self.h_prev.at(row, first),
            h_seen: self.seen(1).at(row, first),
            h: self.h.at(row, first),
            c_prev: self.c_prev.wrapping_add(units),
            c: self.c.wrapping_add(units),
        };
        // SAFETY: `Step::new` has been promised the operands of all rows (1, 2) and the cell (3);
        // the units are some of them. Where the input's part is not computed, the cell does not
        // have `SEPARATE_SUMS`: `Forward::check` and `Single` refuse it.
        unsafe { ForwardUnits::new(at) }
    }

    /// Returns the hidden states that the products see of the step `delay` steps before this one.
    #[inline(always)]
    pub(super) fn seen(&self, delay: usize) -> Rows {
        match self.masked() {
            Some(Masked { seen, .. }) => seen.ago(self.t, delay).from(self.first_row, 0),
            None if delay == 1 => self.h_prev,
            None => self.history.ago(self.t, delay).from(self.first_row, 0),
        }
    }

    /// Returns the dropout mask and the masked states, if there is dropout.
    #[inline(always)]
    pub(super) fn masked(&self) -> Option<&'a Masked<'a>> {
        self.noise.and_then(|noise| noise.masked.as_ref())
    }
}
