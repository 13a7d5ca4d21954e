//! Zoneout and dropout in a backward step, between the gradients that come in and the cell.

use super::step::{KeptAt, Step};
use crate::cells::Epilogue;
use crate::gemm::tile::Grid;
use crate::recurrence::noise::{Before, CellGradient, Incoming, Rejoin};
use crate::recurrence::step::Block;
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;

impl<C: Epilogue> Step<'_, C> {
    /// Whether the products saw `mask ⊙ h` instead of h.
    #[inline(always)]
    pub(super) fn masks(&self) -> bool {
        self.noise.is_some_and(|noise| noise.masked.is_some())
    }

    /// Returns ∂L/∂c, and where zoneout stores its part for the step before.
    #[inline(always)]
    fn cell_gradient(&self, dc_kept: *mut f32) -> CellGradient {
        let kept = RowsMut::new(dc_kept, self.hidden).from(self.first_row, 0);
        CellGradient { dc: RowsMut::new(self.dc, self.hidden), kept }
    }

    /// Applies noise to the gradients of a block before the cell gets them: to ∂L/∂h if `has_h`
    /// says that it is known, and to ∂L/∂c if `has_c` says so.
    ///
    /// # Safety
    /// The block is of the step, and nobody else has it; if `has_h`, `sums` has the block's sums,
    /// in whole vectors.
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
                more[0] = Some(Rows::new(self.given(), outputs));
            }
            let mut carry = None;
            if let Some(KeptAt { dh, .. }) = noise.kept {
                let kept = RowsMut::new(dh, outputs).from(self.first_row, 0);
                // Nothing has been carried to the last step of a sequence. The state before the first
                // step (`t = 0`) has a part carried to it, but carries none on.
                if self.t >= 0 && !self.is_last {
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
            dc = Some(self.cell_gradient(dc_kept));
        }
        // SAFETY: `Step::new` has been promised all rows of these, of which the block has some, and
        // a key for each row of each step for which numbers are drawn.
        simd.call(unsafe { Before::new(at, noise.zoneout.from(whole_row), dh, dc) });
    }

    /// Adds the part of ∂L/∂c that zoneout has kept, after the cell has computed ∂L/∂c of the step
    /// before.
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
            // SAFETY: `Step::new` has been promised all rows of both, of which the block has some.
            simd.call(unsafe { Rejoin::new(at, self.cell_gradient(dc_kept)) });
        }
    }
}
