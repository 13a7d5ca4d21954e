//! A step of a forward pass that has been checked, as pointers.

use crate::cells::{Epilogue, Forth};
use crate::pack::PackedMatrix;
use crate::recurrence::dims::Recurrent;
use crate::recurrence::regularise::Zone;
use crate::recurrence::step::Units;
use std::ptr::null_mut;

/// Where the input's part of the gates comes from.
#[derive(Clone, Copy)]
pub(in crate::recurrence) enum Input<'a> {
    Computed { z: *const f32, stride: usize },
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
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
    /// The share that products see of the hidden states, null where that is all, and what
    /// that leaves.
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

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Step<'a, C> {
    pub batch: usize,
    pub all: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are kept; null where they are not.
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub history: History,
    /// References, since a step is copied for each.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row in the whole batch, of which there are `all`.
    pub first_row: usize,
    pub s_prev: *const f32,
    pub s: *mut f32,
    /// Room for the rows of the products' left operands, so many floats for each.
    pub scratch: *mut f32,
    pub room: usize,
}

impl<C: Epilogue> Step<'_, C> {
    #[inline(always)]
    pub(super) fn place(&self, Units { row, first, lanes }: Units) -> Forth {
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
        let gates = row * C::GATES * self.hidden + first;
        Forth {
            lanes,
            unit: first,
            hidden: self.hidden,
            input: match self.input {
                Input::Computed { z, stride } => z.wrapping_add(row * stride + first),
                Input::Fused { .. } => std::ptr::null(),
            },
            gates: if self.gates.is_null() { null_mut() } else { self.gates.wrapping_add(gates) },
            extra: self.extra.wrapping_add(row * C::EXTRA * self.hidden + first),
            h_prev: self.history.ago(1).wrapping_add(outputs),
            h_seen: self.seen().ago(1).wrapping_add(outputs),
            h: self.history.now().wrapping_add(outputs),
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
        }
    }
}
