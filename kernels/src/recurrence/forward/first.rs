//! The first stage of a forward step: the recurrent products on top of the input's part, and the
//! cell.

use super::step::{Input, Operands, Step};
use crate::cells::{Epilogue, Geometry, MOST_SUMS};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::recurrence::step::{self, Block, Term, Units};
use crate::rows::{Rows, further};
use crate::simd::Simd;

// SAFETY: `Step::new` has been promised the operands of `batch` rows, from which everything here is
// made: terms (2) and start (3), the scratch (4), and what the cell, noise and normalisation read
// and write of the units that they are handed (5). `Forward::check` has verified that the weights
// fit (1).
unsafe impl<C: Epilogue> step::Step for Step<'_, C> {
    const SUMS: usize = C::SUMS;
    const SHORT: bool = C::SHORT;

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
            return Some(Term { rows: x, weights });
        };
        let rows = self.seen(self.recurrent.delays[index]);
        Some(Term { rows, weights: &self.recurrent.weights[index] })
    }

    #[inline(always)]
    fn start(&self) -> Option<Rows> {
        match self.input {
            _ if const { C::SEPARATE_SUMS } => None,
            // Sums that are to be normalised start without a bias.
            Input::Fused { .. } if self.norm.is_some() => None,
            Input::Computed(z) => Some(z),
            Input::Fused { bias, .. } => Some(Rows::new(bias, 0)),
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    #[inline(always)]
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches {
        let mut prefetches = Prefetches::none();
        if let Input::Computed(z) = self.input {
            let when = if const { C::SEPARATE_SUMS } { When::After } else { When::Start };
            prefetches.push(columns.prefetch(z.from(row, 0), 1, when));
        }
        // What is kept goes to memory that no step has touched before, so it is prefetched too.
        let kept = self.gates.is_some();
        for (wanted, state) in [
            (C::CELLS, Rows::new(self.c_prev, self.hidden)),
            (C::CARRIES, self.h_prev),
            (C::CELLS && kept, Rows::new(self.c, self.hidden)),
            (C::EXTRA > 0 && kept, Rows::new(self.extra, C::EXTRA * self.hidden)),
            (!C::PROJECTS && kept, self.h.as_rows()),
        ] {
            if wanted {
                prefetches.push(columns.prefetch(state.from(row, 0), C::SUMS, When::After));
            }
        }
        prefetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.batch, "rows of the step");
        let units = row * self.hidden;
        let operands = Operands {
            batch: rows,
            input: match self.input {
                Input::Computed(z) => Input::Computed(z.from(row, 0)),
                Input::Fused { x, weights, bias } => {
                    Input::Fused { x: x.from(row, 0), weights, bias }
                }
            },
            gates: further(self.gates, C::GATES * units),
            extra: self.extra.wrapping_add(C::EXTRA * units),
            h_prev: self.h_prev.from(row, 0),
            h: self.h.from(row, 0),
            first_row: self.first_row + row,
            c_prev: self.c_prev.wrapping_add(units),
            c: self.c.wrapping_add(units),
            scratch: self.scratch.wrapping_add(row * self.room),
            ..*self
        };
        // SAFETY: the operands of these rows are a part of those that this step was made from.
        unsafe { Step::new(operands) }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, z: [S::V; MOST_SUMS]) {
        // SAFETY: the units are of the step (1), and nobody else has them (2).
        unsafe {
            match self.norm {
                None => self.cell.forward(simd, &self.place(at), z),
                Some(norm) => self.store_sums(simd, norm, at, z),
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.noise.is_some()
    }

    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, simd: S, at: Block) {
        let two = const { Geometry::new::<C>().is_double() };
        if (!two || C::CELLS) && self.norm.is_none() {
            // SAFETY: the block is of the step (1), and nobody else has it (2).
            unsafe { self.perturb(simd, at, !two, C::CELLS) };
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.norm.is_some()
    }

    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, simd: S, row: usize) {
        // SAFETY: the row is of the step and finished, and nobody else has it.
        unsafe { self.end_first(simd, row) };
    }
}
