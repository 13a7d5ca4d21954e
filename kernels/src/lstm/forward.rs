//! The LSTM forward, step by step:
//! `i, f, o = σ(z)`, `g = φ(z)`, `s = f ⊙ s₋ + i ⊙ g`, `h = o ⊙ tanh(s)`, where
//! `z` is the input's part, `b + U x`, plus `W h₋` (Goodfellow et al.,
//! equations 10.40 to 10.44).

use super::{Activations, Dims, GATES, forward_scratch_len};
use crate::error::{check_len, check_room};
use crate::fetch::{Fetches, When};
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::{self, MOST_SUMS, Origin, Passage, Steps, Term, Terms, Units, parts};
use crate::simd::Simd;
use crate::team::Pass;
use crate::tile::{load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// Where the input's part of the gates comes from, and whether the gates stay.
#[derive(Debug)]
pub enum Gates<'a> {
    /// `b + U x` goes in and the gates come out, `[τ, B, 4, H]`: training.
    Keep(&'a mut [f32]),
    /// The gates are not stored.
    Discard {
        /// `b + U x`, `[τ, B, stride]`, of which the first are `[4, H]`.
        z: &'a [f32],
        /// Floats from one row to the next, 4H or more.
        stride: usize,
    },
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
///
/// Measured on one core (Zen 5, AVX-512, FMA peak 285 GFLOP/s), with the input's product:
/// 0.91 of the peak for H 512, B 32, 0.91 for H 1024, B 64, 0.73 for H 64, B 32; one
/// sequence of 256 units or more is bound by reading the weights, at 0.91 or more of what
/// that allows. `cargo run --release --example rnnbench -- --hidden 512 --input 512 --batch 32`.
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
    pub fn run(mut self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let dims = self.dims;
        let state = dims.state()?;
        self.recurrent.check(isa, GATES, dims.hidden, dims.hidden)?;
        check_len("h0", self.h0.len(), state)?;
        check_len("h", self.h.len(), dims.states()?)?;
        match &self.gates {
            Gates::Keep(gates) => check_len("gates", gates.len(), dims.gates()?)?,
            Gates::Discard { z, stride } => {
                check_room("stride", *stride, GATES * dims.hidden)?;
                let rows = [dims.steps, dims.batch, *stride];
                check_len("gates", z.len(), crate::checked_len("the gates", &rows)?)?;
            }
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
        let (s0, s, s_step) = match &mut self.cells {
            Cells::Keep { s0, s } => (s0.as_ptr(), s.as_mut_ptr(), state),
            Cells::InPlace(s) => (s.as_ptr(), s.as_mut_ptr(), 0),
        };
        let (input, stored) = match &mut self.gates {
            Gates::Keep(z) => {
                let stride = GATES * dims.hidden;
                (Input::Computed { z: z.as_ptr(), stride }, Some(z.as_mut_ptr()))
            }
            Gates::Discard { z, stride } => {
                (Input::Computed { z: z.as_ptr(), stride: *stride }, None)
            }
            Gates::Fused { x, input, bias } => {
                (Input::Fused { x: x.as_ptr(), weights: input, bias: bias.as_ptr() }, None)
            }
        };
        let first = Step {
            batch: dims.batch,
            hidden: dims.hidden,
            activations: self.activations,
            recurrent: self.recurrent,
            input,
            stored,
            h_prev: self.h0.as_ptr(),
            h: self.h.as_mut_ptr(),
            s_prev: s0,
            s,
            scratch: self.scratch.as_mut_ptr(),
        };
        let parts = parts(pass.threads(), dims.steps, dims.batch, self.recurrent);
        let steps = Pointers { steps: dims.steps, s_step, first };
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Passage { steps, parts }) };
        Ok(())
    }
}

/// The steps of a checked pass.
struct Pointers<'a> {
    steps: usize,
    /// Floats from one step's cell state to the next's.
    s_step: usize,
    first: Step<'a>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl Sync for Pointers<'_> {}

impl<'a> Steps for Pointers<'a> {
    type Step = Step<'a>;

    fn count(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn step(&self, t: usize) -> Step<'a> {
        let first = self.first;
        let state = first.batch * first.hidden;
        let (h, s) = (t * state, t * self.s_step);
        let before = |rows: usize, zeroth: *const f32, kept: *mut f32| match t {
            0 => zeroth,
            _ => kept.cast_const().wrapping_add((t - 1) * rows),
        };
        Step {
            input: match first.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(t * first.batch * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    let x = x.wrapping_add(t * first.batch * weights.depth());
                    Input::Fused { x, weights, bias }
                }
            },
            stored: first.stored.map(|gates| gates.wrapping_add(t * GATES * state)),
            h_prev: before(state, first.h_prev, first.h),
            h: first.h.wrapping_add(h),
            s_prev: before(self.s_step, first.s_prev, first.s),
            s: first.s.wrapping_add(s),
            ..first
        }
    }
}

/// Where the input's part of the gates comes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Computed { z: *const f32, stride: usize },
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub batch: usize,
    pub hidden: usize,
    pub activations: Activations,
    pub recurrent: &'a PackedMatrix,
    pub input: Input<'a>,
    pub stored: Option<*mut f32>,
    pub h_prev: *const f32,
    pub h: *mut f32,
    pub s_prev: *const f32,
    pub s: *mut f32,
    /// Room for the rows of `h_prev` and `x`.
    pub scratch: *mut f32,
}

impl recurrence::Step for Step<'_> {
    const SUMS: usize = GATES;

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
        let input = match self.input {
            Input::Computed { .. } => None,
            Input::Fused { x, weights, .. } => Some(Term { rows: x, weights }),
        };
        [input, Some(Term { rows: self.h_prev, weights: self.recurrent })]
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        Some(match self.input {
            Input::Computed { z, stride } => Origin { start: z, stride },
            Input::Fused { bias, .. } => Origin { start: bias, stride: 0 },
        })
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if let Input::Computed { z, stride } = self.input {
            let z = z.wrapping_add(row * stride);
            fetches.push(columns.fetch(z, stride, 1, When::Start));
        }
        // What is kept goes to memory that no step has touched before.
        let states = [self.s_prev, self.s, self.h];
        for state in &states[..if self.stored.is_some() { 3 } else { 1 }] {
            let state = state.wrapping_add(row * self.hidden);
            fetches.push(columns.fetch(state, self.hidden, GATES, When::After));
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        let (gates, state) = (row * GATES * self.hidden, row * self.hidden);
        let (input, depth) = match self.input {
            Input::Computed { z, stride } => {
                (Input::Computed { z: z.wrapping_add(row * stride), stride }, 0)
            }
            Input::Fused { x, weights, bias } => {
                let x = x.wrapping_add(row * weights.depth());
                (Input::Fused { x, weights, bias }, weights.depth())
            }
        };
        let scratch = left::len(row, self.hidden) + left::len(row, depth);
        Step {
            batch: rows,
            input,
            stored: self.stored.map(|stored| stored.wrapping_add(gates)),
            h_prev: self.h_prev.wrapping_add(state),
            h: self.h.wrapping_add(state),
            s_prev: self.s_prev.wrapping_add(state),
            s: self.s.wrapping_add(state),
            scratch: self.scratch.wrapping_add(scratch),
            ..self
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, z: [S::V; MOST_SUMS]) {
        let (act, lanes) = (self.activations, at.lanes);
        let unit = at.row * self.hidden + at.first;
        // SAFETY: the caller's.
        unsafe {
            let i = act.gate(s, z[0]);
            let f = act.gate(s, z[1]);
            let g = act.candidate(s, z[2]);
            let o = act.gate(s, z[3]);
            let s_prev = load_lanes(s, self.s_prev.add(unit), lanes);
            let state = s.mul_add(f, s_prev, s.mul(i, g));
            let h = s.mul(o, act.cell(s, state));
            store_lanes(s, self.s.add(unit), state, lanes);
            store_lanes(s, self.h.add(unit), h, lanes);
            if let Some(gates) = self.stored {
                let gates = gates.add(at.row * GATES * self.hidden + at.first);
                store_lanes(s, gates, i, lanes);
                store_lanes(s, gates.add(self.hidden), f, lanes);
                store_lanes(s, gates.add(2 * self.hidden), g, lanes);
                store_lanes(s, gates.add(3 * self.hidden), o, lanes);
            }
        }
    }
}
