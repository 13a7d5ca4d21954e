//! Layer normalisation of a step's sums (Ba et al. 2016), gate by gate over the units:
//! `x̂ = (a − μ) / √(σ² + ε)`, of which the cell sees `b + γ ⊙ x̂`. A row's sums have to be
//! there, all of them, before its cell: so a stage leaves them, and another goes over
//! rows. Knows rows of units; must not know cells.

use super::dims::Dims;
use crate::cells::Geometry;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::{KernelError, checked_len};

/// The normalisation of a forward pass. Where the recurrent sums are apart from the input's
/// part, the last gate's are normalised apart too: there is an extra block.
#[derive(Debug)]
pub struct Norm<'a> {
    /// ε.
    pub epsilon: f32,
    /// γ, `[N, H]`: of each gate, and of the extra block if there is one.
    pub gain: &'a [f32],
    /// b, `[G, H]`, which the input's part is without. The extra block's is the cell's own.
    pub bias: &'a [f32],
    /// x̂ comes out, `[τ, B, G, H]` where gates are kept, else that of one step.
    pub normal: &'a mut [f32],
    /// That of the extra block, `[τ, B, H]` or one step's, or nothing.
    pub normal_extra: &'a mut [f32],
    /// 1 / √(σ² + ε) comes out, `[τ, B, N]` or one step's.
    pub inverse: &'a mut [f32],
}

/// The normalisation of a backward pass.
#[derive(Debug)]
pub struct NormBack<'a> {
    /// As in the forward pass.
    pub gain: &'a [f32],
    /// What the forward pass has left: x̂, that of the extra block, and the inverse deviation.
    pub normal: &'a [f32],
    /// See [`Norm::normal_extra`].
    pub normal_extra: &'a [f32],
    /// See [`Norm::inverse`].
    pub inverse: &'a [f32],
    /// ∂L/∂a comes out, `[τ, B, G, H]`, beside that by what the cell saw, which is left
    /// where the gates were.
    pub da: &'a mut [f32],
    /// That of the extra block, `[τ, B, H]`, or nothing.
    pub da_extra: &'a mut [f32],
}

/// Floats of x̂, of its extra block and of the inverse deviations, of so many rows.
fn lens(cell: &Geometry, rows: usize, hidden: usize) -> Result<[usize; 3], KernelError> {
    Ok([
        checked_len("normal", &[rows, cell.gates, hidden])?,
        checked_len("normal_extra", &[rows, cell.norms - cell.gates, hidden])?,
        checked_len("inverse", &[rows, cell.norms])?,
    ])
}

impl Norm<'_> {
    /// `Ok` where it fits a pass that keeps all steps, or one.
    pub(super) fn check(
        &self,
        cell: &Geometry,
        dims: Dims,
        keeps: bool,
    ) -> Result<(), KernelError> {
        let rows = dims.sequences("rows", if keeps { dims.steps() } else { 1 })?;
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        check_len("norm bias", self.bias.len(), cell.gates * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)
    }
}

impl NormBack<'_> {
    /// `Ok` where it fits a pass.
    pub(super) fn check(&self, cell: &Geometry, dims: Dims) -> Result<(), KernelError> {
        let rows = dims.sequences("rows", dims.steps())?;
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)?;
        check_len("da", self.da.len(), normal)?;
        check_len("da_extra", self.da_extra.len(), extra)
    }
}

/// Normalises a row of sums where it stands. What is summed for the mean are the distances from
/// the first value: of equal values these are 0, and of values far from zero they are as exact as
/// near it, where the rounding of a sum of the values would be divided by √ε.
pub(super) struct Normalise {
    row: *mut f32,
    hidden: usize,
    epsilon: f32,
    /// Where the inverse deviation goes.
    inverse: *mut f32,
}

impl Normalise {
    /// # Safety
    /// The row is readable and writable for `hidden` floats, one or more, and `inverse` is
    /// writable for one, and they are nobody else's.
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
        // SAFETY: `each!` gives places of the row, for which `new` has been promised it.
        unsafe {
            let first = simd.splat(*row);
            let mut sums = simd.zero();
            each!(S, hidden, |unit, lanes| {
                let mut off = simd.sub(load_lanes(simd, row.add(unit), lanes), first);
                if lanes < S::LANES {
                    // Through memory, the lanes that are no units are none of the sum.
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

/// The gradient by a row of sums from that by what the cell saw of them:
/// `(γ ⊙ d − mean(γ ⊙ d) − x̂ ⊙ mean(γ ⊙ d ⊙ x̂)) / √(σ² + ε)`.
pub(super) struct Denormalise(RowGradients);

/// What [`Denormalise`] reads and writes of a row.
#[derive(Clone, Copy)]
pub(super) struct RowGradients {
    /// d, the gradient by what the cell saw.
    pub d: *const f32,
    /// γ.
    pub gain: *const f32,
    /// x̂.
    pub normal: *const f32,
    /// Its one inverse deviation.
    pub inverse: *const f32,
    /// Where the gradient by the sums goes.
    pub da: *mut f32,
    /// Units of the row.
    pub hidden: usize,
}

impl Denormalise {
    /// # Safety
    /// All are readable for `hidden` floats, and `inverse` for one; `da` is writable for them
    /// and nobody else's.
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
        // SAFETY: `each!` gives places of the rows, for which `new` has been promised them.
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
