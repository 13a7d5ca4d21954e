//! Products of rows with a group of a packed matrix of any format. Knows which function
//! multiplies which format; must not know where rows come from and where sums go.

use crate::format::Format;
use crate::gemm::layout::DEPTH_BLOCK;
use crate::gemm::prefetch::{Prefetch, Walk};
use crate::gemm::quantised::{self, Bf16, Int8, Widened};
use crate::gemm::rhs::{PackedMatrix, Place, Turn};
use crate::gemm::tile::{self, Sums};
use crate::simd::Simd;

impl PackedMatrix {
    /// Adds the product of `rows` packed rows `a` with a group to `sums`, for the block of depth
    /// from term `first_k` on; `a` points to the first row at that term.
    ///
    /// # Safety
    /// 1. The place is one of the matrix, which is packed for `S`, and `first_k` is less than its
    ///    depth;
    /// 2. `a` is readable for [`lhs_len`](crate::gemm::layout::lhs_len) of the rows and the block's
    ///    terms;
    /// 3. the sums are as [`tile::group`] asks, for the rows and the place's vectors.
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
        // (3) are as both the tile and `Widened` ask.
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

    /// Adds the product of one row `a` with a group of `V` vectors to `acc`, whose sums stay in
    /// registers.
    ///
    /// # Safety
    /// 1. The group is one of the matrix, which is packed for `S`. The group has V vectors,
    ///    counted with the padding to whole panels or, if the format is f32, without it;
    /// 2. `a` is readable for the matrix's depth.
    #[inline(always)]
    pub(crate) unsafe fn multiply_row<S: Simd, const V: usize>(
        &self,
        simd: S,
        a: *const f32,
        Turn { group, next }: Turn,
        acc: &mut [[S::V; V]; 1],
    ) {
        // SAFETY: first_k < depth, so `a` has the terms (2), and the group has the panels (1).
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
