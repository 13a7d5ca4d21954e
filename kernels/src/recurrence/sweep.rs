//! The kernels for a step of several rows: one packs the left operands, and one computes the sums
//! of a group of units, tile by tile, and finishes the units.

use super::step::{Block, Step, Units};
use crate::cells::MOST_SUMS;
use crate::gemm::layout::{DEPTH_BLOCK, Span, lhs_len, row_blocks};
use crate::gemm::lhs;
use crate::gemm::prefetch::Prefetch;
use crate::gemm::rhs::{Columns, PackedMatrix, Place};
use crate::gemm::scratch;
use crate::gemm::tile::{Grid, Sums};
use crate::rows::{At, Rows};
use crate::simd::{Kernel, Simd};

/// The kernel that packs one part of the left operands.
pub(super) struct Pack<'a, T> {
    pub step: &'a T,
    pub part: usize,
}

impl<T: Step> Kernel for Pack<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let batch = self.step.batch();
        let mut to = self.step.scratch();
        for index in 0..self.step.terms() {
            let Some(term) = self.step.term(index) else { continue };
            let depth = term.weights.depth();
            // SAFETY: `Step` promises that the rows of its terms are readable (2), and that its
            // scratch has room for this term after those before it (4).
            unsafe {
                lhs::pack_batch(simd, term.rows, batch, depth, to, self.part);
                to = to.add(lhs_len(batch, depth));
            }
        }
    }
}

/// The kernel that sweeps one group of units for several rows, whose left operands have been
/// packed.
pub(super) struct Sweep<'a, T> {
    pub step: &'a T,
    pub group: usize,
    pub backwards: bool,
}

impl<T: Step> Kernel for Sweep<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { step, group, backwards } = self;
        let (batch, weights) = (step.batch(), step.weights());
        assert!(group < weights.groups(), "a group of the weights");
        let columns = weights.columns(group, S::LANES).swept(backwards);
        // This is the same for every term, since the weights of all terms have the same outputs.
        let next = after(group, weights.groups(), backwards);
        let place = Place { group, vecs: columns.vecs, next };
        let mut between = scratch::For::<S>::new();
        for Span { first: row, len: rows } in row_blocks(batch) {
            let from = step.start().map(|rows| columns.grid(rows.from(row, 0)));
            let Columns { lanes, whole, .. } = columns;
            let mut sums = Sums { from, to: between.grid(), lanes, whole };
            let prefetches = step.prefetches(&columns, row);
            let mut packed = step.scratch().cast_const();
            let mut summed = false;
            for index in 0..step.terms() {
                let Some(term) = step.term(index) else { continue };
                let depth = term.weights.depth();
                // SAFETY: the rows are of the batch, and the group is one of the weights' and so of
                // every term's (`Step`, 1); `Pack` has packed the operands, in the phase before or
                // in `whole`. The sums start from the columns of `start` (`Step`, 3) or from what
                // the term before has left, and are left in the scratch, which has room for them.
                unsafe {
                    let a = packed.add(lhs_len(row, depth));
                    let prefetches = prefetches.as_slice();
                    simd.call(GroupSum::new((rows, a), term.weights, place, sums, prefetches));
                    packed = packed.add(lhs_len(batch, depth));
                }
                sums = sums.resumed();
                summed = true;
            }
            let noisy = step.is_noisy();
            let at = Block { row, rows, first: columns.offset[0], end: end(&columns, T::SUMS) };
            if noisy {
                // SAFETY: the rows and columns are of `start` and of the scratch, where all sums
                // are, left by a term or by `store_start`. The block is of the batch and of the
                // group, whose units no other task has.
                unsafe {
                    if !summed {
                        store_start(simd, rows, &columns, from, &mut between);
                        summed = true;
                    }
                    step.prepare(simd, at, between.grid());
                }
            }
            for vec in (0..columns.vecs).step_by(T::SUMS) {
                let (first, lanes) = (columns.offset[vec], columns.lanes[vec]);
                for r in 0..rows {
                    let mut sums = [simd.zero(); MOST_SUMS];
                    // SAFETY: either the products have left all sums of these rows in the scratch,
                    // or `start` has them. The units are of the group, which no other task has.
                    unsafe {
                        for i in 0..T::SUMS {
                            if summed {
                                sums[i] = between.get(r, vec + i);
                            } else if let Some(from) = from {
                                let column = columns.offset[vec + i];
                                sums[i] = from.rows.load(simd, At { row: r, column }, lanes);
                            }
                        }
                        step.finish(simd, Units { row: row + r, first, lanes }, sums);
                    }
                }
            }
            if noisy {
                // SAFETY: all units of the block have just been finished.
                unsafe { step.complete(simd, at) };
            }
        }
    }
}

/// Returns the end of a group's units, each of which has `sums` sums.
#[inline(always)]
fn end(columns: &Columns, sums: usize) -> usize {
    let last = columns.vecs - sums;
    columns.offset[last] + columns.lanes[last]
}

/// Stores the sums of a group to which no product has been added, one vector each: what they start
/// from, or zero.
///
/// # Safety
/// The rows and columns are of `from` and of the scratch `to`.
#[inline(always)]
unsafe fn store_start<S: Simd>(
    simd: S,
    rows: usize,
    columns: &Columns,
    from: Option<Grid<Rows>>,
    to: &mut scratch::For<S>,
) {
    for r in 0..rows {
        for vec in 0..columns.vecs {
            // SAFETY: the row and the vector are of both.
            unsafe {
                let sum = match from {
                    None => simd.zero(),
                    Some(from) => {
                        let column = columns.offset[vec];
                        from.rows.load(simd, At { row: r, column }, columns.lanes[vec])
                    }
                };
                simd.store(to.place(r, vec), sum);
            }
        }
    }
}

/// Adds the product of a block of `rows` packed rows `a` with a group of columns to `sums`. Each
/// block of the depth issues its share of `prefetches`. It is a kernel of its own, which all cells
/// share.
struct GroupSum<'a> {
    rows: usize,
    /// `rows` packed rows, each as long as the depth of `weights`.
    a: *const f32,
    weights: &'a PackedMatrix,
    place: Place,
    sums: Sums,
    prefetches: &'a [Prefetch],
}

impl<'a> GroupSum<'a> {
    /// # Safety
    /// As [`PackedMatrix::multiply`], for the whole depth.
    #[inline(always)]
    unsafe fn new(
        (rows, a): (usize, *const f32),
        weights: &'a PackedMatrix,
        place: Place,
        sums: Sums,
        prefetches: &'a [Prefetch],
    ) -> Self {
        Self { rows, a, weights, place, sums, prefetches }
    }
}

impl Kernel for GroupSum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, a, weights, place, mut sums, prefetches } = self;
        let depth = weights.depth();
        let share = prefetches.len().div_ceil(depth.div_ceil(DEPTH_BLOCK));
        for first_k in (0..depth).step_by(DEPTH_BLOCK) {
            let mine = (first_k / DEPTH_BLOCK * share).min(prefetches.len());
            let mine = &prefetches[mine..(mine + share).min(prefetches.len())];
            // SAFETY: rows, place and sums are promised to `new`; first_k < depth.
            unsafe {
                let a = a.add(rows * first_k);
                weights.multiply(simd, (rows, a), place, first_k, &sums, mine);
            }
            sums = sums.resumed();
        }
    }
}

/// Returns the group that a sweep comes to after `group`. Sweeps alternate between the two
/// directions, so that a step first reads what the step before has left in the cache.
#[inline(always)]
pub(super) fn after(group: usize, groups: usize, backwards: bool) -> usize {
    if backwards { group.saturating_sub(1) } else { (group + 1).min(groups - 1) }
}
