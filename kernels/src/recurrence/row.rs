//! The kernels of a step of one row, which lies as it would be packed: its sums stay in
//! registers, of few units up to the cell.

use super::step::{Block, Origin, Step, Units};
use super::sweep::after;
use crate::cells::MOST_SUMS;
use crate::layout::GROUP;
use crate::pack::{self, PackedMatrix};
use crate::simd::{Kernel, Simd};
use crate::tile::{Grid, load_lanes};
use std::mem::MaybeUninit;
use std::ptr::null;

/// A group of units of a batch of one.
pub(crate) struct Row<'a, T> {
    pub step: &'a T,
    pub group: usize,
    pub backwards: bool,
}

impl<T: Step> Kernel for Row<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, backwards } = self;
        let whole = const { pack::whole(T::SUMS) };
        const { assert!(pack::whole(T::SUMS).is_multiple_of(T::SUMS) && T::SUMS <= MOST_SUMS) };
        let weights = step.weights();
        let place = (group, after(group, weights.groups(), backwards));
        let first = group * (whole / T::SUMS * S::LANES);
        let vecs = whole.min((weights.units() - first).div_ceil(S::LANES) * T::SUMS);
        // SAFETY: whoever makes a step vouches for its operands, and the group is one of
        // the weights', of so many vectors or, to fill a panel, one more.
        unsafe {
            if const { T::SHORT } {
                match vecs / T::SUMS {
                    1 if const { T::SUMS <= 2 } => return row::<S, T, 2>(s, step, first, place),
                    1 => return row::<S, T, 4>(s, step, first, place),
                    2 if const { T::SUMS == 1 } => return row::<S, T, 2>(s, step, first, place),
                    2 if const { T::SUMS == 2 } => return row::<S, T, 4>(s, step, first, place),
                    2 if const { T::SUMS == 3 } => return row::<S, T, 6>(s, step, first, place),
                    2 => return row::<S, T, 8>(s, step, first, place),
                    _ => {}
                }
            }
            long_row(s, step, first, vecs, place);
        }
    }
}

/// The units from `first` of one row, in a group of `V` vectors that are one or two vectors
/// of units, whose sums never leave the registers.
///
/// # Safety
/// As [`Step::finish`]; the units are those of the place's group.
#[inline(always)]
unsafe fn row<S: Simd, T: Step, const V: usize>(
    s: S,
    step: &T,
    first: usize,
    place: (usize, usize),
) {
    let units = step.weights().units();
    let mut sums = [[s.zero(); V]; 1];
    // SAFETY: the caller's; a row lies as it would be packed.
    unsafe {
        if let Some(Origin { start, .. }) = step.origin() {
            for v in 0..V {
                let unit = first + v / T::SUMS * S::LANES;
                let lanes = S::LANES.min(units.saturating_sub(unit));
                let at = start.wrapping_add(v % T::SUMS * units + unit);
                sums[0][v] = load_lanes(s, at, lanes);
            }
        }
        for index in 0..step.terms() {
            let Some(term) = step.term(index) else { continue };
            term.weights.multiply_row(s, term.rows, place, &mut sums);
        }
        let mut z = [s.zero(); MOST_SUMS];
        for i in 0..MOST_SUMS {
            if i < T::SUMS {
                z[i] = sums[0][i];
            }
        }
        step.finish(s, Units { row: 0, first, lanes: S::LANES.min(units - first) }, z);
        let second = first + S::LANES;
        if const { V / T::SUMS == 2 } && second < units {
            for i in 0..T::SUMS {
                z[i] = sums[0][V - T::SUMS + i];
            }
            let lanes = S::LANES.min(units - second);
            step.finish(s, Units { row: 0, first: second, lanes }, z);
        }
        if step.is_noisy() {
            let end = units.min(first + V / T::SUMS * S::LANES);
            step.complete(s, Block { row: 0, rows: 1, first, end });
        }
    }
}

/// The same of any group, whose sums are taken by a kernel that all cells share.
///
/// # Safety
/// As [`row`]; the group has so many vectors.
#[inline(always)]
unsafe fn long_row<S: Simd, T: Step>(
    s: S,
    step: &T,
    first: usize,
    vecs: usize,
    place: (usize, usize),
) {
    let weights = step.weights();
    let units = weights.units();
    let mut room = MaybeUninit::<[S::V; GROUP]>::uninit();
    let to = room.as_mut_ptr().cast::<f32>();
    let from = step.origin().map_or(null(), |Origin { start, .. }| start);
    let start = Start { from, first, units, sums: T::SUMS };
    let mut sum = RowSum { a: null(), weights, place, start: Some(start), to };
    for index in 0..step.terms() {
        let Some(term) = step.term(index) else { continue };
        (sum.a, sum.weights) = (term.rows, term.weights);
        sum.call(s, vecs);
        sum.start = None;
    }
    if sum.start.is_some() {
        sum.call(s, vecs);
    }
    let at = Block { row: 0, rows: 1, first, end: units.min(first + vecs / T::SUMS * S::LANES) };
    let noisy = step.is_noisy();
    if noisy {
        let mut offset = [0; GROUP];
        for vec in 0..GROUP {
            offset[vec] = vec * S::LANES;
        }
        step.prepare(s, at, Grid { start: to, stride: 0, offset, roomy: true });
    }
    for vec in (0..vecs).step_by(T::SUMS) {
        let first = first + vec / T::SUMS * S::LANES;
        let mut z = [s.zero(); MOST_SUMS];
        // SAFETY: the caller's; the sums of so many vectors have been taken.
        unsafe {
            for i in 0..T::SUMS {
                z[i] = s.load(to.add((vec + i) * S::LANES));
            }
            step.finish(s, Units { row: 0, first, lanes: S::LANES.min(units - first) }, z);
        }
    }
    if noisy {
        step.complete(s, at);
    }
}

/// Where the sums of a row start: from what lies there, or zero where that is null.
#[derive(Clone, Copy)]
struct Start {
    from: *const f32,
    /// The first unit, of so many, and how many sums each has.
    first: usize,
    units: usize,
    sums: usize,
}

/// Adds the product of one row `a`, or nothing where it is null, with a group to sums in
/// `to`, a vector after the other, which begin there or from `start`.
#[derive(Clone, Copy)]
struct RowSum<'a> {
    a: *const f32,
    weights: &'a PackedMatrix,
    place: (usize, usize),
    start: Option<Start>,
    to: *mut f32,
}

impl RowSum<'_> {
    /// With the kernel for so many vectors, or, to fill a panel, one more.
    #[inline(always)]
    fn call<S: Simd>(self, s: S, vecs: usize) {
        match vecs {
            ..=2 => s.call(RowSumOf::<2>(self)),
            3 | 4 => s.call(RowSumOf::<4>(self)),
            5 | 6 => s.call(RowSumOf::<6>(self)),
            _ => s.call(RowSumOf::<8>(self)),
        }
    }
}

/// One of a group of `V` vectors.
struct RowSumOf<'a, const V: usize>(RowSum<'a>);

impl<const V: usize> Kernel for RowSumOf<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RowSum { a, weights, place, start, to } = self.0;
        let mut sums = [[s.zero(); V]; 1];
        // SAFETY: whoever makes one vouches for the row, the place, the start and the room.
        unsafe {
            match start {
                None => {
                    for v in 0..V {
                        sums[0][v] = s.load(to.add(v * S::LANES));
                    }
                }
                Some(start) if !start.from.is_null() => {
                    let (mut unit, mut gate) = (start.first, 0);
                    for v in 0..V {
                        let lanes = S::LANES.min(start.units.saturating_sub(unit));
                        let at = start.from.wrapping_add(gate * start.units + unit);
                        sums[0][v] = load_lanes(s, at, lanes);
                        gate += 1;
                        if gate == start.sums {
                            (unit, gate) = (unit + S::LANES, 0);
                        }
                    }
                }
                Some(_) => {}
            }
            if !a.is_null() {
                weights.multiply_row(s, a, place, &mut sums);
            }
            for v in 0..V {
                s.store(to.add(v * S::LANES), sums[0][v]);
            }
        }
    }
}
