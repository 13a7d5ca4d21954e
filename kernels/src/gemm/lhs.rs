//! The left operands of products, packed in tiles as the tile reads them:
//! `[tile][k / RUN][row][RUN]`, cut as [`heights`] cuts. Twelve rows read where
//! they lie are twelve streams that no prefetcher follows and twelve addresses to
//! reckon; packed they are one of each, and a row's terms still lie side by side,
//! so that packing is copying.

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

/// [`lhs_len`] of a caller's sizes.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
#[inline]
pub(crate) fn checked_len(rows: usize, depth: usize) -> Result<usize, KernelError> {
    crate::checked_len("scratch", &[rows, depth.div_ceil(RUN), RUN])
}

/// Packs part `part` of `parts` of `a`, `rows` rows of `depth`,
/// block of depth after block of depth: block `first_k` begins at rows · first_k. One row
/// need not be packed, it lies as it would be.
///
/// # Safety
/// 1. The rows of `a` are readable for the depth;
/// 2. `to` is writable for [`lhs_len`] of them, and nobody else's but that of other parts.
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
            // SAFETY: first + row < rows and first_k + k < depth, so that the row has the
            // terms (1), and the packed block of that depth the row's run (2).
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

/// The parts in which a batch is packed: none where it is of one row.
pub(crate) fn batch_parts(batch: usize) -> usize {
    if batch == 1 { 0 } else { row_blocks(batch).count() * STEP_PARTS }
}

/// Packs part `part` of [`batch_parts`] of a batch, each of its [`row_blocks`] as
/// [`pack`] does; the block from row `row` begins at [`lhs_len`] of so many rows.
///
/// # Safety
/// As [`pack`], of the batch and all of its parts.
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
    // SAFETY: the part's block is rows of the batch, and its place in `to` that of these. No
    // block is of one row: they are of about equal height.
    unsafe {
        let to = to.add(lhs_len(row, depth));
        pack(simd, a.from(row, 0), rows, depth, to, part % STEP_PARTS, STEP_PARTS);
    }
}

/// Packs these terms of `height` columns of `a` as rows. Each column's terms are added to its
/// one of `sums`.
///
/// # Safety
/// 1. The first `end` rows of A are readable for `height` columns, and depth ≤ end;
/// 2. `to` is writable for [`lhs_len`] of the height and the depth, and nobody else's;
/// 3. `sums` are readable and writable for `height` floats, and nobody else's.
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
                // SAFETY: rows end − 1 − k and `terms` − 1 above are there, since k + terms ≤
                // depth, of the columns first + r and on (1); the runs lie in the tile (2).
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

/// Columns and terms of them that become runs of rows.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The columns that are there; a vector of them is taken, or all where they are fewer.
    columns: usize,
    /// The terms that are there, up to a run.
    terms: usize,
}

/// [`by_columns`] of a vector of columns and a run of terms, of which `WHOLE` has all: what
/// costs the time is to ask which there are.
///
/// # Safety
/// 1. Of each of the terms, upwards from the row of `from`, so many columns are readable, up to
///    a vector;
/// 2. `to` is writable for the runs of as many `rows`, up to a vector;
/// 3. `sums` are readable and writable for so many columns, up to a vector.
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
    // SAFETY: what is read and written is of the terms (1), the rows (2) and the columns (3):
    // past the last term its row is read again, and lands where no term is.
    unsafe {
        let mut sum = if WHOLE { simd.load(sums) } else { simd.load_first(sums, columns) };
        let mut quads = [[simd.zero(); QUAD]; RUN / QUAD];
        // Row by row, and not each reckoned from the first: RUN products with the stride would
        // not fit the registers.
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
        // A column beyond the rows is the next tile's to add.
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
