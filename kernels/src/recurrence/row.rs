//! The kernels of a step of one row, which lies as it would be packed: its sums stay in
//! registers, of few units up to the cell.

use super::step::{Block, Step, Term, Units};
use super::sweep::after;
use crate::cells::MOST_SUMS;
use crate::format::Format;
use crate::gemm::layout::{GROUP, PANEL};
use crate::gemm::rhs::{self, PackedMatrix, Turn};
use crate::gemm::tile::{Grid, load_lanes};
use crate::rows::{At, RowsMut};
use crate::simd::{Kernel, Simd};
use std::mem::MaybeUninit;

/// A group of units of a batch of one.
pub(crate) struct Row<'a, T> {
    pub step: &'a T,
    pub group: usize,
    pub backwards: bool,
}

impl<T: Step> Kernel for Row<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { step, group, backwards } = self;
        let whole = const { rhs::whole(T::SUMS) };
        const { assert!(rhs::whole(T::SUMS).is_multiple_of(T::SUMS) && T::SUMS <= MOST_SUMS) };
        let weights = step.weights();
        assert!(step.batch() == 1 && group < weights.groups(), "a group of one row");
        let turn = Turn { group, next: after(group, weights.groups(), backwards) };
        let first = group * (whole / T::SUMS * S::LANES);
        let vecs = whole.min((weights.units() - first).div_ceil(S::LANES) * T::SUMS);
        // SAFETY: the group is one of the weights', of so many vectors or, to fill a panel, one
        // more, and no other task has it.
        unsafe {
            if const { T::SHORT } {
                match vecs / T::SUMS {
                    1 if const { T::SUMS <= 2 } => return row::<S, T, 2>(simd, step, first, turn),
                    1 => return row::<S, T, 4>(simd, step, first, turn),
                    2 if const { T::SUMS == 1 } => return row::<S, T, 2>(simd, step, first, turn),
                    2 if const { T::SUMS == 2 } => return row::<S, T, 4>(simd, step, first, turn),
                    2 if const { T::SUMS == 3 } => return row::<S, T, 6>(simd, step, first, turn),
                    2 => return row::<S, T, 8>(simd, step, first, turn),
                    _ => {}
                }
            }
            long_row(simd, step, first, vecs, turn);
        }
    }
}

/// The units from `first` of one row, in a group of `V` vectors that are one or two vectors
/// of units, whose sums never leave the registers.
///
/// # Safety
/// 1. The turn's group is one of the weights', with these units, in V vectors, padding
///    included;
/// 2. as [`Step::finish`] of all of its units.
#[inline(always)]
unsafe fn row<S: Simd, T: Step, const V: usize>(simd: S, step: &T, first: usize, turn: Turn) {
    let units = step.weights().units();
    let mut sums = [[simd.zero(); V]; 1];
    // SAFETY: the origin's row has the units' sums (`Step`, 3), each term's row its weights'
    // depth (2) and these the group (1), which a row that is not packed lies for. All units
    // are the group's (2).
    unsafe {
        if let Some(from) = step.start() {
            for v in 0..V {
                let unit = first + v / T::SUMS * S::LANES;
                let lanes = S::LANES.min(units.saturating_sub(unit));
                let place = At { row: 0, column: v % T::SUMS * units + unit };
                sums[0][v] = from.load(simd, place, lanes);
            }
        }
        for index in 0..step.terms() {
            let Some(term) = step.term(index) else { continue };
            term.weights.multiply_row(simd, term.rows.at(0, 0), turn, &mut sums);
        }
        let mut z = [simd.zero(); MOST_SUMS];
        for i in 0..MOST_SUMS {
            if i < T::SUMS {
                z[i] = sums[0][i];
            }
        }
        step.finish(simd, Units { row: 0, first, lanes: S::LANES.min(units - first) }, z);
        let second = first + S::LANES;
        if const { V / T::SUMS == 2 } && second < units {
            for i in 0..T::SUMS {
                z[i] = sums[0][V - T::SUMS + i];
            }
            let lanes = S::LANES.min(units - second);
            step.finish(simd, Units { row: 0, first: second, lanes }, z);
        }
        if step.is_noisy() {
            let end = units.min(first + V / T::SUMS * S::LANES);
            step.complete(simd, Block { row: 0, rows: 1, first, end });
        }
    }
}

/// The same of any group, whose sums are taken by a kernel that all cells share.
///
/// # Safety
/// As [`row`]; the group has so many vectors, without padding.
#[inline(always)]
unsafe fn long_row<S: Simd, T: Step>(simd: S, step: &T, first: usize, vecs: usize, turn: Turn) {
    let weights = step.weights();
    let units = weights.units();
    let mut room = MaybeUninit::<[S::V; GROUP]>::uninit();
    let to = room.as_mut_ptr().cast::<f32>();
    // Panels of fewer bits are read whole.
    let is_f32 = |term: Option<Term<'_>>| term.is_none_or(|t| t.weights.format() == Format::F32);
    let exact = (0..step.terms()).all(|index| is_f32(step.term(index)));
    let sums = if exact { vecs } else { vecs.next_multiple_of(PANEL) };
    let at = Block { row: 0, rows: 1, first, end: units.min(first + vecs / T::SUMS * S::LANES) };
    let noisy = step.is_noisy();
    let mut start = match step.start() {
        None => Start::Zero,
        Some(from) => Start::At { from: from.at(0, 0), first, units, sums: T::SUMS },
    };
    // SAFETY: the origin's row has the units' sums (`Step`, 3), each term's row its weights'
    // depth (2) and these the group (1); the room is for its vectors, and sums are resumed once
    // they are there. All units are the group's.
    unsafe {
        for index in 0..step.terms() {
            let Some(term) = step.term(index) else { continue };
            let product = Some((term.rows.at(0, 0), term.weights));
            RowSum::new(product, turn, start, to).call(simd, sums);
            start = Start::Resumed;
        }
        if !matches!(start, Start::Resumed) {
            RowSum::new(None, turn, start, to).call(simd, sums);
        }
        if noisy {
            let mut offset = [0; GROUP];
            for vec in 0..GROUP {
                offset[vec] = vec * S::LANES;
            }
            step.prepare(simd, at, Grid { rows: RowsMut::new(to, 0), offset, roomy: true });
        }
        for vec in (0..vecs).step_by(T::SUMS) {
            let first = first + vec / T::SUMS * S::LANES;
            let mut z = [simd.zero(); MOST_SUMS];
            for i in 0..T::SUMS {
                z[i] = simd.load(to.add((vec + i) * S::LANES));
            }
            step.finish(simd, Units { row: 0, first, lanes: S::LANES.min(units - first) }, z);
        }
        if noisy {
            step.complete(simd, at);
        }
    }
}

/// Where the sums of a row start.
#[derive(Clone, Copy)]
enum Start {
    /// Where they have been left.
    Resumed,
    Zero,
    /// What lies there, from the first unit, of so many, each of which has so many sums.
    At {
        from: *const f32,
        first: usize,
        units: usize,
        sums: usize,
    },
}

/// Adds the product of one row, or nothing where there is none, with a group to sums in
/// `to`, a vector after the other.
#[derive(Clone, Copy)]
struct RowSum<'a> {
    product: Option<(*const f32, &'a PackedMatrix)>,
    turn: Turn,
    start: Start,
    to: *mut f32,
}

impl<'a> RowSum<'a> {
    /// # Safety
    /// 1. The row is readable for its matrix's depth, which is packed for the set of
    ///    instructions that the kernel is called with, and of which the turn's group is one;
    /// 2. what the sums start from, if it lies somewhere, is readable for so many units of so
    ///    many sums;
    /// 3. `to` is writable for [`GROUP`] vectors, and the group's have been written where sums are
    ///    resumed.
    #[inline(always)]
    unsafe fn new(
        product: Option<(*const f32, &'a PackedMatrix)>,
        turn: Turn,
        start: Start,
        to: *mut f32,
    ) -> Self {
        Self { product, turn, start, to }
    }

    /// With the kernel for so many vectors. Of few, one that fills a panel costs nothing: there
    /// are no more sums than a multiply-add takes cycles.
    ///
    /// # Safety
    /// They are those of the group, and with the padding to whole panels where the matrix is not
    /// f32.
    #[inline(always)]
    unsafe fn call<S: Simd>(self, simd: S, vecs: usize) {
        match vecs {
            ..=2 => simd.call(RowSumOf::<2>(self)),
            3 | 4 => simd.call(RowSumOf::<4>(self)),
            5 => simd.call(RowSumOf::<5>(self)),
            6 => simd.call(RowSumOf::<6>(self)),
            7 => simd.call(RowSumOf::<7>(self)),
            _ => simd.call(RowSumOf::<8>(self)),
        }
    }
}

/// One of so many vectors. [`RowSum::call`] alone makes it.
struct RowSumOf<'a, const V: usize>(RowSum<'a>);

impl<const V: usize> Kernel for RowSumOf<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RowSum { product, turn, start, to } = self.0;
        let mut sums = [[simd.zero(); V]; 1];
        // SAFETY: V are the group's vectors, says who called `call`, and so `to` has them (3);
        // the start (2) and the row (1) are promised to `new`.
        unsafe {
            match start {
                Start::Resumed => {
                    for v in 0..V {
                        sums[0][v] = simd.load(to.add(v * S::LANES));
                    }
                }
                Start::Zero => {}
                Start::At { from, first, units, sums: of_unit } => {
                    let (mut unit, mut gate) = (first, 0);
                    for v in 0..V {
                        let lanes = S::LANES.min(units.saturating_sub(unit));
                        let at = from.wrapping_add(gate * units + unit);
                        sums[0][v] = load_lanes(simd, at, lanes);
                        gate += 1;
                        if gate == of_unit {
                            (unit, gate) = (unit + S::LANES, 0);
                        }
                    }
                }
            }
            if let Some((a, weights)) = product {
                weights.multiply_row(simd, a, turn, &mut sums);
            }
            for v in 0..V {
                simd.store(to.add(v * S::LANES), sums[0][v]);
            }
        }
    }
}
