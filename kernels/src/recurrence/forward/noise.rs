//! Noise between a step's cell and the states that later steps see.

use super::step::{History, Step};
use crate::cells::Epilogue;
use crate::recurrence::regularise::After;
use crate::recurrence::step::Block;
use crate::simd::Simd;
use std::ptr::{null, null_mut};

impl<C: Epilogue> Step<'_, C> {
    /// The hidden states as the products see them.
    #[inline(always)]
    pub(super) fn seen(&self) -> History {
        match self.noise {
            Some(noise) if !noise.mask.is_null() => {
                let seen = noise.seen.from(self.first_row * self.outputs);
                History { t: self.history.t, ..seen }
            }
            _ => self.history,
        }
    }

    /// What noise makes of some units' states, of which h is complete or s.
    #[inline(always)]
    pub(super) fn perturb<S: Simd>(&self, s: S, at: Block, has_h: bool, has_s: bool) {
        let Some(noise) = self.noise else { return };
        let masks = has_h && !noise.mask.is_null();
        let mask = noise.mask.wrapping_add(self.first_row * self.outputs);
        s.call(After {
            at,
            zone: noise.zone.from(self.history.t * self.all + self.first_row),
            h: if has_h { self.history.now() } else { null_mut() },
            h_prev: self.history.ago(1),
            outputs: self.outputs,
            s: if has_s { self.s } else { null_mut() },
            s_prev: self.s_prev,
            hidden: self.hidden,
            mask: if masks { mask } else { null() },
            seen: self.seen().now(),
        });
    }
}
