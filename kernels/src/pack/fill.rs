//! Putting f32 weights into the panels, a group per task: transposed where an output's
//! weights are a row, as they lie where they are a column. Knows a matrix's geometry;
//! must not know what it is for.

use super::PackedMatrix;
use crate::simd::{QUAD, Simd};
use crate::team::Phases;
use crate::tile::{DEPTH_BLOCK, PANEL, load_lanes};

/// Terms of each row, and rows, by which packing asks for weights before it reads them.
const TERMS_AHEAD: usize = 64;
const ROWS_AHEAD: usize = 8;

/// Weights by rows and the matrix that they are packed into, a group per task.
pub(super) struct Rows<'a> {
    pub weights: &'a [f32],
    pub packed: &'a PackedMatrix,
    /// The matrix's panels.
    pub to: *mut f32,
}

// SAFETY: tasks write disjoint parts of the panels, which nobody else has meanwhile.
unsafe impl Sync for Rows<'_> {}

impl Phases for Rows<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.packed.groups()
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, _phase: usize, group: usize) {
        let (weights, depth) = (self.weights.as_ptr(), self.packed.depth);
        let columns = self.packed.columns(group, S::LANES);
        for first_k in (0..depth).step_by(DEPTH_BLOCK) {
            let terms = DEPTH_BLOCK.min(depth - first_k);
            // Panel by panel and in each term by term, as it lies in memory.
            for panel in (0..columns.vecs).step_by(PANEL) {
                for k in (0..terms).step_by(S::LANES) {
                    for vec in panel..panel + PANEL {
                        // SAFETY: `pack_rows` has checked that the weights are outputs ×
                        // depth; the matrix was made with room for its groups.
                        unsafe {
                            let from = columns.offset[vec] * depth + first_k + k;
                            let to = self.packed.vector::<S>(group, &columns, first_k, vec);
                            let to = self.to.add(to + k * PANEL * S::LANES);
                            let size = (columns.lanes[vec], S::LANES.min(terms - k));
                            transpose(s, weights.wrapping_add(from), depth, size, to);
                        }
                    }
                }
            }
        }
    }
}

/// Packs `terms` terms, at most a vector, of `rows` rows, `stride` floats apart, as
/// the lanes of one vector per term.
///
/// # Safety
/// `from` is readable for them; `to` writable for a vector of a panel's per term.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    s: S,
    from: *const f32,
    stride: usize,
    (rows, terms): (usize, usize),
    to: *mut f32,
) {
    for lane in (0..rows).step_by(QUAD) {
        let mut quads = [s.zero(); QUAD];
        for i in 0..QUAD.min(rows - lane) {
            // SAFETY: the caller's; lane + i < rows.
            unsafe {
                let from = from.add((lane + i) * stride);
                s.prefetch(from.wrapping_add(TERMS_AHEAD));
                quads[i] = load_lanes(s, from, terms);
            }
        }
        // Rows beyond the last are the zeros of the padding.
        let quads = s.transpose4(quads);
        for i in 0..QUAD {
            // SAFETY: the caller's; the quads are those of terms i, i + 4, …
            unsafe {
                s.prefetch(to.wrapping_add((S::LANES + lane + i) * PANEL * S::LANES));
                // Of fewer than four terms some have no place here: none is written there.
                let to = to.wrapping_add(i * PANEL * S::LANES + lane);
                let count = terms.saturating_sub(i).div_ceil(QUAD);
                s.store_quads(to, QUAD * PANEL * S::LANES, quads[i], count);
            }
        }
    }
}

/// Weights by columns and the matrix that they are packed into, a group per task.
pub(super) struct ByColumns<'a> {
    pub weights: &'a [f32],
    pub packed: &'a PackedMatrix,
    /// The matrix's panels.
    pub to: *mut f32,
}

// SAFETY: tasks write disjoint parts of the panels, which nobody else has meanwhile.
unsafe impl Sync for ByColumns<'_> {}

impl Phases for ByColumns<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.packed.groups()
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, _phase: usize, group: usize) {
        let PackedMatrix { units, depth, .. } = *self.packed;
        let columns = self.packed.columns(group, S::LANES);
        for k in 0..depth {
            let first_k = k - k % DEPTH_BLOCK;
            for vec in 0..columns.vecs {
                let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                // SAFETY: `pack_columns` has checked that the weights are depth × units;
                // the matrix was made with room for its groups. Of a vector that is all
                // padding no lane is read.
                unsafe {
                    let from = self.weights.as_ptr().wrapping_add(k * units + unit);
                    s.prefetch(from.wrapping_add(ROWS_AHEAD * units));
                    let to = self.packed.vector::<S>(group, &columns, first_k, vec);
                    let to = self.to.add(to + (k - first_k) * PANEL * S::LANES);
                    s.prefetch(to.wrapping_add(16 * PANEL * S::LANES));
                    s.store(to, load_lanes(s, from, lanes));
                }
            }
        }
    }
}
