//! The second stage of a forward step: a product of the extra block that the first stage has left.

use super::step::{Input, Step};
use crate::cells::{Epilogue, Geometry, MOST_SUMS};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::gemm::tile::store_lanes;
use crate::recurrence::step::{self, Block, Term, Units};
use crate::rows::Rows;
use crate::simd::Simd;

/// The second stage of a step: its product of the extra block with `weights`, and the cell.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Second<'a, C> {
    step: Step<'a, C>,
    weights: &'a PackedMatrix,
}

impl<'a, C: Epilogue> Second<'a, C> {
    /// Returns the second stage of `step`, if the cell has one.
    #[inline(always)]
    pub(in crate::recurrence) fn of(step: Step<'a, C>) -> Option<Self> {
        let two = const { Geometry::new::<C>().is_double() };
        let weights = if two { step.recurrent.second? } else { return None };
        Some(Self { step, weights })
    }
}

// SAFETY: `Forward::check` has verified that the weights fit (1). `Step::new` has been promised the
// rest, for a step with a second product: the extra block (2), the input's part of its gate (3),
// the scratch (4), and what the cell, noise and normalisation read and write (5).
unsafe impl<C: Epilogue> step::Step for Second<'_, C> {
    const SUMS: usize = 1;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.step.batch
    }

    #[inline(always)]
    fn weights(&self) -> &PackedMatrix {
        self.weights
    }

    #[inline(always)]
    fn terms(&self) -> usize {
        1
    }

    #[inline(always)]
    fn term(&self, _index: usize) -> Option<Term<'_>> {
        let rows = Rows::new(self.step.extra, C::EXTRA * self.step.hidden);
        Some(Term { rows, weights: self.weights })
    }

    #[inline(always)]
    fn start(&self) -> Option<Rows> {
        match (C::SECOND, self.step.input) {
            (Some(gate), Input::Computed(z)) => Some(z.from(0, gate * self.step.hidden)),
            _ => None,
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches {
        let mut prefetches = Prefetches::none();
        if let Some(z) = self.start() {
            prefetches.push(columns.prefetch(z.from(row, 0), 1, When::Start));
            let before = self.step.h_prev.from(row, 0);
            prefetches.push(columns.prefetch(before, 1, When::After));
        }
        let now = self.step.h.as_rows().from(row, 0);
        prefetches.push(columns.prefetch(now, 1, When::After));
        prefetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: step::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, [sum, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the units are of the step (1), and nobody else has them (2).
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                place.set_h(simd, self.step.cell.project(simd, sum));
            } else if let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) {
                let normal = self.step.normal(norm, at.row, gate);
                store_lanes(simd, normal.add(at.first), sum, at.lanes);
            } else {
                self.step.cell.second(simd, &place, sum);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        step::Step::is_noisy(&self.step)
    }

    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, simd: S, at: Block) {
        if !step::Step::ends_with_rows(self) {
            // SAFETY: the block is of the step (1), and nobody else has it (2).
            unsafe { self.step.perturb(simd, at, true, false) };
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        C::SECOND.is_some() && self.step.norm.is_some()
    }

    /// Normalises the sums of the second product, and computes the states from them.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, simd: S, row: usize) {
        let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) else { return };
        let hidden = self.step.hidden;
        let normal = self.step.normal(norm, row, gate);
        // SAFETY: the row is of the step, and has a block for the gate, with a gain and a bias
        // for each unit; nobody else has it.
        unsafe {
            self.step.normalise(simd, norm, row, gate);
            for first in (0..hidden).step_by(S::LANES) {
                let lanes = S::LANES.min(hidden - first);
                let sum = norm.scaled(simd, normal.add(first), gate * hidden + first, lanes);
                let place = self.step.place(Units { row, first, lanes });
                self.step.cell.second(simd, &place, sum);
            }
            self.step.perturb(simd, Block { row, rows: 1, first: 0, end: hidden }, true, false);
        }
    }
}
