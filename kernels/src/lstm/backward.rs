//! The LSTM backward, step by step from the last: with `dh = ∂L/∂h` of the step
//! (the caller's part plus `dz₊ W` from the step after) and `ds` carried,
//!
//! `ds += dh ⊙ o ⊙ tanh'(s)`, `do = dh ⊙ tanh(s)`, `df = ds ⊙ s₋`,
//! `di = ds ⊙ g`, `dg = ds ⊙ i`, each times its activation's slope gives `dz`,
//! and `ds₋ = ds ⊙ f`.

use super::{Activations, Dims, GATES, sum};
use crate::error::check_len;
use crate::pack::{Columns, PackedMatrix};
use crate::scratch::{self, Scratch, row_blocks};
use crate::simd::{Kernel, Simd};
use crate::tile::{DEPTH_BLOCK, Sink, load_lanes, store_lanes};
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
}

impl Backward<'_> {
    /// Runs the pass.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(self, isa: Isa) -> Result<(), KernelError> {
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
        isa.enter(self);
        Ok(())
    }
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Dims { steps, batch, hidden } = self.dims;
        let (state, width) = (batch * hidden, batch * GATES * hidden);
        let gates = self.gates.as_mut_ptr();
        let (dh, ds, db) = (self.dh.as_mut_ptr(), self.ds.as_mut_ptr(), self.db.as_mut_ptr());
        for t in (0..steps).rev() {
            // SAFETY: `Backward::run` has checked every slice against the
            // dimensions, and t < steps.
            unsafe {
                let last = t + 1 == steps;
                sweep(
                    s,
                    Step {
                        batch,
                        hidden,
                        activations: self.activations,
                        recurrent: self.recurrent,
                        dz_next: (!last).then(|| gates.add((t + 1) * width).cast_const()),
                        cell: Some(CellStep {
                            gates: gates.add(t * width),
                            s_prev: self.s.as_ptr().add(t * state),
                            s: self.s.as_ptr().add((t + 1) * state),
                            ds,
                            db,
                        }),
                        dy: self.dy.map(|dy| dy.as_ptr().add(t * state)),
                        dh,
                        backwards: t % 2 == 1,
                    },
                );
            }
        }
        if steps > 0 {
            // SAFETY: as above; what is left is ∂L/∂h₀ = dz₁ W.
            unsafe {
                sweep(
                    s,
                    Step {
                        batch,
                        hidden,
                        activations: self.activations,
                        recurrent: self.recurrent,
                        dz_next: Some(gates),
                        cell: None,
                        dy: None,
                        dh,
                        backwards: true,
                    },
                );
            }
        }
    }
}

/// One step: pointers to the first row of each operand.
struct Step<'a> {
    batch: usize,
    hidden: usize,
    activations: Activations,
    recurrent: &'a PackedMatrix,
    /// The gate gradients of the step after; the last step has `dh` instead.
    dz_next: Option<*const f32>,
    /// What the cell's own gradients need; without it the sweep only finds `dh`.
    cell: Option<CellStep>,
    dy: Option<*const f32>,
    dh: *mut f32,
    backwards: bool,
}

impl Step<'_> {
    /// What the cell reads of the rows from `row`: (first row, stride) of each.
    #[inline(always)]
    fn operands(&self, row: usize) -> [(*const f32, usize); FETCHED] {
        let hidden = self.hidden;
        let mut operands = [(std::ptr::null(), 0); FETCHED];
        if let Some(cell) = &self.cell {
            let gates = cell.gates.cast_const().wrapping_add(row * GATES * hidden);
            for gate in 0..GATES {
                operands[gate] = (gates.wrapping_add(gate * hidden), GATES * hidden);
            }
            operands[GATES] = (cell.s.wrapping_add(row * hidden), hidden);
        }
        if let Some(dy) = self.dy {
            operands[GATES + 1] = (dy.wrapping_add(row * hidden), hidden);
        }
        operands
    }
}

struct CellStep {
    gates: *mut f32,
    s_prev: *const f32,
    s: *const f32,
    ds: *mut f32,
    db: *mut f32,
}

/// # Safety
/// The pointers are good for `batch` rows of their kind.
#[inline(always)]
unsafe fn sweep<S: Simd>(s: S, step: Step<'_>) {
    let hidden = step.hidden;
    let groups = step.recurrent.groups();
    let mut dh = scratch::For::<S>::new();
    for i in 0..groups {
        // To and fro: what the last step left in the cache is read first.
        let place = |i: usize| {
            if step.backwards { groups - 1 - i.min(groups - 1) } else { i.min(groups - 1) }
        };
        let (group, next) = (place(i), place(i + 1));
        let columns = step.recurrent.columns(group, S::LANES);
        for (row, rows) in row_blocks(step.batch) {
            // SAFETY: the caller's: the rows lie in the batch, so in every operand;
            // the group is one of the matrix.
            unsafe {
                if let Some(dz) = step.dz_next {
                    let dz = dz.add(row * GATES * hidden);
                    let mut sink = HiddenGradient {
                        dh: &mut dh,
                        columns: &columns,
                        fetched: step.operands(row),
                        blocks: step.recurrent.depth().div_ceil(DEPTH_BLOCK),
                        block: 0,
                    };
                    sum(s, rows, dz, step.recurrent, (group, next), false, &mut sink);
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
        let dh = match step.dy {
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

/// Sums from zero, kept for the cell. While the products run it fetches what the
/// cell will read of the rows: the gates, the state and the gradient from outside,
/// one or two of them per block of depth, so that the fetches spread.
struct HiddenGradient<'a, V> {
    dh: &'a mut Scratch<V>,
    columns: &'a Columns,
    /// (first row, stride) of each operand.
    fetched: [(*const f32, usize); FETCHED],
    blocks: usize,
    block: usize,
}

/// Four gates, the state, and the gradient from outside.
const FETCHED: usize = GATES + 2;

impl<S: Simd> Sink<S> for HiddenGradient<'_, S::V> {
    #[inline(always)]
    fn whole(&self) -> bool {
        true
    }
    #[inline(always)]
    unsafe fn start<const WHOLE: bool>(&self, s: S, _row: usize, _vec: usize) -> S::V {
        s.zero()
    }
    #[inline(always)]
    unsafe fn resume<const WHOLE: bool>(&self, _s: S, row: usize, vec: usize) -> S::V {
        // SAFETY: a row block has at most ROWS rows; `put` came before.
        unsafe { self.dh.get(row, vec) }
    }
    #[inline(always)]
    unsafe fn put<const WHOLE: bool>(&mut self, _s: S, row: usize, vec: usize, sum: S::V) {
        // SAFETY: a row block has at most ROWS rows.
        unsafe { self.dh.set(row, vec, sum) }
    }
    #[inline(always)]
    fn fetches(&self, _resume: bool) -> bool {
        self.block < FETCHED
    }
    #[inline(always)]
    fn prefetch(&self, s: S, row: usize, vec: usize) {
        let unit = self.columns.offset_beyond(vec);
        for (start, stride) in self.fetched.iter().skip(self.block).step_by(self.blocks) {
            s.prefetch(start.wrapping_add(row * stride + unit));
        }
    }
    #[inline(always)]
    fn enter(&mut self, block: usize) {
        self.block = block;
    }
}
