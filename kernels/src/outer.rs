//! Sums of outer products over time, `C += Aᵀ B`: the gradients of weights, where
//! both operands change with every pass. Knows blocking and its scratch; must not
//! know cells.

use crate::error::{check_len, check_room};
use crate::fetch::When;
use crate::left;
use crate::pack::{self, PackedMatrix};
use crate::simd::{Kernel, Simd};
use crate::tile::{self, DEPTH_BLOCK, GROUP, PANEL, Product, Sums, load_lanes};
use crate::{Isa, KernelError, checked_len};

/// Rows of C whose left operand is packed at a time.
const ROW_BLOCK: usize = 96;

/// Floats of scratch that [`Outer`] needs for products of so many columns each.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
pub fn scratch_len(isa: Isa, columns: &[usize]) -> Result<usize, KernelError> {
    let mut len = ROW_BLOCK * DEPTH_BLOCK;
    for &columns in columns {
        len += PackedMatrix::len(isa, 1, columns.max(1), DEPTH_BLOCK)?;
        checked_len("scratch", &[len])?;
    }
    Ok(len)
}

/// `C = Aᵀ B`, or `C += Aᵀ B`, for one A and one or more B: the gradients of all
/// the weights that an A meets, so that A is packed once for all of them.
#[derive(Debug)]
pub struct Outer<'a, 'b> {
    /// Rows of A and of each B: the terms of each sum.
    pub depth: usize,
    /// A, `[depth, rows]`.
    pub a: &'a [f32],
    /// Columns of A, rows of each C.
    pub rows: usize,
    /// The products.
    pub products: &'a mut [Right<'b>],
    /// Whether each C is added to.
    pub accumulate: bool,
    /// [`scratch_len`] floats or more, overwritten.
    pub scratch: &'a mut [f32],
}

/// A right operand and its result.
#[derive(Debug)]
pub struct Right<'b> {
    /// B, `[depth, columns]`.
    pub b: &'b [f32],
    /// C, `[rows, columns]`.
    pub c: &'b mut [f32],
    /// Columns of B and C.
    pub columns: usize,
}

impl Outer<'_, '_> {
    /// Computes them. Each element of a C is one chain from the last row of A and B
    /// to the first, so rows may be handed in several calls, the last ones first,
    /// and the result has the bits of one call.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a slice does not fit the dimensions; nothing
    /// is written then.
    pub fn run(self, isa: Isa) -> Result<(), KernelError> {
        check_len("a", self.a.len(), checked_len("a", &[self.depth, self.rows])?)?;
        let mut expected = scratch_len(isa, &[])?;
        for right in &*self.products {
            check_len("b", right.b.len(), checked_len("b", &[self.depth, right.columns])?)?;
            check_len("c", right.c.len(), checked_len("c", &[self.rows, right.columns])?)?;
            expected += scratch_len(isa, &[right.columns])? - scratch_len(isa, &[])?;
        }
        check_room("scratch", self.scratch.len(), expected)?;
        if self.depth > 0 {
            isa.enter(self);
        } else if !self.accumulate {
            self.products.iter_mut().for_each(|right| right.c.fill(0.0));
        }
        Ok(())
    }
}

impl Kernel for Outer<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.rows;
        let (packed, panels) = self.scratch.split_at_mut(ROW_BLOCK * DEPTH_BLOCK);
        let (packed, panels) = (packed.as_mut_ptr(), panels.as_mut_ptr());
        // Blocks of about equal depth, the last rows first.
        let blocks = self.depth.div_ceil(DEPTH_BLOCK);
        for block in 0..blocks {
            let end = self.depth - self.depth * block / blocks;
            let depth = end - (self.depth - self.depth * (block + 1) / blocks);
            let resume = self.accumulate || block > 0;
            // SAFETY: `Outer::run` has checked A, each B and C and the scratch
            // against the dimensions; depth ≤ DEPTH_BLOCK and end ≤ self.depth.
            unsafe {
                let mut to = panels;
                for right in &*self.products {
                    pack_right(s, right.b.as_ptr(), right.columns, end, depth, to);
                    to = to.add(padded::<S>(right.columns) * depth);
                }
                for first_row in (0..rows).step_by(ROW_BLOCK) {
                    let height = ROW_BLOCK.min(rows - first_row);
                    let from = self.a.as_ptr().add(first_row);
                    left::by_columns(s, from, rows, height, end, depth, packed);
                    let mut panels = panels.cast_const();
                    for right in &mut *self.products {
                        let c = right.c.as_mut_ptr().add(first_row * right.columns);
                        let (a, columns) = (packed.cast_const(), right.columns);
                        multiply(s, height, (a, depth), panels, resume, c, columns);
                        panels = panels.add(padded::<S>(right.columns) * depth);
                    }
                }
            }
        }
    }
}

/// Columns with the padding to whole panels.
#[inline(always)]
fn padded<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(PANEL * S::LANES)
}

/// Adds the product of packed rows, of `depth` terms, with the panels of one right operand to `c`.
///
/// # Safety
/// `c` has `height` rows of `columns`; `panels` holds all of its columns.
#[inline(always)]
unsafe fn multiply<S: Simd>(
    s: S,
    height: usize,
    (a, depth): (*const f32, usize),
    panels: *const f32,
    resume: bool,
    c: *mut f32,
    columns: usize,
) {
    let group = GROUP * S::LANES;
    for index in 0..columns.div_ceil(group) {
        let place = pack::columns(1, columns, index, S::LANES);
        let to = place.grid(c, columns);
        let from = resume.then_some(to);
        let sums = Sums { from, to, lanes: place.lanes, whole: place.whole };
        let fetch = place.fetch(c, columns, 1, When::Start);
        let panels = panels.wrapping_add(index * group * depth);
        let ahead = panels.wrapping_add(group * depth);
        let panel_stride = PANEL * S::LANES * depth;
        let product = Product { a, panels, panel_stride, depth, ahead };
        let fetches = if resume { &[fetch][..] } else { &[] };
        // SAFETY: the caller's.
        unsafe { tile::group(s, height, product, place.vecs, &sums, fetches) };
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
