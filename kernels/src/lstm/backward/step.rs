//! One step of the backward pass, as kernels over pointers that have been checked: packing
//! the left operand, one group of units for several rows and for one, and the cell.

use crate::fetch::{Fetch, When};
use crate::left;
use crate::lstm::{Activations, GATES, after, sum};
use crate::pack::{Columns, PackedMatrix};
use crate::scratch::{self, row_blocks};
use crate::simd::{Kernel, Simd};
use crate::tile::{GROUP, Sums, load_lanes, store_lanes};

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub batch: usize,
    pub hidden: usize,
    pub activations: Activations,
    pub recurrent: &'a PackedMatrix,
    /// The gate gradients of the step after; the last step has `dh` instead.
    pub dz_next: Option<*const f32>,
    /// What the cell's own gradients need; without it the sweep only finds `dh`.
    pub cell: Option<CellStep>,
    pub dh: *mut f32,
    /// Room for the rows of `dz_next`.
    pub scratch: *mut f32,
}

#[derive(Clone, Copy)]
pub(super) struct CellStep {
    pub gates: *mut f32,
    pub s_prev: *const f32,
    pub s: *const f32,
    pub ds: *mut f32,
    pub dy: Option<*const f32>,
}

/// Operands that a cell reads from far away: four gates, the states, and the
/// gradients that are carried and come from outside.
const FETCHED: usize = GATES + 4;

impl CellStep {
    /// What to fetch of the rows from `row`, in `columns` of units.
    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize, hidden: usize) -> [Fetch; FETCHED] {
        let gates = self.gates.cast_const().wrapping_add(row * GATES * hidden);
        let mut fetches = [columns.fetch(gates, GATES * hidden, 1, When::After); FETCHED];
        for gate in 1..GATES {
            fetches[gate].start = gates.wrapping_add(gate * hidden);
        }
        let dy = self.dy.unwrap_or(self.s);
        for (i, state) in [self.s, self.s_prev, self.ds.cast_const(), dy].into_iter().enumerate() {
            fetches[GATES + i] =
                columns.fetch(state.wrapping_add(row * hidden), hidden, 1, When::After);
        }
        fetches
    }
}

impl<'a> Step<'a> {
    /// Some of its rows.
    #[inline(always)]
    pub(super) fn rows(self, row: usize, rows: usize) -> Step<'a> {
        let (gates, state) = (row * GATES * self.hidden, row * self.hidden);
        let cell = self.cell.map(|cell| CellStep {
            gates: cell.gates.wrapping_add(gates),
            s_prev: cell.s_prev.wrapping_add(state),
            s: cell.s.wrapping_add(state),
            ds: cell.ds.wrapping_add(state),
            dy: cell.dy.map(|dy| dy.wrapping_add(state)),
        });
        Step {
            batch: rows,
            dz_next: self.dz_next.map(|dz| dz.wrapping_add(gates)),
            cell,
            dh: self.dh.wrapping_add(state),
            scratch: self.scratch.wrapping_add(left::len(row, GATES * self.hidden)),
            ..self
        }
    }

    /// Packs a part of the gate gradients of the step after.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(&self, s: S, part: usize) {
        if let Some(dz) = self.dz_next {
            s.call(Pack { dz, depth: GATES * self.hidden, step: self, part });
        }
    }

    /// One group of units.
    ///
    /// # Safety
    /// As [`pack`](Self::pack), which has been done; the group is one of the weights'.
    #[inline(always)]
    pub(super) unsafe fn sweep<S: Simd>(&self, s: S, group: usize, backwards: bool) {
        match self.dz_next {
            Some(dz) if self.batch == 1 => {
                let after = after(group, self.recurrent.groups(), backwards);
                // Vectors beyond the last unit are there to the end of a panel only.
                let left = self.hidden - group * GROUP * S::LANES;
                match left.div_ceil(S::LANES) {
                    1 | 2 => s.call(Row::<2> { dz, step: self, group, after }),
                    3 | 4 => s.call(Row::<4> { dz, step: self, group, after }),
                    5 | 6 => s.call(Row::<6> { dz, step: self, group, after }),
                    _ => s.call(Row::<GROUP> { dz, step: self, group, after }),
                }
            }
            _ => s.call(Sweep { step: self, group, backwards }),
        }
    }

    /// What becomes of one vector of units of one row, of whose `∂L/∂h` this is the part
    /// that the step after gives.
    ///
    /// # Safety
    /// The row and the `lanes` units from `unit` lie in the operands.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        s: S,
        (row, unit, lanes): (usize, usize, usize),
        carried: S::V,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match &self.cell {
                Some(cell) => cell_gradients(s, self, cell, (row, unit, lanes), carried),
                None => store_lanes(s, self.dh.add(row * self.hidden + unit), carried, lanes),
            }
        }
    }
}

/// [`Step::pack`].
struct Pack<'a> {
    dz: *const f32,
    depth: usize,
    step: &'a Step<'a>,
    part: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dz, depth, step, part } = self;
        // SAFETY: the caller's of `Step::pack`: `scratch` has room for the rows of dz.
        unsafe { left::pack_batch(s, dz, step.batch, depth, step.scratch, part) };
    }
}

/// [`Step::sweep`] of one row: its sums stay in the registers until its units are done.
struct Row<'a, const V: usize> {
    dz: *const f32,
    step: &'a Step<'a>,
    group: usize,
    after: usize,
}

impl<const V: usize> Kernel for Row<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dz, step, group, after } = self;
        let first = group * GROUP * S::LANES;
        let mut dh = [[s.zero(); V]; 1];
        // SAFETY: the caller's of `Step::sweep`; a row lies as it would be packed.
        unsafe {
            step.recurrent.multiply_row(s, dz, (group, after), &mut dh);
            let mut sums = scratch::For::<S>::new();
            for v in 0..V {
                s.store(sums.place(0, v), dh[0][v]);
            }
            for v in 0..V {
                let unit = first + v * S::LANES;
                if unit < step.hidden {
                    let lanes = S::LANES.min(step.hidden - unit);
                    step.finish(s, (0, unit, lanes), sums.get(0, v));
                }
            }
        }
    }
}

/// [`Step::sweep`] of several rows, or of the last step, before which there is no sum.
struct Sweep<'a> {
    step: &'a Step<'a>,
    group: usize,
    backwards: bool,
}

impl Kernel for Sweep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, backwards } = self;
        let hidden = step.hidden;
        let mut dh = scratch::For::<S>::new();
        let place = (group, after(group, step.recurrent.groups(), backwards));
        let columns = step.recurrent.columns(group, S::LANES).swept(backwards);
        for (row, rows) in row_blocks(step.batch) {
            // SAFETY: the caller's of `Step::sweep`: the rows lie in the batch, so in
            // every operand; the group is one of the matrix; dz is packed.
            unsafe {
                if step.dz_next.is_some() {
                    let dz = step.scratch.cast_const().add(left::len(row, GATES * hidden));
                    // The scratch holds whole vectors, whatever lanes are real.
                    let sums =
                        Sums { from: None, to: dh.grid(), lanes: columns.lanes, whole: true };
                    let fetches =
                        step.cell.as_ref().map(|cell| cell.fetches(&columns, row, hidden));
                    let fetches = fetches.as_ref().map_or(&[][..], |fetches| fetches);
                    sum(s, rows, dz, step.recurrent, place, sums, fetches);
                }
                for vec in 0..columns.vecs {
                    let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                    for r in row..row + rows {
                        let carried = match step.dz_next {
                            Some(_) => dh.get(r - row, vec),
                            None => load_lanes(s, step.dh.add(r * hidden + unit), lanes),
                        };
                        step.finish(s, (r, unit, lanes), carried);
                    }
                }
            }
        }
    }
}

/// The gradients of one vector of units of one row, from its `∂L/∂h` without `dy`.
///
/// # Safety
/// The row and the `lanes` units from `unit` lie in the operands.
#[inline(always)]
unsafe fn cell_gradients<S: Simd>(
    s: S,
    step: &Step<'_>,
    cell: &CellStep,
    (row, unit, lanes): (usize, usize, usize),
    dh: S::V,
) {
    let act = step.activations;
    let hidden = step.hidden;
    let at = row * hidden + unit;
    // SAFETY: the caller's.
    unsafe {
        // The part from outside comes last, so that a sequence cut in two gives
        // the bits of the whole: the sum over the step after is the same number
        // whether it stays in a register or is carried in `dh`.
        let dh = match cell.dy {
            Some(dy) => s.add(dh, load_lanes(s, dy.add(at), lanes)),
            None => dh,
        };
        let gates = cell.gates.add(row * GATES * hidden + unit);
        let i = load_lanes(s, gates, lanes);
        let f = load_lanes(s, gates.add(hidden), lanes);
        let g = load_lanes(s, gates.add(2 * hidden), lanes);
        let o = load_lanes(s, gates.add(3 * hidden), lanes);
        let y = act.cell(s, load_lanes(s, cell.s.add(at), lanes));
        let carried = load_lanes(s, cell.ds.add(at), lanes);
        let ds = s.add(carried, act.cell_gradient(s, s.mul(dh, o), y));
        let s_prev = load_lanes(s, cell.s_prev.add(at), lanes);
        let dz = [
            act.gate_gradient(s, s.mul(ds, g), i),
            act.gate_gradient(s, s.mul(ds, s_prev), f),
            act.candidate_gradient(s, s.mul(ds, i), g),
            act.gate_gradient(s, s.mul(dh, y), o),
        ];
        store_lanes(s, cell.ds.add(at), s.mul(ds, f), lanes);
        for gate in 0..GATES {
            store_lanes(s, gates.add(gate * hidden), dz[gate], lanes);
        }
    }
}
