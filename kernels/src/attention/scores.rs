//! Scores of source rows by query rows: dot products, and the additive kind. Knows queries and
//! keys; must not know what the scores are for.

use super::alignment::Stretch;
use super::tasks::{Blockwise, By, run};
use crate::each::each;
use crate::gemm::layout::Span;
use crate::rows::{Rows, RowsMut, load_lanes};
use crate::rowwise::{Strided, StridedMut};
use crate::simd::{QUAD, Simd};
use crate::team::Pass;
use crate::tuning::TANH_WORK;
use crate::vmath::tanh;
use crate::{Isa, KernelError, MAX_LANES};

/// Dot products (Luong et al. 2015): `e[r][s] = Σ_a Q[r][a] · K[s][a]` for each query row r of the
/// stretch and each source row s of its sequence. With ∂L/∂c as queries and the values as keys it
/// is the gradient by the weights, ∂L/∂α.
#[derive(Debug)]
pub struct DotScores<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// Floats of a query and of a key.
    pub width: usize,
    /// Q, a row for each query.
    pub queries: Strided<'a>,
    /// K, `[source rows, width]`.
    pub keys: Strided<'a>,
    /// Output: e, a stride for each query, which begins with the scores of the source rows. The rest
    /// of it stays as it is.
    pub scores: StridedMut<'a>,
}

impl DotScores<'_> {
    /// Computes the scores.
    ///
    /// # Errors
    /// [`KernelError::Short`] where a stride or rows are too short, `TooLarge` where the sizes do not
    /// fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, width, queries, keys, scores } = self;
        let of = Operands { stretch, width, queries, keys, scores };
        of.run(Products, isa, pass)
    }
}

/// Additive scores (Bahdanau et al. 2015): `e[r][s] = Σ_a v[a] · tanh(Q[r][a] + K[s][a])` for each
/// query row r of the stretch and each source row s of its sequence.
#[derive(Debug)]
pub struct AdditiveScores<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// v. Queries and keys are as wide as it is long.
    pub vector: &'a [f32],
    /// Q, a row for each query.
    pub queries: Strided<'a>,
    /// K, `[source rows, width]`.
    pub keys: Strided<'a>,
    /// Output: e, as in [`DotScores`].
    pub scores: StridedMut<'a>,
}

impl AdditiveScores<'_> {
    /// Computes the scores.
    ///
    /// # Errors
    /// As for [`DotScores::run`].
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, vector, queries, keys, scores } = self;
        let of = Operands { stretch, width: vector.len(), queries, keys, scores };
        of.run(Tanhs { vector }, isa, pass)
    }
}

/// What both kinds of scores have.
struct Operands<'a> {
    stretch: Stretch<'a>,
    width: usize,
    queries: Strided<'a>,
    keys: Strided<'a>,
    scores: StridedMut<'a>,
}

impl Operands<'_> {
    fn run<T: Terms>(self, terms: T, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, width, queries, keys, scores } = self;
        stretch.check_queries("queries", queries.values.len(), queries.stride, width)?;
        stretch.check_source("keys", keys.values.len(), keys.stride, width)?;
        stretch.check_weights("scores", scores.values.len(), scores.stride)?;
        let kernel = Scores {
            terms,
            width,
            queries: Rows::new(queries.values.as_ptr(), queries.stride),
            keys: Rows::new(keys.values.as_ptr(), keys.stride),
            scores: RowsMut::new(scores.values.as_mut_ptr(), scores.stride),
        };
        let work = width.saturating_mul(T::WORK);
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, stretch, work, isa, pass) };
        Ok(())
    }
}

/// The terms of a score's sum.
trait Terms: Sync {
    /// About how many multiply-adds a term takes.
    const WORK: usize;
    /// Whether several query rows are computed at a time, since loads would else be what takes
    /// time.
    const BLOCKED: bool;

    /// Returns what the terms of some columns have in common.
    ///
    /// # Safety
    /// The columns are within the width for which the scores were checked.
    unsafe fn columns<S: Simd>(&self, simd: S, at: usize, lanes: usize) -> S::V;

    /// Adds terms to sums.
    fn add<S: Simd>(simd: S, sums: S::V, query: S::V, key: S::V, columns: S::V) -> S::V;
}

struct Products;

impl Terms for Products {
    const WORK: usize = 1;
    const BLOCKED: bool = true;

    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, simd: S, _at: usize, _lanes: usize) -> S::V {
        simd.zero()
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sums: S::V, query: S::V, key: S::V, _columns: S::V) -> S::V {
        simd.mul_add(query, key, sums)
    }
}

struct Tanhs<'a> {
    vector: &'a [f32],
}

impl Terms for Tanhs<'_> {
    const WORK: usize = TANH_WORK;
    const BLOCKED: bool = false;

    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, simd: S, at: usize, lanes: usize) -> S::V {
        // SAFETY: the width is the vector's length, and the columns are within it.
        unsafe { load_lanes(simd, self.vector.as_ptr().add(at), lanes) }
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sums: S::V, query: S::V, key: S::V, columns: S::V) -> S::V {
        simd.mul_add(columns, tanh(simd, simd.add(query, key)), sums)
    }
}

struct Scores<T> {
    terms: T,
    width: usize,
    queries: Rows,
    keys: Rows,
    scores: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl<T: Terms> Sync for Scores<T> {}

// SAFETY: a block writes the scores of its own query rows, which nothing reads.
unsafe impl<T: Terms> Blockwise for Scores<T> {
    const BY: By = By::Queries;

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, _place: usize) {
        let alone = queries.len() == 1;
        let mut done = 0;
        while done < part.len {
            // One query row with two quads has as many chains as hide the latency of a
            // multiply-add.
            let two = T::BLOCKED && alone && part.len - done > QUAD;
            let mut left = queries;
            while !left.is_empty() {
                let source = Span { first: part.first + done, len: part.len - done };
                // SAFETY: these are some of the rows that the caller answers for, one or more.
                let tiled = unsafe {
                    match left.len() {
                        4.. if T::BLOCKED && S::MAX_ROWS >= 12 => {
                            self.tile::<S, 4, 1>(simd, left, source, done)
                        }
                        2.. if T::BLOCKED => self.tile::<S, 3, 1>(simd, left, source, done),
                        _ if two => self.tile::<S, 1, 2>(simd, left, source, done),
                        _ => self.tile::<S, 1, 1>(simd, left, source, done),
                    }
                };
                left = &left[tiled..];
            }
            done += if two { 2 * QUAD } else { QUAD };
        }
    }
}

impl<T: Terms> Scores<T> {
    /// Computes the scores of the first Q query rows, or of all if they are fewer, by the first G
    /// quads of source rows, the first of which has the place `place`. Returns how many query rows
    /// these are. Each score is one sum per lane, from the first column to the last, and then the
    /// sum of the lanes: the same in tiles of any size.
    ///
    /// # Safety
    /// As for [`Blockwise::block`], and neither rows are empty.
    #[inline(always)]
    unsafe fn tile<S: Simd, const Q: usize, const G: usize>(
        &self,
        simd: S,
        queries: &[usize],
        source: Span,
        place: usize,
    ) -> usize {
        let count = queries.len().min(Q);
        let left = source.len.min(G * QUAD);
        // A tile of fewer rows computes its last row several times.
        let mut rows = [0; Q];
        for i in 0..Q {
            rows[i] = queries[i.min(count - 1)];
        }
        let mut query = [std::ptr::null(); Q];
        for i in 0..Q {
            query[i] = self.queries.at(rows[i], 0);
        }
        let mut key = [[std::ptr::null(); QUAD]; G];
        for g in 0..G {
            for j in 0..QUAD {
                key[g][j] = self.keys.at(source.first + (g * QUAD + j).min(left - 1), 0);
            }
        }
        let mut sums = [[[simd.zero(); QUAD]; G]; Q];
        // SAFETY: `Operands::run` has checked that each query row and each key has `width` floats,
        // and that each query row has as many scores as its sequence has source rows.
        unsafe {
            each!(S, self.width, |at, lanes| {
                let columns = self.terms.columns(simd, at, lanes);
                let mut queries = [simd.zero(); Q];
                for i in 0..Q {
                    queries[i] = load_lanes(simd, query[i].wrapping_add(at), lanes);
                }
                for g in 0..G {
                    for j in 0..QUAD {
                        let key = load_lanes(simd, key[g][j].wrapping_add(at), lanes);
                        for i in 0..Q {
                            sums[i][g][j] = T::add(simd, sums[i][g][j], queries[i], key, columns);
                        }
                    }
                }
            });
            for i in 0..Q {
                for g in 0..G {
                    if i < count && g * QUAD < left {
                        let to = self.scores.at(rows[i], place + g * QUAD);
                        store(quad_sums(simd, sums[i][g]), to, left - g * QUAD);
                    }
                }
            }
        }
        count
    }
}

/// Returns the sum of the lanes of each vector.
#[inline(always)]
fn quad_sums<S: Simd>(simd: S, v: [S::V; QUAD]) -> [f32; QUAD] {
    let t = simd.transpose4(v);
    let quads = simd.add(simd.add(t[0], t[1]), simd.add(t[2], t[3]));
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: there is room for the lanes of any instruction set.
    unsafe { simd.store(lanes.as_mut_ptr(), quads) };
    let mut sums = [lanes[0], lanes[1], lanes[2], lanes[3]];
    for quad in 1..S::LANES / QUAD {
        for j in 0..QUAD {
            sums[j] += lanes[quad * QUAD + j];
        }
    }
    sums
}

/// Writes the first `count` sums, or all if there are no more.
///
/// # Safety
/// So many floats are writable there.
#[inline(always)]
unsafe fn store(sums: [f32; QUAD], to: *mut f32, count: usize) {
    for j in 0..QUAD {
        if j < count {
            // SAFETY: the caller's.
            unsafe { *to.add(j) = sums[j] };
        }
    }
}
