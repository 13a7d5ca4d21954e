//! The second stage of a backward step: the gradient of the extra block, which is a product.

use super::step::Step;
use crate::cells::{Epilogue, Geometry, MOST_SUMS};
use crate::gemm::prefetch::Prefetches;
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::gemm::tile::Grid;
use crate::recurrence::step::{self, Block, Term, Units};
use crate::rows::Rows;
use crate::simd::Simd;

/// The second stage of a step: the gradient of the extra block, a product with `weights`, and the
/// cell's gradients from it.
#[derive(Clone, Copy)]
pub(super) struct Second<'a, C> {
    step: Step<'a, C>,
    weights: &'a PackedMatrix,
}

impl<'a, C: Epilogue> Second<'a, C> {
    /// Returns the second stage of `step`, if it has one. States before the first step have none.
    #[inline(always)]
    pub(super) fn of(step: Step<'a, C>) -> Option<Self> {
        let two = const { Geometry::new::<C>().is_double() };
        let weights = if two { step.recurrent.second? } else { return None };
        (step.t > 0).then_some(Self { step, weights })
    }
}

// SAFETY: `Step::new` has been promised, for a step with a second product, the gradients that it
// multiplies (2), the scratch (4) and what the cell, noise and normalisation read and write (5).
// `Backward::check` has verified that the weights fit (1).
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
        let step = &self.step;
        let (rows, stride) = match C::SECOND {
            Some(gate) => {
                let gates = step.by_sums(step.t);
                (gates.wrapping_add(gate * step.hidden), C::GATES * step.hidden)
            }
            None => (step.dh_all.wrapping_add(step.start * step.outputs), step.outputs),
        };
        Some(Term { rows: Rows::new(rows, stride), weights: self.weights })
    }

    #[inline(always)]
    fn start(&self) -> Option<Rows> {
        None
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches {
        let mut prefetches = Prefetches::none();
        if const { C::PROJECTS } {
            self.step.prefetch_cell(&mut prefetches, columns, row);
        }
        prefetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: step::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, [d, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the units are of the step (1), which is one of the pass, and nobody else has
        // them (2).
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                self.step.cell.backward(simd, &place, d);
            } else {
                self.step.cell.second_backward(simd, &place, d);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.step.noise.is_some() && const { C::PROJECTS && C::CELLS }
    }

    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, simd: S, at: Block, sums: Grid) {
        // SAFETY: the block is of the step, and nobody else has it.
        unsafe { self.step.before(simd, at, sums, false, true) };
    }

    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, simd: S, at: Block) {
        if const { C::PROJECTS } {
            // SAFETY: the block is of the step, and nobody else has it.
            unsafe { self.step.rejoin(simd, at) };
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.step.norm.is_some()
    }

    /// Computes the gradients by the sums of the other gates, which are all gates if the cell
    /// projects.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, simd: S, row: usize) {
        let Some(norm) = self.step.norm else { return };
        for block in 0..C::GATES {
            if C::SECOND != Some(block) {
                // SAFETY: the row is of the step, and there is such a block.
                unsafe { self.step.denormalise(simd, norm, row, block) };
            }
        }
    }
}
