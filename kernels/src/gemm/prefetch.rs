//! Prefetches that a tile issues while it multiplies, for rows that a cell or a later tile will
//! read. Knows grids of rows and vectors; must not know what they hold.

use crate::gemm::layout::{Area, GROUP, PANEL};
use crate::rows::Rows;
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Rows that are prefetched while a product runs.
#[derive(Clone, Copy)]
pub(crate) struct Prefetch {
    pub rows: Rows,
    /// The column at which each of the group's vectors starts, as in
    /// [`Grid::offset`](crate::gemm::tile::Grid::offset).
    pub offset: [usize; GROUP],
    /// Vectors of a full group.
    pub group: usize,
    /// Columns from a group's offsets to the next group's; added with wrapping.
    pub advance: usize,
    /// Prefetches every `every`th vector.
    pub every: usize,
    pub when: When,
}

/// When prefetched rows will be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// After a tile: each tile prefetches the rows of its own vectors.
    After,
    /// At the start of a tile: each tile prefetches the rows for the next tile to its right.
    Start,
}

/// The order in which a tile prefetches: all rows of one pair of vectors, then all rows of the
/// next pair.
pub(crate) struct Walk<'a> {
    prefetches: &'a [Prefetch],
    /// The tile's rows and vectors.
    area: Area,
    /// The next of the tile's vectors, counted from its first.
    vec: usize,
    /// The next row of the present pair, at its first vector.
    at: *const f32,
    stride: usize,
    /// Floats from the pair's first vector to its second; 0 if only one is prefetched.
    pair: usize,
    /// Rows of the present pair that are left.
    rows: usize,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    pub(crate) fn new(prefetches: &'a [Prefetch], area: Area) -> Self {
        let (at, stride, pair, rows) = (std::ptr::dangling(), 0, 0, 0);
        let mut walk = Self { prefetches, area, vec: 0, at, stride, pair, rows };
        walk.turn();
        walk
    }

    /// Returns a walk that prefetches nothing.
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self::new(&[], Area::default())
    }

    /// Returns whether rows are left.
    #[inline(always)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.rows > 0
    }

    /// Prefetches the present pair of vectors in the next row.
    #[inline(always)]
    pub(crate) fn ask<S: Simd>(&mut self, simd: S) {
        if self.rows > 0 {
            simd.prefetch(self.at);
            simd.prefetch(self.at.wrapping_add(self.pair));
            self.at = self.at.wrapping_add(self.stride);
            self.rows -= 1;
            if self.rows == 0 {
                self.turn();
            }
        }
    }

    /// Goes on to the next pair that has to be prefetched, if there is one.
    #[inline(always)]
    fn turn(&mut self) {
        let Area { rows, vecs } = self.area;
        while let Some(prefetch) = self.prefetches.first() {
            if self.vec >= vecs.len {
                (self.prefetches, self.vec) = (&self.prefetches[1..], 0);
                continue;
            }
            let lead = if prefetch.when == When::Start { vecs.len } else { 0 };
            let vec = vecs.first + lead + self.vec;
            self.vec += PANEL;
            let wanted = vec.next_multiple_of(prefetch.every);
            if wanted < vec + PANEL {
                // A vector beyond the group belongs to the next group.
                let (vec, beyond) = match wanted.checked_sub(prefetch.group) {
                    Some(vec) => (vec, 1),
                    None => (wanted, 0),
                };
                let offset = prefetch.offset[vec % GROUP];
                let onward = prefetch.advance * beyond;
                self.at = prefetch.rows.at(rows.first, offset).wrapping_add(onward);
                self.stride = prefetch.rows.stride();
                self.pair = match prefetch.every {
                    1 => prefetch.offset[(vec + 1) % GROUP].wrapping_sub(offset),
                    _ => 0,
                };
                self.rows = rows.len;
                return;
            }
        }
    }
}

/// The most operands that a step prefetches.
const MOST: usize = 8;

/// The prefetches of a step: one for each operand.
pub(crate) struct Prefetches {
    all: [MaybeUninit<Prefetch>; MOST],
    count: usize,
}

impl Prefetches {
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self { all: [const { MaybeUninit::uninit() }; MOST], count: 0 }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, prefetch: Prefetch) {
        self.all[self.count].write(prefetch);
        self.count += 1;
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[Prefetch] {
        // SAFETY: `push` has written the first `count` elements, and panics beyond the last.
        unsafe { std::slice::from_raw_parts(self.all.as_ptr().cast(), self.count) }
    }
}
