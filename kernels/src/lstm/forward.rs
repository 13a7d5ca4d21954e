//! The LSTM forward, step by step:
//! `i, f, o = σ(z)`, `g = φ(z)`, `s = f ⊙ s₋ + i ⊙ g`, `h = o ⊙ tanh(s)`, where
//! `z` is the input's part, `b + U x`, plus `W h₋` (Goodfellow et al.,
//! equations 10.40 to 10.44).

use super::{Activations, Dims, GATES, forward_scratch_len, sum, sweep_order};
use crate::error::{check_len, check_room};
use crate::fetch::When;
use crate::left;
use crate::pack::PackedMatrix;
use crate::scratch::{self, row_blocks};
use crate::simd::{Kernel, Simd};
use crate::tile::{Sums, load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// Where the input's part of the gates comes from, and whether the gates stay.
#[derive(Debug)]
pub enum Gates<'a> {
    /// `b + U x` goes in and the gates come out, `[τ, B, 4, H]`: training.
    Keep(&'a mut [f32]),
    /// `b + U x`, `[τ, B, 4, H]`; the gates are not stored.
    Discard(&'a [f32]),
    /// The product with the input is part of the step; nothing is stored.
    Fused {
        /// `[τ, B, I]`.
        x: &'a [f32],
        /// U packed by rows, with 4 gates.
        input: &'a PackedMatrix,
        /// b, `[4, H]`.
        bias: &'a [f32],
    },
}

/// Where the cell states are.
#[derive(Debug)]
pub enum Cells<'a> {
    /// Every state stays.
    Keep {
        /// The state before the first step, `[B, H]`.
        s0: &'a [f32],
        /// The state after each, `[τ, B, H]`.
        s: &'a mut [f32],
    },
    /// One state, `[B, H]`, carried from step to step.
    InPlace(&'a mut [f32]),
}

/// A forward pass over a stretch of time.
#[derive(Debug)]
pub struct Forward<'a> {
    /// τ, B and H.
    pub dims: Dims,
    /// The non-linearities.
    pub activations: Activations,
    /// W packed by rows, with 4 gates.
    pub recurrent: &'a PackedMatrix,
    /// The input's part.
    pub gates: Gates<'a>,
    /// The hidden state before the first step, `[B, H]`.
    pub h0: &'a [f32],
    /// The hidden state after each, `[τ, B, H]`.
    pub h: &'a mut [f32],
    /// The cell states.
    pub cells: Cells<'a>,
    /// [`forward_scratch_len`](super::forward_scratch_len) floats or more.
    pub scratch: &'a mut [f32],
}

impl Forward<'_> {
    /// Runs the pass. Sums have one order: a sequence gives the same bits alone
    /// and in a batch, in one call and in several.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(self, isa: Isa) -> Result<(), KernelError> {
        let dims = self.dims;
        let state = dims.state()?;
        self.recurrent.check(isa, GATES, dims.hidden, dims.hidden)?;
        check_len("h0", self.h0.len(), state)?;
        check_len("h", self.h.len(), dims.states()?)?;
        match &self.gates {
            Gates::Keep(gates) => check_len("gates", gates.len(), dims.gates()?)?,
            Gates::Discard(gates) => check_len("gates", gates.len(), dims.gates()?)?,
            Gates::Fused { x, input, bias } => {
                input.check(isa, GATES, dims.hidden, input.depth())?;
                let rows = [dims.steps, dims.batch, input.depth()];
                check_len("x", x.len(), crate::checked_len("x", &rows)?)?;
                check_len("bias", bias.len(), GATES * dims.hidden)?;
            }
        }
        match &self.cells {
            Cells::Keep { s0, s } => {
                check_len("s0", s0.len(), state)?;
                check_len("s", s.len(), dims.states()?)?;
            }
            Cells::InPlace(s) => check_len("s", s.len(), state)?,
        }
        let input = match &self.gates {
            Gates::Fused { input, .. } => input.depth(),
            _ => 0,
        };
        let expected = forward_scratch_len(dims.batch, dims.hidden, input)?;
        check_room("scratch", self.scratch.len(), expected)?;
        isa.enter(self);
        Ok(())
    }
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Dims { steps, batch, hidden } = self.dims;
        let (state, width) = (batch * hidden, batch * GATES * hidden);
        let h = self.h.as_mut_ptr();
        let scratch = self.scratch.as_mut_ptr();
        let (s0, cells, s_step) = match &mut self.cells {
            Cells::Keep { s0, s } => (s0.as_ptr(), s.as_mut_ptr(), state),
            Cells::InPlace(s) => (s.as_ptr(), s.as_mut_ptr(), 0),
        };
        let (mut input, mut stored) = match &mut self.gates {
            Gates::Keep(z) => (Input::Computed(z.as_ptr()), Some(z.as_mut_ptr())),
            Gates::Discard(z) => (Input::Computed(z.as_ptr()), None),
            Gates::Fused { x, input, bias } => {
                (Input::Fused { x: x.as_ptr(), weights: input, bias: bias.as_ptr() }, None)
            }
        };
        let (mut h_prev, mut s_prev) = (self.h0.as_ptr(), s0);
        for t in 0..steps {
            // SAFETY: `Forward::run` has checked every slice against the
            // dimensions, and t < steps; wrapping, since the last advance may
            // leave the slice.
            unsafe {
                let (h, s_now) = (h.add(t * state), cells.add(t * s_step));
                step(
                    s,
                    Step {
                        batch,
                        hidden,
                        activations: self.activations,
                        recurrent: self.recurrent,
                        input,
                        stored,
                        h_prev,
                        h,
                        s_prev,
                        s: s_now,
                        backwards: t % 2 == 1,
                        scratch,
                    },
                );
                (h_prev, s_prev) = (h, s_now);
            }
            match &mut input {
                Input::Computed(z) => *z = z.wrapping_add(width),
                Input::Fused { x, weights, .. } => *x = x.wrapping_add(batch * weights.depth()),
            }
            stored = stored.map(|gates| gates.wrapping_add(width));
        }
    }
}

#[derive(Clone, Copy)]
enum Input<'a> {
    Computed(*const f32),
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// One step: pointers to the first row of each operand.
struct Step<'a> {
    batch: usize,
    hidden: usize,
    activations: Activations,
    recurrent: &'a PackedMatrix,
    input: Input<'a>,
    stored: Option<*mut f32>,
    h_prev: *const f32,
    h: *mut f32,
    s_prev: *const f32,
    s: *mut f32,
    backwards: bool,
    /// Room for the rows of `h_prev` and `x`.
    scratch: *mut f32,
}

/// # Safety
/// The pointers are good for `batch` rows of their kind.
#[inline(always)]
unsafe fn step<S: Simd>(s: S, step: Step<'_>) {
    let hidden = step.hidden;
    let mut z = scratch::For::<S>::new();
    // SAFETY: the caller's: `scratch` has room for the rows of h and of x.
    let (h_prev, x) = unsafe {
        let h_prev = left::pack_batch(s, step.h_prev, step.batch, hidden, step.scratch);
        let x = match step.input {
            Input::Computed(_) => std::ptr::null(),
            Input::Fused { x, weights, .. } => {
                let to = step.scratch.add(left::len(step.batch, hidden));
                left::pack_batch(s, x, step.batch, weights.depth(), to)
            }
        };
        (h_prev, x)
    };
    for place in sweep_order(step.recurrent.groups(), step.backwards) {
        let columns = step.recurrent.columns(place.0, S::LANES).swept(step.backwards);
        for (row, rows) in row_blocks(step.batch) {
            // SAFETY: the caller's: the rows lie in the batch, so in every operand;
            // the group is one of both matrices.
            unsafe {
                let (start, stride) = match step.input {
                    Input::Computed(z) => (z.add(row * GATES * hidden), GATES * hidden),
                    Input::Fused { bias, .. } => (bias, 0),
                };
                let to = z.grid();
                let from = Some(columns.grid(start.cast_mut(), stride));
                let mut sums = Sums { from, to, lanes: columns.lanes, whole: columns.whole };
                let units = |start: *const f32| {
                    columns.fetch(start.wrapping_add(row * hidden), hidden, GATES, When::After)
                };
                // What is kept goes to memory that no step has touched before.
                let fetches = [
                    columns.fetch(start, stride, 1, When::Start),
                    units(step.s_prev),
                    units(step.s),
                    units(step.h),
                ];
                let fetches = &fetches[..if step.stored.is_some() { 4 } else { 2 }];
                let state = (h_prev.add(left::len(row, hidden)), step.recurrent);
                let inputs = match step.input {
                    Input::Computed(_) => [None, Some(state)],
                    Input::Fused { weights, .. } => {
                        [Some((x.add(left::len(row, weights.depth())), weights)), Some(state)]
                    }
                };
                for (a, weights) in inputs.into_iter().flatten() {
                    sum(s, rows, a, weights, place, sums, fetches);
                    sums = sums.resumed();
                }
                for vec in (0..columns.vecs).step_by(GATES) {
                    let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                    for r in 0..rows {
                        let z = [
                            z.get(r, vec),
                            z.get(r, vec + 1),
                            z.get(r, vec + 2),
                            z.get(r, vec + 3),
                        ];
                        cell(s, &step, row + r, unit, lanes, z);
                    }
                }
            }
        }
    }
}

/// Finishes a vector of units of a row from the gates' four sums.
///
/// # Safety
/// The row and its `lanes` units from `unit` lie in the operands of `step`.
#[inline(always)]
unsafe fn cell<S: Simd>(
    s: S,
    step: &Step<'_>,
    row: usize,
    unit: usize,
    lanes: usize,
    z: [S::V; GATES],
) {
    let act = step.activations;
    let at = row * step.hidden + unit;
    // SAFETY: the caller's.
    unsafe {
        let i = act.gate(s, z[0]);
        let f = act.gate(s, z[1]);
        let g = act.candidate(s, z[2]);
        let o = act.gate(s, z[3]);
        let s_prev = load_lanes(s, step.s_prev.add(at), lanes);
        let state = s.mul_add(f, s_prev, s.mul(i, g));
        let h = s.mul(o, act.cell(s, state));
        store_lanes(s, step.s.add(at), state, lanes);
        store_lanes(s, step.h.add(at), h, lanes);
        if let Some(gates) = step.stored {
            let gates = gates.add(row * GATES * step.hidden + unit);
            store_lanes(s, gates, i, lanes);
            store_lanes(s, gates.add(step.hidden), f, lanes);
            store_lanes(s, gates.add(2 * step.hidden), g, lanes);
            store_lanes(s, gates.add(3 * step.hidden), o, lanes);
        }
    }
}
