//! Packs weights into the panels of a matrix. f32 weights are packed with one group per task:
//! transposed if the weights of an output are a row, copied if they are a column. Knows a
//! matrix's geometry; must not know what the matrix is used for.

use super::PackedMatrix;
use crate::KernelError;
use crate::error::check_len;
use crate::format::{Format, quantised, scale, to_bf16};
use crate::gemm::layout::{DEPTH_BLOCK, PANEL};
use crate::gemm::tile::load_lanes;
use crate::simd::{QUAD, Simd};
use crate::team::{Pass, Phases};
use crate::tuning::{FILL_ROWS_AHEAD, FILL_TERMS_AHEAD};

impl PackedMatrix {
    /// Returns an error unless [`pack_rows`](Self::pack_rows) accepts `weights`.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `weights` is not `outputs × depth` long, `NotFinite`
    /// where the format is int8 and a weight is ∞ or NaN.
    pub fn check_rows(&self, weights: &[f32]) -> Result<(), KernelError> {
        check_len("weights", weights.len(), self.outputs() * self.depth)?;
        self.format.check(weights)
    }

    /// Packs `weights`, `[gates · units, depth]` row-major, for products `y = A · weightsᵀ`:
    /// the weights of each output are a row.
    ///
    /// # Errors
    /// As for [`check_rows`](Self::check_rows); nothing is written then.
    pub fn pack_rows(&mut self, weights: &[f32], pass: &mut Pass<'_>) -> Result<(), KernelError> {
        self.check_rows(weights)?;
        if self.format != Format::F32 {
            self.pack_quantised(weights);
            return Ok(());
        }
        let to = self.panels.as_mut_ptr();
        // SAFETY: the weights and the matrix were borrowed for this call.
        unsafe { pass.run(self.isa, &Rows { weights, packed: self, to }) };
        Ok(())
    }

    /// Packs `weights`, `[depth, units]` row-major, for products `y = A · weights`: the weights
    /// of each output are a column. The matrix has to have one gate and f32 weights.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `weights` is not `outputs × depth` long or there is more
    /// than one gate, `Packing` where the format is not f32; nothing is written then.
    pub fn pack_columns(
        &mut self,
        weights: &[f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        check_len("weights", weights.len(), self.outputs() * self.depth)?;
        check_len("gates", self.gates, 1)?;
        if self.format != Format::F32 {
            return Err(self.mismatch(self.isa, 1, self.units, self.depth));
        }
        let to = self.panels.as_mut_ptr();
        // SAFETY: the weights and the matrix were borrowed for this call.
        unsafe { pass.run(self.isa, &ByColumns { weights, packed: self, to }) };
        Ok(())
    }

    /// Does the work of [`PackedMatrix::pack_rows`] for a format other than f32.
    fn pack_quantised(&mut self, weights: &[f32]) {
        let (format, depth, lanes) = (self.format(), self.depth(), self.isa().lanes());
        for group in 0..self.groups() {
            let (columns, first_vec) = (self.columns(group, lanes), self.first_vec(group));
            for vec in 0..columns.vecs {
                for lane in 0..columns.lanes[vec] {
                    let row = &weights[(columns.offset[vec] + lane) * depth..][..depth];
                    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                    let scale = scale(largest);
                    if format == Format::Int8 {
                        self.scales_mut()[(first_vec + vec) * lanes + lane] = scale;
                    }
                    for (k, &weight) in row.iter().enumerate() {
                        let first_k = k - k % DEPTH_BLOCK;
                        let terms = DEPTH_BLOCK.min(depth - first_k);
                        let pair = self.block(group, columns.vecs, first_k, lanes)
                            + (vec / PANEL * terms + k - first_k) * PANEL * lanes;
                        let panels: &mut [f32] = self.panels_mut();
                        match format {
                            Format::F32 => unreachable!("f32 has a packing of its own"),
                            Format::Bf16 => {
                                let at = pair + lane * PANEL + vec % PANEL;
                                bytemuck::cast_slice_mut::<_, u16>(panels)[at] = to_bf16(weight);
                            }
                            Format::Int8 => {
                                let at = pair + vec % PANEL * lanes + lane;
                                bytemuck::cast_slice_mut::<_, i8>(panels)[at] =
                                    quantised(weight, scale);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Weights whose rows are outputs, and the matrix that they are packed into. A task is a group.
struct Rows<'a> {
    weights: &'a [f32],
    packed: &'a PackedMatrix,
    /// The matrix's panels.
    to: *mut f32,
}

// SAFETY: tasks write disjoint parts of the panels, which nobody else uses meanwhile.
unsafe impl Sync for Rows<'_> {}

// SAFETY: the number of tasks follows from the sizes, and a task writes its own group's panels.
unsafe impl Phases for Rows<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.packed.groups()
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, group: usize) {
        let (weights, depth) = (self.weights.as_ptr(), self.packed.depth);
        let columns = self.packed.columns(group, S::LANES);
        for first_k in (0..depth).step_by(DEPTH_BLOCK) {
            let terms = DEPTH_BLOCK.min(depth - first_k);
            // Panel by panel, and term by term in each panel: this is the order in memory.
            for panel in (0..columns.vecs).step_by(PANEL) {
                for k in (0..terms).step_by(S::LANES) {
                    for vec in panel..panel + PANEL {
                        // SAFETY: `pack_rows` has checked that the weights are outputs ×
                        // depth; the matrix was made with room for all its groups.
                        unsafe {
                            let from = columns.offset[vec] * depth + first_k + k;
                            let to = self.packed.vector::<S>(group, &columns, first_k, vec);
                            let to = self.to.add(to + k * PANEL * S::LANES);
                            let block =
                                Block { rows: columns.lanes[vec], terms: S::LANES.min(terms - k) };
                            transpose(simd, weights.wrapping_add(from), depth, block, to);
                        }
                    }
                }
            }
        }
    }
}

/// A block of weights that is transposed.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Rows of the block, which become lanes: at most a vector.
    rows: usize,
    /// Terms of each row, which become vectors: at most as many as a vector has lanes.
    terms: usize,
}

/// Transposes a block of weights into a panel: term k of row r becomes lane r of the vector of
/// term k. The rows are `stride` floats apart.
///
/// # Safety
/// 1. The rows of `from` are readable for the terms;
/// 2. `to` is writable for one vector of a panel for each term, and rows ≤ LANES.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    simd: S,
    from: *const f32,
    stride: usize,
    Block { rows, terms }: Block,
    to: *mut f32,
) {
    for lane in (0..rows).step_by(QUAD) {
        let mut quads = [simd.zero(); QUAD];
        for i in 0..QUAD.min(rows - lane) {
            // SAFETY: lane + i < rows, so the row is one of the block's (1).
            unsafe {
                let from = from.add((lane + i) * stride);
                simd.prefetch(from.wrapping_add(FILL_TERMS_AHEAD));
                quads[i] = load_lanes(simd, from, terms);
            }
        }
        // Rows beyond the last are zeros and become the padding.
        let quads = simd.transpose4(quads);
        for i in 0..QUAD {
            // SAFETY: the quads belong to terms i, i + 4, …, of which `count` exist (2).
            unsafe {
                simd.prefetch(to.wrapping_add((S::LANES + lane + i) * PANEL * S::LANES));
                // With fewer than four terms `to` may point beyond them; `count` is 0 then, and
                // nothing is written.
                let to = to.wrapping_add(i * PANEL * S::LANES + lane);
                let count = terms.saturating_sub(i).div_ceil(QUAD);
                simd.store_quads(to, QUAD * PANEL * S::LANES, quads[i], count);
            }
        }
    }
}

/// Weights whose columns are outputs, and the matrix that they are packed into. A task is a
/// group.
struct ByColumns<'a> {
    weights: &'a [f32],
    packed: &'a PackedMatrix,
    /// The matrix's panels.
    to: *mut f32,
}

// SAFETY: tasks write disjoint parts of the panels, which nobody else uses meanwhile.
unsafe impl Sync for ByColumns<'_> {}

// SAFETY: the number of tasks follows from the sizes, and a task writes its own group's panels.
unsafe impl Phases for ByColumns<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.packed.groups()
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, group: usize) {
        let PackedMatrix { units, depth, .. } = *self.packed;
        let columns = self.packed.columns(group, S::LANES);
        for k in 0..depth {
            let first_k = k - k % DEPTH_BLOCK;
            for vec in 0..columns.vecs {
                let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                // SAFETY: `pack_columns` has checked that the weights are depth × units; the
                // matrix was made with room for all its groups. If all lanes of a vector are
                // padding, none is read.
                unsafe {
                    let from = self.weights.as_ptr().wrapping_add(k * units + unit);
                    simd.prefetch(from.wrapping_add(FILL_ROWS_AHEAD * units));
                    let to = self.packed.vector::<S>(group, &columns, first_k, vec);
                    let to = self.to.add(to + (k - first_k) * PANEL * S::LANES);
                    simd.prefetch(to.wrapping_add(16 * PANEL * S::LANES));
                    simd.store(to, load_lanes(simd, from, lanes));
                }
            }
        }
    }
}
