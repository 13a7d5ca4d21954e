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

/// Some that follow one another: rows, columns, vectors or steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Which is the first.
    pub first: usize,
    /// How many they are.
    pub len: usize,
}

impl Span {
    /// The one after the last.
    #[inline(always)]
    pub(crate) fn end(self) -> usize {
        self.first + self.len
    }
}

/// Rows, and vectors of a group in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Area {
    /// Which rows.
    pub rows: Span,
    /// Which of the group's vectors.
    pub vecs: Span,
}

/// Terms of sums that go from a matrix's last row up: rows `end` − 1 down to `end` − `depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The row after the first term's.
    pub end: usize,
    /// How many terms they are.
    pub depth: usize,
}

/// Floats that `rows` packed rows of a lhs operand take, `depth` terms each: whole runs.
#[inline(always)]
pub(crate) const fn lhs_len(rows: usize, depth: usize) -> usize {
    rows * depth.next_multiple_of(RUN)
}

/// The rows of tile `tile` of the `tiles` that rows are cut into: heights differ by one at most,
/// so that none is much slower than the others. No product of two sizes, which could exceed a
/// word of 32 bits.
#[inline(always)]
pub(crate) fn cut(rows: usize, tiles: usize, tile: usize) -> Span {
    // A division takes as long as a vector of units of a single row.
    if tiles == 1 { Span { first: 0, len: rows } } else { cut_by_division(rows, tiles, tile) }
}

/// The same without a branch, which is for loops that the branch would have compiled worse.
#[inline(always)]
pub(crate) fn cut_by_division(rows: usize, tiles: usize, tile: usize) -> Span {
    let (height, taller) = (rows / tiles, rows % tiles);
    Span { first: tile * height + tile.min(taller), len: height + usize::from(tile < taller) }
}

/// All of them, of at most [`Simd::MAX_ROWS`] rows.
#[inline(always)]
pub(crate) fn heights<S: Simd>(rows: usize) -> impl Iterator<Item = Span> {
    let tiles = rows.div_ceil(S::MAX_ROWS);
    (0..tiles).map(move |tile| cut(rows, tiles, tile))
}

/// The batch cut into blocks of at most [`ROW_BLOCK`] rows of about equal height.
#[inline(always)]
pub(crate) fn row_blocks(batch: usize) -> impl Iterator<Item = Span> {
    let blocks = batch.div_ceil(ROW_BLOCK);
    (0..blocks).map(move |block| row_block(batch, block))
}

/// The rows of one of them.
#[inline(always)]
pub(crate) fn row_block(batch: usize, block: usize) -> Span {
    cut(batch, batch.div_ceil(ROW_BLOCK), block)
}
