//! The kernels for a step of one row, which need not be packed. The sums stay in registers, and
//! with few units so do the inputs of the cell.

use super::step::{Block, Step, Units};
use super::sweep::after;
use crate::cells::MOST_SUMS;
use crate::format::Format;
use crate::gemm::layout::{GROUP, PANEL};
use crate::gemm::rhs::{self, PackedMatrix, Turn};
use crate::gemm::tile::{Grid, load_lanes};
use crate::rows::{At, RowsMut};
use crate::simd::{Kernel, Simd};
use std::mem::MaybeUninit;

/// The kernel that sweeps one group of units, for a batch of one.
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
        // SAFETY: the group is one of the weights', of `vecs` vectors or, to fill a panel, one
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

/// Computes the units from `first` on for one row. Their group has `V` vectors of sums, for one or
/// two vectors of units. The sums never leave the registers.
///
/// # Safety
/// 1. The group of `turn` is one of the weights', with these units, in `V` vectors, padding
///    included;
/// 2. as [`Step::finish`] for all units of the group.
#[inline(always)]
unsafe fn row<S: Simd, T: Step, const V: usize>(simd: S, step: &T, first: usize, turn: Turn) {
    let units = step.weights().units();
    let mut sums = [[simd.zero(); V]; 1];
    // SAFETY: the row of `start` has the units' sums (`Step`, 3), each term's row has the depth of
    // its weights (`Step`, 2), and the weights have the group (1). A row that is not packed lies as
    // `multiply_row` reads it. All units are the group's (2).
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

/// Computes any group for one row. The sums are computed by a kernel that all cells share.
///
/// # Safety
/// As [`row`]; the group has `vecs` vectors, without padding.
#[inline(always)]
unsafe fn long_row<S: Simd, T: Step>(simd: S, step: &T, first: usize, vecs: usize, turn: Turn) {
    let weights = step.weights();
    let units = weights.units();
    let mut room = MaybeUninit::<[S::V; GROUP]>::uninit();
    let to = room.as_mut_ptr().cast::<f32>();
    // Panels of formats with fewer bits than f32 are read whole, padding included.
    let mut exact = true;
    for index in 0..step.terms() {
        if let Some(term) = step.term(index) {
            exact &= term.weights.format() == Format::F32;
        }
    }
    let sums = if exact { vecs } else { vecs.next_multiple_of(PANEL) };
    let at = Block { row: 0, rows: 1, first, end: units.min(first + vecs / T::SUMS * S::LANES) };
    let noisy = step.is_noisy();
    let mut start = match step.start() {
        None => Start::Zero,
        Some(from) => Start::At { from: from.at(0, 0), first, units, sums: T::SUMS },
    };
    // SAFETY: the row of `start` has the units' sums (`Step`, 3), each term's row has the depth of
    // its weights (`Step`, 2), and the weights have the group (1). `to` has room for the group's
    // vectors, and sums are resumed only after they have been stored there. All units are the
    // group's (2).
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

/// What the sums of a row start from.
#[derive(Clone, Copy)]
enum Start {
    /// The sums that an earlier call has stored.
    Resumed,
    Zero,
    /// The values `[sums, units]` at `from`, of the units from `first` on.
    At {
        from: *const f32,
        first: usize,
        units: usize,
        sums: usize,
    },
}

/// Adds the product of one row with a group to the group's sums, and stores them in `to`, one
/// vector after the other. Without a `product` it stores what the sums start from.
#[derive(Clone, Copy)]
struct RowSum<'a> {
    product: Option<(*const f32, &'a PackedMatrix)>,
    turn: Turn,
    start: Start,
    to: *mut f32,
}

impl<'a> RowSum<'a> {
    /// # Safety
    /// 1. The row of `product` is readable for the depth of its matrix, which is packed for the
    ///    instruction set that the kernel is called with, and which has the group of `turn`;
    /// 2. if the sums start from [`Start::At`], `from` is readable for `sums` times `units` floats;
    /// 3. `to` is writable for [`GROUP`] vectors, and the group's vectors have been written there
    ///    if the sums are resumed.
    #[inline(always)]
    unsafe fn new(
        product: Option<(*const f32, &'a PackedMatrix)>,
        turn: Turn,
        start: Start,
        to: *mut f32,
    ) -> Self {
        Self { product, turn, start, to }
    }

    /// Calls the kernel for `vecs` vectors. If they are few, one more to fill a panel costs
    /// nothing: there are no more sums than the cycles that a multiply-add takes.
    ///
    /// # Safety
    /// `vecs` is the number of the group's vectors, with the padding to whole panels if the matrix
    /// is not f32.
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

/// The kernel for `V` vectors. Only [`RowSum::call`] makes it.
struct RowSumOf<'a, const V: usize>(RowSum<'a>);

impl<const V: usize> Kernel for RowSumOf<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RowSum { product, turn, start, to } = self.0;
        let mut sums = [[simd.zero(); V]; 1];
        // SAFETY: `V` is the number of the group's vectors, as the caller of `call` promises, and
        // so `to` has room for them (3). The start (2) and the row (1) are promised to `new`.
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
