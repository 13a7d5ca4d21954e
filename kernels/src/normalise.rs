//! The mean and the variance of a row, and the gradient through them, for layer normalisation (Ba et
//! al. 2016). Must not know what a row holds.

use crate::each::each;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};

/// The kernel that normalises a row of sums in place. For the mean it adds the distances from the
/// first value. These are 0 if all values are equal, and as exact for values far from zero as for
/// values near it. A sum of the values themselves would have a rounding error, which would then be
/// divided by √ε.
pub(crate) struct Normalise {
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
    pub(crate) unsafe fn new(
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
pub(crate) struct Denormalise(RowGradients);

/// The places that [`Denormalise`] reads and writes for one row.
#[derive(Clone, Copy)]
pub(crate) struct RowGradients {
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
    pub(crate) unsafe fn new(row: RowGradients) -> Self {
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
