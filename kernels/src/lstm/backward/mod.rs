//! The LSTM backward, step by step from the last: with `dh = ∂L/∂h` of the step
//! (the caller's part plus `dz₊ W` from the step after) and `ds` carried,
//!
//! `ds += dh ⊙ o ⊙ tanh'(s)`, `do = dh ⊙ tanh(s)`, `df = ds ⊙ s₋`,
//! `di = ds ⊙ g`, `dg = ds ⊙ i`, each times its activation's slope gives `dz`,
//! and `ds₋ = ds ⊙ f`.

mod step;

use super::{Activations, Dims, GATES, backward_scratch_len, parts};
use crate::error::{check_len, check_room};
use crate::left;
use crate::pack::PackedMatrix;
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::tile;
use crate::{Isa, KernelError};
use step::{CellStep, Step};

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
        let parts = parts(pass.threads(), dims, self.recurrent);
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Work { steps: dims.steps, parts, last, cell }) };
        Ok(())
    }
}

/// A checked pass: the steps from the last, and after them what is left,
/// ∂L/∂h₀ = dz₁ W. Either parts of the batch go through all of them each on its own, or
/// in each the gate gradients of the step after are packed, in parts, and then the
/// groups of units are swept.
struct Work<'a> {
    steps: usize,
    /// Parts of the batch, or 0.
    parts: usize,
    last: Step<'a>,
    /// The pointers to the first row of the first step.
    cell: CellStep,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
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
        match (self.steps, self.parts) {
            (0, _) => 0,
            (steps, 0) => 2 * (steps + 1),
            _ => 1,
        }
    }

    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.parts > 0 => self.parts,
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
        // SAFETY: `Backward::run` has checked every slice against the dimensions, and
        // each t is a step, or 0.
        unsafe {
            if self.parts == 0 {
                let step = self.step(self.steps - phase / 2);
                match phase % 2 {
                    0 => step.pack(s, task),
                    _ => step.sweep(s, task, self.backwards(phase)),
                }
                return;
            }
            let (row, rows) = tile::cut(self.last.batch, self.parts, task);
            for t in (0..=self.steps).rev() {
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
