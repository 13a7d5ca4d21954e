//! The second stage of a step: a product of what the first has left in the extra block.

use super::step::{Input, Step};
use crate::cells::{Epilogue, MOST_SUMS};
use crate::fetch::{Fetches, When};
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::step::{self, Block, Origin, Term, Units};
use crate::simd::Simd;
use crate::tile::store_lanes;

/// The second stage of a step: a product of the extra block.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Second<'a, C> {
    pub step: Step<'a, C>,
    pub weights: &'a PackedMatrix,
}

impl<C: Epilogue> step::Step for Second<'_, C> {
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
        let stride = C::EXTRA * self.step.hidden;
        Some(Term { rows: self.step.extra, stride, weights: self.weights })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match (C::SECOND, self.step.input) {
            (Some(gate), Input::Computed { z, stride }) => {
                Some(Origin { start: z.wrapping_add(gate * self.step.hidden), stride })
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        let outputs = self.step.outputs;
        if let Some(Origin { start, stride }) = self.origin() {
            let z = start.wrapping_add(row * stride);
            fetches.push(columns.fetch(z, stride, 1, When::Start));
            let before = self.step.history.ago(1).wrapping_add(row * outputs);
            fetches.push(columns.fetch(before, outputs, 1, When::After));
        }
        let now = self.step.history.now().wrapping_add(row * outputs);
        fetches.push(columns.fetch(now, outputs, 1, When::After));
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: step::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [sum, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                store_lanes(s, place.h, sum, at.lanes);
            } else if let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) {
                let normal = self.step.normal(norm, at.row, gate);
                store_lanes(s, normal.add(at.first), sum, at.lanes);
            } else {
                self.step.cell.second(s, &place, sum);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        step::Step::is_noisy(&self.step)
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        if !step::Step::ends_with_rows(self) {
            self.step.perturb(s, at, true, false);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        C::SECOND.is_some() && self.step.norm.is_some()
    }

    /// Normalises the second product's sums, and makes states of them.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) else { return };
        let hidden = self.step.hidden;
        let normal = self.step.normal(norm, row, gate);
        // SAFETY: the caller's; there is a block for the gate.
        unsafe {
            self.step.normalise(s, norm, row, gate);
            for first in (0..hidden).step_by(S::LANES) {
                let lanes = S::LANES.min(hidden - first);
                let sum = norm.scaled(s, normal.add(first), gate * hidden + first, lanes);
                let place = self.step.place(Units { row, first, lanes });
                self.step.cell.second(s, &place, sum);
            }
        }
        self.step.perturb(s, Block { row, rows: 1, first: 0, end: hidden }, true, false);
    }
}
