//! Zoneout and dropout in a forward step, between the cell and the states that later steps see.

use super::step::{Masked, Step};
use crate::cells::Epilogue;
use crate::recurrence::noise::{After, Seen, State};
use crate::recurrence::step::Block;
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;

impl<C: Epilogue> Step<'_, C> {
    /// Applies noise to the states of a block: to h if `has_h` says that it is complete, and to c
    /// if `has_c` says so.
    ///
    /// # Safety
    /// The block is of the step, and nobody else has it.
    #[inline(always)]
    pub(super) unsafe fn perturb<S: Simd>(&self, simd: S, at: Block, has_h: bool, has_c: bool) {
        let Some(noise) = self.noise else { return };
        let (hidden, outputs) = (self.hidden, self.outputs);
        let h = State { now: self.h, before: self.h_prev };
        let cells =
            State { now: RowsMut::new(self.c, hidden), before: Rows::new(self.c_prev, hidden) };
        let seen = match self.masked() {
            Some(Masked { mask, seen }) if has_h => Some(Seen {
                mask: Rows::new(*mask, outputs).from(self.first_row, 0),
                to: seen.of(self.t).from(self.first_row, 0),
            }),
            _ => None,
        };
        let zoneout = noise.zoneout.from(self.schedule_row());
        let (h, cells) = (has_h.then_some(h), has_c.then_some(cells));
        // SAFETY: `Step::new` has been promised all rows of these, of which the block has some.
        simd.call(unsafe { After::new(at, zoneout, h, cells, seen) });
    }
}
