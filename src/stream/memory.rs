//! What a stream holds, in one allocation, and the parts of it that a pass is given.

use crate::arena::{Layout, Region, regions};
use crate::clocked::Clocked;
use crate::spec::{Sizes, Spec};
use crate::{Error, Weights};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{
    CellStates, Dims, Norm, Schedule, clocked_scratch_len, forward_scratch_len,
};
use bptt_kernels::tuning::{CHUNK_ROWS, ROWS_ALONE};

regions! {
    /// What a step with a kernel of its own is granted: not all, for each region takes part of
    /// a nanosecond.
    pub(super) struct Alone {
        h,
        c,
        /// Room for the next h.
        next,
        extra,
        gates,
        /// The input that waits, where it is late.
        waiting,
    }
}

regions! {
    /// What other passes are granted beside it.
    pub(super) struct Beside {
        /// Room for the next c, with zoneout.
        c_next,
        /// What is normalised of a step, and the inverse deviations.
        normal,
        normal_extra,
        inverse,
        scratch,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub floats: AlignedBuffer,
    pub alone: Alone<Region>,
    /// Regions of the floats that come after those.
    beside: Beside<Region>,
    beside_start: usize,
}

impl Memory {
    /// The memory of regions of these dims.
    fn booked(alone: Alone<&[usize]>, beside: Beside<&[usize]>) -> Result<Self, Error> {
        let what = "the arena";
        let (mut all, mut last) = (Layout::in_lines(what), Layout::in_lines(what));
        let (alone, beside) = (alone.booked(&mut all)?, beside.booked(&mut last)?);
        let beside_start = all.floats();
        all.book(&[last.floats()])?;
        Ok(Self { floats: all.allocate()?, alone, beside, beside_start })
    }

    /// What a step with a kernel of its own is granted.
    #[inline]
    pub(super) fn granted_alone(&mut self) -> Alone<&mut [f32]> {
        self.alone.granted(&mut self.floats)
    }

    pub(super) fn granted(&mut self) -> (Alone<&mut [f32]>, Beside<&mut [f32]>) {
        let (alone, beside) = self.floats.split_at_mut(self.beside_start);
        (self.alone.granted(alone), self.beside.granted(beside))
    }

    #[inline]
    pub(super) fn h(&self) -> &[f32] {
        self.alone.h.of(&self.floats)
    }

    pub(super) fn state_mut(&mut self) -> [&mut [f32]; 3] {
        let Alone { h, c, waiting, .. } = self.granted_alone();
        [h, c, waiting]
    }
}

/// Steps of a stretch of so many sequences.
pub(super) fn chunk_steps(batch: usize) -> usize {
    (CHUNK_ROWS / batch).max(1)
}

impl Memory {
    /// The memory of a layer whose units move together.
    pub(super) fn of<C: Spec>(
        layer: &C,
        batch: usize,
        threads: usize,
        zoneout: bool,
    ) -> Result<Self, Error> {
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        let (cells, normed) = (usize::from(geometry.cells), usize::from(C::NORMED));
        let turns = if zoneout { cells } else { 0 };
        let apart = geometry.norms - geometry.gates;
        let extra = if geometry.is_double() { geometry.extra } else { 0 };
        let gates = gemm::spread(geometry.gates * hidden);
        let alone: Alone<&[usize]> = Alone {
            h: &[layer.delays()[0], batch, output],
            c: &[cells, batch, hidden],
            next: &[batch, output],
            extra: &[extra, batch, hidden],
            gates: &[chunk_steps(batch), batch, gates],
            waiting: &[usize::from(C::LATE), batch, input],
        };
        let beside: Beside<&[usize]> = Beside {
            c_next: &[turns, batch, hidden],
            normal: &[normed, batch, geometry.gates, hidden],
            normal_extra: &[normed, batch, apart, hidden],
            inverse: &[normed, batch, geometry.norms],
            scratch: &[scratch_len(layer, batch, threads)?],
        };
        Self::booked(alone, beside)
    }

    /// The memory of a layer whose units move in groups.
    pub(super) fn of_groups(
        clocked: Clocked<'_>,
        Sizes { input, hidden, .. }: Sizes,
        batch: usize,
        threads: usize,
    ) -> Result<Self, Error> {
        let steps = chunk_steps(batch);
        let kept = clocked.most_kept(steps, batch)?;
        let gathered = match batch < ROWS_ALONE {
            true => clocked.gathered((steps, batch), (input, hidden))?[0],
            false => 0,
        };
        let product = gemm::team_scratch_len(threads, steps * batch, input)?;
        let scratch = product.max(clocked_scratch_len(batch, hidden)?);
        let alone: Alone<&[usize]> = Alone {
            h: &[batch, hidden],
            next: &[batch, hidden],
            extra: &[gathered],
            gates: &[kept],
            ..Alone::default()
        };
        Self::booked(alone, Beside { scratch: &[scratch], ..Beside::default() })
    }
}

/// What the more demanding of a step's products and a stretch's needs.
fn scratch_len<C: Spec>(layer: &C, batch: usize, threads: usize) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
    let dims = Dims { schedule: Schedule::dense(1, batch), hidden, outputs: output };
    let fused = if geometry.fuses { input } else { 0 };
    let product = gemm::team_scratch_len(threads, chunk_steps(batch) * batch, input)?;
    let step = forward_scratch_len(&geometry, dims, layer.delays().len(), fused)?;
    Ok(product.max(step))
}

/// The normalisation of a step.
pub(super) fn norm<'a, C: Spec>(
    weights: &'a Weights<C>,
    normal: &'a mut [f32],
    normal_extra: &'a mut [f32],
    inverse: &'a mut [f32],
) -> Option<Norm<'a>> {
    let (epsilon, gain) = weights.norm()?;
    Some(Norm { epsilon, gain, bias: &weights.bias, normal, normal_extra, inverse })
}

/// The cell state, if there is one, in place or in turns.
pub(super) fn carried<'a>(c: &'a mut [f32], other: &'a mut [f32]) -> CellStates<'a> {
    match (c.is_empty(), other.is_empty()) {
        (true, _) => CellStates::None,
        (false, true) => CellStates::InPlace(c),
        (false, false) => CellStates::InTurns { c, other },
    }
}

/// The cell state where it belongs after so many steps in turns.
pub(super) fn settle(steps: usize, c: &mut [f32], other: &[f32]) {
    if steps % 2 == 1 && !other.is_empty() {
        c.copy_from_slice(other);
    }
}

/// The last of the states that were and those that came.
pub(super) fn remember(states: &mut [f32], came: &[f32]) {
    let new = states.len().min(came.len());
    states.copy_within(new.., 0);
    let kept = states.len() - new;
    states[kept..].copy_from_slice(&came[came.len() - new..]);
}
