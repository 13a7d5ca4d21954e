//! Sums of outer products over time, `C += Aᵀ B`: the gradients of weights, where
//! both operands change with every pass. Knows blocking and its scratch; must not
//! know cells.

use crate::error::check_len;
use crate::pack::PackedMatrix;
use crate::simd::{Kernel, Simd};
use crate::sink::Matrix;
use crate::tile::{self, DEPTH_BLOCK, GROUP, PANEL, Product, TilePacked, load_lanes, store_lanes};
use crate::{Isa, KernelError, checked_len};

/// Rows of C whose left operand is packed at a time.
const ROW_BLOCK: usize = 96;

/// Rows by which packing asks for memory before it reads it.
const PACK_AHEAD: usize = 16;

/// Floats of scratch that [`outer`] needs for `columns` columns of C.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
pub fn scratch_len(isa: Isa, columns: usize) -> Result<usize, KernelError> {
    let right = PackedMatrix::len(isa, 1, columns.max(1), DEPTH_BLOCK)?;
    Ok(right + ROW_BLOCK * DEPTH_BLOCK)
}

/// `C = Aᵀ B` or `C += Aᵀ B`.
#[derive(Debug)]
pub struct Outer<'a> {
    /// Rows of A and B: the terms of each sum.
    pub depth: usize,
    /// A, `[depth, rows]`.
    pub a: &'a [f32],
    /// B, `[depth, columns]`.
    pub b: &'a [f32],
    /// C, `[rows, columns]`.
    pub c: &'a mut [f32],
    /// Columns of A, rows of C.
    pub rows: usize,
    /// Columns of B and C.
    pub columns: usize,
    /// Whether C is added to.
    pub accumulate: bool,
    /// [`scratch_len`] floats or more, overwritten.
    pub scratch: &'a mut [f32],
}

impl Outer<'_> {
    /// Computes it. Each element of C is one chain from the last row of A and B to
    /// the first, so rows may be handed in several calls, the last ones first, and
    /// the result has the bits of one call.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a slice does not fit the dimensions; nothing
    /// is written then.
    pub fn run(self, isa: Isa) -> Result<(), KernelError> {
        check_len("a", self.a.len(), checked_len("a", &[self.depth, self.rows])?)?;
        check_len("b", self.b.len(), checked_len("b", &[self.depth, self.columns])?)?;
        check_len("c", self.c.len(), checked_len("c", &[self.rows, self.columns])?)?;
        let expected = scratch_len(isa, self.columns)?;
        if self.scratch.len() < expected {
            return Err(KernelError::Length {
                what: "scratch",
                given: self.scratch.len(),
                expected,
            });
        }
        if self.depth == 0 && !self.accumulate {
            self.c.fill(0.0);
        } else if !self.c.is_empty() {
            isa.enter(self);
        }
        Ok(())
    }
}

impl Kernel for Outer<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, columns) = (self.rows, self.columns);
        let (left, right) = self.scratch.split_at_mut(ROW_BLOCK * DEPTH_BLOCK);
        let (left, right) = (left.as_mut_ptr(), right.as_mut_ptr());
        let vecs = columns.div_ceil(S::LANES).next_multiple_of(PANEL);
        // Blocks of about equal depth, the last rows first.
        let blocks = self.depth.div_ceil(DEPTH_BLOCK);
        for block in 0..blocks {
            let end = self.depth - self.depth * block / blocks;
            let depth = end - (self.depth - self.depth * (block + 1) / blocks);
            // SAFETY: `Outer::run` has checked A, B, C and the scratch against the
            // dimensions; depth ≤ DEPTH_BLOCK and end ≤ self.depth.
            unsafe {
                pack_right(s, self.b.as_ptr(), columns, end, depth, right);
                for first_row in (0..rows).step_by(ROW_BLOCK) {
                    let height = ROW_BLOCK.min(rows - first_row);
                    let from = self.a.as_ptr().add(first_row);
                    pack_left(s, from, rows, height, end, depth, left);
                    let a = TilePacked { start: left, depth };
                    for first_vec in (0..vecs).step_by(GROUP) {
                        let mut sink = Matrix {
                            bias: std::ptr::null(),
                            c: self.c.as_mut_ptr().add(first_row * columns),
                            c_stride: columns,
                            columns: crate::pack::columns(1, columns, first_vec / GROUP, S::LANES),
                        };
                        let panels = right.add(first_vec * S::LANES * depth).cast_const();
                        let panel_stride = PANEL * S::LANES * depth;
                        let product = Product { a, panels, panel_stride, depth, ahead: panels };
                        let vecs = sink.columns.vecs;
                        let resume = self.accumulate || block > 0;
                        tile::group(s, height, product, vecs, resume, &mut sink);
                    }
                }
            }
        }
    }
}

/// Rows end − 1 down to end − depth of B, as panels.
///
/// # Safety
/// B has `end` rows of `columns`; `to` has room for `depth` rows of padded panels.
#[inline(always)]
unsafe fn pack_right<S: Simd>(
    s: S,
    b: *const f32,
    columns: usize,
    end: usize,
    depth: usize,
    to: *mut f32,
) {
    for k in 0..depth {
        // SAFETY: the caller's; end − 1 − k is a row.
        unsafe {
            let row = b.add((end - 1 - k) * columns);
            for vec in 0..columns.div_ceil(S::LANES).next_multiple_of(PANEL) {
                let first = (vec * S::LANES).min(columns);
                let v = load_lanes(s, row.add(first), S::LANES.min(columns - first));
                let panel = to.add(vec / PANEL * PANEL * S::LANES * depth);
                s.store(panel.add((k * PANEL + vec % PANEL) * S::LANES), v);
            }
        }
    }
}

/// Rows end − 1 down to end − depth of A, `height` columns of it, as tiles.
///
/// # Safety
/// A has `end` rows, `stride` floats apart, of `height` columns; `to` has room for
/// depth · height floats.
#[inline(always)]
unsafe fn pack_left<S: Simd>(
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
                s.prefetch(row.wrapping_sub(PACK_AHEAD * stride).wrapping_add(line));
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
