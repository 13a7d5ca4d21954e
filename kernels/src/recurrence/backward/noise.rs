//! Noise between what is known of a step's gradients and what the cell gets of them.

use super::step::Step;
use crate::cells::Epilogue;
use crate::recurrence::regularise::{Before, Rejoin};
use crate::recurrence::step::Block;
use crate::simd::Simd;
use crate::tile::Grid;
use std::ptr::{null, null_mut};

impl<C: Epilogue> Step<'_, C> {
    /// Whether products saw a share of h.
    #[inline(always)]
    pub(super) fn masks(&self) -> bool {
        self.noise.is_some_and(|noise| !noise.mask.is_null())
    }

    /// What noise makes of some units' gradients before the cell has them, of which ∂L/∂h is
    /// known or ∂L/∂s.
    #[inline(always)]
    pub(super) fn before<S: Simd>(&self, s: S, at: Block, sums: Grid, has_h: bool, has_s: bool) {
        let Some(noise) = self.noise else { return };
        let (outputs, hidden) = (self.first_row * self.outputs, self.first_row * self.hidden);
        let (zoned, is_step) = (noise.zone.on, self.t >= 1);
        let row = if is_step { (self.t - 1) as usize * self.all } else { 0 };
        // The state before the first step is the first that has something carried to it and
        // nothing to carry on.
        let carried = zoned && has_h && self.t >= 0 && self.t < self.steps as isize;
        let adds_dy = is_step && !noise.dy.is_null();
        let has_s = has_s && zoned && is_step;
        s.call(Before {
            at,
            zone: noise.zone.from(row + self.first_row),
            sums,
            dh: has_h,
            outputs: self.outputs,
            mask: if self.masks() { noise.mask.wrapping_add(outputs) } else { null() },
            incoming: if self.masks() && self.is_given() { self.incoming() } else { null() },
            carried: if carried { noise.dh_kept.wrapping_add(outputs) } else { null_mut() },
            dy: match adds_dy {
                true => noise.dy.wrapping_add(row * self.outputs + outputs),
                false => null(),
            },
            carry: match zoned && is_step && has_h {
                true => noise.dh_kept.wrapping_add(outputs),
                false => null_mut(),
            },
            ds: if has_s { self.ds } else { null_mut() },
            ds_kept: noise.ds_kept.wrapping_add(hidden),
            hidden: self.hidden,
        });
    }

    /// What it makes of them after, in a stage where the cell has had them.
    #[inline(always)]
    pub(super) fn rejoin<S: Simd>(&self, s: S, at: Block) {
        if let Some(noise) = self.noise
            && const { C::CELLS }
            && noise.zone.on
            && self.t >= 1
        {
            let (ds, hidden) = (self.ds, self.hidden);
            let ds_kept = noise.ds_kept.wrapping_add(self.first_row * hidden);
            s.call(Rejoin { at, ds, ds_kept, hidden });
        }
    }
}
