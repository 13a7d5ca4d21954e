//! Forward steps of an sLSTM layer, of a pass or of a stream. Knows steps; must not know schedules.

use super::packed::SlstmPacked;
use super::spec::{Sizes, Slstm};
use crate::{Error, Isa};
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::rowwise::StridedMut;
use bptt_kernels::slstm::{SlstmForward, SlstmKept, SlstmSizes};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::tuning::STEP_WORTH_SPLITTING;

/// The parts of a state, each `[B, H]`.
pub(super) struct States<T> {
    pub h: T,
    pub c: T,
    pub n: T,
    pub m: T,
}

impl<'a> States<&'a [f32]> {
    pub fn of(state: &'a [f32]) -> Self {
        let (h, rest) = state.split_at(state.len() / 4);
        let (c, rest) = rest.split_at(h.len());
        let (n, m) = rest.split_at(h.len());
        Self { h, c, n, m }
    }
}

impl<'a> States<&'a mut [f32]> {
    pub fn of_mut(state: &'a mut [f32]) -> Self {
        let (h, rest) = state.split_at_mut(state.len() / 4);
        let (c, rest) = rest.split_at_mut(h.len());
        let (n, m) = rest.split_at_mut(h.len());
        Self { h, c, n, m }
    }
}

impl Sizes {
    /// Returns the floats from one row of a head's sums to the next.
    pub fn sums_stride(self) -> usize {
        gemm::spread(4 * self.units)
    }

    /// Copies rows of all units, `[B, K, D]`, to rows of each head, `[K, B, D]`.
    pub fn to_heads(self, rows: &[f32], heads: &mut [f32]) {
        let batch = rows.len() / self.hidden;
        for (row, of_row) in rows.chunks_exact(self.hidden).enumerate() {
            for (head, units) in of_row.chunks_exact(self.units).enumerate() {
                heads[(head * batch + row) * self.units..][..self.units].copy_from_slice(units);
            }
        }
    }

    /// Copies rows of each head, `[K, B, D]`, to rows of all units, `[B, K, D]`.
    pub fn to_rows(self, heads: &[f32], rows: &mut [f32]) {
        let batch = rows.len() / self.hidden;
        for (row, of_row) in rows.chunks_exact_mut(self.hidden).enumerate() {
            for (head, units) in of_row.chunks_exact_mut(self.units).enumerate() {
                units.copy_from_slice(&heads[(head * batch + row) * self.units..][..self.units]);
            }
        }
    }
}

/// The steps of some sequences, and what they carry on.
pub(super) struct Walk<'a, 't> {
    pub layer: Slstm,
    pub packed: &'a SlstmPacked,
    pub isa: Isa,
    /// Sequences, B.
    pub batch: usize,
    /// The state, of which h is `[K, B, D]`.
    pub state: States<&'a mut [f32]>,
    /// Room for the heads' sums, `[K, B, sums_stride]`.
    pub sums: &'a mut [f32],
    pub scratch: &'a mut [f32],
    pub threads: &'a mut Threads<'t>,
}

/// A step of the first so many sequences.
pub(super) struct Step<'a> {
    pub rows: usize,
    /// `b + U x`, which what the cell keeps replaces if there is anything kept.
    pub gates: &'a mut [f32],
    pub gates_stride: usize,
    pub y: StridedMut<'a>,
    pub kept: Option<SlstmKept<'a>>,
}

impl Walk<'_, '_> {
    /// Computes `b + U x` for some rows.
    pub fn inputs(&mut self, x: &[f32], gates: &mut [f32], stride: usize) -> Result<(), Error> {
        let (a, c, weights, scratch) = (x, gates, &self.packed.input, &mut *self.scratch);
        let (rows, start) = (a.len() / weights.depth(), self.packed.start());
        Gemm { rows, a, weights, start, c, stride, scratch }.run(self.isa, self.threads)?;
        Ok(())
    }

    /// Takes a step.
    pub fn step(&mut self, step: Step<'_>) -> Result<(), Error> {
        let Step { rows, gates, gates_stride, y, kept } = step;
        let Sizes { heads, units, hidden, .. } = self.layer.sizes();
        let (batch, stride) = (self.batch, self.layer.sizes().sums_stride());
        let mut alone = Threads::serial();
        let shared = 4 * rows * hidden * units >= STEP_WORTH_SPLITTING;
        let threads = if shared { &mut *self.threads } else { &mut alone };
        for (head, weights) in self.packed.heads.iter().enumerate() {
            let a = &self.state.h[head * batch * units..][..rows * units];
            let c = &mut self.sums[head * batch * stride..][..rows * stride];
            let (start, scratch) = (Start::Zero, &mut *self.scratch);
            Gemm { rows, a, weights, start, c, stride, scratch }.run(self.isa, threads)?;
        }
        SlstmForward {
            sizes: SlstmSizes { batch, rows, heads, units },
            forget: self.layer.forget().kernel(),
            gates,
            gates_stride,
            recurrent: &*self.sums,
            recurrent_stride: stride,
            c: &mut *self.state.c,
            n: &mut *self.state.n,
            m: &mut *self.state.m,
            y,
            h: &mut *self.state.h,
            kept,
        }
        .run(self.isa, threads)?;
        Ok(())
    }
}
