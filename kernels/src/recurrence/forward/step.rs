//! A step of a forward pass that has been checked, as pointers.

use crate::cells::{Epilogue, ForwardPointers, ForwardUnits};
use crate::gemm::rhs::PackedMatrix;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::noise::Zone;
use crate::recurrence::step::Units;
use crate::rows::{Rows, further};
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
    /// Those before the first step.
    pub before: *const f32,
    /// Those of the steps.
    pub h: *mut f32,
    /// How many there are before the first step.
    pub depth: usize,
    /// Floats of one.
    pub state: usize,
    /// The present step, from 0.
    pub t: usize,
}

impl History {
    /// The state so many steps before the present one.
    #[inline(always)]
    pub(super) fn ago(&self, delay: usize) -> *const f32 {
        if self.t >= delay {
            self.h.cast_const().wrapping_add((self.t - delay) * self.state)
        } else {
            self.before.wrapping_add((self.depth + self.t - delay) * self.state)
        }
    }

    /// The same for later rows, which begin so many floats further.
    #[inline(always)]
    pub(super) fn from(self, floats: usize) -> Self {
        let (before, h) = (self.before.wrapping_add(floats), self.h.wrapping_add(floats));
        Self { before, h, ..self }
    }

    /// The present one.
    #[inline(always)]
    pub(super) fn now(&self) -> *mut f32 {
        self.h.wrapping_add(self.t * self.state)
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
    pub batch: usize,
    pub all: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are kept, if they are.
    pub gates: Option<NonNull<f32>>,
    pub extra: *mut f32,
    pub history: History,
    /// References, since a step is copied for each.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row in the whole batch, of which there are `all`.
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
    /// They are what `Forward::check` asks of slices, from `batch` rows of a batch of `all`
    /// on, at one of its steps, and for as long as the step is used
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

    /// The places of some units.
    ///
    /// # Safety
    /// The units are of the step, and nobody else has them.
    #[inline(always)]
    pub(super) unsafe fn place(&self, Units { row, first, lanes }: Units) -> ForwardUnits<C> {
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
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
            h_prev: self.history.ago(1).wrapping_add(outputs),
            h_seen: self.seen().ago(1).wrapping_add(outputs),
            h: self.history.now().wrapping_add(outputs),
            c_prev: self.c_prev.wrapping_add(units),
            c: self.c.wrapping_add(units),
        };
        // SAFETY: `Step::new` has been promised all rows' operands (1, 2) and the cell (3); of
        // these the units are some. Where the input's part is not computed sums are not apart
        // from it: `Forward::check` and `Single` refuse it.
        unsafe { ForwardUnits::new(at) }
    }

    /// The hidden states as the products see them.
    #[inline(always)]
    pub(super) fn seen(&self) -> History {
        match self.noise {
            Some(Noise { masked: Some(Masked { seen, .. }), .. }) => {
                History { t: self.history.t, ..seen.from(self.first_row * self.outputs) }
            }
            _ => self.history,
        }
    }
}
