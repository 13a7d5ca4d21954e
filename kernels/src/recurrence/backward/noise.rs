//! Noise between what is known of a step's gradients and what the cell gets of them.

use super::step::{KeptAt, Step};
use crate::cells::Epilogue;
use crate::gemm::tile::Grid;
use crate::recurrence::noise::{Before, Incoming, Parted, Rejoin};
use crate::recurrence::step::Block;
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;

impl<C: Epilogue> Step<'_, C> {
    /// Whether products saw a share of h.
    #[inline(always)]
    pub(super) fn masks(&self) -> bool {
        self.noise.is_some_and(|noise| noise.masked.is_some())
    }

    /// ∂L/∂c, and where zoneout leaves its part of it.
    #[inline(always)]
    fn parted(&self, dc_kept: *mut f32) -> Parted {
        let kept = RowsMut::new(dc_kept, self.hidden).from(self.first_row, 0);
        Parted { dc: RowsMut::new(self.dc, self.hidden), kept }
    }

    /// What noise makes of some units' gradients before the cell has them, of which ∂L/∂h is
    /// known or ∂L/∂c.
    ///
    /// # Safety
    /// The block is of the step, and nobody else has it; where ∂L/∂h is known the grid has its
    /// sums, in whole vectors.
    #[inline(always)]
    pub(super) unsafe fn before<S: Simd>(
        &self,
        simd: S,
        at: Block,
        sums: Grid,
        has_h: bool,
        has_c: bool,
    ) {
        let Some(noise) = self.noise else { return };
        let (outputs, is_step) = (self.outputs, self.t >= 1);
        let whole_row = self.start + self.first_row;
        let (mut dh, mut dc) = (None, None);
        if has_h {
            let mut more = [None; 3];
            if self.masks() && self.is_given() {
                more[0] = Some(Rows::new(self.incoming(), outputs));
            }
            let mut carry = None;
            if let Some(KeptAt { dh, .. }) = noise.kept {
                let kept = RowsMut::new(dh, outputs).from(self.first_row, 0);
                // The state before the first step is the first that has something carried to it
                // and nothing to carry on.
                if self.t >= 0 && self.t < self.schedule.steps() as isize {
                    more[1] = Some(kept.as_rows());
                }
                if is_step {
                    carry = Some(kept);
                }
            }
            if let Some(dy) = noise.dy
                && is_step
            {
                more[2] = Some(dy.from(whole_row, 0));
            }
            let mask =
                noise.masked.map(|masked| Rows::new(masked.mask, outputs).from(self.first_row, 0));
            dh = Some(Incoming { sums, mask, more, carry });
        }
        if let Some(KeptAt { dc: dc_kept, .. }) = noise.kept
            && has_c
            && is_step
        {
            dc = Some(self.parted(dc_kept));
        }
        // SAFETY: `Step::new` has been promised all rows of these, of which the block has some,
        // and a key for each row of each step, where there is something to be drawn.
        simd.call(unsafe { Before::new(at, noise.zone.from(whole_row), dh, dc) });
    }

    /// What it makes of them after, in a stage where the cell has had them.
    ///
    /// # Safety
    /// The block is of the step, and nobody else has it.
    #[inline(always)]
    pub(super) unsafe fn rejoin<S: Simd>(&self, simd: S, at: Block) {
        if let Some(noise) = self.noise
            && const { C::CELLS }
            && let Some(KeptAt { dc: dc_kept, .. }) = noise.kept
            && self.t >= 1
        {
            // SAFETY: `Step::new` has been promised all rows of both, of which the block has
            // some.
            simd.call(unsafe { Rejoin::new(at, self.parted(dc_kept)) });
        }
    }
}
