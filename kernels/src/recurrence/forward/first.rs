//! The first stage of a step: the recurrent products on top of the input's part, and the cell.

use super::step::{Input, Step};
use crate::cells::{Epilogue, Geometry, MOST_SUMS};
use crate::fetch::{Fetches, When};
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::step::{self, Block, Origin, Term, Units};
use crate::simd::Simd;
use std::ptr::null_mut;

impl<C: Epilogue> step::Step for Step<'_, C> {
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
