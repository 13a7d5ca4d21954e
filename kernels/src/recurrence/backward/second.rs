//! The second stage of a step: the gradient of the extra block.

use super::step::Step;
use crate::cells::{Epilogue, MOST_SUMS};
use crate::fetch::Fetches;
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::step::{self, Block, Origin, Term, Units};
use crate::simd::Simd;
use crate::tile::Grid;

/// The second stage of a step: the gradient of the extra block.
#[derive(Clone, Copy)]
pub(super) struct Second<'a, C> {
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
        let step = &self.step;
        let (rows, stride) = match C::SECOND {
            Some(gate) => {
                let gates = step.by_sums(step.t);
                (gates.wrapping_add(gate * step.hidden), C::GATES * step.hidden)
            }
            None => (step.dh_all.wrapping_add(step.offset(step.t, 1, step.outputs)), step.outputs),
        };
        Some(Term { rows, stride, weights: self.weights })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        None
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if const { C::PROJECTS } {
            self.step.fetch_cell(&mut fetches, columns, row);
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: step::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [d, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                self.step.cell.backward(s, &place, d);
            } else {
                self.step.cell.second_backward(s, &place, d);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.step.noise.is_some() && const { C::PROJECTS && C::CELLS }
    }

    #[inline(always)]
    fn prepare<S: Simd>(&self, s: S, at: Block, sums: Grid) {
        self.step.before(s, at, sums, false, true);
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        if const { C::PROJECTS } {
            self.step.rejoin(s, at);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.step.norm.is_some()
    }

    /// The gradients by the other gates, which are all where the cell projects.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        let Some(norm) = self.step.norm else { return };
        for block in 0..C::GATES {
            if C::SECOND != Some(block) {
                // SAFETY: the caller's; there is such a block.
                unsafe { self.step.denormalise(s, norm, row, block) };
            }
        }
    }
}
