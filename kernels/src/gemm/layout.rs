//! How operands are cut and laid out, as packing, tiles and sums all have to know it. Knows
//! rows, columns and terms; must not know what is computed of them.

#[cfg(test)]
mod tests;

use crate::simd::Simd;
pub(crate) use crate::tuning::{DEPTH_BLOCK, ROW_BLOCK};

/// Vectors side by side in a panel.
pub(crate) const PANEL: usize = 2;
/// Vectors of a whole group.
pub(crate) const GROUP: usize = 8;
/// Terms of one row of the left operand that lie side by side: a line of the cache.
pub(crate) const RUN: usize = 16;

/// Floats that `rows` packed rows of a lhs operand take, `depth` terms each: whole runs.
#[inline(always)]
pub(crate) const fn lhs_len(rows: usize, depth: usize) -> usize {
    rows * depth.next_multiple_of(RUN)
}

/// Tile `tile` of the `tiles` that rows are cut into, (first row, height): heights
/// differ by one at most, so that none is much slower than the others. No product of two
/// sizes, which could exceed a word of 32 bits.
#[inline(always)]
pub(crate) fn cut(rows: usize, tiles: usize, tile: usize) -> (usize, usize) {
    // A division takes as long as a vector of units of a single row.
    if tiles == 1 { (0, rows) } else { cut_by_division(rows, tiles, tile) }
}

/// The same without a branch, which is for loops that the branch would have compiled worse.
#[inline(always)]
pub(crate) fn cut_by_division(rows: usize, tiles: usize, tile: usize) -> (usize, usize) {
    let (height, taller) = (rows / tiles, rows % tiles);
    (tile * height + tile.min(taller), height + usize::from(tile < taller))
}

/// All of them, of at most [`Simd::MAX_ROWS`] rows.
#[inline(always)]
pub(crate) fn heights<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(S::MAX_ROWS);
    (0..tiles).map(move |tile| cut(rows, tiles, tile))
}

/// The batch cut into blocks of at most [`ROW_BLOCK`] rows of about equal height.
#[inline(always)]
pub(crate) fn row_blocks(batch: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = batch.div_ceil(ROW_BLOCK);
    (0..blocks).map(move |block| row_block(batch, block))
}

/// One of them: its first row, and how many.
#[inline(always)]
pub(crate) fn row_block(batch: usize, block: usize) -> (usize, usize) {
    cut(batch, batch.div_ceil(ROW_BLOCK), block)
}
