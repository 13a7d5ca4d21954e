//! A step of a forward pass that has been checked, as pointers.

use crate::cells::{Epilogue, ForwardPointers, ForwardUnits};
use crate::gemm::rhs::PackedMatrix;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::Zone;
use crate::recurrence::schedule::Schedule;
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

/// The hidden states over time.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct History {
    /// Those before the first step, a row for each sequence, the oldest state first.
    pub before: Rows,
    /// Those of the steps, a row for each of the schedule.
    pub h: RowsMut,
    /// How many states there are before the first step.
    pub depth: usize,
    pub schedule: Schedule,
}

impl History {
    /// The state of so many steps before step `t`, which counts from 0.
    #[inline(always)]
    pub(super) fn ago(&self, t: usize, delay: usize) -> Rows {
        if t >= delay {
            self.h.from(self.schedule.start(t - delay), 0).as_rows()
        } else {
            self.before.from((self.depth + t - delay) * self.schedule.batch(), 0)
        }
    }

    /// The state of step `t`.
    #[inline(always)]
    pub(super) fn of(&self, t: usize) -> RowsMut {
        self.h.from(self.schedule.start(t), 0)
    }
}

/// Noise in a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct Noise {
    pub zone: Zone,
    /// What products see of the hidden states, where that is not all.
    pub masked: Option<Masked>,
}

/// A share of the hidden states, and what that leaves.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Masked {
    pub mask: *const f32,
    pub seen: History,
}

/// Normalisation in a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct NormAt {
    pub epsilon: f32,
    pub gain: *const f32,
    pub bias: *const f32,
    pub normal: *mut f32,
    pub normal_extra: *mut f32,
    pub inverse: *mut f32,
}

/// What a step reads and writes: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Operands<'a, C> {
    /// Rows of the step.
    pub batch: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are kept, if they are.
    pub gates: Option<NonNull<f32>>,
    pub extra: *mut f32,
    /// The step, from 0.
    pub t: usize,
    /// The hidden states before the step and after it.
    pub h_prev: Rows,
    pub h: RowsMut,
    /// References, since a step is copied for each.
    pub history: &'a History,
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row among those of its step.
    pub first_row: usize,
    pub c_prev: *const f32,
    pub c: *mut f32,
    /// Room for the rows of the products' left operands, so many floats for each.
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
    /// A step of these operands.
    ///
    /// # Safety
    /// They are what `Forward::check` asks of slices, of `batch` rows of one of the schedule's
    /// steps, and for as long as the step is used
    ///
    /// 1. `z` or `x` and the bias, `before` and what is masked before the first step, what the
    ///    norm scales by, the mask and the keys are readable, and nobody writes them;
    /// 2. these are readable and writable, and nobody else's: gates and the extra block of the
    ///    step; h, with what is seen of it, and c; what the norm leaves; `room` floats of scratch
    ///    for each row, of which a batch of one needs none;
    /// 3. the weights are packed for the set of instructions that the step is taken on, and the
    ///    cell has been checked for `hidden` units.
    #[inline(always)]
    pub(in crate::recurrence) unsafe fn new(operands: Operands<'a, C>) -> Self {
        Self(operands)
    }

    /// The row of the schedule with which the step's rows here begin.
    #[inline(always)]
    pub(super) fn schedule_row(&self) -> usize {
        self.history.schedule.start(self.t) + self.first_row
    }

    /// The places of some units.
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
        // SAFETY: `Step::new` has been promised all rows' operands (1, 2) and the cell (3); of
        // these the units are some. Where the input's part is not computed sums are not apart
        // from it: `Forward::check` and `Single` refuse it.
        unsafe { ForwardUnits::new(at) }
    }

    /// The hidden states of so many steps before, as the products see them.
    #[inline(always)]
    pub(super) fn seen(&self, delay: usize) -> Rows {
        match self.masked() {
            Some(Masked { seen, .. }) => seen.ago(self.t, delay).from(self.first_row, 0),
            None if delay == 1 => self.h_prev,
            None => self.history.ago(self.t, delay).from(self.first_row, 0),
        }
    }

    /// The share of the hidden states that products see, where that is not all.
    #[inline(always)]
    pub(super) fn masked(&self) -> Option<&'a Masked> {
        self.noise.and_then(|noise| noise.masked.as_ref())
    }
}
