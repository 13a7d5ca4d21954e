//! Products with few outputs. Each output is the dot product of two rows that are not packed:
//! a panel would be mostly padding, and each of its sums a chain as long as the depth. Knows
//! rows; must not know what they are for.

use crate::gemm::tile::load_lanes;
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tuning::DOTS_ROW_BLOCK;

/// Sums side by side, so that an addition need not wait for the one before it.
const SUMS: usize = 4;

/// The product `C = bias + A · Wᵀ`, after the checks. A task is a block of rows.
#[derive(Clone, Copy)]
pub(crate) struct Dots(Operands);

/// The memory that a product reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Rows of A and C.
    pub rows: usize,
    /// Terms of each dot product.
    pub depth: usize,
    /// Rows of W and columns of C.
    pub outputs: usize,
    /// A, `[rows, depth]`.
    pub a: *const f32,
    /// W, `[outputs, depth]`.
    pub weights: *const f32,
    /// The bias, `[outputs]`.
    pub bias: *const f32,
    /// C, `[rows, outputs]`.
    pub c: RowsMut,
}

impl Dots {
    /// Takes the operands of a product.
    ///
    /// # Safety
    /// While the result is in use, A, W and the bias are readable and C is writable in the shapes
    /// that [`Operands`] gives, and nobody else writes any of them or reads C.
    #[inline(always)]
    pub(crate) unsafe fn new(operands: Operands) -> Self {
        Self(operands)
    }
}

// SAFETY: tasks write disjoint rows of C, which nobody else uses meanwhile.
unsafe impl Sync for Dots {}

// SAFETY: the number of tasks follows from the sizes, and a task writes its own rows of C.
unsafe impl Phases for Dots {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.0.rows.div_ceil(DOTS_ROW_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let first = task * DOTS_ROW_BLOCK;
        let all = &self.0;
        simd.call(Dots(Operands {
            rows: DOTS_ROW_BLOCK.min(all.rows - first),
            a: all.a.wrapping_add(first * all.depth),
            c: all.c.from(first, 0),
            ..*all
        }));
    }
}

impl Kernel for Dots {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let all = self.0;
        for row in 0..all.rows {
            for output in 0..all.outputs {
                // SAFETY: the caller of `new` promised the operands for these rows, outputs and
                // depth.
                unsafe {
                    let a = all.a.add(row * all.depth);
                    let weights = all.weights.add(output * all.depth);
                    let sum = dot(simd, a, weights, all.depth);
                    *all.c.at(row, output) = *all.bias.add(output) + sum;
                }
            }
        }
    }
}

/// Returns Σ a b. Term k is added to lane k mod LANES of one of the sums, in the order of the
/// depth, and the lanes are added last. The order depends on nothing but the depth and LANES.
///
/// # Safety
/// `a` and `b` are readable for `depth` floats.
#[inline(always)]
unsafe fn dot<S: Simd>(simd: S, a: *const f32, b: *const f32, depth: usize) -> f32 {
    let mut acc = [simd.zero(); SUMS];
    let mut k = 0;
    // SAFETY: k + lanes ≤ depth, and both are readable for depth floats.
    unsafe {
        while k + SUMS * S::LANES <= depth {
            for i in 0..SUMS {
                let at = k + i * S::LANES;
                acc[i] = simd.mul_add(simd.load(a.add(at)), simd.load(b.add(at)), acc[i]);
            }
            k += SUMS * S::LANES;
        }
        for i in 0..SUMS {
            let at = k + i * S::LANES;
            if at < depth {
                let lanes = S::LANES.min(depth - at);
                let (a, b) =
                    (load_lanes(simd, a.add(at), lanes), load_lanes(simd, b.add(at), lanes));
                acc[i] = simd.mul_add(a, b, acc[i]);
            }
        }
    }
    simd.sum(simd.add(simd.add(acc[0], acc[1]), simd.add(acc[2], acc[3])))
}
