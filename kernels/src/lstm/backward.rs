//! The LSTM backward, step by step from the last: with `dh = ∂L/∂h` of the step
//! (the caller's part plus `dz₊ W` from the step after) and `ds` carried,
//!
//! `ds += dh ⊙ o ⊙ tanh'(s)`, `do = dh ⊙ tanh(s)`, `df = ds ⊙ s₋`,
//! `di = ds ⊙ g`, `dg = ds ⊙ i`, each times its activation's slope gives `dz`,
//! and `ds₋ = ds ⊙ f`.

use super::{Activations, Dims, GATES, after, backward_scratch_len, sum};
use crate::error::{check_len, check_room};
use crate::fetch::{Fetch, When};
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::scratch::{self, row_blocks};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::tile::{Sums, load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// A backward pass over a stretch of time, last step first.
#[derive(Debug)]
pub struct Backward<'a> {
    /// τ, B and H.
    pub dims: Dims,
    /// The non-linearities, as in the forward pass.
    pub activations: Activations,
    /// W packed by columns: 4H inputs to H outputs.
    pub recurrent: &'a PackedMatrix,
    /// The forward pass's gates go in, the gradients of the pre-activations come
    /// out, `[τ, B, 4, H]`.
    pub gates: &'a mut [f32],
    /// The cell state before the first step and after each, `[τ + 1, B, H]`.
    pub s: &'a [f32],
    /// ∂L/∂h of each step from outside, `[τ, B, H]`; none is zero.
    pub dy: Option<&'a [f32]>,
    /// ∂L/∂h of the last step goes in (beside `dy`), ∂L/∂h₀ comes out, `[B, H]`.
    pub dh: &'a mut [f32],
    /// ∂L/∂s of the last step goes in, ∂L/∂s₀ comes out, `[B, H]`.
    pub ds: &'a mut [f32],
    /// ∂L/∂b, `[4, H]`, is added to, last step first.
    pub db: &'a mut [f32],
    /// [`backward_scratch_len`](super::backward_scratch_len) floats or more.
    pub scratch: &'a mut [f32],
}

impl Backward<'_> {
    /// Runs the pass.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let dims = self.dims;
        let (state, states) = (dims.state()?, dims.states()?);
        self.recurrent.check(isa, 1, dims.hidden, GATES * dims.hidden)?;
        check_len("gates", self.gates.len(), dims.gates()?)?;
        check_len("s", self.s.len(), states + state)?;
        check_len("dh", self.dh.len(), state)?;
        check_len("ds", self.ds.len(), state)?;
        check_len("db", self.db.len(), GATES * dims.hidden)?;
        if let Some(dy) = self.dy {
            check_len("dy", dy.len(), states)?;
        }
        let expected = backward_scratch_len(dims.batch, dims.hidden)?;
        check_room("scratch", self.scratch.len(), expected)?;
        let last = Step {
            batch: dims.batch,
            hidden: dims.hidden,
            activations: self.activations,
            recurrent: self.recurrent,
            dz_next: None,
            cell: None,
            dh: self.dh.as_mut_ptr(),
            scratch: self.scratch.as_mut_ptr(),
        };
        let cell = CellStep {
            gates: self.gates.as_mut_ptr(),
            s_prev: self.s.as_ptr(),
            s: self.s.as_ptr(),
            ds: self.ds.as_mut_ptr(),
            db: self.db.as_mut_ptr(),
            dy: self.dy.map(<[f32]>::as_ptr),
        };
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Work { steps: dims.steps, last, cell }) };
        Ok(())
    }
}

/// A checked pass: the steps from the last, and after them what is left,
/// ∂L/∂h₀ = dz₁ W. In each the gate gradients of the step after are packed, in parts,
/// and then the groups of units are swept.
struct Work<'a> {
    steps: usize,
    last: Step<'a>,
    /// The pointers to the first row of the first step.
    cell: CellStep,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, or a part of the scratch.
unsafe impl Sync for Work<'_> {}

impl Work<'_> {
    /// Step `t`, from 1, is row block t − 1 of gates and dy and row block t of the
    /// states.
    #[inline(always)]
    fn step(&self, t: usize) -> Step<'_> {
        let state = self.last.batch * self.last.hidden;
        let gates = |t: usize| self.cell.gates.wrapping_add(t * GATES * state);
        let cell = (t > 0).then(|| CellStep {
            gates: gates(t - 1),
            s_prev: self.cell.s.wrapping_add((t - 1) * state),
            s: self.cell.s.wrapping_add(t * state),
            dy: self.cell.dy.map(|dy| dy.wrapping_add((t - 1) * state)),
            ..self.cell
        });
        Step { dz_next: (t < self.steps).then(|| gates(t).cast_const()), cell, ..self.last }
    }
}

impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        if self.steps == 0 { 0 } else { 2 * (self.steps + 1) }
    }

    fn tasks(&self, phase: usize) -> usize {
        match phase {
            0 => 0,
            _ if phase.is_multiple_of(2) => left::batch_parts(self.last.batch),
            _ => self.last.recurrent.groups(),
        }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 4 == 3
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, phase: usize, task: usize) {
        let step = self.step(self.steps - phase / 2);
        // SAFETY: `Backward::run` has checked every slice against the dimensions.
        unsafe {
            match (phase % 2, step.dz_next) {
                (0, Some(dz)) => {
                    let depth = GATES * step.hidden;
                    left::pack_batch(s, dz, step.batch, depth, step.scratch, task);
                }
                (0, None) => {}
                _ => sweep(s, step, task, self.backwards(phase)),
            }
        }
    }
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
struct Step<'a> {
    batch: usize,
    hidden: usize,
    activations: Activations,
    recurrent: &'a PackedMatrix,
    /// The gate gradients of the step after; the last step has `dh` instead.
    dz_next: Option<*const f32>,
    /// What the cell's own gradients need; without it the sweep only finds `dh`.
    cell: Option<CellStep>,
    dh: *mut f32,
    /// Room for the rows of `dz_next`.
    scratch: *mut f32,
}

#[derive(Clone, Copy)]
struct CellStep {
    gates: *mut f32,
    s_prev: *const f32,
    s: *const f32,
    ds: *mut f32,
    db: *mut f32,
    dy: Option<*const f32>,
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

/// One group of units.
///
/// # Safety
/// The pointers are good for `batch` rows of their kind; dz is packed in the scratch,
/// or of one row; the group is one of the weights'.
#[inline(always)]
unsafe fn sweep<S: Simd>(s: S, step: Step<'_>, group: usize, backwards: bool) {
    let hidden = step.hidden;
    let mut dh = scratch::For::<S>::new();
    let packed = |dz| if step.batch == 1 { dz } else { step.scratch.cast_const() };
    let dz_next = step.dz_next.map(packed);
    let place = (group, after(group, step.recurrent.groups(), backwards));
    let columns = step.recurrent.columns(group, S::LANES).swept(backwards);
    for (row, rows) in row_blocks(step.batch) {
        // SAFETY: the caller's: the rows lie in the batch, so in every operand;
        // the group is one of the matrix.
        unsafe {
            if let Some(dz) = dz_next {
                let dz = dz.add(left::len(row, GATES * hidden));
                // The scratch holds whole vectors, whatever lanes are real.
                let sums = Sums { from: None, to: dh.grid(), lanes: columns.lanes, whole: true };
                let fetches = step.cell.as_ref().map(|cell| cell.fetches(&columns, row, hidden));
                let fetches = fetches.as_ref().map_or(&[][..], |fetches| fetches);
                sum(s, rows, dz, step.recurrent, place, sums, fetches);
            }
            for vec in 0..columns.vecs {
                let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                let mut db = [s.zero(); GATES];
                if let Some(cell) = &step.cell {
                    for gate in 0..GATES {
                        db[gate] = load_lanes(s, cell.db.add(gate * hidden + unit), lanes);
                    }
                }
                for r in row..row + rows {
                    let at = step.dh.add(r * hidden + unit);
                    let carried = match step.dz_next {
                        Some(_) => dh.get(r - row, vec),
                        None => load_lanes(s, at, lanes),
                    };
                    match &step.cell {
                        Some(cell) => {
                            let place = (r, unit, lanes);
                            cell_gradients(s, &step, cell, place, carried, &mut db);
                        }
                        None => store_lanes(s, at, carried, lanes),
                    }
                }
                if let Some(cell) = &step.cell {
                    for gate in 0..GATES {
                        store_lanes(s, cell.db.add(gate * hidden + unit), db[gate], lanes);
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
    db: &mut [S::V; GATES],
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
            db[gate] = s.add(db[gate], dz[gate]);
        }
    }
}
