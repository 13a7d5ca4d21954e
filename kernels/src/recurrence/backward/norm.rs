//! Layer normalisation in a backward step: gradients by the cell's inputs become gradients by the
//! sums that were normalised.

use super::step::{NormAt, Step};
use crate::cells::{Epilogue, Geometry};
use crate::normalise::{Denormalise, RowGradients};
use crate::recurrence::step::Units;
use crate::simd::Simd;

impl<C: Epilogue> Step<'_, C> {
    /// Returns the gradients by the gates' sums at step `t`: ∂L/∂a of the normalisation or, without
    /// one, ∂L/∂z, which stands in the place of the gates.
    #[inline(always)]
    pub(super) fn by_sums(&self, t: isize) -> *mut f32 {
        let stride = C::GATES * self.hidden;
        let gates = match self.norm {
            Some(norm) => norm.da.wrapping_add(self.first_row * stride),
            None => self.gates,
        };
        gates.wrapping_add(self.start(t) * stride)
    }

    /// Computes the gradient by one block of sums of a row. Blocks below `GATES` are gates; block
    /// `GATES` is the separate recurrent sums.
    ///
    /// # Safety
    /// The row is of the step, which is one of the pass, nobody else has it, and there is such a
    /// block.
    #[inline(always)]
    pub(super) unsafe fn denormalise<S: Simd>(
        &self,
        simd: S,
        norm: &NormAt,
        row: usize,
        block: usize,
    ) {
        let (hidden, norms) = (self.hidden, const { Geometry::new::<C>().norms });
        let whole = self.start + self.first_row + row;
        let place = self.pointers(Units { row, first: 0, lanes: 0 });
        let in_gates = (whole * C::GATES + block) * hidden;
        let (d, normal, da) = if const { C::SEPARATE_SUMS } && block == C::GATES {
            let at = whole * hidden;
            let (normal, da) = (norm.normal_extra, norm.da_extra);
            (place.extra, normal.wrapping_add(at), da.wrapping_add(at))
        } else {
            let (normal, da) = (norm.normal.wrapping_add(in_gates), norm.da.wrapping_add(in_gates));
            (place.gates.wrapping_add(block * hidden), normal, da)
        };
        let gain = norm.gain.wrapping_add(block * hidden);
        let inverse = norm.inverse.wrapping_add(whole * norms + block);
        let row = RowGradients { d, gain, normal, inverse, da, hidden };
        // SAFETY: `Step::new` has been promised all of these for each row and block.
        simd.call(unsafe { Denormalise::new(row) });
    }

    /// Computes the gradients by the sums of the blocks that the cell has finished in the first
    /// stage: all blocks or, with a second product, only the gate that this product is added to.
    ///
    /// # Safety
    /// The row is of the step, which is one of the pass, all of its units have been finished,
    /// and nobody else has it.
    #[inline(always)]
    pub(super) unsafe fn end_first<S: Simd>(&self, simd: S, row: usize) {
        let Some(norm) = self.norm else { return };
        for block in 0..const { Geometry::new::<C>().norms } {
            if const { C::SECOND.is_none() } || C::SECOND == Some(block) {
                // SAFETY: the row is of the step, and there is such a block.
                unsafe { self.denormalise(simd, norm, row, block) };
            }
        }
    }
}
