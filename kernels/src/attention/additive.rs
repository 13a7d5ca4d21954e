//! The gradients through additive scores. Knows units; must not know what the scores are for.

use super::alignment::Stretch;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::layout::{Span, cut};
use crate::rows::{Rows, RowsMut, load_lanes, store_lanes};
use crate::rowwise::{Strided, StridedMut};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::vmath::tanh;
use crate::{Isa, KernelError, MAX_LANES};

/// The gradients through [`AdditiveScores`](super::AdditiveScores). With
/// `t = tanh(Q[r][a] + K[s][a])`, which is computed again, and `g = ∂L/∂e[r][s] · v[a] · (1 − t²)`:
///
/// - `dv[a] += Σ_r Σ_s ∂L/∂e[r][s] · t`
/// - `dQ[r][a] = Σ_s g`
/// - `dK[s][a] += Σ_r g`
///
/// for the query rows r of the stretch and the source rows s of each one's sequence. The sums over
/// query rows go from the last in time to the first, and at each time over the sequences in order.
/// So a caller may split the time among several calls, the last steps first, and gets the same bits
/// as from one call.
#[derive(Debug)]
pub struct AdditiveGradients<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// v. Queries and keys are as wide as it is long.
    pub vector: &'a [f32],
    /// Q, a row for each query.
    pub queries: Strided<'a>,
    /// K, `[source rows, width]`.
    pub keys: Strided<'a>,
    /// ∂L/∂e, a stride for each query.
    pub dscores: Strided<'a>,
    /// dv, to which this adds.
    pub dvector: &'a mut [f32],
    /// Output: dQ, a row for each query.
    pub dqueries: StridedMut<'a>,
    /// dK, `[source rows, width]`, to which this adds.
    pub dkeys: StridedMut<'a>,
}

impl AdditiveGradients<'_> {
    /// Computes the gradients.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `dvector` does not fit, `Short` where a stride or rows are too short,
    /// `TooLarge` where the sizes do not fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, vector, queries, keys, dscores, dvector, dqueries, dkeys } = self;
        let width = vector.len();
        stretch.check_queries("queries", queries.values.len(), queries.stride, width)?;
        stretch.check_source("keys", keys.values.len(), keys.stride, width)?;
        stretch.check_weights("dscores", dscores.values.len(), dscores.stride)?;
        check_len("dvector", dvector.len(), width)?;
        stretch.check_queries("dqueries", dqueries.values.len(), dqueries.stride, width)?;
        stretch.check_source("dkeys", dkeys.values.len(), dkeys.stride, width)?;
        let work = Work {
            stretch,
            vector,
            parts: pass.threads().min(width.div_ceil(MAX_LANES)),
            queries: Rows::new(queries.values.as_ptr(), queries.stride),
            keys: Rows::new(keys.values.as_ptr(), keys.stride),
            dscores: Rows::new(dscores.values.as_ptr(), dscores.stride),
            dvector: dvector.as_mut_ptr(),
            dqueries: RowsMut::new(dqueries.values.as_mut_ptr(), dqueries.stride),
            dkeys: RowsMut::new(dkeys.values.as_mut_ptr(), dkeys.stride),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { pass.run(isa, &work) };
        Ok(())
    }
}

/// The gradients, after the checks. A task is a part of the units, for all rows: so all sums of a
/// unit are in one task, and the number of parts changes no bit.
struct Work<'a> {
    stretch: Stretch<'a>,
    vector: &'a [f32],
    /// Parts of the units, no more than there are lines of them.
    parts: usize,
    queries: Rows,
    keys: Rows,
    dscores: Rows,
    dvector: *mut f32,
    dqueries: RowsMut,
    dkeys: RowsMut,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl Sync for Work<'_> {}

// SAFETY: the number of tasks does not change, and a task writes its own units only, which it alone
// reads.
unsafe impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.parts
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        // Whole lines, so that no two threads write to one line where rows begin with one.
        let lines = cut(self.vector.len().div_ceil(MAX_LANES), self.parts, task);
        let first = lines.first * MAX_LANES;
        let units = Span { first, len: (lines.len * MAX_LANES).min(self.vector.len() - first) };
        for step in (0..self.stretch.steps()).rev() {
            for sequence in 0..self.stretch.sequences() {
                if let Some(&row) = self.stretch.rows(sequence).get(step) {
                    // SAFETY: the units are some of the vector's, and no other task's; the row is
                    // the sequence's.
                    unsafe { self.row(simd, row, self.stretch.source(sequence), units) };
                }
            }
        }
    }
}

impl Work<'_> {
    /// Goes through the source rows of a query row. The sums over them stay in memory, so that keys
    /// and their gradients are read and written in the order in which they lie there.
    ///
    /// # Safety
    /// The query row and the source rows are a sequence's, the vector has these units, and the
    /// memory that the work points to is valid and, of these units, nobody else's.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize, source: Span, units: Span) {
        let (query, dquery) =
            (self.queries.at(row, units.first), self.dqueries.at(row, units.first));
        let (vector, dvector) = (
            self.vector.as_ptr().wrapping_add(units.first),
            self.dvector.wrapping_add(units.first),
        );
        // SAFETY: `AdditiveGradients::run` has checked that there are as many units in the vector,
        // its gradient and each row, and scores for all source rows of a sequence.
        unsafe {
            each!(S, units.len, |at, lanes| {
                store_lanes(simd, dquery.add(at), simd.zero(), lanes);
            });
            for s in 0..source.len {
                let de = simd.splat(*self.dscores.at(row, s));
                let key = self.keys.at(source.first + s, units.first);
                let dkey = self.dkeys.at(source.first + s, units.first);
                each!(S, units.len, |at, lanes| {
                    // Not `map`: its closure would be compiled without the instruction set.
                    let query = load_lanes(simd, query.add(at), lanes);
                    let key = load_lanes(simd, key.add(at), lanes);
                    let vector = load_lanes(simd, vector.add(at), lanes);
                    let t = tanh(simd, simd.add(query, key));
                    let sums = load_lanes(simd, dvector.add(at), lanes);
                    store_lanes(simd, dvector.add(at), simd.mul_add(de, t, sums), lanes);
                    let slope = simd.neg_mul_add(t, t, simd.splat(1.0));
                    let g = simd.mul(simd.mul(de, vector), slope);
                    for to in [dquery, dkey] {
                        let sum = simd.add(load_lanes(simd, to.add(at), lanes), g);
                        store_lanes(simd, to.add(at), sum, lanes);
                    }
                });
            }
        }
    }
}
