//! Gradients by sums that were normalised, of those by what the cell saw of them.

use super::step::{NormAt, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::norm::Denormalise;
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
        gates.wrapping_add(self.offset(t, 1, stride))
    }

    /// The gradient by a gate's sums, or by the one's that is apart, of a row.
    ///
    /// # Safety
    /// As [`Step::end_row`](crate::recurrence::step::Step::end_row).
    #[inline(always)]
    pub(super) unsafe fn denormalise<S: Simd>(
        &self,
        s: S,
        norm: &NormAt,
        row: usize,
        block: usize,
    ) {
        let (hidden, norms) = (self.hidden, const { Geometry::new::<C>().norms });
        let whole = self.offset(self.t, 1, 1) + self.first_row + row;
        let place = self.place(Units { row, first: 0, lanes: 0 });
        let in_gates = (whole * C::GATES + block) * hidden;
        let apart = const { C::APART } && block == C::GATES;
        s.call(Denormalise {
            d: if apart { place.extra } else { place.gates.wrapping_add(block * hidden) },
            gain: norm.gain.wrapping_add(block * hidden),
            normal: match apart {
                true => norm.normal_extra.wrapping_add(whole * hidden),
                false => norm.normal.wrapping_add(in_gates),
            },
            inverse: norm.inverse.wrapping_add(whole * norms + block),
            da: match apart {
                true => norm.da_extra.wrapping_add(whole * hidden),
                false => norm.da.wrapping_add(in_gates),
            },
            hidden,
        });
    }

    /// The gradients by what the cell has seen to: with a second product that is the gate
    /// which this is of.
    ///
    /// # Safety
    /// As [`Step::end_row`](crate::recurrence::step::Step::end_row).
    #[inline(always)]
    pub(super) unsafe fn end_first<S: Simd>(&self, s: S, row: usize) {
        let Some(norm) = self.norm else { return };
        for block in 0..const { Geometry::new::<C>().norms } {
            if const { C::SECOND.is_none() } || C::SECOND == Some(block) {
                // SAFETY: the caller's; there is such a block.
                unsafe { self.denormalise(s, norm, row, block) };
            }
        }
    }
}
