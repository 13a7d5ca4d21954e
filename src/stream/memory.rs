//! What a stream holds, in one allocation, and the parts of it that a pass is given.

use super::Stream;
use crate::arena::{Layout, Region, grant};
use crate::error::check_size;
use crate::layer::{Layer, Sizes};
use crate::plan::CHUNK_ROWS;
use crate::{Error, Isa, Weights};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{CellStates, Dims, Norm, forward_scratch_len, single_room};
use bptt_kernels::team::Team;

#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub floats: AlignedBuffer,
    pub h: Region,
    pub s: Region,
    /// Room for the next h, and, with zoneout, for the next s.
    pub next: Region,
    pub s_next: Region,
    /// What is normalised of a step, and the inverse deviations.
    pub normal: Region,
    pub normal_extra: Region,
    pub inverse: Region,
    pub extra: Region,
    pub gates: Region,
    /// The input that waits, where it is late.
    pub waiting: Region,
    pub scratch: Region,
}

impl Memory {
    /// All that a pass needs, in the order in which it was booked.
    pub(super) fn granted(&mut self) -> [&mut [f32]; 11] {
        let Self { h, s, next, s_next, normal, normal_extra, inverse, .. } = *self;
        let Self { extra, gates, waiting, scratch, .. } = *self;
        let all =
            [h, s, next, s_next, normal, normal_extra, inverse, extra, gates, waiting, scratch];
        grant(&mut self.floats, all)
    }

    pub(super) fn state_mut(&mut self) -> [&mut [f32]; 3] {
        grant(&mut self.floats, [self.h, self.s, self.waiting])
    }
}

impl<C: Layer> Stream<C> {
    pub(super) fn laid_out(
        layer: C,
        batch: usize,
        isa: Isa,
        threads: usize,
        keeps: Option<[f32; 2]>,
    ) -> Result<Self, Error> {
        check_size("batch", batch)?;
        if C::CLOCKED {
            return Self::laid_out_clocked(layer, batch, isa, threads);
        }
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        let chunk_steps = (CHUNK_ROWS / batch).max(1);
        let cells = usize::from(geometry.cells);
        let extra = if geometry.is_double() { geometry.extra } else { 0 };
        let dims = Dims { steps: 1, batch, hidden, outputs: output };
        let mut layout = Layout::default();
        let h = layout.book(&[layer.delays()[0], batch, output])?;
        let s = layout.book(&[cells, batch, hidden])?;
        let next = layout.book(&[batch, output])?;
        let turns = if keeps.is_some() { cells } else { 0 };
        let s_next = layout.book(&[turns, batch, hidden])?;
        let normed = usize::from(C::NORMED);
        let normal = layout.book(&[normed, batch, geometry.gates, hidden])?;
        let apart = geometry.norms - geometry.gates;
        let normal_extra = layout.book(&[normed, batch, apart, hidden])?;
        let inverse = layout.book(&[normed, batch, geometry.norms])?;
        let extra = layout.book(&[extra, batch, hidden])?;
        let gates = layout.book(&[chunk_steps, batch, gemm::spread(geometry.gates * hidden)])?;
        let waiting = layout.book(&[usize::from(C::LATE), batch, input])?;
        let product = gemm::team_scratch_len(threads, chunk_steps * batch, input)?;
        let fused = if geometry.fuses { input } else { 0 };
        let step = forward_scratch_len(&geometry, dims, layer.delays().len(), fused)?;
        let scratch = layout.book(&[product.max(step)])?;
        let floats = layout.allocate()?;
        let memory = Memory {
            floats,
            h,
            s,
            next,
            s_next,
            normal,
            normal_extra,
            inverse,
            extra,
            gates,
            waiting,
            scratch,
        };
        let team = Team::new(threads)?;
        let alone = batch == 1 && layer.delays() == [1] && !C::NORMED;
        let alone = alone && !team.helps(layer.multiply_adds(1));
        let alone = alone.then(|| single_room(&geometry, hidden)[0]);
        let (backwards, step) = (true, 0);
        Ok(Self { layer, batch, isa, chunk_steps, memory, alone, keeps, backwards, step, team })
    }
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
