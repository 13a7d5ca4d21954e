//! What a stream holds, in one allocation, and the parts of it that a pass is given.

use crate::arena::{Layout, Region, regions};
use crate::layer::{Layer, Sizes};
use crate::{Error, Weights};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{CellStates, Dims, Norm, forward_scratch_len};
use bptt_kernels::tuning::CHUNK_ROWS;

regions! {
    h
    s
    /// Room for the next h, and, with zoneout, for the next s.
    next
    s_next
    /// What is normalised of a step, and the inverse deviations.
    normal
    normal_extra
    inverse
    extra
    gates
    /// The input that waits, where it is late.
    waiting
    scratch
}

#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub floats: AlignedBuffer,
    pub regions: Regions<Region>,
}

impl Memory {
    #[inline]
    pub(super) fn granted(&mut self) -> Regions<&mut [f32]> {
        self.regions.granted(&mut self.floats)
    }

    #[inline]
    pub(super) fn h(&self) -> &[f32] {
        self.regions.h.of(&self.floats)
    }

    pub(super) fn state_mut(&mut self) -> [&mut [f32]; 3] {
        let Regions { h, s, waiting, .. } = self.granted();
        [h, s, waiting]
    }
}

/// Steps of a stretch of so many sequences.
pub(super) fn chunk_steps(batch: usize) -> usize {
    (CHUNK_ROWS / batch).max(1)
}

impl Regions<Region> {
    /// Books them all.
    pub(super) fn book<C: Layer>(
        layer: &C,
        batch: usize,
        threads: usize,
        zoneout: bool,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        let (cells, normed) = (usize::from(geometry.cells), usize::from(C::NORMED));
        let turns = if zoneout { cells } else { 0 };
        let apart = geometry.norms - geometry.gates;
        let extra = if geometry.is_double() { geometry.extra } else { 0 };
        let gates = gemm::spread(geometry.gates * hidden);
        // In the order of the list.
        Ok(Self {
            h: layout.book(&[layer.delays()[0], batch, output])?,
            s: layout.book(&[cells, batch, hidden])?,
            next: layout.book(&[batch, output])?,
            s_next: layout.book(&[turns, batch, hidden])?,
            normal: layout.book(&[normed, batch, geometry.gates, hidden])?,
            normal_extra: layout.book(&[normed, batch, apart, hidden])?,
            inverse: layout.book(&[normed, batch, geometry.norms])?,
            extra: layout.book(&[extra, batch, hidden])?,
            gates: layout.book(&[chunk_steps(batch), batch, gates])?,
            waiting: layout.book(&[usize::from(C::LATE), batch, input])?,
            scratch: layout.book(&[scratch_len(layer, batch, threads)?])?,
        })
    }
}

/// What the more demanding of a step's products and a stretch's needs.
fn scratch_len<C: Layer>(layer: &C, batch: usize, threads: usize) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
    let dims = Dims { steps: 1, batch, hidden, outputs: output };
    let fused = if geometry.fuses { input } else { 0 };
    let product = gemm::team_scratch_len(threads, chunk_steps(batch) * batch, input)?;
    let step = forward_scratch_len(&geometry, dims, layer.delays().len(), fused)?;
    Ok(product.max(step))
}

/// The normalisation of a step.
pub(super) fn norm<'a, C: Layer>(
    weights: &'a Weights<C>,
    normal: &'a mut [f32],
    normal_extra: &'a mut [f32],
    inverse: &'a mut [f32],
) -> Option<Norm<'a>> {
    let (epsilon, gain) = weights.norm()?;
    Some(Norm { epsilon, gain, bias: &weights.bias, normal, normal_extra, inverse })
}

/// The cell state, if there is one, in place or in turns.
pub(super) fn carried<'a>(s: &'a mut [f32], other: &'a mut [f32]) -> CellStates<'a> {
    match (s.is_empty(), other.is_empty()) {
        (true, _) => CellStates::None,
        (false, true) => CellStates::InPlace(s),
        (false, false) => CellStates::InTurns { s, other },
    }
}

/// The cell state where it belongs after so many steps in turns.
pub(super) fn settle(steps: usize, s: &mut [f32], other: &[f32]) {
    if steps % 2 == 1 && !other.is_empty() {
        s.copy_from_slice(other);
    }
}

/// The last of the states that were and those that came.
pub(super) fn remember(states: &mut [f32], came: &[f32]) {
    let new = states.len().min(came.len());
    states.copy_within(new.., 0);
    let kept = states.len() - new;
    states[kept..].copy_from_slice(&came[came.len() - new..]);
}
