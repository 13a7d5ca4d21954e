//! The steps of a forward pass that has been checked, as pointers.

use super::noise::Noise;
use super::norm::NormAt;
use super::second::Second;
use crate::cells::{Epilogue, Forth, Geometry, MOST_SUMS};
use crate::fetch::{Fetches, When};
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::regularise::Block;
use crate::recurrence::{self, Origin, Recurrent, Steps, Term, Units};
use crate::simd::Simd;
use std::ptr::null_mut;

/// Where the cell states of the steps after the first are.
#[derive(Clone, Copy)]
pub(super) enum SStep {
    /// So many floats further each.
    Along(usize),
    /// Here, and where the first step's is, in turns.
    Turns(*mut f32),
}

/// The steps of a checked pass.
pub(super) struct Pointers<'a, C> {
    pub steps: usize,
    pub s_step: SStep,
    pub first: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn first(&self, t: usize) -> Step<'a, C> {
        let first = self.first;
        let units = first.batch * first.hidden;
        let (s_prev, s) = match self.s_step {
            SStep::Along(state) => match t {
                0 => (first.s_prev, first.s),
                _ => (
                    first.s.cast_const().wrapping_add((t - 1) * state),
                    first.s.wrapping_add(t * state),
                ),
            },
            SStep::Turns(_) if t.is_multiple_of(2) => (first.s_prev, first.s),
            SStep::Turns(other) => (first.s.cast_const(), other),
        };
        let kept = usize::from(!first.gates.is_null());
        Step {
            input: match first.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(t * first.batch * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    let x = x.wrapping_add(t * first.batch * weights.depth());
                    Input::Fused { x, weights, bias }
                }
            },
            gates: first.gates.wrapping_add(kept * t * C::GATES * units),
            extra: first.extra.wrapping_add(kept * t * C::EXTRA * units),
            history: History { t, ..first.history },
            s_prev,
            s,
            ..first
        }
    }

    #[inline(always)]
    fn second(&self, t: usize) -> Option<Second<'a, C>> {
        let step = self.first(t);
        step.recurrent.second.map(|weights| Second { step, weights })
    }
}

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

impl<C: Epilogue> recurrence::Step for Step<'_, C> {
    const SUMS: usize = C::SUMS;
    const SHORT: bool = true;

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
        1 + self.recurrent.weights.len()
    }

    #[inline(always)]
    fn term(&self, index: usize) -> Option<Term<'_>> {
        let Some(index) = index.checked_sub(1) else {
            let Input::Fused { x, weights, .. } = self.input else { return None };
            return Some(Term { rows: x, stride: weights.depth(), weights });
        };
        let rows = self.seen().ago(self.recurrent.delays[index]);
        Some(Term { rows, stride: self.outputs, weights: &self.recurrent.weights[index] })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match self.input {
            _ if const { C::APART } => None,
            // What is normalised has no bias.
            Input::Fused { .. } if self.norm.is_some() => None,
            Input::Computed { z, stride } => Some(Origin { start: z, stride }),
            Input::Fused { bias, .. } => Some(Origin { start: bias, stride: 0 }),
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if let Input::Computed { z, stride } = self.input {
            let z = z.wrapping_add(row * stride);
            let when = if const { C::APART } { When::After } else { When::Start };
            fetches.push(columns.fetch(z, stride, 1, when));
        }
        // What is kept goes to memory that no step has touched before.
        let kept = !self.gates.is_null();
        for (wanted, state, stride) in [
            (C::CELLS, self.s_prev, self.hidden),
            (C::CARRIES, self.history.ago(1), self.outputs),
            (C::CELLS && kept, self.s.cast_const(), self.hidden),
            (C::EXTRA > 0 && kept, self.extra.cast_const(), C::EXTRA * self.hidden),
            (!C::PROJECTS && kept, self.history.now().cast_const(), self.outputs),
        ] {
            if wanted {
                let state = state.wrapping_add(row * stride);
                fetches.push(columns.fetch(state, stride, C::SUMS, When::After));
            }
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        let (units, outputs) = (row * self.hidden, row * self.outputs);
        Step {
            batch: rows,
            input: match self.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(row * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    Input::Fused { x: x.wrapping_add(row * weights.depth()), weights, bias }
                }
            },
            gates: match self.gates.is_null() {
                true => null_mut(),
                false => self.gates.wrapping_add(C::GATES * units),
            },
            extra: self.extra.wrapping_add(C::EXTRA * units),
            history: self.history.from(outputs),
            first_row: self.first_row + row,
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
            scratch: self.scratch.wrapping_add(row * self.room),
            ..self
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, z: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            match self.norm {
                None => self.cell.forward(s, &self.place(at), z),
                Some(norm) => self.leave(s, norm, at, z),
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.noise.is_some()
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        let two = const { Geometry::new::<C>().is_double() };
        if (!two || C::CELLS) && self.norm.is_none() {
            self.perturb(s, at, !two, C::CELLS);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.norm.is_some()
    }

    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        // SAFETY: the caller's.
        unsafe { self.end_first(s, row) };
    }
}
