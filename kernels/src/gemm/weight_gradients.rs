//! Weight gradients, `C += Aᵀ B`: sums over time of products of a row of A with a row of B. Both
//! operands change with every pass. Knows blocking and its scratch; must not know cells.

#[cfg(test)]
mod tests;

use crate::error::{check_len, check_room, checked_sum};
use crate::gemm::layout::{
    DEPTH_BLOCK, GROUP, PANEL, ROW_BLOCK, Span, Terms, cut, cut_by_division, lhs_len,
};
use crate::gemm::lhs;
use crate::gemm::prefetch::When;
use crate::gemm::rhs::{self, PackedMatrix};
use crate::gemm::tile::{self, Product, Sums, load_lanes};
use crate::rows::{Joined, JoinedAt, Rows, RowsMut};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::tuning::{FLAT_COLUMNS, WEIGHT_GRADIENT_PARTS};
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;

/// Returns the floats of scratch that [`WeightGradients`] needs on `threads` threads for sums of
/// `depth` terms; `columns` has the number of columns of each product.
///
/// # Errors
/// [`KernelError::TooLarge`] where the scratch does not fit the address space.
pub fn scratch_len(
    isa: Isa,
    threads: usize,
    depth: usize,
    columns: &[usize],
) -> Result<usize, KernelError> {
    let block = depth.clamp(1, DEPTH_BLOCK);
    let mut len = checked_len("scratch", &[threads, packed_len(block)])?;
    for &columns in columns {
        let panels = PackedMatrix::len(isa, 1, columns.max(1), block)?;
        len = checked_sum("scratch", &[len, panels])?;
    }
    Ok(len)
}

/// Returns the floats of a packed block of A's columns, if the sums have `depth` terms.
#[inline(always)]
fn packed_len(depth: usize) -> usize {
    lhs_len(ROW_BLOCK, depth.min(DEPTH_BLOCK))
}

/// The products `C = Aᵀ B`, or `C += Aᵀ B`, of one A with `N` matrices B, each with its own C:
/// the gradients of all weights that share an A, so that A is packed only once.
///
/// `cargo bench --bench products` measures them.
#[derive(Debug)]
pub struct WeightGradients<'a, 'b, const N: usize> {
    /// Rows of A and of each B: the terms of each sum.
    pub depth: usize,
    /// A, `[depth, rows]`: `depth` rows, `stride` floats apart, of whose floats the first `rows`
    /// are used.
    pub a: &'a [f32],
    /// Floats from one row of A to the next, `rows` or more.
    pub stride: usize,
    /// Columns of A and rows of each C.
    pub rows: usize,
    /// The B and C of each product.
    pub products: [Rhs<'b>; N],
    /// Receives the sums of A's columns, `[rows]`, if they are wanted: the product with a column
    /// of ones, which is the gradient of a bias.
    pub sums: Option<&'a mut [f32]>,
    /// Whether the results are added to each C and to `sums`; otherwise they replace them.
    pub accumulate: bool,
    /// Scratch of [`scratch_len`] floats or more, which is overwritten.
    pub scratch: &'a mut [f32],
}

/// The rhs and the result of one product.
#[derive(Debug)]
pub struct Rhs<'b> {
    /// B, `[depth, columns]`.
    pub b: Joined<'b>,
    /// C, `[rows, columns]`.
    pub c: &'b mut [f32],
    /// Columns of B and of C.
    pub columns: usize,
}

impl<'b> Rhs<'b> {
    /// Takes a `b`, `[depth, columns]`, that is all in one place.
    pub fn new(b: &'b [f32], c: &'b mut [f32], columns: usize) -> Self {
        Self { b: Joined::whole(b, columns), c, columns }
    }
}

impl<const N: usize> WeightGradients<'_, '_, N> {
    /// Computes the products. Each element of a C is one chain from the last row of A and B to
    /// the first. A caller may therefore split the rows among several calls, the last rows first,
    /// and gets the same bits as from one call.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a B, a C or the sums do not fit the dimensions, `Short` where
    /// A, a stride or the scratch is too short, `TooLarge` where the dimensions do not fit the
    /// address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let threads = pass.threads();
        check_room("stride", self.stride, self.rows)?;
        if self.depth > 0 {
            let others = checked_len("a", &[self.depth - 1, self.stride])?;
            check_room("a", self.a.len(), checked_sum("a", &[others, self.rows])?)?;
        }
        let mut expected = scratch_len(isa, threads, self.depth, &[])?;
        for right in &self.products {
            right.b.check("b", self.depth, right.columns)?;
            check_len("c", right.c.len(), checked_len("c", &[self.rows, right.columns])?)?;
            let panels = scratch_len(isa, 0, self.depth, &[right.columns])?;
            expected = checked_sum("scratch", &[expected, panels])?;
        }
        if let Some(sums) = &self.sums {
            check_len("sums", sums.len(), self.rows)?;
        }
        check_room("scratch", self.scratch.len(), expected)?;
        // If `rows` is 0, A may be empty whatever `depth` is.
        if self.depth == 0 || self.rows == 0 {
            if !self.accumulate {
                self.sums.into_iter().for_each(|sums| sums.fill(0.0));
                self.products.into_iter().for_each(|right| right.c.fill(0.0));
            }
            return Ok(());
        }
        let (packed, panels) = self.scratch.split_at_mut(threads * packed_len(self.depth));
        let products = self.products.map(|Rhs { b, c, columns }| Operands {
            b: JoinedAt::new(b, columns),
            c: c.as_mut_ptr(),
            columns,
        });
        let work = Work {
            depth: self.depth,
            a: self.a.as_ptr(),
            stride: self.stride,
            rows: self.rows,
            products,
            sums: self.sums.map(<[f32]>::as_mut_ptr),
            accumulate: self.accumulate,
            blocks: Blocks::of(self.rows, threads),
            packed: packed.as_mut_ptr(),
            panels: panels.as_mut_ptr(),
        };
        // SAFETY: A, each B and C, the sums and the scratch were borrowed for this call.
        unsafe { pass.run(isa, &work) };
        Ok(())
    }
}

/// The operands of an [`Rhs`], as pointers.
#[derive(Clone, Copy)]
struct Operands<'b> {
    b: JoinedAt<'b>,
    c: *mut f32,
    columns: usize,
}

/// The products after the checks. Each block of depth, the last rows first, takes two phases: one
/// packs every B, some rows per task, and one multiplies, a block of A's columns per task.
struct Work<'b, const N: usize> {
    depth: usize,
    a: *const f32,
    stride: usize,
    rows: usize,
    products: [Operands<'b>; N],
    sums: Option<*mut f32>,
    accumulate: bool,
    /// The blocks of A's columns.
    blocks: Blocks,
    /// Scratch for a packed block of A's columns for each thread.
    packed: *mut f32,
    /// Scratch for the panels of every B, for one block of depth.
    panels: *mut f32,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl<const N: usize> Sync for Work<'_, N> {}

/// The number of A's columns that cuts keep together where several threads share them: at least a
/// vector on every instruction set.
const TOGETHER: usize = if ROW_BLOCK < 16 { ROW_BLOCK } else { 16 };
const _: () = assert!(ROW_BLOCK.is_multiple_of(TOGETHER), "a block has whole ones");

/// How the columns of A are cut into blocks of at most [`ROW_BLOCK`].
#[derive(Clone, Copy)]
struct Blocks {
    /// Number of blocks.
    count: usize,
    /// Cuts are at multiples of this number of columns.
    together: usize,
}

impl Blocks {
    /// Cuts the `rows` columns of A. One thread gets full blocks and a last block with the rest, so
    /// that only the last has flat tiles. Several threads get a multiple of `threads` blocks of
    /// about equal size, so that no thread waits for another's last block; but no block gets
    /// much fewer than [`FLAT_COLUMNS`] columns.
    fn of(rows: usize, threads: usize) -> Self {
        let least = rows.div_ceil(ROW_BLOCK);
        if threads == 1 {
            return Self { count: least, together: ROW_BLOCK };
        }
        let most = rows.div_ceil(FLAT_COLUMNS).max(least);
        Self { count: least.next_multiple_of(threads).min(most), together: TOGETHER }
    }

    /// Returns the columns of number `block` of the blocks of `rows` columns.
    #[inline(always)]
    fn columns(self, rows: usize, block: usize) -> Span {
        let Span { first, len } = cut(rows.div_ceil(self.together), self.count, block);
        let first = first * self.together;
        Span { first, len: (len * self.together).min(rows - first) }
    }
}

/// Returns the terms of number `block` of the blocks of depth, which are of about equal depth.
///
/// It does not use [`cut`]: with the branch of `cut` before the loops that pack columns, the
/// compiler keeps multiples of the stride in memory there, which slows training down.
#[inline(always)]
fn depth_block(depth: usize, block: usize) -> Terms {
    let after = cut_by_division(depth, depth.div_ceil(DEPTH_BLOCK), block);
    Terms { end: depth - after.first, depth: after.len }
}

// SAFETY: the numbers of phases and tasks follow from the sizes. A packing task writes its terms
// of the panels. Any other task writes its rows of each C and of the sums, and the thread's own
// part of the scratch.
unsafe impl<const N: usize> Phases for Work<'_, N> {
    fn phases(&self) -> usize {
        2 * self.depth.div_ceil(DEPTH_BLOCK)
    }

    fn tasks(&self, phase: usize) -> usize {
        match phase % 2 {
            0 => WEIGHT_GRADIENT_PARTS,
            _ => self.blocks.count,
        }
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, thread: usize, phase: usize, task: usize) {
        let block = depth_block(self.depth, phase / 2);
        let depth = block.depth;
        // SAFETY: `WeightGradients::run` has checked A, each B and C, the sums and the scratch
        // against the dimensions and the threads; depth ≤ DEPTH_BLOCK, and the block's end ≤
        // self.depth.
        unsafe {
            let mut panels = self.panels;
            if phase.is_multiple_of(2) {
                let terms = depth * task / WEIGHT_GRADIENT_PARTS
                    ..depth * (task + 1) / WEIGHT_GRADIENT_PARTS;
                for product in &self.products {
                    pack_rhs(simd, product.b, product.columns, block, terms.clone(), panels);
                    panels = panels.add(padded::<S>(product.columns) * depth);
                }
                return;
            }
            let Span { first: first_row, len: height } = self.blocks.columns(self.rows, task);
            let packed = self.packed.add(thread * packed_len(self.depth));
            let from = self.a.add(first_row);
            let resume = self.accumulate || phase > 1;
            let mut unwanted = [0.0; ROW_BLOCK];
            let sums = match self.sums {
                Some(sums) => sums.add(first_row),
                None => unwanted.as_mut_ptr(),
            };
            if !resume {
                std::slice::from_raw_parts_mut(sums, height).fill(0.0);
            }
            let from = Rows::new(from, self.stride);
            lhs::by_columns(simd, from, height, block, packed, sums);
            for product in &self.products {
                let (a, columns) = (packed.cast_const(), product.columns);
                let c = product.c.add(first_row * columns);
                multiply(simd, height, (a, depth), panels.cast_const(), resume, c, columns);
                panels = panels.add(padded::<S>(columns) * depth);
            }
        }
    }
}

/// Returns the number of columns with the padding to whole panels.
#[inline(always)]
fn padded<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(PANEL * S::LANES)
}

/// Multiplies `height` packed rows `a` of `depth` terms with the panels of one B and writes `c`
/// `[height, columns]`. With `resume` the product is added to `c`.
///
/// # Safety
/// 1. `a` points to the packed rows, and the panels have all columns;
/// 2. `c` is readable and writable for `height` rows of `columns`, and nobody else uses it.
#[inline(always)]
unsafe fn multiply<S: Simd>(
    simd: S,
    height: usize,
    (a, depth): (*const f32, usize),
    panels: *const f32,
    resume: bool,
    c: *mut f32,
    columns: usize,
) {
    let group = GROUP * S::LANES;
    for index in 0..columns.div_ceil(group) {
        let place = rhs::columns(1, columns, index, S::LANES);
        let c = RowsMut::new(c, columns);
        let (to, from) = (place.grid(c), resume.then_some(place.grid(c.as_rows())));
        let sums = Sums { from, to, lanes: place.lanes, whole: place.whole };
        let when = if resume { When::Start } else { When::After };
        let prefetch = place.prefetch(c.as_rows(), 1, when);
        let panels = panels.wrapping_add(index * group * depth);
        let ahead = panels.wrapping_add(group * depth);
        let panel_stride = PANEL * S::LANES * depth;
        let product = Product { a, panels, panel_stride, depth, ahead };
        // SAFETY: the group's panels are some of the panels (1), and its columns of C are some of
        // the columns (2).
        unsafe { tile::group(simd, height, product, place.vecs, &sums, &[prefetch]) };
    }
}

/// Packs rows of B into panels: the `terms` of a block of depth, in the order of [`Terms`].
///
/// # Safety
/// 1. B is readable for `end` rows of `columns`, and the terms are less than depth ≤ end;
/// 2. `to` is writable for `depth` rows of padded panels, and nobody else uses the rows of these
///    terms.
#[inline(always)]
unsafe fn pack_rhs<S: Simd>(
    simd: S,
    b: JoinedAt<'_>,
    columns: usize,
    Terms { end, depth }: Terms,
    terms: Range<usize>,
    to: *mut f32,
) {
    for k in terms {
        // SAFETY: k < depth, so end − 1 − k is a row of B (1), and term k has its place in the
        // panels (2).
        unsafe {
            let row = b.at(end - 1 - k, 0);
            for vec in 0..columns.div_ceil(S::LANES).next_multiple_of(PANEL) {
                let first = (vec * S::LANES).min(columns);
                let v = load_lanes(simd, row.add(first), S::LANES.min(columns - first));
                let panel = to.add(vec / PANEL * PANEL * S::LANES * depth);
                simd.store(panel.add((k * PANEL + vec % PANEL) * S::LANES), v);
            }
        }
    }
}
