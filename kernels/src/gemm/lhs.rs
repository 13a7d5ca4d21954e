//! Packs the lhs of a product in the order in which the register tile reads it:
//! `[tile][k / RUN][row][RUN]`, with the rows cut into tiles by [`heights`]. Twelve rows that
//! are not packed would be twelve streams, more than a hardware prefetcher follows, and twelve
//! addresses to compute; packed rows are one stream. The terms of a row still lie side by side,
//! so packing only copies. Knows rows and terms; must not know the rhs.

#[cfg(test)]
mod tests;

use crate::KernelError;
use crate::gemm::layout::{
    DEPTH_BLOCK, RUN, Span, Terms, cut, heights, lhs_len, row_block, row_blocks,
};
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::rows::Rows;
use crate::simd::{QUAD, Simd};
use crate::tuning::{COLUMNS_AHEAD, LHS_AHEAD, STEP_PARTS};

/// Returns [`lhs_len`] for sizes that come from the caller.
///
/// # Errors
/// [`KernelError::TooLarge`] where that many floats do not fit the address space.
#[inline]
pub(crate) fn checked_len(rows: usize, depth: usize) -> Result<usize, KernelError> {
    crate::checked_len("scratch", &[rows, depth.div_ceil(RUN), RUN])
}

/// Packs part `part` of `parts` of `a` `[rows, depth]`. The blocks of depth follow one another:
/// the block that starts at term `first_k` is packed from float `rows · first_k` of `to` on. A
/// single row need not be packed: its packed order is the order that it already has.
///
/// # Safety
/// 1. The rows of `a` are readable for `depth` floats;
/// 2. `to` is writable for [`lhs_len`] of `rows` and `depth`, and nobody else uses it except calls
///    for the other parts.
#[inline(always)]
pub(crate) unsafe fn pack<S: Simd>(
    simd: S,
    a: Rows,
    rows: usize,
    depth: usize,
    to: *mut f32,
    part: usize,
    parts: usize,
) {
    let tiles = rows.div_ceil(S::MAX_ROWS);
    for tile in tiles * part / parts..tiles * (part + 1) / parts {
        let Span { first, len: height } = cut(rows, tiles, tile);
        for row in 0..height {
            // SAFETY: first + row < rows and first_k + k < depth, so the row has these terms (1),
            // and the packed block of this depth has the row's run (2).
            unsafe {
                let a = a.from(first + row, 0);
                for first_k in (0..depth).step_by(DEPTH_BLOCK) {
                    let terms = DEPTH_BLOCK.min(depth - first_k);
                    let to = to.add(rows * first_k + lhs_len(first, terms) + row * RUN);
                    for k in (0..terms).step_by(S::LANES) {
                        let from = a.at(0, first_k + k);
                        simd.prefetch(from.wrapping_add(LHS_AHEAD * a.stride()));
                        let v = load_lanes(simd, from, S::LANES.min(terms - k));
                        simd.store(to.add(k / RUN * RUN * height + k % RUN), v);
                    }
                }
            }
        }
    }
}

/// Returns the number of parts in which a batch is packed: 0 for a batch of one row.
pub(crate) fn batch_parts(batch: usize) -> usize {
    if batch == 1 { 0 } else { row_blocks(batch).count() * STEP_PARTS }
}

/// Packs part `part` of the [`batch_parts`] of `a` `[batch, depth]`. Each of the [`row_blocks`]
/// is packed as by [`pack`]; the block that starts at row `row` is packed from float
/// [`lhs_len`]`(row, depth)` of `to` on.
///
/// # Safety
/// As for [`pack`], with the rows of the whole batch and all of its parts.
#[inline(always)]
pub(crate) unsafe fn pack_batch<S: Simd>(
    simd: S,
    a: Rows,
    batch: usize,
    depth: usize,
    to: *mut f32,
    part: usize,
) {
    assert!(part < batch_parts(batch), "a part of the batch");
    let Span { first: row, len: rows } = row_block(batch, part / STEP_PARTS);
    // SAFETY: the part's block consists of rows of the batch, and its place in `to` belongs to
    // these rows. No block has only one row, since the heights are about equal.
    unsafe {
        let to = to.add(lhs_len(row, depth));
        pack(simd, a.from(row, 0), rows, depth, to, part % STEP_PARTS, STEP_PARTS);
    }
}

/// Packs `height` columns of `a` as lhs rows of `depth` terms, the rows of `a` in the order of
/// [`Terms`], and adds the terms of each column to its element of `sums` `[height]`.
///
/// # Safety
/// 1. The first `end` rows of `a` are readable for `height` columns, and depth ≤ end;
/// 2. `to` is writable for [`lhs_len`] of the height and the depth, and nobody else uses it;
/// 3. `sums` is readable and writable for `height` floats, and nobody else uses it.
#[inline(always)]
pub(crate) unsafe fn by_columns<S: Simd>(
    simd: S,
    a: Rows,
    height: usize,
    Terms { end, depth }: Terms,
    to: *mut f32,
    sums: *mut f32,
) {
    for k in (0..depth).step_by(RUN) {
        let terms = RUN.min(depth - k);
        for Span { first, len: rows } in heights::<S>(height) {
            for r in (0..rows).step_by(S::LANES) {
                let columns = height - first - r;
                // SAFETY: row end − 1 − k and the `terms` − 1 rows before it exist, since
                // k + terms ≤ depth, with the columns from first + r on (1); the runs lie in the
                // tile (2), and the sums belong to the same columns (3).
                unsafe {
                    let from = a.from(end - 1 - k, first + r);
                    let to = to.add(lhs_len(first, depth) + k * rows + r * RUN);
                    let (rows, sums) = (rows - r, sums.add(first + r));
                    let run = Run { columns, terms };
                    if columns >= S::LANES && terms == RUN {
                        runs::<S, true>(simd, from, run, to, rows, sums);
                    } else {
                        runs::<S, false>(simd, from, run, to, rows, sums);
                    }
                }
            }
        }
    }
}

/// The size of a block of `a` that becomes one run for each of its columns.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Columns from the first on; at most a vector of them is packed.
    columns: usize,
    /// Terms of each column, at most a run.
    terms: usize,
}

/// Does the work of [`by_columns`] for one vector of columns and one run of terms. `WHOLE` says
/// that neither is cut short, which saves the checks that would take most of the time.
///
/// # Safety
/// 1. The first row of `from` and the `terms` − 1 rows before it in memory are readable for
///    `columns` floats, at most a vector;
/// 2. `to` is writable for the runs of `rows` rows, at most a vector of them;
/// 3. `sums` is readable and writable for `columns` floats, at most a vector.
#[inline(always)]
unsafe fn runs<S: Simd, const WHOLE: bool>(
    simd: S,
    from: Rows,
    Run { columns, terms }: Run,
    to: *mut f32,
    rows: usize,
    sums: *mut f32,
) {
    let columns = columns.min(S::LANES);
    // SAFETY: all reads and writes stay within the terms (1), the rows (2) and the columns (3):
    // after the last term its row is read again, and is stored where the run has no term.
    unsafe {
        let mut sum = if WHOLE { simd.load(sums) } else { simd.load_first(sums, columns) };
        let mut quads = [[simd.zero(); QUAD]; RUN / QUAD];
        // The address moves row by row and is not computed from the first row: the RUN multiples
        // of the stride would not fit the registers.
        let (mut row, ahead) = (from.at(0, 0), COLUMNS_AHEAD * from.stride());
        for q in 0..RUN / QUAD {
            for i in 0..QUAD {
                let term = QUAD * q + i;
                simd.prefetch(row.wrapping_sub(ahead));
                quads[q][i] = if WHOLE { simd.load(row) } else { simd.load_first(row, columns) };
                if WHOLE || term < terms {
                    sum = simd.add(sum, quads[q][i]);
                }
                if WHOLE || term + 1 < terms {
                    row = row.wrapping_sub(from.stride());
                }
            }
            quads[q] = simd.transpose4(quads[q]);
        }
        // Columns beyond `rows` belong to the next tile, which adds them.
        store_lanes(simd, sums, sum, rows.min(columns));
        for i in 0..QUAD {
            let runs = simd.zip_quads([quads[0][i], quads[1][i], quads[2][i], quads[3][i]]);
            let parts = RUN / S::LANES;
            for p in 0..QUAD {
                let row = QUAD * (p / parts) + i;
                if row < rows {
                    simd.store(to.add(row * RUN + p % parts * S::LANES), runs[p]);
                }
            }
        }
    }
}
