//! Forward scans: over the pre-activations that the products have left, step by step.

use super::cell::{MOST_GATES, MOST_VECTORS, Made, ScanCell, Units};
use super::kinds::{Scan, with_scan};
use super::split::{part, parts};
use crate::each::each;
use crate::error::{check_len, check_room};
use crate::gemm::layout::Span;
use crate::recurrence::{Dims, StepRows};
use crate::rows::{At, Rows, RowsMut};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;

/// A forward scan over a stretch of time.
///
/// It takes some tens of cycles for each vector of units, so the pre-activations should still be in
/// the cache: the caller computes them for a stretch of some rows and then scans it.
#[derive(Debug)]
pub struct ScanForward<'a> {
    /// The rows of τ steps of B sequences.
    pub schedule: StepRows<'a>,
    /// The steps of the schedule that this call takes.
    pub stretch: Range<usize>,
    /// Units, H.
    pub hidden: usize,
    /// The cell.
    pub cell: Scan,
    /// The cell's parameters, `[vectors, H]`.
    pub vectors: &'a [f32],
    /// The pre-activations, `[rows, stride]`, where the first GH floats of a row are `[G, H]`: of all
    /// rows if they are kept, else of those of the stretch alone.
    pub gates: &'a mut [f32],
    /// Floats from one row of `gates` to the next, GH or more.
    pub gates_stride: usize,
    /// Whether the pre-activations are replaced with what a backward scan reads.
    pub keep: bool,
    /// The input, `[rows, H]`, if the cell [reads](super::ScanGeometry::input) it; else nothing.
    pub x: &'a [f32],
    /// The state, `[B, H]`: before the stretch when this is called, and after the last step of each
    /// sequence in the stretch when it returns.
    pub state: &'a mut [f32],
    /// Where the cell state after each step goes, `[rows, H]`, if the cell [has
    /// one](super::ScanGeometry::cells) and it is kept; else nothing.
    pub c: &'a mut [f32],
    /// Where the output goes, `[rows, h_stride]`, of which the first H floats of a row are written.
    pub h: &'a mut [f32],
    /// Floats from one row of `h` to the next, H or more.
    pub h_stride: usize,
}

impl ScanForward<'_> {
    /// Scans the stretch.
    ///
    /// # Errors
    /// [`KernelError::Length`] or `Short` if a slice or a stride does not fit, `Dimension` if the
    /// stretch is not one of the schedule's, `TooLarge` if the dimensions do not fit the address
    /// space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        self.check()?;
        // Without units or sequences any number of steps has nothing to do.
        if self.hidden == 0 || self.schedule.batch() == 0 {
            return Ok(());
        }
        with_scan!(self.cell, |cell| self.run_checked(cell, isa, pass));
        Ok(())
    }

    #[inline(always)]
    fn run_checked<C: ScanCell>(self, cell: C, isa: Isa, pass: &mut Pass<'_>) {
        let Self { schedule, hidden, stretch, .. } = self;
        let first_row = schedule.start(stretch.start);
        let rows = schedule.start(stretch.end) - first_row;
        let work = Work {
            cell,
            schedule,
            stretch,
            hidden,
            parts: parts(pass.threads(), rows, hidden, isa.lanes()),
            vectors: Rows::new(self.vectors.as_ptr(), hidden),
            gates: RowsMut::new(self.gates.as_mut_ptr(), self.gates_stride),
            keep: self.keep,
            first_row: if self.keep { 0 } else { first_row },
            x: Rows::new(self.x.as_ptr(), hidden),
            state: RowsMut::new(self.state.as_mut_ptr(), hidden),
            c: (!self.c.is_empty()).then(|| RowsMut::new(self.c.as_mut_ptr(), hidden)),
            h: RowsMut::new(self.h.as_mut_ptr(), self.h_stride),
        };
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &work) };
    }

    fn check(&self) -> Result<(), KernelError> {
        let (geometry, hidden, schedule) = (self.cell.geometry(), self.hidden, self.schedule);
        let dims = Dims { schedule, hidden, outputs: hidden };
        dims.check_stretch(&self.stretch)?;
        let vectors = checked_len("vectors", &[geometry.vectors, hidden])?;
        check_len("vectors", self.vectors.len(), vectors)?;
        let gates = checked_len("gates", &[geometry.gates, hidden])?;
        check_room("stride", self.gates_stride, gates)?;
        let rows_of_gates = if self.keep { 0..schedule.steps() } else { self.stretch.clone() };
        let expected = schedule.floats_in("gates", &rows_of_gates, self.gates_stride)?;
        check_len("gates", self.gates.len(), expected)?;
        check_len("x", self.x.len(), dims.rows("x", usize::from(geometry.input), hidden)?)?;
        check_len("state", self.state.len(), dims.sequences("state", hidden)?)?;
        if !self.c.is_empty() {
            let blocks = usize::from(geometry.cells);
            check_len("c", self.c.len(), dims.rows("c", blocks, hidden)?)?;
        }
        dims.check_rows("h", self.h.len(), hidden, self.h_stride)
    }
}

/// A scan after the checks. A task is a part of the units, for all rows.
struct Work<'a, C> {
    cell: C,
    schedule: StepRows<'a>,
    stretch: Range<usize>,
    hidden: usize,
    parts: usize,
    vectors: Rows,
    gates: RowsMut,
    keep: bool,
    /// The first row that `gates` has.
    first_row: usize,
    x: Rows,
    state: RowsMut,
    c: Option<RowsMut>,
    h: RowsMut,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl<C: ScanCell> Sync for Work<'_, C> {}

// SAFETY: the number of tasks does not change, and a task reads and writes its own units only.
unsafe impl<C: ScanCell> Phases for Work<'_, C> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.parts
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let Span { first, len } = part(self.hidden, S::LANES, self.parts, task);
        for step in self.stretch.clone() {
            let start = self.schedule.start(step);
            for n in 0..self.schedule.count(step) {
                each!(S, len, |at, lanes| {
                    // SAFETY: the row is one of the schedule, `n` is one of its sequences, and the
                    // units are some of this task's.
                    unsafe {
                        self.units(simd, start + n, n, Span { first: first + at, len: lanes })
                    };
                });
            }
        }
    }
}

impl<C: ScanCell> Work<'_, C> {
    /// Computes a step of at most a vector of units.
    ///
    /// # Safety
    /// `row` is a row of the stretch, `n` one of its sequences, and the units are at most a vector
    /// of those that this task alone uses.
    #[inline(always)]
    unsafe fn units<S: Simd>(&self, simd: S, row: usize, n: usize, units: Span) {
        let Span { first: column, len: lanes } = units;
        let (at, of_state) = (At { row, column }, At { row: n, column });
        let mut gates = [simd.zero(); MOST_GATES];
        let mut vectors = [simd.zero(); MOST_VECTORS];
        let of_gate =
            |gate: usize| At { row: row - self.first_row, column: gate * self.hidden + column };
        // SAFETY: `ScanForward::check` has verified that all of these have the rows of the
        // schedule, or a row for each sequence or vector, of H units, and the gates at least those
        // of the stretch; x and c are only used if they are there.
        unsafe {
            for gate in 0..C::GATES {
                gates[gate] = self.gates.load(simd, of_gate(gate), lanes);
            }
            for vector in 0..C::VECTORS {
                vectors[vector] = self.vectors.load(simd, At { row: vector, column }, lanes);
            }
            let x = if C::INPUT { self.x.load(simd, at, lanes) } else { simd.zero() };
            let before = self.state.load(simd, of_state, lanes);
            let Made { gates, state, output } =
                self.cell.forward(simd, Units { gates, x, vectors, before });
            if self.keep {
                for gate in 0..C::GATES {
                    self.gates.store(simd, of_gate(gate), gates[gate], lanes);
                }
            }
            self.state.store(simd, of_state, state, lanes);
            if C::CELLS
                && let Some(c) = self.c
            {
                c.store(simd, at, state, lanes);
            }
            self.h.store(simd, at, output, lanes);
        }
    }
}
