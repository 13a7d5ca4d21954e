//! Sums of rows with weights: contexts, which are sums over source rows, and gradients of source
//! rows, which are sums over query rows. Knows weights; must not know where they come from.

use super::alignment::Stretch;
use super::tasks::{BLOCK, Blockwise, By, run};
use crate::gemm::layout::Span;
use crate::rows::{Rows, RowsMut, load_lanes, store_lanes};
use crate::rowwise::{Strided, StridedMut};
use crate::simd::Simd;
use crate::team::Pass;
use crate::{ALIGNMENT, Isa, KernelError};

/// Floats of a cache line.
const LINE: usize = ALIGNMENT / size_of::<f32>();

/// Sums over source rows: `c[r] = Σ_s w[r][s] · V[s]`, or `c[r] += Σ_s w[r][s] · V[s]`, for each
/// query row r of the stretch and the source rows s of its sequence, from the first to the last.
/// With ∂L/∂e as weights and the keys as values it is the gradient of dot-product scores by the
/// queries.
#[derive(Debug)]
pub struct Contexts<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// Floats of a value and of a context.
    pub width: usize,
    /// w, a stride for each query.
    pub weights: Strided<'a>,
    /// V, `[source rows, width]`.
    pub values: Strided<'a>,
    /// Output: c, a row for each query.
    pub contexts: StridedMut<'a>,
    /// Whether the sums are added to c; otherwise they replace it.
    pub accumulate: bool,
}

impl Contexts<'_> {
    /// Computes the sums.
    ///
    /// # Errors
    /// [`KernelError::Short`] where a stride or rows are too short, `TooLarge` where the sizes do not
    /// fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, width, weights, values, contexts, accumulate } = self;
        stretch.check_weights("weights", weights.values.len(), weights.stride)?;
        stretch.check_source("values", values.values.len(), values.stride, width)?;
        stretch.check_queries("contexts", contexts.values.len(), contexts.stride, width)?;
        let kernel = OverSource {
            width,
            accumulate,
            weights: Rows::new(weights.values.as_ptr(), weights.stride),
            values: Rows::new(values.values.as_ptr(), values.stride),
            contexts: RowsMut::new(contexts.values.as_mut_ptr(), contexts.stride),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, stretch, width, isa, pass) };
        Ok(())
    }
}

/// Sums over query rows: `dV[s] += Σ_r w[r][s] · X[r]` for each source row s and the query rows r
/// of its sequence in the stretch, from the last in time to the first. Each term is one
/// multiply-add onto what is there. So a caller may split the time among several calls, the last
/// steps first, and gets the same bits as from one call.
///
/// With α as weights and ∂L/∂c as rows it is the gradient by the values, and with ∂L/∂e and the
/// queries that of dot-product scores by the keys.
#[derive(Debug)]
pub struct SourceGradients<'a> {
    /// The query rows that are summed.
    pub stretch: Stretch<'a>,
    /// Floats of a row.
    pub width: usize,
    /// w, a stride for each query.
    pub weights: Strided<'a>,
    /// X, a row for each query.
    pub rows: Strided<'a>,
    /// dV, `[source rows, width]`.
    pub gradients: StridedMut<'a>,
}

impl SourceGradients<'_> {
    /// Computes the sums.
    ///
    /// # Errors
    /// [`KernelError::Short`] where a stride or rows are too short, `TooLarge` where the sizes do not
    /// fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, width, weights, rows, gradients } = self;
        stretch.check_weights("weights", weights.values.len(), weights.stride)?;
        stretch.check_queries("rows", rows.values.len(), rows.stride, width)?;
        let (len, stride) = (gradients.values.len(), gradients.stride);
        stretch.check_source("gradients", len, stride, width)?;
        let kernel = OverQueries {
            width,
            weights: Rows::new(weights.values.as_ptr(), weights.stride),
            rows: Rows::new(rows.values.as_ptr(), rows.stride),
            gradients: RowsMut::new(gradients.values.as_mut_ptr(), gradients.stride),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, stretch, width, isa, pass) };
        Ok(())
    }
}

struct OverSource {
    width: usize,
    accumulate: bool,
    weights: Rows,
    values: Rows,
    contexts: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for OverSource {}

// SAFETY: a block writes its own query rows' contexts, which nothing else reads.
unsafe impl Blockwise for OverSource {
    const BY: By = By::Queries;

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, _place: usize) {
        let mut left = queries;
        while !left.is_empty() {
            let last = left.len() - 1;
            let terms = SourceTerms {
                part,
                values: self.values,
                weights: std::array::from_fn(|i| self.weights.at(left[i.min(last)], 0)),
                contexts: std::array::from_fn(|i| self.contexts.at(left[i.min(last)], 0)),
            };
            let sums = Sums { terms, rows: left.len(), width: self.width, add: self.accumulate };
            // SAFETY: `Contexts::run` has checked the rows, and these are rows that the caller
            // answers for.
            left = &left[unsafe { sums.run(simd) }..];
        }
    }
}

struct OverQueries {
    width: usize,
    weights: Rows,
    rows: Rows,
    gradients: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for OverQueries {}

// SAFETY: a block reads and writes gradients of its own source rows; the rest is only read.
unsafe impl Blockwise for OverQueries {
    const BY: By = By::Source;

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, place: usize) {
        let mut done = 0;
        while done < part.len {
            let rows = part.len - done;
            let terms = QueryTerms {
                queries,
                rows: self.rows,
                weights: self.weights.from(0, place + done),
                gradients: self.gradients.from(part.first + done, 0),
                last: rows - 1,
            };
            let sums = Sums { terms, rows, width: self.width, add: true };
            // SAFETY: `SourceGradients::run` has checked the rows, and these are rows that the
            // caller answers for.
            done += unsafe { sums.run(simd) };
        }
    }
}

/// The terms of the sums of several rows. They have the vectors in common, and the sums have
/// weights of their own.
trait Terms: Copy {
    /// The number of terms.
    fn count(self) -> usize;
    /// Where the vector of a term begins.
    fn vector(self, term: usize) -> *const f32;
    /// Where the weight of a term is, in the sum numbered `sum`, or in the last if there are fewer.
    fn weight(self, term: usize, sum: usize) -> *const f32;
    /// Where such a sum begins.
    fn to(self, sum: usize) -> *mut f32;
}

/// Terms that are source rows, in order.
#[derive(Clone, Copy)]
struct SourceTerms {
    part: Span,
    values: Rows,
    weights: [*const f32; BLOCK],
    contexts: [*mut f32; BLOCK],
}

impl Terms for SourceTerms {
    #[inline(always)]
    fn count(self) -> usize {
        self.part.len
    }

    #[inline(always)]
    fn vector(self, term: usize) -> *const f32 {
        self.values.at(self.part.first + term, 0)
    }

    #[inline(always)]
    fn weight(self, term: usize, sum: usize) -> *const f32 {
        self.weights[sum].wrapping_add(term)
    }

    #[inline(always)]
    fn to(self, sum: usize) -> *mut f32 {
        self.contexts[sum]
    }
}

/// Terms that are query rows, from the last to the first.
#[derive(Clone, Copy)]
struct QueryTerms<'a> {
    queries: &'a [usize],
    rows: Rows,
    /// The weights of the sums, side by side.
    weights: Rows,
    gradients: RowsMut,
    /// The last sum.
    last: usize,
}

impl QueryTerms<'_> {
    #[inline(always)]
    fn query(self, term: usize) -> usize {
        self.queries[self.queries.len() - 1 - term]
    }
}

impl Terms for QueryTerms<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.queries.len()
    }

    #[inline(always)]
    fn vector(self, term: usize) -> *const f32 {
        self.rows.at(self.query(term), 0)
    }

    #[inline(always)]
    fn weight(self, term: usize, sum: usize) -> *const f32 {
        self.weights.at(self.query(term), sum.min(self.last))
    }

    #[inline(always)]
    fn to(self, sum: usize) -> *mut f32 {
        self.gradients.at(sum.min(self.last), 0)
    }
}

/// Some sums of rows of `width` floats.
struct Sums<T> {
    terms: T,
    /// How many sums there are.
    rows: usize,
    width: usize,
    /// Whether the sums begin with what is there; otherwise they begin with 0.
    add: bool,
}

impl<T: Terms> Sums<T> {
    /// Computes the first few sums, and returns how many these are.
    ///
    /// # Safety
    /// There is a sum; each term has a vector of `width` floats and a weight for each sum, and each
    /// sum has `width` floats, which are nobody else's.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S) -> usize {
        // SAFETY: the caller's.
        unsafe {
            match self.rows {
                4.. if S::MAX_ROWS >= 12 => self.sweep::<S, BLOCK, 3, 2>(simd),
                4.. => self.sweep::<S, BLOCK, 2, 1>(simd),
                2.. => self.sweep::<S, 3, 4, 2>(simd),
                _ => self.sweep::<S, 1, 8, 4>(simd),
            }
        }
    }

    /// Computes the first R sums, or all if there are fewer, in tiles of C vectors of columns, and
    /// the rest of the columns in tiles of D.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[inline(always)]
    unsafe fn sweep<S: Simd, const R: usize, const C: usize, const D: usize>(
        &self,
        simd: S,
    ) -> usize {
        let whole = self.width - self.width % (C * S::LANES);
        // SAFETY: the caller's; the columns are within the width.
        unsafe {
            for first in (0..whole).step_by(C * S::LANES) {
                self.tile::<S, R, C, true>(simd, Span { first, len: C * S::LANES });
            }
            for first in (whole..self.width).step_by(D * S::LANES) {
                let len = (self.width - first).min(D * S::LANES);
                self.tile::<S, R, D, false>(simd, Span { first, len });
            }
        }
        R.min(self.rows)
    }

    /// Computes some columns of R sums: C vectors, which with `WHOLE` are full. Each float is one
    /// chain of multiply-adds, from the first term to the last: the same in tiles of any size.
    ///
    /// # Safety
    /// As for [`run`](Self::run), and the columns are within the width.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize, const WHOLE: bool>(
        &self,
        simd: S,
        columns: Span,
    ) {
        let Self { terms, rows, .. } = *self;
        let (mut offset, mut lanes) = ([0; C], [S::LANES; C]);
        for c in 0..C {
            offset[c] = columns.first + c * S::LANES;
            if !WHOLE {
                let before = (c * S::LANES).min(columns.len);
                offset[c] = columns.first + before;
                lanes[c] = S::LANES.min(columns.len - before);
            }
        }
        let mut sums = [[simd.zero(); C]; R];
        // SAFETY: the offsets and lanes are within the columns, and the caller answers for these. A
        // sum beyond the last is computed as the last once more, and not stored.
        unsafe {
            if self.add {
                for i in 0..R {
                    for c in 0..C {
                        sums[i][c] =
                            load_lanes(simd, terms.to(i).wrapping_add(offset[c]), lanes[c]);
                    }
                }
            }
            for term in 0..terms.count() {
                let row = terms.vector(term);
                if WHOLE && R > 1 {
                    // The next tile's columns: the prefetcher of the hardware does not see them
                    // coming.
                    for c in (0..C).step_by(LINE / S::LANES) {
                        simd.prefetch(row.wrapping_add(offset[c] + C * S::LANES));
                    }
                }
                // What there is less of stays in registers.
                if R > C {
                    let mut vectors = [simd.zero(); C];
                    for c in 0..C {
                        vectors[c] = load_lanes(simd, row.wrapping_add(offset[c]), lanes[c]);
                    }
                    for i in 0..R {
                        let weight = simd.splat(*terms.weight(term, i));
                        for c in 0..C {
                            sums[i][c] = simd.mul_add(weight, vectors[c], sums[i][c]);
                        }
                    }
                } else {
                    let mut weights = [simd.zero(); R];
                    for i in 0..R {
                        weights[i] = simd.splat(*terms.weight(term, i));
                    }
                    for c in 0..C {
                        let vector = load_lanes(simd, row.wrapping_add(offset[c]), lanes[c]);
                        for i in 0..R {
                            sums[i][c] = simd.mul_add(weights[i], vector, sums[i][c]);
                        }
                    }
                }
            }
            for i in 0..R {
                if i < rows {
                    for c in 0..C {
                        let to = terms.to(i).wrapping_add(offset[c]);
                        store_lanes(simd, to, sums[i][c], lanes[c]);
                    }
                }
            }
        }
    }
}
