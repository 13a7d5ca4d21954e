//! The product of a group that moves, as a step of its own.

use crate::cells::{MOST_SUMS, Phi};
use crate::gemm::prefetch::{Prefetches, When};
use crate::gemm::rhs::{Columns, PackedMatrix};
use crate::recurrence::step::{Step, Term, Units};
use crate::rows::{At, Rows, RowsMut};
use crate::simd::Simd;
use std::ops::Deref;

/// `to = φ(start + rows · weights)`, for all sequences.
#[derive(Clone, Copy)]
pub(super) struct Product<'a, F>(Operands<'a, F>);

#[derive(Clone, Copy)]
pub(super) struct Operands<'a, F> {
    pub batch: usize,
    pub weights: &'a PackedMatrix,
    pub rows: Rows,
    pub start: Rows,
    pub to: RowsMut,
    pub phi: F,
    /// Scratch for the packed `rows`.
    pub scratch: RowsMut,
}

impl<'a, F> Product<'a, F> {
    /// # Safety
    /// For `batch` rows, and for as long as it is used,
    ///
    /// 1. the weights are packed for the instruction set that it is computed on, with one output
    ///    for each unit;
    /// 2. `rows` are readable for the weights' depth, and `start` for their outputs;
    /// 3. `to` is writable for the weights' outputs, and nobody else's, except that it may be
    ///    `start`;
    /// 4. the scratch is writable, in each row, for [`lhs_len`](crate::gemm::layout::lhs_len) of
    ///    one row of the weights' depth, and nobody else's.
    #[inline(always)]
    pub unsafe fn new(operands: Operands<'a, F>) -> Self {
        Self(operands)
    }
}

impl<'a, F> Deref for Product<'a, F> {
    type Target = Operands<'a, F>;
    #[inline(always)]
    fn deref(&self) -> &Operands<'a, F> {
        &self.0
    }
}

// SAFETY: `new` has been promised the weights (1), rows of their depth (2), what the sums start
// from, for their outputs (3), the scratch (4), and that nobody else has what is written (5).
// `rows` keeps all of this for the rows that it is given, with the scratch of these alone (6).
// Nothing changes after `new` (7).
unsafe impl<F: Phi> Step for Product<'_, F> {
    const SUMS: usize = 1;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.batch
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
        Some(Term { rows: self.rows, weights: self.weights })
    }

    #[inline(always)]
    fn start(&self) -> Option<Rows> {
        Some(self.start)
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch.at(0, 0)
    }

    #[inline(always)]
    fn prefetches(&self, columns: &Columns, row: usize) -> Prefetches {
        let mut prefetches = Prefetches::none();
        let (start, to) = (self.start.from(row, 0), self.to.as_rows().from(row, 0));
        prefetches.push(columns.prefetch(start, 1, When::Start));
        if start.at(0, 0) != to.at(0, 0) {
            prefetches.push(columns.prefetch(to, 1, When::After));
        }
        prefetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        assert!(row + rows <= self.batch, "rows of the step");
        Self(Operands {
            batch: rows,
            rows: self.rows.from(row, 0),
            start: self.start.from(row, 0),
            to: self.to.from(row, 0),
            scratch: self.scratch.from(row, 0),
            ..self.0
        })
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, at: Units, [sum, ..]: [S::V; MOST_SUMS]) {
        let state = self.phi.candidate(simd, sum);
        // SAFETY: the units are of the step, whose outputs may be written, and nobody else has
        // them.
        unsafe { self.to.store(simd, At { row: at.row, column: at.first }, state, at.lanes) };
    }
}
