//! Gradients by sums that were normalised, of those by what the cell saw of them.

use super::step::{NormAt, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::norm::{Denormalise, RowGradients};
use crate::recurrence::step::Units;
use crate::simd::Simd;

impl<C: Epilogue> Step<'_, C> {
    /// The gradients of a step by the gates' sums: those by what the cell saw of them, unless
    /// that was normalised.
    #[inline(always)]
    pub(super) fn by_sums(&self, t: isize) -> *mut f32 {
        let stride = C::GATES * self.hidden;
        let gates = match self.norm {
            Some(norm) => norm.da.wrapping_add(self.first_row * stride),
            None => self.gates,
        };
        gates.wrapping_add(self.start(t) * stride)
    }

    /// The gradient by a gate's sums, or by the one's that is apart, of a row.
    ///
    /// # Safety
    /// The row is of the step, which is one of the pass, and nobody else has it; there is such
    /// a block.
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

    /// The gradients by what the cell has seen to: with a second product that is the gate
    /// which this is of.
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
