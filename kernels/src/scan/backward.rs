//! Backward scans: from the last step to the first, over what a forward scan has kept.

use super::cell::{Gradients, Later, MOST_GATES, MOST_VECTORS, ScanCell, Units};
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

/// A backward scan over a stretch of time.
///
/// The gradients of the cell's parameters are sums from the last row to the first. So a schedule
/// can be divided into stretches, the last one first, and gets the bits of one scan.
#[derive(Debug)]
pub struct ScanBackward<'a> {
    /// The rows of τ steps of B sequences.
    pub schedule: StepRows<'a>,
    /// The steps of the schedule that this call takes.
    pub stretch: Range<usize>,
    /// Units, H.
    pub hidden: usize,
    /// The cell.
    pub cell: Scan,
    /// As in the forward scan.
    pub vectors: &'a [f32],
    /// What the forward scan has kept, `[rows, G, H]`. It is replaced with ∂L/∂z.
    pub gates: &'a mut [f32],
    /// As in the forward scan.
    pub x: &'a [f32],
    /// The state before the first step of the schedule, `[B, H]`.
    pub state: &'a [f32],
    /// The states after each step: the outputs, `[rows, states_stride]`, or the cell states if the
    /// cell has them.
    pub states: &'a [f32],
    /// Floats from one row of `states` to the next, H or more.
    pub states_stride: usize,
    /// ∂L/∂ of the output, `[rows, dy_stride]`.
    pub dy: &'a [f32],
    /// Floats from one row of `dy` to the next, H or more.
    pub dy_stride: usize,
    /// ∂L/∂ of the state, `[B, H]`: after the stretch, without the part that comes through `dy`,
    /// when this is called, and before it when it returns.
    pub dstate: &'a mut [f32],
    /// If the cell [reads](super::ScanGeometry::input) the input: where ∂L/∂x goes, `[rows, H]`,
    /// without the part that comes through the products. Empty if it is not wanted, or the cell
    /// does not.
    pub dx: &'a mut [f32],
    /// The gradients of the cell's parameters, `[learned, H]`, to which those of the stretch are
    /// added. Empty if they are not wanted.
    pub dvectors: &'a mut [f32],
}

impl ScanBackward<'_> {
    /// Scans the stretch.
    ///
    /// # Errors
    /// As for [`ScanForward::run`](super::ScanForward::run).
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
        let rows = schedule.start(stretch.end) - schedule.start(stretch.start);
        let optional =
            |to: &mut [f32]| (!to.is_empty()).then(|| RowsMut::new(to.as_mut_ptr(), hidden));
        let work = Work {
            cell,
            schedule,
            stretch,
            hidden,
            parts: parts(pass.threads(), rows, hidden, isa.lanes()),
            vectors: Rows::new(self.vectors.as_ptr(), hidden),
            gates: RowsMut::new(self.gates.as_mut_ptr(), C::GATES * hidden),
            x: Rows::new(self.x.as_ptr(), hidden),
            state: Rows::new(self.state.as_ptr(), hidden),
            states: Rows::new(self.states.as_ptr(), self.states_stride),
            dy: Rows::new(self.dy.as_ptr(), self.dy_stride),
            dstate: RowsMut::new(self.dstate.as_mut_ptr(), hidden),
            dx: optional(self.dx),
            dvectors: optional(self.dvectors),
        };
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &work) };
    }

    fn check(&self) -> Result<(), KernelError> {
        let (geometry, hidden) = (self.cell.geometry(), self.hidden);
        let dims = Dims { schedule: self.schedule, hidden, outputs: hidden };
        dims.check_stretch(&self.stretch)?;
        let of = |what, vectors| checked_len(what, &[vectors, hidden]);
        check_len("vectors", self.vectors.len(), of("vectors", geometry.vectors)?)?;
        check_len("gates", self.gates.len(), dims.rows("gates", geometry.gates, hidden)?)?;
        let input = dims.rows("x", usize::from(geometry.input), hidden)?;
        check_len("x", self.x.len(), input)?;
        let sequences = dims.sequences("state", hidden)?;
        check_len("state", self.state.len(), sequences)?;
        dims.check_rows("states", self.states.len(), hidden, self.states_stride)?;
        dims.check_rows("dy", self.dy.len(), hidden, self.dy_stride)?;
        check_len("dstate", self.dstate.len(), sequences)?;
        if !self.dx.is_empty() {
            check_len("dx", self.dx.len(), input)?;
        }
        if !self.dvectors.is_empty() {
            check_len("dvectors", self.dvectors.len(), of("dvectors", geometry.learned)?)?;
        }
        check_room("stride", self.states_stride, hidden)
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
    x: Rows,
    state: Rows,
    states: Rows,
    dy: Rows,
    dstate: RowsMut,
    dx: Option<RowsMut>,
    dvectors: Option<RowsMut>,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl<C: ScanCell> Sync for Work<'_, C> {}

/// The rows that a step of a sequence reads and writes.
#[derive(Clone, Copy)]
struct Place {
    /// The row of the step.
    row: usize,
    /// The sequence.
    n: usize,
    /// The row of the step before, or `None` for the first step.
    before: Option<usize>,
}

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
        for step in self.stretch.clone().rev() {
            let start = self.schedule.start(step);
            for n in (0..self.schedule.count(step)).rev() {
                let before = match step {
                    0 => None,
                    _ => Some(self.schedule.start(step - 1) + n),
                };
                let place = Place { row: start + n, n, before };
                each!(S, len, |at, lanes| {
                    // SAFETY: the rows are rows of the schedule, `n` is one of its sequences, and
                    // the units are some of this task's.
                    unsafe { self.units(simd, place, Span { first: first + at, len: lanes }) };
                });
            }
        }
    }
}

impl<C: ScanCell> Work<'_, C> {
    /// Computes the gradients of a step of at most a vector of units.
    ///
    /// # Safety
    /// The rows are rows of the schedule, `n` is one of its sequences, and the units are at most a
    /// vector of those that this task alone uses.
    #[inline(always)]
    unsafe fn units<S: Simd>(&self, simd: S, place: Place, units: Span) {
        let Span { first: column, len: lanes } = units;
        let Place { row, n, before } = place;
        let (at, of_sequence) = (At { row, column }, At { row: n, column });
        let mut gates = [simd.zero(); MOST_GATES];
        let mut vectors = [simd.zero(); MOST_VECTORS];
        // SAFETY: `ScanBackward::check` has verified that all of these have the rows of the
        // schedule, or a row for each sequence or vector, of H units; x, dx and dvectors are only
        // used if they are there.
        unsafe {
            for gate in 0..C::GATES {
                let column = gate * self.hidden + column;
                gates[gate] = self.gates.load(simd, At { row, column }, lanes);
            }
            for vector in 0..C::VECTORS {
                vectors[vector] = self.vectors.load(simd, At { row: vector, column }, lanes);
            }
            let x = if C::INPUT { self.x.load(simd, at, lanes) } else { simd.zero() };
            let after = self.states.load(simd, at, lanes);
            let before = match before {
                Some(row) => self.states.load(simd, At { row, column }, lanes),
                None => self.state.load(simd, of_sequence, lanes),
            };
            let dy = self.dy.load(simd, at, lanes);
            let carried = self.dstate.load(simd, of_sequence, lanes);
            let later = if C::CELLS {
                Later { after, d_output: dy, d_state: carried }
            } else {
                Later { after, d_output: simd.add(carried, dy), d_state: simd.zero() }
            };
            let made = self.cell.backward(simd, Units { gates, x, vectors, before }, later);
            let Gradients { gates, x, vectors, before } = made;
            for gate in 0..C::GATES {
                let column = gate * self.hidden + column;
                self.gates.store(simd, At { row, column }, gates[gate], lanes);
            }
            self.dstate.store(simd, of_sequence, before, lanes);
            if C::INPUT
                && let Some(dx) = self.dx
            {
                dx.store(simd, at, x, lanes);
            }
            if C::LEARNED > 0
                && let Some(dvectors) = self.dvectors
            {
                for vector in 0..C::LEARNED {
                    let at = At { row: vector, column };
                    let sum = simd.add(dvectors.load(simd, at, lanes), vectors[vector]);
                    dvectors.store(simd, at, sum, lanes);
                }
            }
        }
    }
}
