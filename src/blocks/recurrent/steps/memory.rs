//! The memory that the steps of a stream need beside the state, and the parts of it that each kind
//! of step is granted. Knows lengths; must not know what the steps compute.

use crate::Error;
use crate::blocks::recurrent::{Recurrent, RecurrentPacked, Sizes};
use crate::memory::{Layout, Region, regions};
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{CellStates, Dims, Norm, StepRows, forward_scratch_len};
use bptt_kernels::tuning::CHUNK_ROWS;

regions! {
    /// What a single step with a kernel of its own is granted. These are few regions, because
    /// granting each one takes a measurable part of so short a step.
    pub(super) struct Alone {
        /// The next hidden state, `[B, R]`.
        next,
        /// The extra block, if a second product reads it, `[B, H]`.
        extra,
        /// The gates of a stretch of time.
        gates,
    }
}

regions! {
    /// What all other steps are granted in addition.
    pub(super) struct Beside {
        /// With zoneout: the next cell state, `[B, H]`.
        c_next,
        /// With layer normalisation: the normalised sums of a step, `[B, G, H]`.
        normal,
        /// The normalised recurrent sum of a GRU's candidate, if it is apart, `[B, H]`.
        normal_extra,
        /// The inverse deviation of each normalised sum.
        inverse,
        scratch,
    }
}

/// Where [`Alone`] and [`Beside`] lie in the memory of the steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub alone: Alone<Region>,
    /// Regions within the floats from `beside_start` on.
    beside: Beside<Region>,
    beside_start: usize,
}

impl Memory {
    /// Books the memory for the steps of `layer`.
    pub(super) fn booked(
        layer: &Recurrent,
        batch: usize,
        threads: usize,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let (Sizes { hidden, output, .. }, geometry) = (layer.sizes, layer.geometry());
        let (cells, normed) = (usize::from(geometry.cells), usize::from(layer.is_normed()));
        let turns = if layer.regularisation.rates().is_some() { cells } else { 0 };
        let apart = geometry.norms - geometry.gates;
        let extra = if geometry.is_double() { geometry.extra } else { 0 };
        let gates = gemm::spread(geometry.gates * hidden);
        let alone: Alone<&[usize]> = Alone {
            next: &[batch, output],
            extra: &[extra, batch, hidden],
            gates: &[chunk_steps(batch), batch, gates],
        };
        let beside: Beside<&[usize]> = Beside {
            c_next: &[turns, batch, hidden],
            normal: &[normed, batch, geometry.gates, hidden],
            normal_extra: &[normed, batch, apart, hidden],
            inverse: &[normed, batch, geometry.norms],
            scratch: &[scratch_len(layer, batch, threads)?],
        };
        let (mut all, mut last) = (Layout::in_lines("the stream"), Layout::in_lines("the stream"));
        let (alone, beside) = (alone.booked(&mut all)?, beside.booked(&mut last)?);
        let beside_start = all.floats();
        layout.book(&[beside_start])?;
        layout.book(&[last.floats()])?;
        Ok(Self { alone, beside, beside_start })
    }

    pub(super) fn granted(self, memory: &mut [f32]) -> (Alone<&mut [f32]>, Beside<&mut [f32]>) {
        let (alone, beside) = memory.split_at_mut(self.beside_start);
        (self.alone.granted(alone), self.beside.granted(beside))
    }
}

/// Returns the number of steps in a stretch of time for `batch` sequences.
pub(crate) fn chunk_steps(batch: usize) -> usize {
    (CHUNK_ROWS / batch).max(1)
}

/// Returns the floats of scratch that the products of a step and of a stretch need.
fn scratch_len(layer: &Recurrent, batch: usize, threads: usize) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes, layer.geometry());
    let dims = Dims { schedule: StepRows::dense(1, batch), hidden, outputs: output };
    let fused = if geometry.fuses { input } else { 0 };
    let product = gemm::team_scratch_len(threads, chunk_steps(batch) * batch, input)?;
    let step = forward_scratch_len(&geometry, dims, layer.delays.len(), fused)?;
    Ok(product.max(step))
}

/// Returns the normalisation of a step, if the gates are normalised.
pub(super) fn norm<'a>(
    packed: &'a RecurrentPacked,
    normal: &'a mut [f32],
    normal_extra: &'a mut [f32],
    inverse: &'a mut [f32],
) -> Option<Norm<'a>> {
    let (epsilon, gain) = packed.norm()?;
    Some(Norm { epsilon, gain, bias: &packed.bias, normal, normal_extra, inverse })
}

/// Returns the cell state, if there is one: in place, or, if there is an `other`, in turns in both.
pub(super) fn cell_states<'a>(c: &'a mut [f32], other: &'a mut [f32]) -> CellStates<'a> {
    match (c.is_empty(), other.is_empty()) {
        (true, _) => CellStates::None,
        (false, true) => CellStates::InPlace(c),
        (false, false) => CellStates::InTurns { c, other },
    }
}

/// Copies the cell state back to `c`: after an odd number of `steps` in turns it is in `other`.
pub(super) fn copy_back(steps: usize, c: &mut [f32], other: &[f32]) {
    if steps % 2 == 1 && !other.is_empty() {
        c.copy_from_slice(other);
    }
}
