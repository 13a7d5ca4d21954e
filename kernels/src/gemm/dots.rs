//! Products with few outputs: each is the dot product of two rows that lie as they lie.
//! A panel would be mostly padding there, and its sums a chain as long as the depth.
//! Knows rows; must not know what they are for.

use crate::gemm::tile::load_lanes;
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tuning::DOTS_ROW_BLOCK;

/// Sums side by side, so that one need not wait for the last.
const SUMS: usize = 4;

/// `C = bias + A · Wᵀ`, checked: A `[rows, depth]`, W `[outputs, depth]`, the bias
/// `[outputs]`, C `[rows, outputs]`.
#[derive(Clone, Copy)]
pub(crate) struct Dots {
    rows: usize,
    depth: usize,
    outputs: usize,
    a: *const f32,
    weights: *const f32,
    bias: *const f32,
    c: *mut f32,
}

impl Dots {
    /// # Safety
    /// For as long as it is used, A, W and the bias are readable and C is writable for so many
    /// floats as above, and nobody else writes them or reads C.
    #[inline(always)]
    pub(crate) unsafe fn new(
        (rows, depth, outputs): (usize, usize, usize),
        a: *const f32,
        (weights, bias): (*const f32, *const f32),
        c: *mut f32,
    ) -> Self {
        Self { rows, depth, outputs, a, weights, bias, c }
    }
}

// SAFETY: tasks write disjoint rows of C, which nobody else has meanwhile.
unsafe impl Sync for Dots {}

// SAFETY: the number of tasks follows from the sizes, and a task writes its own rows of C.
unsafe impl Phases for Dots {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.rows.div_ceil(DOTS_ROW_BLOCK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let first = task * DOTS_ROW_BLOCK;
        simd.call(Dots {
            rows: DOTS_ROW_BLOCK.min(self.rows - first),
            a: self.a.wrapping_add(first * self.depth),
            c: self.c.wrapping_add(first * self.outputs),
            ..*self
        });
    }
}

impl Kernel for Dots {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in 0..self.rows {
            for output in 0..self.outputs {
                // SAFETY: rows, outputs and depth are those that `new` was promised them for.
                unsafe {
                    let a = self.a.add(row * self.depth);
                    let weights = self.weights.add(output * self.depth);
                    let sum = dot(simd, a, weights, self.depth);
                    *self.c.add(row * self.outputs + output) = *self.bias.add(output) + sum;
                }
            }
        }
    }
}

/// Σ a b: term k goes to lane k mod LANES of one of the sums, in the order of the
/// depth, and the lanes are added last. The order knows the depth alone.
///
/// # Safety
/// Both are readable for `depth` floats.
#[inline(always)]
unsafe fn dot<S: Simd>(simd: S, a: *const f32, b: *const f32, depth: usize) -> f32 {
    let mut acc = [simd.zero(); SUMS];
    let mut k = 0;
    // SAFETY: k + lanes ≤ depth, for which both are readable.
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
