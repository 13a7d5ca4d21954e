//! How operands are cut into blocks and laid out, for all code that packs, multiplies or sums.
//! Knows rows, columns and terms; must not know what is computed from them.

#[cfg(test)]
mod tests;

use crate::simd::Simd;
pub(crate) use crate::tuning::{DEPTH_BLOCK, ROW_BLOCK};

/// Vectors side by side in a panel.
pub(crate) const PANEL: usize = 2;
/// The most vectors in a group.
pub(crate) const GROUP: usize = 8;
/// Terms of one lhs row that lie side by side: a cache line.
pub(crate) const RUN: usize = 16;

/// A range of rows, columns, vectors or steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of the first.
    pub first: usize,
    /// Number of them.
    pub len: usize,
}

impl Span {
    /// Returns the index after the last.
    #[inline(always)]
    pub(crate) fn end(self) -> usize {
        self.first + self.len
    }
}

/// A range of rows and, in them, a range of a group's vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Area {
    /// The rows.
    pub rows: Span,
    /// The vectors, counted from the group's first.
    pub vecs: Span,
}

/// The terms of sums over a matrix's rows in descending order: term k is row `end` − 1 − k, for
/// k < `depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Index of the first term's row, plus 1.
    pub end: usize,
    /// Number of terms.
    pub depth: usize,
}

/// Returns the floats that `rows` packed lhs rows of `depth` terms take. Each row takes whole
/// runs.
#[inline(always)]
pub(crate) const fn lhs_len(rows: usize, depth: usize) -> usize {
    rows * depth.next_multiple_of(RUN)
}

/// Cuts `rows` rows into `tiles` tiles and returns the rows of number `tile`. Heights differ by
/// at most one, so that no tile is much slower than the others. No two sizes are multiplied: the
/// product could overflow a `usize` of 32 bits.
#[inline(always)]
pub(crate) fn cut(rows: usize, tiles: usize, tile: usize) -> Span {
    // The division is avoided for one tile: with a single row it takes as long as a vector of
    // units.
    if tiles == 1 { Span { first: 0, len: rows } } else { cut_by_division(rows, tiles, tile) }
}

/// Cuts as [`cut`] does, but without its branch: the compiler makes some loops slower if the
/// branch comes before them.
#[inline(always)]
pub(crate) fn cut_by_division(rows: usize, tiles: usize, tile: usize) -> Span {
    let (height, taller) = (rows / tiles, rows % tiles);
    Span { first: tile * height + tile.min(taller), len: height + usize::from(tile < taller) }
}

/// Cuts `rows` rows into tiles of at most [`Simd::MAX_ROWS`] rows and returns all of them.
#[inline(always)]
pub(crate) fn heights<S: Simd>(rows: usize) -> impl Iterator<Item = Span> {
    let tiles = rows.div_ceil(S::MAX_ROWS);
    (0..tiles).map(move |tile| cut(rows, tiles, tile))
}

/// Cuts the rows of a batch into blocks of about equal height, at most [`ROW_BLOCK`] rows, and
/// returns all of them.
#[inline(always)]
pub(crate) fn row_blocks(batch: usize) -> impl Iterator<Item = Span> {
    let blocks = batch.div_ceil(ROW_BLOCK);
    (0..blocks).map(move |block| row_block(batch, block))
}

/// Returns the rows of number `block` of the [`row_blocks`].
#[inline(always)]
pub(crate) fn row_block(batch: usize, block: usize) -> Span {
    cut(batch, batch.div_ceil(ROW_BLOCK), block)
}
