//! The left operands of products, packed in tiles as the tile reads them:
//! `[tile][k][row]`, cut as [`tile::heights`] cuts. Twelve rows read side by side
//! are twelve streams that no prefetcher follows and twelve addresses to reckon;
//! packed they are one of each.

use crate::scratch::row_blocks;
use crate::simd::Simd;
use crate::tile::{self, DEPTH_BLOCK, load_lanes, store_lanes};

/// Packs `rows` rows of `a`, `stride` floats apart, `depth` terms of each.
///
/// # Safety
/// `a` is readable for them, and `to` has room for rows · depth floats.
#[inline(always)]
unsafe fn by_rows<S: Simd>(
    s: S,
    a: *const f32,
    stride: usize,
    rows: usize,
    depth: usize,
    to: *mut f32,
) {
    let whole = depth - depth % S::LANES;
    for (first, height) in tile::heights::<S>(rows) {
        // SAFETY: the caller's: the rows and terms below lie in A, their places in
        // the tile. Four rows at a time; the last four may overlap the ones before,
        // and write the same again.
        unsafe {
            let (a, to) = (a.add(first * stride), to.add(first * depth));
            let mut row = 0;
            while height >= 4 && row < height {
                let r = row.min(height - 4);
                for k in (0..whole).step_by(S::LANES) {
                    let from = a.add(r * stride + k);
                    let quads = s.transpose4([
                        s.load(from),
                        s.load(from.add(stride)),
                        s.load(from.add(2 * stride)),
                        s.load(from.add(3 * stride)),
                    ]);
                    for i in 0..4 {
                        s.store_quads(to.add((k + i) * height + r), 4 * height, quads[i]);
                    }
                }
                row += 4;
            }
            for r in 0..height {
                for k in if height < 4 { 0 } else { whole }..depth {
                    *to.add(k * height + r) = *a.add(r * stride + k);
                }
            }
        }
    }
}

/// Packs all of `a`, `rows` rows of `depth`, block of depth after block of depth:
/// block `first_k` begins at rows · first_k. One row is packed as it is.
///
/// # Safety
/// `a` is readable for rows · depth floats, and `to` has room for as many.
#[inline(always)]
pub(crate) unsafe fn pack<S: Simd>(
    s: S,
    a: *const f32,
    rows: usize,
    depth: usize,
    to: *mut f32,
) -> *const f32 {
    if rows == 1 {
        return a;
    }
    for first_k in (0..depth).step_by(DEPTH_BLOCK) {
        let terms = DEPTH_BLOCK.min(depth - first_k);
        // SAFETY: the caller's.
        unsafe { by_rows(s, a.add(first_k), depth, rows, terms, to.add(rows * first_k)) };
    }
    to
}

/// Packs a batch, each of its [`row_blocks`] as [`pack`] does; the block from row
/// `row` begins at row · depth.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
pub(crate) unsafe fn pack_batch<S: Simd>(
    s: S,
    a: *const f32,
    batch: usize,
    depth: usize,
    to: *mut f32,
) -> *const f32 {
    if batch == 1 {
        return a;
    }
    for (row, rows) in row_blocks(batch) {
        // SAFETY: the caller's; a block of one row is copied, to lie where it is
        // looked for.
        unsafe {
            let (a, to) = (a.add(row * depth), to.add(row * depth));
            if pack(s, a, rows, depth, to) != to {
                std::ptr::copy_nonoverlapping(a, to, depth);
            }
        }
    }
    to
}

/// Rows by which [`by_columns`] asks for memory before it reads it.
const AHEAD: usize = 16;

/// Packs `height` columns of `a` as rows: terms are rows end − 1 down to end − depth
/// of it, `stride` floats apart.
///
/// # Safety
/// A has `end` rows of `height` columns; `to` has room for height · depth floats.
#[inline(always)]
pub(crate) unsafe fn by_columns<S: Simd>(
    s: S,
    a: *const f32,
    stride: usize,
    height: usize,
    end: usize,
    depth: usize,
    to: *mut f32,
) {
    for k in 0..depth {
        // SAFETY: the caller's; end − 1 − k is a row.
        unsafe {
            let row = a.add((end - 1 - k) * stride);
            // Rows are a stride apart that no hardware prefetcher follows.
            for line in (0..height).step_by(16) {
                s.prefetch(row.wrapping_sub(AHEAD * stride).wrapping_add(line));
            }
            for (first, rows) in tile::heights::<S>(height) {
                let to = to.add(first * depth + k * rows);
                for r in (0..rows).step_by(S::LANES) {
                    let lanes = S::LANES.min(rows - r);
                    store_lanes(s, to.add(r), load_lanes(s, row.add(first + r), lanes), lanes);
                }
            }
        }
    }
}
