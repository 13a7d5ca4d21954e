//! Noise between the result of a step and the states that later steps see: zoneout, and dropout of
//! the states that the recurrent products see. Knows units and steps; must not know cells.

use super::dims::Dims;
use super::step::Block;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::Grid;
use crate::rows::{At, Rows, RowsMut};
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::threefry::Draw;
use crate::{KernelError, checked_len};

/// Zoneout (Krueger et al. 2017): units that keep their state from the step before,
/// `h = m ⊙ h₋ + (1 − m) ⊙ ĥ`, and the same for the cell state, with an m of its own. ĥ is the
/// cell's result, which is computed from the new cell state before zoneout changes that.
#[derive(Clone, Copy, Debug)]
pub struct Zoneout<'a> {
    /// The probabilities that h and c are kept, from 0 to 1. Values below 0 act as 0 and values
    /// above 1 as 1 if there are keys.
    pub rates: [f32; 2],
    /// The key of each step and sequence, `[τ, B, 2]`, from which [`threefry`](crate::threefry)
    /// draws m, 0 or 1, for each unit: the counter (unit, 0) gives the two numbers that are
    /// compared with the rates. Without keys m is the rate, as in inference.
    pub keys: Option<&'a [u32]>,
}

impl Zoneout<'_> {
    /// Checks that the keys, if there are any, fit a pass.
    pub(super) fn check(&self, dims: Dims<'_>) -> Result<(), KernelError> {
        let keys = dims.rows("keys", 2, 1)?;
        self.keys.map_or(Ok(()), |given| check_len("keys", given.len(), keys))
    }
}

/// Dropout of the recurrent input (Gal and Ghahramani 2016): products see `mask ⊙ h₋`, with
/// one mask for all steps of a sequence.
#[derive(Debug)]
pub struct Dropout<'a> {
    /// The mask, `[B, R]`.
    pub mask: &'a [f32],
    /// Input: `mask ⊙ h` of the states before the first step, `[D, B, R]`.
    pub before: &'a [f32],
    /// Output: `mask ⊙ h` of the state after each step, `[τ, B, R]`.
    pub seen: &'a mut [f32],
}

impl Dropout<'_> {
    /// Checks that the slices fit a pass that starts from `history` states.
    pub(super) fn check(&self, dims: Dims<'_>, history: usize) -> Result<(), KernelError> {
        let state = dims.sequences("mask", dims.outputs)?;
        check_len("mask", self.mask.len(), state)?;
        check_len("before", self.before.len(), checked_len("before", &[history, state])?)?;
        check_len("seen", self.seen.len(), dims.rows("seen", 1, dims.outputs)?)
    }
}

/// A zoneout that has been checked, with its keys as a pointer.
#[derive(Clone, Copy)]
pub(super) struct ZoneoutAt {
    pub on: bool,
    rates: [f32; 2],
    /// The key of the first row of the first step, if there are keys.
    keys: Option<*const [u32; 2]>,
}

impl ZoneoutAt {
    pub(super) const OFF: Self = Self { on: false, rates: [0.0; 2], keys: None };

    pub(super) fn new(zoneout: Option<Zoneout<'_>>) -> Self {
        zoneout.map_or(Self::OFF, |Zoneout { rates, keys }| Self {
            on: true,
            rates,
            keys: keys.map(|keys| keys.as_ptr().cast()),
        })
    }

    /// Returns the zoneout for the rows from `row` on.
    #[inline(always)]
    pub(super) fn from(self, row: usize) -> Self {
        Self { keys: self.keys.map(|keys| keys.wrapping_add(row)), ..self }
    }

    /// Draws the two numbers, for h and for c, of a vector of units from `unit` on; zeros without
    /// keys.
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

    /// Returns the state that later steps see, from the state before the step and the cell's
    /// result. `state` is 0 for h and 1 for c.
    #[inline(always)]
    fn mix<S: Simd>(&self, simd: S, state: usize, drawn: S::V, [before, made]: [S::V; 2]) -> S::V {
        let rate = simd.splat(self.rates[state]);
        match self.keys.is_none() {
            true => simd.mul_add(rate, simd.sub(before, made), made),
            false => simd.select(simd.lt(drawn, rate), before, made),
        }
    }

    /// Splits the gradient `d` of a state into its parts by the cell's result and by the state
    /// before the step. `state` is 0 for h and 1 for c.
    #[inline(always)]
    fn split<S: Simd>(&self, simd: S, state: usize, drawn: S::V, d: S::V) -> [S::V; 2] {
        let kept = simd.lt(drawn, simd.splat(self.rates[state]));
        [simd.select(kept, simd.zero(), d), simd.select(kept, d, simd.zero())]
    }
}

/// The rows of a state after a step (`now`) and before it.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub now: RowsMut,
    pub before: Rows,
}

/// The dropout mask, and where `mask ⊙ h` is stored.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub mask: Rows,
    pub to: RowsMut,
}

/// The kernel that changes states after the cell has computed them, by zoneout and dropout. It is a
/// kernel of its own, which all cells share, so that the cells' kernels need no code for noise.
pub(super) struct After {
    at: Block,
    zoneout: ZoneoutAt,
    h: Option<State>,
    c: Option<State>,
    seen: Option<Seen>,
}

impl After {
    /// Takes h and c if they are complete, and where to store what the products see of h.
    ///
    /// # Safety
    /// For the block's rows and units all of these are readable, and `now` and `seen.to` are
    /// writable and nobody else's; if the zoneout has keys, it has one for each row.
    #[inline(always)]
    pub(super) unsafe fn new(
        at: Block,
        zoneout: ZoneoutAt,
        h: Option<State>,
        c: Option<State>,
        seen: Option<Seen>,
    ) -> Self {
        Self { at, zoneout, h, c, seen }
    }
}

impl Kernel for After {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, zoneout, .. } = self;
        for row in at.row..at.row + at.rows {
            let mut unit = at.first;
            while unit < at.end {
                let lanes = S::LANES.min(at.end - unit);
                let place = At { row, column: unit };
                // SAFETY: the row and the units are of the block, for which `new` has been promised
                // all of these places.
                unsafe {
                    let drawn = zoneout.draw(simd, row, unit);
                    if zoneout.on
                        && let Some(State { now, before }) = self.c
                    {
                        let states =
                            [before.load(simd, place, lanes), now.load(simd, place, lanes)];
                        now.store(simd, place, zoneout.mix(simd, 1, drawn[1], states), lanes);
                    }
                    if let Some(State { now, before }) = self.h {
                        let mut h = now.load(simd, place, lanes);
                        if zoneout.on {
                            let before = before.load(simd, place, lanes);
                            h = zoneout.mix(simd, 0, drawn[0], [before, h]);
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

/// What ∂L/∂h of the cell's result is computed from: the products' sums, and all that is added.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    /// The sums, one vector each, which the kernel replaces with ∂L/∂h.
    pub sums: Grid,
    /// The dropout mask, by which the sums are multiplied.
    pub mask: Option<Rows>,
    /// What is added to the sums, in this order: the gradient that the caller gives, the part that
    /// zoneout has left for this step, and the gradient from outside.
    pub more: [Option<Rows>; 3],
    /// Where zoneout stores its part for the step before, if there is such a step.
    pub carry: Option<RowsMut>,
}

/// ∂L/∂c, and where zoneout stores its part for the step before.
#[derive(Clone, Copy)]
pub(super) struct CellGradient {
    pub dc: RowsMut,
    pub kept: RowsMut,
}

/// The kernel that applies dropout and zoneout to ∂L/∂h and ∂L/∂c before the cell gets them.
pub(super) struct Before {
    at: Block,
    zoneout: ZoneoutAt,
    dh: Option<Incoming>,
    dc: Option<CellGradient>,
}

impl Before {
    /// # Safety
    /// For the block's rows and units everything that is `Some` is readable, and the sums, `carry`,
    /// `dc` and `kept` are writable and nobody else's; the sums are those of the block's rows, from
    /// the first one on, in whole vectors. If the zoneout has keys and there is a `carry` or a
    /// `dc`, it has a key for each row.
    #[inline(always)]
    pub(super) unsafe fn new(
        at: Block,
        zoneout: ZoneoutAt,
        dh: Option<Incoming>,
        dc: Option<CellGradient>,
    ) -> Self {
        Self { at, zoneout, dh, dc }
    }
}

impl Kernel for Before {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, zoneout, .. } = self;
        let splits = self.dc.is_some() || self.dh.is_some_and(|dh| dh.carry.is_some());
        for r in 0..at.rows {
            let row = at.row + r;
            for vec in 0..(at.end - at.first).div_ceil(S::LANES) {
                let unit = at.first + vec * S::LANES;
                let lanes = S::LANES.min(at.end - unit);
                let place = At { row, column: unit };
                // SAFETY: the row and the units are of the block, for which `new` has been promised
                // all of these places.
                unsafe {
                    let drawn =
                        if splits { zoneout.draw(simd, row, unit) } else { [simd.zero(); 2] };
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
                            let [made, kept] = zoneout.split(simd, 0, drawn[0], dh);
                            carry.store(simd, place, kept, lanes);
                            dh = made;
                        }
                        simd.store(sum, dh);
                    }
                    if let Some(CellGradient { dc, kept }) = self.dc {
                        let [made, left] =
                            zoneout.split(simd, 1, drawn[1], dc.load(simd, place, lanes));
                        dc.store(simd, place, made, lanes);
                        kept.store(simd, place, left, lanes);
                    }
                }
            }
        }
    }
}

/// The kernel that adds the part that zoneout has kept of ∂L/∂c to ∂L/∂c of the step before.
pub(super) struct Rejoin {
    at: Block,
    cell_gradient: CellGradient,
}

impl Rejoin {
    /// # Safety
    /// For the block's rows and units both are readable, and `dc` is writable and nobody else's.
    #[inline(always)]
    pub(super) unsafe fn new(at: Block, cell_gradient: CellGradient) -> Self {
        Self { at, cell_gradient }
    }
}

impl Kernel for Rejoin {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { at, cell_gradient: CellGradient { dc, kept } } = self;
        for row in at.row..at.row + at.rows {
            each!(S, at.end - at.first, |unit, lanes| {
                let place = At { row, column: at.first + unit };
                // SAFETY: the row and the units are of the block, for which `new` has been promised
                // both.
                unsafe {
                    let sum = simd.add(dc.load(simd, place, lanes), kept.load(simd, place, lanes));
                    dc.store(simd, place, sum, lanes);
                }
            });
        }
    }
}
