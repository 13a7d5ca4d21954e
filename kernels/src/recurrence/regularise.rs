//! What comes between a step's result and the states that later steps see: zoneout, and
//! dropout of what the recurrent products see. Knows units and steps; must not know cells.

use super::dims::Dims;
use super::step::Block;
use crate::each::each;
use crate::error::check_len;
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::threefry::Draw;
use crate::tile::{Grid, load_lanes, store_lanes};
use crate::{KernelError, checked_len};
use std::ptr::null;

/// Zoneout (Krueger et al. 2017): units that keep a state of the step before,
/// `h = m ⊙ h₋ + (1 − m) ⊙ ĥ`, and the cell state with an m of its own; ĥ is the cell's
/// result, of the cell state as it was before some of it was kept.
#[derive(Clone, Copy, Debug)]
pub struct Zoneout<'a> {
    /// How often h is kept, and s: from 0 to 1, below and above as these.
    pub rates: [f32; 2],
    /// The key of each step and sequence, `[τ, B, 2]`, of which [`threefry`](crate::threefry)
    /// makes m, 0 or 1, for each unit: the counter (unit, 0) gives the numbers that
    /// are compared with the rates. Without keys m is the rate, as in inference.
    pub keys: Option<&'a [u32]>,
}

impl Zoneout<'_> {
    /// `Ok` where it fits a pass.
    pub(super) fn check(&self, dims: Dims) -> Result<(), KernelError> {
        let keys = dims.all("keys", 2, 1)?;
        self.keys.map_or(Ok(()), |given| check_len("keys", given.len(), keys))
    }
}

/// Dropout of the recurrent input (Gal and Ghahramani 2016): products see `mask ⊙ h₋`, with
/// one mask for all steps of a sequence.
#[derive(Debug)]
pub struct Dropout<'a> {
    /// `[B, R]`.
    pub mask: &'a [f32],
    /// What they see of the states before the first step, `[D, B, R]`.
    pub before: &'a [f32],
    /// What they see of each step's comes out, `[τ, B, R]`.
    pub seen: &'a mut [f32],
}

impl Dropout<'_> {
    /// `Ok` where it fits a pass that begins from so many states.
    pub(super) fn check(&self, dims: Dims, history: usize) -> Result<(), KernelError> {
        let state = dims.rows("mask", dims.outputs)?;
        check_len("mask", self.mask.len(), state)?;
        check_len("before", self.before.len(), checked_len("before", &[history, state])?)?;
        check_len("seen", self.seen.len(), dims.all("seen", 1, dims.outputs)?)
    }
}

/// A zoneout that has been checked.
#[derive(Clone, Copy)]
pub(super) struct Zone {
    pub on: bool,
    rates: [f32; 2],
    /// The key of the first row of the first step, or null.
    keys: *const u32,
}

impl Zone {
    pub(super) const OFF: Self = Self { on: false, rates: [0.0; 2], keys: null() };

    pub(super) fn new(zoneout: Option<Zoneout<'_>>) -> Self {
        zoneout.map_or(Self::OFF, |Zoneout { rates, keys }| Self {
            on: true,
            rates,
            keys: keys.map_or(null(), <[u32]>::as_ptr),
        })
    }

    /// The same from a later row on: one of a step, or of all.
    #[inline(always)]
    pub(super) fn from(self, row: usize) -> Self {
        if self.keys.is_null() {
            return self;
        }
        Self { keys: self.keys.wrapping_add(2 * row), ..self }
    }

    /// Draws the numbers of some units of a row.
    ///
    /// # Safety
    /// If there are keys, the row has one.
    #[inline(always)]
    unsafe fn draw<S: Simd>(&self, s: S, row: usize, unit: usize) -> [S::V; 2] {
        if self.keys.is_null() {
            return [s.zero(); 2];
        }
        let mut drawn = [[0.0f32; MAX_LANES]; 2];
        // SAFETY: the caller's; there is room for the lanes of any instruction set.
        unsafe {
            let key = *self.keys.add(2 * row).cast::<[u32; 2]>();
            s.call(Draw { key, first: unit, to: drawn.as_mut_ptr().cast() });
            [s.load(drawn[0].as_ptr()), s.load(drawn[1].as_ptr())]
        }
    }

    /// What later steps see of a result, and of the state before it: of h, or of s.
    #[inline(always)]
    fn mix<S: Simd>(&self, s: S, state: usize, drawn: S::V, [before, made]: [S::V; 2]) -> S::V {
        let rate = s.splat(self.rates[state]);
        match self.keys.is_null() {
            true => s.mul_add(rate, s.sub(before, made), made),
            false => s.select(s.lt(drawn, rate), before, made),
        }
    }

    /// A gradient's two parts, by the result and by the state before.
    #[inline(always)]
    fn split<S: Simd>(&self, s: S, state: usize, drawn: S::V, d: S::V) -> [S::V; 2] {
        let kept = s.lt(drawn, s.splat(self.rates[state]));
        [s.select(kept, s.zero(), d), s.select(kept, d, s.zero())]
    }
}

/// States after the cell has made them: what later steps and products see. A kernel of its
/// own, which all cells share, so that theirs have none of it in the way.
pub(super) struct After {
    pub at: Block,
    pub zone: Zone,
    /// The rows of h, R floats apart; null where they are not complete yet.
    pub h: *mut f32,
    pub h_prev: *const f32,
    pub outputs: usize,
    /// The rows of s, H floats apart, or null.
    pub s: *mut f32,
    pub s_prev: *const f32,
    pub hidden: usize,
    /// What share the products see, and where that goes; or null.
    pub mask: *const f32,
    pub seen: *mut f32,
}

impl Kernel for After {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { at, zone, .. } = self;
        for row in at.row..at.row + at.rows {
            let mut unit = at.first;
            while unit < at.end {
                let lanes = S::LANES.min(at.end - unit);
                let (in_h, in_s) = (row * self.outputs + unit, row * self.hidden + unit);
                // SAFETY: whoever makes one vouches for the rows.
                unsafe {
                    let drawn = zone.draw(s, row, unit);
                    if zone.on && !self.s.is_null() {
                        let before = load_lanes(s, self.s_prev.add(in_s), lanes);
                        let states = [before, load_lanes(s, self.s.add(in_s), lanes)];
                        store_lanes(s, self.s.add(in_s), zone.mix(s, 1, drawn[1], states), lanes);
                    }
                    if !self.h.is_null() {
                        let mut h = load_lanes(s, self.h.add(in_h), lanes);
                        if zone.on {
                            let before = load_lanes(s, self.h_prev.add(in_h), lanes);
                            h = zone.mix(s, 0, drawn[0], [before, h]);
                            store_lanes(s, self.h.add(in_h), h, lanes);
                        }
                        if !self.mask.is_null() {
                            let mask = load_lanes(s, self.mask.add(in_h), lanes);
                            store_lanes(s, self.seen.add(in_h), s.mul(mask, h), lanes);
                        }
                    }
                }
                unit += S::LANES;
            }
        }
    }
}

/// Gradients before the cell has them: ∂L/∂h of what it made, of the products' sums and of
/// all else that is known of it, and ∂L/∂s.
pub(super) struct Before {
    pub at: Block,
    pub zone: Zone,
    /// The sums, a vector each, which ∂L/∂h replaces; not where `dh` is false.
    pub sums: Grid,
    pub dh: bool,
    pub outputs: usize,
    /// What share of a sum counts, or null.
    pub mask: *const f32,
    /// What else there is: what the caller gives, what zoneout has left to this step, and what
    /// comes from outside; null where there is none.
    pub incoming: *const f32,
    pub carried: *const f32,
    pub dy: *const f32,
    /// Where zoneout leaves its part to the step before; null where there is no such step.
    pub carry: *mut f32,
    /// ∂L/∂s, and where zoneout leaves its part of it; or null.
    pub ds: *mut f32,
    pub ds_kept: *mut f32,
    pub hidden: usize,
}

impl Kernel for Before {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { at, zone, sums, .. } = self;
        for r in 0..at.rows {
            let row = at.row + r;
            for vec in 0..(at.end - at.first).div_ceil(S::LANES) {
                let unit = at.first + vec * S::LANES;
                let lanes = S::LANES.min(at.end - unit);
                let (in_h, in_s) = (row * self.outputs + unit, row * self.hidden + unit);
                // SAFETY: whoever makes one vouches for the rows and the sums.
                unsafe {
                    let splits = !self.carry.is_null() || !self.ds.is_null();
                    let drawn = if splits { zone.draw(s, row, unit) } else { [s.zero(); 2] };
                    if self.dh {
                        let place = sums.start.add(r * sums.stride + sums.offset[vec]);
                        let mut dh = s.load(place);
                        if !self.mask.is_null() {
                            dh = s.mul(load_lanes(s, self.mask.add(in_h), lanes), dh);
                        }
                        for more in [self.incoming, self.carried, self.dy] {
                            if !more.is_null() {
                                dh = s.add(dh, load_lanes(s, more.add(in_h), lanes));
                            }
                        }
                        if !self.carry.is_null() {
                            let [made, kept] = zone.split(s, 0, drawn[0], dh);
                            store_lanes(s, self.carry.add(in_h), kept, lanes);
                            dh = made;
                        }
                        s.store(place, dh);
                    }
                    if !self.ds.is_null() {
                        let ds = load_lanes(s, self.ds.add(in_s), lanes);
                        let [made, kept] = zone.split(s, 1, drawn[1], ds);
                        store_lanes(s, self.ds.add(in_s), made, lanes);
                        store_lanes(s, self.ds_kept.add(in_s), kept, lanes);
                    }
                }
            }
        }
    }
}

/// Adds to ∂L/∂s of the step before what zoneout has left to it.
pub(super) struct Rejoin {
    pub at: Block,
    pub ds: *mut f32,
    pub ds_kept: *const f32,
    pub hidden: usize,
}

impl Kernel for Rejoin {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { at, ds, ds_kept, hidden } = self;
        for row in at.row..at.row + at.rows {
            let first = row * hidden + at.first;
            each!(S, at.end - at.first, |unit, lanes| {
                // SAFETY: whoever makes one vouches for the rows.
                unsafe {
                    let place = ds.add(first + unit);
                    let kept = load_lanes(s, ds_kept.add(first + unit), lanes);
                    store_lanes(s, place, s.add(load_lanes(s, place, lanes), kept), lanes);
                }
            });
        }
    }
}
