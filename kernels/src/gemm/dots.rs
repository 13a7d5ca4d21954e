//! Products with few outputs: each is the dot product of two rows that lie as they lie.
//! A panel would be mostly padding there, and its sums a chain as long as the depth.
//! Knows rows; must not know what they are for.

use crate::gemm::tile::load_lanes;
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tuning::DOTS_ROW_BLOCK;

/// Sums side by side, so that one need not wait for the last.
const SUMS: usize = 4;

/// `C = bias + A · Wᵀ`, checked.
#[derive(Clone, Copy)]
pub(crate) struct Dots(Operands);

/// What it reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Rows of A and C.
    pub rows: usize,
    /// Terms of each dot product.
    pub depth: usize,
    /// Rows of W, columns of C.
    pub outputs: usize,
    /// A, `[rows, depth]`.
    pub a: *const f32,
    /// W, `[outputs, depth]`.
    pub weights: *const f32,
    /// `[outputs]`.
    pub bias: *const f32,
    /// C, `[rows, outputs]`.
    pub c: RowsMut,
}

impl Dots {
    /// # Safety
    /// For as long as it is used, A, W and the bias are readable and C is writable for so many
    /// floats as [`Operands`] says, and nobody else writes them or reads C.
    #[inline(always)]
    pub(crate) unsafe fn new(operands: Operands) -> Self {
        Self(operands)
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
                // SAFETY: rows, outputs and depth are those that `new` was promised them for.
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
