//! Layer normalisation of a step's sums (Ba et al. 2016), for each gate over the units:
//! `x̂ = (a − μ) / √(σ² + ε)`. The cell gets `b + γ ⊙ x̂`. It needs all sums of a row, so the sweep
//! of a stage only stores the sums, and a kernel for each row then normalises them and runs the
//! cell. Knows rows of units; must not know cells.

use super::dims::Dims;
use crate::cells::Geometry;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::{KernelError, checked_len};

/// The layer normalisation of a forward pass. If the recurrent sums are separate from the input's
/// part, both are normalised for the last gate, the recurrent sum as an extra block.
#[derive(Debug)]
pub struct Norm<'a> {
    /// ε.
    pub epsilon: f32,
    /// γ, `[N, H]`: for each gate, and for the extra block if there is one.
    pub gain: &'a [f32],
    /// b, `[G, H]`, which the input's part must not include. The bias of the extra block is in the
    /// cell.
    pub bias: &'a [f32],
    /// Output: x̂, `[τ, B, G, H]` if gates are kept, else `[B, G, H]` of one step.
    pub normal: &'a mut [f32],
    /// Output: x̂ of the extra block, `[τ, B, H]` or `[B, H]` of one step; empty if there is none.
    pub normal_extra: &'a mut [f32],
    /// Output: 1 / √(σ² + ε), `[τ, B, N]` or `[B, N]` of one step.
    pub inverse: &'a mut [f32],
}

/// The normalisation of a backward pass.
#[derive(Debug)]
pub struct NormBack<'a> {
    /// γ, as in the forward pass.
    pub gain: &'a [f32],
    /// x̂, as the forward pass has stored it: see [`Norm::normal`].
    pub normal: &'a [f32],
    /// See [`Norm::normal_extra`].
    pub normal_extra: &'a [f32],
    /// See [`Norm::inverse`].
    pub inverse: &'a [f32],
    /// Output: ∂L/∂a, `[τ, B, G, H]`. The gradient by `b + γ ⊙ x̂`, which the cell got, is left in
    /// the place of the gates.
    pub da: &'a mut [f32],
    /// Output: ∂L/∂a of the extra block, `[τ, B, H]`; empty if there is none.
    pub da_extra: &'a mut [f32],
}

/// Returns the floats of `normal`, `normal_extra` and `inverse` for `rows` rows.
fn lens(cell: &Geometry, rows: usize, hidden: usize) -> Result<[usize; 3], KernelError> {
    Ok([
        checked_len("normal", &[rows, cell.gates, hidden])?,
        checked_len("normal_extra", &[rows, cell.norms - cell.gates, hidden])?,
        checked_len("inverse", &[rows, cell.norms])?,
    ])
}

impl Norm<'_> {
    /// Checks that the slices fit a pass that keeps all steps (`keeps`) or only one.
    pub(super) fn check(
        &self,
        cell: &Geometry,
        dims: Dims<'_>,
        keeps: bool,
    ) -> Result<(), KernelError> {
        let rows = if keeps { dims.rows("rows", 1, 1)? } else { dims.batch() };
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        check_len("norm bias", self.bias.len(), cell.gates * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)
    }
}

impl NormBack<'_> {
    /// Checks that the slices fit a pass.
    pub(super) fn check(&self, cell: &Geometry, dims: Dims<'_>) -> Result<(), KernelError> {
        let rows = dims.rows("rows", 1, 1)?;
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)?;
        check_len("da", self.da.len(), normal)?;
        check_len("da_extra", self.da_extra.len(), extra)
    }
}

/// The kernel that normalises a row of sums in place. For the mean it adds the distances from the
/// first value. These are 0 if all values are equal, and as exact for values far from zero as for
/// values near it. A sum of the values themselves would have a rounding error, which would then be
/// divided by √ε.
pub(super) struct Normalise {
    row: *mut f32,
    hidden: usize,
    epsilon: f32,
    /// Where the inverse deviation is stored.
    inverse: *mut f32,
}

impl Normalise {
    /// # Safety
    /// The row is readable and writable for `hidden` floats, at least one, `inverse` is writable
    /// for one, and both are nobody else's.
    #[inline(always)]
    pub(super) unsafe fn new(
        row: *mut f32,
        hidden: usize,
        epsilon: f32,
        inverse: *mut f32,
    ) -> Self {
        Self { row, hidden, epsilon, inverse }
    }
}

impl Kernel for Normalise {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { row, hidden, epsilon, inverse } = self;
        let count = simd.splat(hidden as f32);
        // SAFETY: `each!` gives places of the row, which `new` has been promised.
        unsafe {
            let first = simd.splat(*row);
            let mut sums = simd.zero();
            each!(S, hidden, |unit, lanes| {
                let mut off = simd.sub(load_lanes(simd, row.add(unit), lanes), first);
                if lanes < S::LANES {
                    // Storing and loading again sets the lanes beyond the units to zero, for the
                    // sum.
                    store_lanes(simd, row.add(unit), off, lanes);
                    off = load_lanes(simd, row.add(unit), lanes);
                }
                sums = simd.add(sums, off);
            });
            let mean = simd.div(simd.splat(simd.sum(sums)), count);
            let mut squares = simd.zero();
            each!(S, hidden, |unit, lanes| {
                let mut off = load_lanes(simd, row.add(unit), lanes);
                if lanes == S::LANES {
                    off = simd.sub(simd.sub(off, first), mean);
                    simd.store(row.add(unit), off);
                } else {
                    simd.store_first(row.add(unit), simd.sub(off, mean), lanes);
                    off = simd.load_first(row.add(unit), lanes);
                }
                squares = simd.mul_add(off, off, squares);
            });
            let variance = simd.div(simd.splat(simd.sum(squares)), count);
            let deviation = simd.sqrt(simd.add(variance, simd.splat(epsilon)));
            let scale = simd.div(simd.splat(1.0), deviation);
            each!(S, hidden, |unit, lanes| {
                let off = load_lanes(simd, row.add(unit), lanes);
                store_lanes(simd, row.add(unit), simd.mul(off, scale), lanes);
            });
            store_lanes(simd, inverse, scale, 1);
        }
    }
}

/// The kernel that computes the gradient by a row of sums from d, the gradient by what the cell got
/// of them: `(γ ⊙ d − mean(γ ⊙ d) − x̂ ⊙ mean(γ ⊙ d ⊙ x̂)) / √(σ² + ε)`.
pub(super) struct Denormalise(RowGradients);

/// The places that [`Denormalise`] reads and writes for one row.
#[derive(Clone, Copy)]
pub(super) struct RowGradients {
    /// d, the gradient by `b + γ ⊙ x̂`, which the cell got.
    pub d: *const f32,
    /// γ.
    pub gain: *const f32,
    /// x̂.
    pub normal: *const f32,
    /// The inverse deviation of the row, one float.
    pub inverse: *const f32,
    /// Where the gradient by the sums is stored.
    pub da: *mut f32,
    /// Units of the row.
    pub hidden: usize,
}

impl Denormalise {
    /// # Safety
    /// All are readable for `hidden` floats, and `inverse` for one; `da` is writable for `hidden`
    /// floats and nobody else's.
    #[inline(always)]
    pub(super) unsafe fn new(row: RowGradients) -> Self {
        Self(row)
    }
}

impl Kernel for Denormalise {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RowGradients { d, gain, normal, inverse, da, hidden } = self.0;
        let count = simd.splat(hidden as f32);
        // SAFETY: `each!` gives places of the rows, which `new` has been promised.
        unsafe {
            let (mut sums, mut products) = (simd.zero(), simd.zero());
            each!(S, hidden, |unit, lanes| {
                let gain = load_lanes(simd, gain.add(unit), lanes);
                let g = simd.mul(gain, load_lanes(simd, d.add(unit), lanes));
                sums = simd.add(sums, g);
                products = simd.mul_add(g, load_lanes(simd, normal.add(unit), lanes), products);
            });
            let mean = simd.div(simd.splat(simd.sum(sums)), count);
            let along = simd.div(simd.splat(simd.sum(products)), count);
            let scale = simd.splat(*inverse);
            each!(S, hidden, |unit, lanes| {
                let gain = load_lanes(simd, gain.add(unit), lanes);
                let g = simd.mul(gain, load_lanes(simd, d.add(unit), lanes));
                let normal = load_lanes(simd, normal.add(unit), lanes);
                let rest = simd.neg_mul_add(normal, along, simd.sub(g, mean));
                store_lanes(simd, da.add(unit), simd.mul(scale, rest), lanes);
            });
        }
    }
}
