//! The first stage of a backward step: ∂L/∂h from the steps after it, and the cell's gradients.

use super::step::{Operands, Step};
use crate::cells::{BackwardLhs, Epilogue, MOST_SUMS};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::gemm::tile::{Grid, store_lanes};
use crate::recurrence::step::{self, Block, Term, Units};
use crate::rows::{At, Rows, RowsMut, further};
use crate::simd::Simd;

/// Returns the left operand of a product of a step. With several delays, each has the same
/// operands.
#[inline(always)]
fn source<C: Epilogue>(term: usize) -> BackwardLhs {
    if const { C::BACK.len() == 1 } { C::BACK[0] } else { C::BACK[term % C::BACK.len()] }
}

// SAFETY: `Step::new` has been promised the operands of `batch` rows, from which everything here is
// made: terms (2) and start (3), the scratch (4), and what the cell, noise and normalisation read
// and write of the units that they are handed (5). `Backward::check` has verified that the weights
// fit (1).
unsafe impl<C: Epilogue> step::Step for Step<'_, C> {
    const SUMS: usize = 1;

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
        self.recurrent.weights.len()
    }

    /// The longest delay comes first. If a sequence is cut, the pass over the later stretch of time
    /// has begun the sum with the products of its own steps, and the order must be the same.
    #[inline(always)]
    fn term(&self, index: usize) -> Option<Term<'_>> {
        let after = self.t + self.recurrent.delays[index] as isize;
        if after < 1 || index < self.ended {
            return None;
        }
        let (rows, stride) = match source::<C>(index) {
            BackwardLhs::Gates { first, .. } => {
                let stride = C::GATES * self.hidden;
                (self.by_sums(after).wrapping_add(first * self.hidden), stride)
            }
            BackwardLhs::Extra => {
                let stride = C::EXTRA * self.hidden;
                let extra = match self.norm {
                    Some(norm) => norm.da_extra.wrapping_add(self.first_row * stride),
                    None => self.extra,
                };
                (extra.wrapping_add(self.start(after) * stride), stride)
            }
        };
        Some(Term { rows: Rows::new(rows, stride), weights: &self.recurrent.weights[index] })
    }

    /// The sums start from the ∂L/∂h that is given. With dropout they start from zero, since the
    /// mask applies to the products only.
    #[inline(always)]
    fn start(&self) -> Option<Rows> {
        let given = self.is_given() && !self.masks();
        if given { Some(Rows::new(self.given(), self.outputs)) } else { None }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    /// Prefetches what the cell reads from far away: gates, states, and the gradients that are
    /// carried and that come from outside.
    #[inline(always)]
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches {
        let mut prefetches = Prefetches::none();
        if self.t < 1 {
            return prefetches;
        }
        let at = self.start + row;
        if const { C::PROJECTS } {
            let all = Rows::new(self.dh_all, self.outputs).from(at, 0);
            prefetches.push(columns.prefetch(all, 1, When::After));
        } else {
            self.prefetch_cell(&mut prefetches, columns, row);
        }
        if let Some(dy) = self.dy {
            let dy = Rows::new(dy.as_ptr(), self.dy_stride).from(at, 0);
            prefetches.push(columns.prefetch(dy, 1, When::After));
        }
        prefetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.batch, "rows of the step");
        let (units, outputs) = (row * self.hidden, row * self.outputs);
        let operands = Operands {
            batch: rows,
            gates: self.gates.wrapping_add(C::GATES * units),
            extra: self.extra.wrapping_add(C::EXTRA * units),
            history: self.history.from(row, self.outputs),
            c0: self.c0.wrapping_add(units),
            c: self.c.wrapping_add(units),
            dh: self.dh.wrapping_add(outputs),
            dc: self.dc.wrapping_add(units),
            dy: further(self.dy, row * self.dy_stride),
            dh_all: self.dh_all.wrapping_add(outputs),
            first_row: self.first_row + row,
            scratch: self.scratch.wrapping_add(row * self.room),
            ..*self
        };
        // SAFETY: the operands of these rows are a part of those that this step was made from.
        unsafe { Step::new(operands) }
    }

    /// Computes the gradients of some units of a row from `dh`, their ∂L/∂h without `dy`. For a
    /// state before the first step it only stores `dh`.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, [dh, ..]: [S::V; MOST_SUMS]) {
        let unit = at.row * self.outputs + at.first;
        // SAFETY: the units are of the step (1), and nobody else has them (2): their ∂L/∂h from
        // outside and in total, their h, and their places for the cell.
        unsafe {
            if self.t < 1 {
                store_lanes(simd, self.given().add(unit), dh, at.lanes);
                return;
            }
            let place = At { row: self.start + at.row, column: at.first };
            // The part from outside is added last, so that a sequence cut in two gives the same
            // bits as the whole: the sum over the steps after is the same number whether it stays
            // in a register or is carried in `dh`.
            let dh = match self.dy {
                Some(dy) => {
                    simd.add(dh, Rows::new(dy.as_ptr(), self.dy_stride).load(simd, place, at.lanes))
                }
                None => dh,
            };
            if const { C::PROJECTS } {
                let dh = match const { C::LIMITS } {
                    false => dh,
                    true => {
                        let kept = At { row: at.row, column: at.first };
                        let h = self.states().load(simd, kept, at.lanes);
                        self.cell.project_backward(simd, dh, h)
                    }
                };
                let all = RowsMut::new(self.dh_all, self.outputs);
                all.store(simd, place, dh, at.lanes);
            } else {
                self.cell.backward(simd, &self.place(at), dh);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.noise.is_some()
    }

    #[inline(always)]
    unsafe fn prepare<S: Simd>(&self, simd: S, at: Block, sums: Grid) {
        // SAFETY: the block is of the step, nobody else has it, and these are its sums.
        unsafe { self.before(simd, at, sums, true, const { C::CELLS && !C::PROJECTS }) };
    }

    #[inline(always)]
    unsafe fn complete<S: Simd>(&self, simd: S, at: Block) {
        if const { !C::PROJECTS } {
            // SAFETY: the block is of the step, and nobody else has it.
            unsafe { self.rejoin(simd, at) };
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.norm.is_some() && const { !C::PROJECTS } && self.t >= 1
    }

    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, simd: S, row: usize) {
        // SAFETY: the row is of the step and finished, and nobody else has it; only steps of
        // the pass end with rows.
        unsafe { self.end_first(simd, row) };
    }
}
