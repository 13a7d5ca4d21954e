//! The LSTM backward, step by step from the last: with `dh = ∂L/∂h` of the step
//! (the caller's part plus `dz₊ W` from the step after) and `ds` carried,
//!
//! `ds += dh ⊙ o ⊙ tanh'(s)`, `do = dh ⊙ tanh(s)`, `df = ds ⊙ s₋`,
//! `di = ds ⊙ g`, `dg = ds ⊙ i`, each times its activation's slope gives `dz`,
//! and `ds₋ = ds ⊙ f`.

use super::{Activations, Dims, GATES, backward_scratch_len};
use crate::error::{check_len, check_room};
use crate::fetch::{Fetches, When};
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::{self, MOST_SUMS, Origin, Passage, Steps, Term, Terms, Units, parts};
use crate::simd::Simd;
use crate::team::Pass;
use crate::tile::{load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// A backward pass over a stretch of time, last step first.
///
/// Measured on one core (Zen 5, AVX-512, FMA peak 285 GFLOP/s) as part of a training step,
/// with packing, the forward pass and all gradients: 0.86 of the peak for H 512, B 32, 0.87
/// for H 1024, B 64, 0.75 for H 64, B 32, 0.48 for H 256, B 1.
/// `cargo run --release --example rnnbench -- --mode train --hidden 512 --input 512 --batch 32`.
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
            dy: self.dy.map(<[f32]>::as_ptr),
        };
        let parts = parts(pass.threads(), dims.steps, dims.batch, self.recurrent);
        let steps = Pointers { steps: dims.steps, last, cell };
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Passage { steps, parts }) };
        Ok(())
    }
}

/// A checked pass: the steps from the last, and after them what is left,
/// ∂L/∂h₀ = dz₁ W.
struct Pointers<'a> {
    steps: usize,
    last: Step<'a>,
    /// The pointers to the first row of the first step.
    cell: CellStep,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl Sync for Pointers<'_> {}

impl<'a> Steps for Pointers<'a> {
    type Step = Step<'a>;

    fn count(&self) -> usize {
        if self.steps == 0 { 0 } else { self.steps + 1 }
    }

    /// Step `t = τ − index`, from 1, is row block t − 1 of gates and dy and row block t of
    /// the states.
    #[inline(always)]
    fn step(&self, index: usize) -> Step<'a> {
        let t = self.steps - index;
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
    dy: Option<*const f32>,
}

impl recurrence::Step for Step<'_> {
    const SUMS: usize = 1;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.batch
    }

    #[inline(always)]
    fn weights(&self) -> &PackedMatrix {
        self.recurrent
    }

    #[inline(always)]
    fn terms(&self) -> Terms<'_> {
        [self.dz_next.map(|rows| Term { rows, weights: self.recurrent }), None]
    }

    /// ∂L/∂h of the last step is what the caller gives, that of the others a sum alone.
    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match self.dz_next {
            Some(_) => None,
            None => Some(Origin { start: self.dh, stride: self.hidden }),
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    /// What a cell reads from far away: four gates, the states, and the gradients that are
    /// carried and come from outside.
    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        let Some(cell) = &self.cell else { return fetches };
        let (gates, hidden) = (cell.gates.wrapping_add(row * GATES * self.hidden), self.hidden);
        for gate in 0..GATES {
            let gate = gates.wrapping_add(gate * hidden);
            fetches.push(columns.fetch(gate, GATES * hidden, 1, When::After));
        }
        let states = [Some(cell.s), Some(cell.s_prev), Some(cell.ds.cast_const()), cell.dy];
        for state in states.into_iter().flatten() {
            let state = state.wrapping_add(row * hidden);
            fetches.push(columns.fetch(state, hidden, 1, When::After));
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
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

    /// The gradients of some units of a row, from their ∂L/∂h without `dy`; before the
    /// first step that is all there is.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [dh, ..]: [S::V; MOST_SUMS]) {
        let (act, hidden, lanes) = (self.activations, self.hidden, at.lanes);
        let unit = at.row * hidden + at.first;
        let Some(cell) = &self.cell else {
            // SAFETY: the caller's.
            unsafe { store_lanes(s, self.dh.add(unit), dh, lanes) };
            return;
        };
        // SAFETY: the caller's.
        unsafe {
            // The part from outside comes last, so that a sequence cut in two gives
            // the bits of the whole: the sum over the step after is the same number
            // whether it stays in a register or is carried in `dh`.
            let dh = match cell.dy {
                Some(dy) => s.add(dh, load_lanes(s, dy.add(unit), lanes)),
                None => dh,
            };
            let gates = cell.gates.add(at.row * GATES * hidden + at.first);
            let i = load_lanes(s, gates, lanes);
            let f = load_lanes(s, gates.add(hidden), lanes);
            let g = load_lanes(s, gates.add(2 * hidden), lanes);
            let o = load_lanes(s, gates.add(3 * hidden), lanes);
            let y = act.cell(s, load_lanes(s, cell.s.add(unit), lanes));
            let carried = load_lanes(s, cell.ds.add(unit), lanes);
            let ds = s.add(carried, act.cell_gradient(s, s.mul(dh, o), y));
            let s_prev = load_lanes(s, cell.s_prev.add(unit), lanes);
            let dz = [
                act.gate_gradient(s, s.mul(ds, g), i),
                act.gate_gradient(s, s.mul(ds, s_prev), f),
                act.candidate_gradient(s, s.mul(ds, i), g),
                act.gate_gradient(s, s.mul(dh, y), o),
            ];
            store_lanes(s, cell.ds.add(unit), s.mul(ds, f), lanes);
            for gate in 0..GATES {
                store_lanes(s, gates.add(gate * hidden), dz[gate], lanes);
            }
        }
    }
}
