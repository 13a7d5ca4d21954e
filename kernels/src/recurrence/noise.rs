//! What comes between a step's result and the states that later steps see: zoneout, and
//! dropout of what the recurrent products see. Knows units and steps; must not know cells.

use super::dims::Dims;
use super::step::Block;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::Grid;
use crate::rows::{At, Rows, RowsMut};
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::threefry::Draw;
use crate::{KernelError, checked_len};

/// Zoneout (Krueger et al. 2017): units that keep a state of the step before,
/// `h = m ⊙ h₋ + (1 − m) ⊙ ĥ`, and the cell state with an m of its own; ĥ is the cell's
/// result, of the cell state as it was before some of it was kept.
#[derive(Clone, Copy, Debug)]
pub struct Zoneout<'a> {
    /// How often h is kept, and c: from 0 to 1, below and above as these.
    pub rates: [f32; 2],
    /// The key of each step and sequence, `[τ, B, 2]`, of which [`threefry`](crate::threefry)
    /// makes m, 0 or 1, for each unit: the counter (unit, 0) gives the numbers that
    /// are compared with the rates. Without keys m is the rate, as in inference.
    pub keys: Option<&'a [u32]>,
}

impl Zoneout<'_> {
    /// `Ok` where it fits a pass.
    pub(super) fn check(&self, dims: Dims) -> Result<(), KernelError> {
        let keys = dims.rows("keys", 2, 1)?;
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
        let state = dims.sequences("mask", dims.outputs)?;
        check_len("mask", self.mask.len(), state)?;
        check_len("before", self.before.len(), checked_len("before", &[history, state])?)?;
        check_len("seen", self.seen.len(), dims.rows("seen", 1, dims.outputs)?)
    }
}

/// A zoneout that has been checked.
#[derive(Clone, Copy)]
pub(super) struct Zone {
    pub on: bool,
    rates: [f32; 2],
    /// The key of the first row of the first step, if there are keys.
    keys: Option<*const [u32; 2]>,
}

impl Zone {
    pub(super) const OFF: Self = Self { on: false, rates: [0.0; 2], keys: None };

    pub(super) fn new(zoneout: Option<Zoneout<'_>>) -> Self {
        zoneout.map_or(Self::OFF, |Zoneout { rates, keys }| Self {
            on: true,
            rates,
            keys: keys.map(|keys| keys.as_ptr().cast()),
        })
    }

    /// The same from a later row on: one of a step, or of all.
    #[inline(always)]
    pub(super) fn from(self, row: usize) -> Self {
        Self { keys: self.keys.map(|keys| keys.wrapping_add(row)), ..self }
    }

    /// Draws the numbers of some units of a row.
    ///
    /// # Safety
    /// If there are keys, the row has one.
    #[inline(always)]
    unsafe fn draw<S: Simd>(&self, simd: S, row: usize, unit: usize) -> [S::V; 2] {
        let Some(keys) = self.keys else { return [simd.zero(); 2] };
        let mut drawn = [[0.0f32; MAX_LANES]; 2];
        // SAFETY: the row has a key.
        let key = unsafe { *keys.add(row) };
        simd.call(Draw { key, first: unit, to: &mut drawn });
        // SAFETY: there is room for the lanes of any instruction set.
        unsafe { [simd.load(drawn[0].as_ptr()), simd.load(drawn[1].as_ptr())] }
    }

    /// What later steps see of a result, and of the state before it: of h, or of c.
    #[inline(always)]
    fn mix<S: Simd>(&self, simd: S, state: usize, drawn: S::V, [before, made]: [S::V; 2]) -> S::V {
        let rate = simd.splat(self.rates[state]);
        match self.keys.is_none() {
            true => simd.mul_add(rate, simd.sub(before, made), made),
            false => simd.select(simd.lt(drawn, rate), before, made),
        }
    }

    /// A gradient's two parts, by the result and by the state before.
    #[inline(always)]
    fn split<S: Simd>(&self, simd: S, state: usize, drawn: S::V, d: S::V) -> [S::V; 2] {
        let kept = simd.lt(drawn, simd.splat(self.rates[state]));
        [simd.select(kept, simd.zero(), d), simd.select(kept, d, simd.zero())]
    }
}

/// The rows of a state, after a step and before it.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub now: RowsMut,
    pub before: Rows,
}

/// What share of h the products see, and where that goes.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub mask: Rows,
    pub to: RowsMut,
}

/// States after the cell has made them: what later steps and products see. A kernel of its
/// own, which all cells share, so that theirs have none of it in the way.
pub(super) struct After {
    at: Block,
    zone: Zone,
    h: Option<State>,
    c: Option<State>,
    seen: Option<Seen>,
}

impl After {
    /// Of h and c where they are complete, and of what products see of h.
    ///
    /// # Safety
    /// Of the block's rows and units all of these are readable, and what is now and what is
    /// seen is writable and nobody else's; the zone, if it has keys, has one of each row.
    #[inline(always)]
    pub(super) unsafe fn new(
        at: Block,
        zone: Zone,
        h: Option<State>,
        c: Option<State>,
        seen: Option<Seen>,
    ) -> Self {
        Self { at, zone, h, c, seen }
    }
}

impl Kernel for After {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, zone, .. } = self;
        for row in at.row..at.row + at.rows {
            let mut unit = at.first;
            while unit < at.end {
                let lanes = S::LANES.min(at.end - unit);
                let place = At { row, column: unit };
                // SAFETY: the row and the units are of the block, for which `new` has been
                // promised all that is there.
                unsafe {
                    let drawn = zone.draw(simd, row, unit);
                    if zone.on
                        && let Some(State { now, before }) = self.c
                    {
                        let states =
                            [before.load(simd, place, lanes), now.load(simd, place, lanes)];
                        now.store(simd, place, zone.mix(simd, 1, drawn[1], states), lanes);
                    }
                    if let Some(State { now, before }) = self.h {
                        let mut h = now.load(simd, place, lanes);
                        if zone.on {
                            let before = before.load(simd, place, lanes);
                            h = zone.mix(simd, 0, drawn[0], [before, h]);
                            now.store(simd, place, h, lanes);
                        }
                        if let Some(Seen { mask, to }) = self.seen {
                            let mask = mask.load(simd, place, lanes);
                            to.store(simd, place, simd.mul(mask, h), lanes);
                        }
                    }
                }
                unit += S::LANES;
            }
        }
    }
}

/// ∂L/∂h of what the cell made, from the products' sums and all else that is known of it.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    /// The sums, a vector each, which it replaces.
    pub sums: Grid,
    /// What share of a sum counts.
    pub mask: Option<Rows>,
    /// What else there is, in the order in which it is added: what the caller gives, what
    /// zoneout has left to this step, and what comes from outside.
    pub more: [Option<Rows>; 3],
    /// Where zoneout leaves its part to the step before, if there is such a step.
    pub carry: Option<RowsMut>,
}

/// ∂L/∂c, and where zoneout leaves its part of it.
#[derive(Clone, Copy)]
pub(super) struct Parted {
    pub dc: RowsMut,
    pub kept: RowsMut,
}

/// Gradients before the cell has them: ∂L/∂h and ∂L/∂c.
pub(super) struct Before {
    at: Block,
    zone: Zone,
    dh: Option<Incoming>,
    dc: Option<Parted>,
}

impl Before {
    /// # Safety
    /// Of the block's rows and units all that is there is readable, and the sums, what is
    /// carried, ∂L/∂c and what is kept of it is writable and nobody else's; the sums are those
    /// of the block's rows from their first on, in whole vectors. The zone, if it has keys and
    /// there is something to be carried or ∂L/∂c, has one of each row.
    #[inline(always)]
    pub(super) unsafe fn new(
        at: Block,
        zone: Zone,
        dh: Option<Incoming>,
        dc: Option<Parted>,
    ) -> Self {
        Self { at, zone, dh, dc }
    }
}

impl Kernel for Before {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, zone, .. } = self;
        let splits = self.dc.is_some() || self.dh.is_some_and(|dh| dh.carry.is_some());
        for r in 0..at.rows {
            let row = at.row + r;
            for vec in 0..(at.end - at.first).div_ceil(S::LANES) {
                let unit = at.first + vec * S::LANES;
                let lanes = S::LANES.min(at.end - unit);
                let place = At { row, column: unit };
                // SAFETY: the row and the units are of the block, for which `new` has been
                // promised all that is there.
                unsafe {
                    let drawn = if splits { zone.draw(simd, row, unit) } else { [simd.zero(); 2] };
                    if let Some(Incoming { sums, mask, more, carry }) = self.dh {
                        let sum = sums.rows.at(r, sums.offset[vec]);
                        let mut dh = simd.load(sum);
                        if let Some(mask) = mask {
                            dh = simd.mul(mask.load(simd, place, lanes), dh);
                        }
                        for i in 0..more.len() {
                            if let Some(more) = more[i] {
                                dh = simd.add(dh, more.load(simd, place, lanes));
                            }
                        }
                        if let Some(carry) = carry {
                            let [made, kept] = zone.split(simd, 0, drawn[0], dh);
                            carry.store(simd, place, kept, lanes);
                            dh = made;
                        }
                        simd.store(sum, dh);
                    }
                    if let Some(Parted { dc, kept }) = self.dc {
                        let [made, left] =
                            zone.split(simd, 1, drawn[1], dc.load(simd, place, lanes));
                        dc.store(simd, place, made, lanes);
                        kept.store(simd, place, left, lanes);
                    }
                }
            }
        }
    }
}

/// Adds to ∂L/∂c of the step before what zoneout has left to it.
pub(super) struct Rejoin {
    at: Block,
    parted: Parted,
}

impl Rejoin {
    /// # Safety
    /// Of the block's rows and units both are readable, and ∂L/∂c is writable and nobody else's.
    #[inline(always)]
    pub(super) unsafe fn new(at: Block, parted: Parted) -> Self {
        Self { at, parted }
    }
}

impl Kernel for Rejoin {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, parted: Parted { dc, kept } } = self;
        for row in at.row..at.row + at.rows {
            each!(S, at.end - at.first, |unit, lanes| {
                let place = At { row, column: at.first + unit };
                // SAFETY: the row and the units are of the block, for which `new` has been
                // promised both.
                unsafe {
                    let sum = simd.add(dc.load(simd, place, lanes), kept.load(simd, place, lanes));
                    dc.store(simd, place, sum, lanes);
                }
            });
        }
    }
}
