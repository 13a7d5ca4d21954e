//! Products with packed weights, `C = start + A · B`, for whole sequences at once. Knows
//! blocking for the caches; must not know cells.

use crate::error::{check_len, check_room};
use crate::gemm::layout::{DEPTH_BLOCK, GROUP, PANEL, ROW_BLOCK, Span, cut, lhs_len};
use crate::gemm::lhs;
use crate::gemm::prefetch::When;
use crate::gemm::rhs::{Columns, PackedMatrix, Place, Turn};
use crate::gemm::scratch;
use crate::gemm::tile::{Sums, load_lanes, store_lanes};
use crate::rows::{Rows, RowsMut};
use crate::simd::{Kernel, Simd};
use crate::team::{Pass, Phases};
use crate::tuning::{FLAT_ROWS, GAP, GEMM_PARTS, PERIOD};
use crate::{Isa, KernelError, checked_len};

/// The values from which the sums of a product start.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Zero: `C = A · B`.
    Zero,
    /// The values in `C`: `C += A · B`.
    Accumulate,
    /// A value per column, `[outputs]`: `C = bias + A · B`.
    Bias(&'a [f32]),
}

/// A product, `C = start + A · B`, with A `[rows, depth]` and C `[rows, outputs]`, both
/// row-major, and a packed B. Each element of C is one sum in the order of the depth.
///
/// `cargo bench --bench products` measures it.
#[derive(Debug)]
pub struct Gemm<'a> {
    /// Rows of A and C.
    pub rows: usize,
    /// A, `[rows, depth]`.
    pub a: &'a [f32],
    /// B, from `depth` inputs to `outputs`.
    pub weights: &'a PackedMatrix,
    /// The values from which the sums start.
    pub start: Start<'a>,
    /// C, `[rows, outputs]`, whose rows are `stride` floats apart.
    pub c: &'a mut [f32],
    /// Floats from one row of C to the next, `outputs` or more: see [`spread`].
    pub stride: usize,
    /// Scratch of [`team_scratch_len`] floats or more, which is overwritten.
    pub scratch: &'a mut [f32],
}

/// Returns the floats of scratch that [`gemm`] needs.
///
/// # Errors
/// [`KernelError::TooLarge`] where the scratch does not fit the address space.
pub fn scratch_len(rows: usize, depth: usize) -> Result<usize, KernelError> {
    team_scratch_len(1, rows, depth)
}

/// Returns the floats of scratch that a [`Gemm`] needs on `threads` threads: room for a block of
/// 96 rows of A for each thread, or for all rows of A if they are fewer.
///
/// # Errors
/// [`KernelError::TooLarge`] where the scratch does not fit the address space.
pub fn team_scratch_len(threads: usize, rows: usize, depth: usize) -> Result<usize, KernelError> {
    let most = threads.checked_mul(ROW_BLOCK).ok_or(KernelError::TooLarge { what: "scratch" })?;
    lhs::checked_len(rows.min(most), depth)
}

/// Returns a stride for temporary rows of `len` floats: `len`, or a little more where rows that
/// directly follow one another would evict each other and the weights from the cache.
pub const fn spread(len: usize) -> usize {
    if len.is_multiple_of(PERIOD) { len + GAP } else { len }
}

impl Gemm<'_> {
    /// Computes the product.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `a`, `c` or the bias does not fit, `Short` where the stride
    /// or the scratch is too short, `Packing` where the weights are packed for another instruction
    /// set, `TooLarge` where the dimensions do not fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { rows, a, weights, start, c, stride, scratch } = self;
        weights.check(isa, weights.gates(), weights.units(), weights.depth())?;
        check_len("a", a.len(), checked_len("a", &[rows, weights.depth()])?)?;
        check_room("stride", stride, weights.outputs())?;
        check_len("c", c.len(), checked_len("c", &[rows, stride])?)?;
        if let Start::Bias(bias) = start {
            check_len("bias", bias.len(), weights.outputs())?;
        }
        let threads = pass.threads();
        let expected = team_scratch_len(threads, rows, weights.depth())?;
        check_room("scratch", scratch.len(), expected)?;
        let (c, scratch) = (c.as_mut_ptr(), scratch.as_mut_ptr());
        let blocks = Blocks::of(rows, threads);
        let a = a.as_ptr();
        let work = Work { rows, a, weights, start, c, stride, scratch, threads, blocks };
        // SAFETY: A, C and the scratch were borrowed for this call.
        unsafe { pass.run(isa, &work) };
        Ok(())
    }
}

/// A product after the checks. If there are rows enough for each thread, a task is a block of
/// rows: it packs them and multiplies them with all groups. Otherwise a first phase packs all
/// rows, in parts, and in the second phase a task multiplies one block with one group.
struct Work<'a> {
    rows: usize,
    a: *const f32,
    weights: &'a PackedMatrix,
    start: Start<'a>,
    c: *mut f32,
    stride: usize,
    scratch: *mut f32,
    threads: usize,
    /// The blocks of rows.
    blocks: Blocks,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl Sync for Work<'_> {}

/// How the rows are cut into blocks of at most [`ROW_BLOCK`].
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// Number of blocks.
    count: usize,
    /// Whether a task is a whole block. Then the number of blocks is a multiple of the threads, so
    /// that no thread waits for another's last block, and no block is too flat to be fast.
    whole: bool,
}

impl Blocks {
    fn of(rows: usize, threads: usize) -> Self {
        let least = rows.div_ceil(ROW_BLOCK);
        let even = least.next_multiple_of(threads);
        let whole = threads == 1 || rows >= even * FLAT_ROWS;
        Self { count: if whole { even } else { least }, whole }
    }
}

// SAFETY: the numbers follow from the sizes. A packing task writes its part of its block's place
// in the scratch. A task of a block and a group writes the block's rows of C in the group's
// columns. A task of a whole block writes its rows of C, and packs them in a place of the scratch
// that is the block's or the thread's own.
unsafe impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        if self.rows == 1 || self.blocks.whole { 1 } else { 2 }
    }

    fn tasks(&self, phase: usize) -> usize {
        match phase {
            _ if self.rows == 1 => self.weights.groups(),
            _ if self.blocks.whole => self.blocks.count,
            0 => self.blocks.count * GEMM_PARTS,
            _ => self.blocks.count * self.weights.groups(),
        }
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, thread: usize, phase: usize, task: usize) {
        let w = self.weights;
        if self.rows == 1 {
            let from = match self.start {
                Start::Zero => None,
                Start::Accumulate => Some(self.c.cast_const()),
                Start::Bias(bias) => Some(bias.as_ptr()),
            };
            // SAFETY: `Gemm::run` has checked A, C and the bias.
            unsafe { row(simd, self.a, w, from, self.c, task) };
            return;
        }
        let depth = w.depth();
        let (tasks, packs, groups) = match (self.blocks.whole, phase) {
            (true, _) => (1, 0..GEMM_PARTS, 0..w.groups()),
            (false, 0) => (GEMM_PARTS, task % GEMM_PARTS..task % GEMM_PARTS + 1, 0..0),
            (false, _) => {
                let group = task % w.groups();
                (w.groups(), 0..0, group..group + 1)
            }
        };
        let block = cut(self.rows, self.blocks.count, task / tasks);
        let Span { first: first_row, len: rows } = block;
        // If the scratch has room for all rows, each block has a place of its own; otherwise each
        // thread has one.
        let place =
            if self.rows <= self.threads * ROW_BLOCK { first_row } else { thread * ROW_BLOCK };
        // SAFETY: `Gemm::run` has checked that A is rows × depth, and that the scratch has
        // room for all packed rows, or for one block per thread; the caller of `Phases::run`
        // promises that no other thread has this thread's number.
        unsafe {
            let a = self.a.add(first_row * depth);
            let packed = self.scratch.add(lhs_len(place, depth));
            if rows > 1 {
                for part in packs {
                    lhs::pack(simd, Rows::new(a, depth), rows, depth, packed, part, GEMM_PARTS);
                }
            }
            // The packed order of a single row is the order that it already has.
            let a = if rows == 1 { a } else { packed };
            for group in groups {
                self.multiply(simd, block, a, group);
            }
        }
    }
}

impl Work<'_> {
    /// Multiplies a block of rows with one group of columns.
    ///
    /// # Safety
    /// 1. The rows and the group are some of the product's, and nobody else uses their part of C;
    /// 2. `a` points to these rows, packed.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(
        &self,
        simd: S,
        Span { first: first_row, len: rows }: Span,
        a: *const f32,
        group: usize,
    ) {
        let w = self.weights;
        let depth = w.depth();
        let columns = w.columns(group, S::LANES);
        let next = if group + 1 == w.groups() { 0 } else { group + 1 };
        let place = Place { group, vecs: columns.vecs, next };
        let mut between = scratch::For::<S>::new();
        // One grid serves all blocks of depth: a second call of `grid` would invalidate the first.
        let between = between.grid();
        // SAFETY: `Gemm::run` has checked that C has the rows at this stride, and that the stride
        // and the bias have as many floats as outputs or more; the columns are some of these
        // (1), and `a` is as `multiply` asks (2).
        unsafe {
            let c = RowsMut::new(self.c.add(first_row * self.stride), self.stride);
            let to = columns.grid(c);
            let from = match self.start {
                Start::Zero => None,
                Start::Accumulate => Some(columns.grid(c.as_rows())),
                Start::Bias(bias) => Some(columns.grid(Rows::new(bias.as_ptr(), 0))),
            };
            let mut sums = Sums { from, to, lanes: columns.lanes, whole: columns.whole };
            let prefetches = [columns.prefetch(c.as_rows(), 1, When::After)];
            for first_k in (0..depth).step_by(DEPTH_BLOCK) {
                // Between blocks of depth the sums stay on the stack: rows of C that are a power
                // of two apart would evict each other from the cache.
                let last = depth - first_k <= DEPTH_BLOCK;
                sums.to = if last { to } else { between };
                let a = a.add(rows * first_k);
                let prefetches = if last { &prefetches[..] } else { &[] };
                w.multiply(simd, (rows, a), place, first_k, &sums, prefetches);
                sums = sums.resumed();
            }
        }
    }
}

/// Multiplies one row `a` `[depth]` with one group of columns and writes these columns of `c`
/// `[outputs]`. The sums start from `from` `[outputs]`, or from zero, and stay in registers.
///
/// # Safety
/// 1. `a` is readable for the depth, and `from`, if there is one, for the outputs; `c` is writable
///    for the outputs, and nobody else uses it;
/// 2. the weights are packed for `S`, and the group is one of their groups.
#[inline(always)]
pub(crate) unsafe fn row<S: Simd>(
    simd: S,
    a: *const f32,
    weights: &PackedMatrix,
    from: Option<*const f32>,
    c: *mut f32,
    group: usize,
) {
    let columns = weights.columns(group, S::LANES);
    let row = Row { a, weights, from, c, group, columns: &columns };
    match columns.vecs.next_multiple_of(PANEL) {
        2 => simd.call(RowOf::<2>(row)),
        4 => simd.call(RowOf::<4>(row)),
        6 => simd.call(RowOf::<6>(row)),
        _ => simd.call(RowOf::<GROUP>(row)),
    }
}

struct Row<'a> {
    a: *const f32,
    weights: &'a PackedMatrix,
    from: Option<*const f32>,
    c: *mut f32,
    group: usize,
    columns: &'a Columns,
}

/// The product of [`row`] with a group of `V` vectors, padding included.
struct RowOf<'a, const V: usize>(Row<'a>);

impl<const V: usize> Kernel for RowOf<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Row { a, weights, from, c, group, columns } = self.0;
        let next = if group + 1 == weights.groups() { 0 } else { group + 1 };
        let mut sums = [[simd.zero(); V]; 1];
        // SAFETY: only `row` makes a `RowOf`, and its caller promises the operands (1) and the
        // group (2), which has V vectors, padding included.
        unsafe {
            if let Some(from) = from {
                for v in 0..V {
                    sums[0][v] = load_lanes(simd, from.add(columns.offset[v]), columns.lanes[v]);
                }
            }
            weights.multiply_row(simd, a, Turn { group, next }, &mut sums);
            for v in 0..V {
                store_lanes(simd, c.add(columns.offset[v]), sums[0][v], columns.lanes[v]);
            }
        }
    }
}

/// Computes a [`Gemm`] on the calling thread, with rows of `c` that directly follow one another.
///
/// # Errors
/// As for [`Gemm::run`].
pub fn gemm(
    isa: Isa,
    rows: usize,
    a: &[f32],
    weights: &PackedMatrix,
    start: Start<'_>,
    c: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), KernelError> {
    let stride = weights.outputs();
    Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, &mut Pass::serial())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks cover the rows, have a place of their own in the scratch, and their number is a
    /// multiple of the threads where they are tasks.
    #[test]
    fn blocks_of_rows() {
        for rows in 2..=1100 {
            for threads in [1, 2, 3, 4, 7, 8, 16, 256] {
                let Blocks { count, whole } = Blocks::of(rows, threads);
                let mut end = 0;
                for block in 0..count {
                    let Span { first, len } = cut(rows, count, block);
                    assert_eq!(first, end);
                    assert!((1..=ROW_BLOCK).contains(&len), "{rows} rows, {threads} threads");
                    assert!(!whole || threads == 1 || len >= FLAT_ROWS);
                    let has_own_place = rows <= threads * ROW_BLOCK;
                    assert!(has_own_place || whole, "{rows} rows, {threads} threads");
                    end = first + len;
                }
                assert_eq!(end, rows);
                assert!(!whole || count.is_multiple_of(threads));
                assert!(rows < 2 * FLAT_ROWS * threads || whole, "{rows} rows, {threads} threads");
            }
        }
    }
}
