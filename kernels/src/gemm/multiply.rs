//! Rows times a group of a packed matrix, whatever its format. Knows which way a format
//! takes; must not know where rows come from and sums go to.

use crate::format::Format;
use crate::gemm::layout::DEPTH_BLOCK;
use crate::gemm::prefetch::{Prefetch, Walk};
use crate::gemm::quantised::{self, Bf16, Int8, Widened};
use crate::gemm::rhs::{PackedMatrix, Place, Turn};
use crate::gemm::tile::{self, Sums};
use crate::simd::Simd;

impl PackedMatrix {
    /// Adds the product of `rows` rows of `a` with a group, for the block of depth from
    /// `first_k`, to `sums`; `a` starts at its first row and at that k.
    ///
    /// # Safety
    /// 1. The place is of the matrix, which is packed for `S`, and first_k below its depth;
    /// 2. `a` is readable for [`lhs_len`](crate::gemm::layout::left_len) of the rows and the block's
    ///    terms;
    /// 3. the sums are what [`tile::group`] asks, of the rows and the place's vectors.
    #[inline(always)]
    pub(crate) unsafe fn multiply<S: Simd>(
        &self,
        simd: S,
        (rows, a): (usize, *const f32),
        place: Place,
        first_k: usize,
        sums: &Sums,
        prefetches: &[Prefetch],
    ) {
        // SAFETY: the block of the matrix has the panels of the place (1); operand (2) and sums
        // (3) are what the tile asks, and what `Widened` does.
        unsafe {
            match self.format() {
                Format::F32 => {
                    let product = self.product(a, place, first_k, S::LANES);
                    tile::group(simd, rows, product, place.vecs, sums, prefetches);
                }
                _ => simd.call(Widened::new(self, (rows, a), place, first_k, sums, prefetches)),
            }
        }
    }

    /// Adds the product of one row `a` with a group, which has `V` vectors, to `acc`: sums
    /// that never leave the registers.
    ///
    /// # Safety
    /// 1. The group is one of the matrix, of V vectors with the padding to whole panels, or, in
    ///    f32, without, and the matrix is packed for `S`;
    /// 2. `a` is readable for its depth.
    #[inline(always)]
    pub(crate) unsafe fn multiply_row<S: Simd, const V: usize>(
        &self,
        simd: S,
        a: *const f32,
        Turn { group, next }: Turn,
        acc: &mut [[S::V; V]; 1],
    ) {
        // SAFETY: first_k < depth, so that `a` has the terms (2) and the group the panels (1).
        unsafe {
            match self.format() {
                Format::F32 => {}
                Format::Bf16 => {
                    return quantised::multiply_row::<S, Bf16, V>(simd, a, self, group, acc);
                }
                Format::Int8 => {
                    return quantised::multiply_row::<S, Int8, V>(simd, a, self, group, acc);
                }
            }
            let mut first_k = 0;
            while first_k < self.depth() {
                let place = Place { group, vecs: V, next };
                let product = self.product(a.add(first_k), place, first_k, S::LANES);
                let ahead = product.depth * V * S::LANES;
                tile::accumulate(simd, product, 0, ahead, Walk::none(), acc);
                first_k += DEPTH_BLOCK;
            }
        }
    }
}
