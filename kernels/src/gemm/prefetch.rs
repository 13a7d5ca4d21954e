//! What a tile asks memory for while it multiplies: rows that a cell or a later tile
//! will want. Knows grids of rows and vectors; must not know what they hold.

use crate::gemm::layout::{Area, GROUP, PANEL};
use crate::rows::Rows;
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Rows that are asked for while a product runs.
#[derive(Clone, Copy)]
pub(crate) struct Prefetch {
    pub rows: Rows,
    /// Of every `every`th vector, as [`Grid::offset`](crate::gemm::tile::Grid::offset).
    pub offset: [usize; GROUP],
    /// Vectors of a whole group.
    pub group: usize,
    /// From a group's offsets to those of the one that comes after it; wraps.
    pub advance: usize,
    pub every: usize,
    pub when: When,
}

/// When rows that are fetched will be wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// After the tile: a tile fetches them for its own vectors.
    After,
    /// When a tile starts: a tile fetches them for the one to its right.
    Start,
}

/// A tile's way through what it fetches: the rows of one pair of vectors after the
/// other.
pub(crate) struct Walk<'a> {
    prefetches: &'a [Prefetch],
    /// The tile's rows and vectors.
    area: Area,
    /// Which of its vectors is next.
    vec: usize,
    /// The row of the present pair that is next, and how many are left of it.
    at: *const f32,
    stride: usize,
    pair: usize,
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

    /// A way past nothing.
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self::new(&[], Area::default())
    }

    /// Whether rows are left to be asked for.
    #[inline(always)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.rows > 0
    }

    /// Asks for the next pair's lines.
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

    /// Turns to the next pair that there is.
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
                // A vector beyond the group is one of the next.
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

/// The most operands that a step fetches.
const MOST: usize = 8;

/// The operands of a step that are fetched.
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
        // SAFETY: `push` has filled the first `count`, and never more than there are.
        unsafe { std::slice::from_raw_parts(self.all.as_ptr().cast(), self.count) }
    }
}
