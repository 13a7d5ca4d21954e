//! The LSTM forward, step by step:
//! `i, f, o = σ(z)`, `g = φ(z)`, `s = f ⊙ s₋ + i ⊙ g`, `h = o ⊙ tanh(s)`, where
//! `z` is the input's part, `b + U x`, plus `W h₋` (Goodfellow et al.,
//! equations 10.40 to 10.44).

mod single;
mod step;

pub use single::Single;

use super::{Activations, Dims, GATES, forward_scratch_len, parts};
use crate::error::{check_len, check_room};
use crate::left;
use crate::pack::PackedMatrix;
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::tile;
use crate::{Isa, KernelError};
use step::{Input, Step};

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
/// 0.92 of the peak for H 512, B 32, 0.90 for H 1024, B 64, 0.73 for H 64, B 32; one
/// sequence is bound by reading the weights, H 256 at 0.94 and H 1024 at 0.88 of what that
/// allows. `cargo run --release --example rnnbench -- --hidden 512 --input 512 --batch 32`.
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
        let parts = parts(pass.threads(), dims, self.recurrent);
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Work { steps: dims.steps, parts, s_step, first }) };
        Ok(())
    }
}

/// A checked pass. Either parts of the batch go through all steps each on its own, or
/// in each step the left operands are packed, in parts, and then the groups of units
/// are swept.
struct Work<'a> {
    steps: usize,
    /// Parts of the batch, or 0.
    parts: usize,
    /// Floats from one step's cell state to the next's.
    s_step: usize,
    first: Step<'a>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl Sync for Work<'_> {}

impl<'a> Work<'a> {
    /// Step `t`: its rows.
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

impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        if self.parts > 0 { self.steps.min(1) } else { 2 * self.steps }
    }

    fn tasks(&self, phase: usize) -> usize {
        match (self.parts, phase % 2) {
            (0, 0) => left::batch_parts(self.first.batch),
            (0, _) => self.first.recurrent.groups(),
            (parts, _) => parts,
        }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 4 == 3
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, phase: usize, task: usize) {
        // SAFETY: `Forward::run` has checked every slice against the dimensions, and
        // each t is a step.
        unsafe {
            if self.parts == 0 {
                let step = self.step(phase / 2);
                match phase % 2 {
                    0 => step.pack(s, task),
                    _ => step.sweep(s, task, self.backwards(phase)),
                }
                return;
            }
            let (row, rows) = tile::cut(self.first.batch, self.parts, task);
            for t in 0..self.steps {
                let step = self.step(t).rows(row, rows);
                for part in 0..left::batch_parts(rows) {
                    step.pack(s, part);
                }
                let groups = step.recurrent.groups();
                for group in 0..groups {
                    let backwards = t % 2 == 1;
                    let group = if backwards { groups - 1 - group } else { group };
                    step.sweep(s, group, backwards);
                }
            }
        }
    }
}
