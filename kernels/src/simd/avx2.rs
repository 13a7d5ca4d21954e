//! AVX2 with FMA: 8 lanes, 16 registers.

use super::{Kernel, Simd, entry, intrinsics, memory, registers};
use std::arch::x86_64::*;

/// The AVX2 + FMA token.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

entry!(Avx2, is_x86_feature_detected, "avx2", "fma");

/// Eight values that start at index 8 − n of this table are the mask of the first n lanes.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The mask of the first `n` lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    let n = n.min(8);
    // SAFETY: 8 − n ≤ 8, so the eight values read lie in the table of 16.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast()) }
}

// SAFETY: the field is private to this module and `enter` makes the only value.
unsafe impl Simd for Avx2 {
    type V = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const MAX_ROWS: usize = 6;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a token exists only inside `enter`, whose caller has detected the features.
        unsafe { enter(kernel) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        if cfg!(not(miri)) {
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    }
    memory! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, v: __m256) = _mm256_storeu_ps(p, v);
        load_first(p: *const f32, n: usize) -> __m256 = _mm256_maskload_ps(p, first(n));
        store_first(p: *mut f32, v: __m256, n: usize) = _mm256_maskstore_ps(p, first(n), v);
        load_bf16_pairs(p: *const u16) -> [__m256; 2] = {
            let pairs = _mm256_loadu_si256(p.cast());
            let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm256_slli_epi32::<16>(pairs);
            [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)]
        };
        load_i8(p: *const i8) -> __m256 = {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        };
        store_quads(p: *mut f32, stride: usize, v: __m256, count: usize) = {
            if count > 0 {
                _mm_storeu_ps(p, _mm256_castps256_ps128(v));
            }
            if count > 1 {
                _mm_storeu_ps(p.add(stride), _mm256_extractf128_ps::<1>(v));
            }
        };
    }
    registers! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        transpose4([a, b, c, d]: [__m256; 4]) -> [__m256; 4] = {
            let (p, q) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (r, t) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(p, r),
                _mm256_shuffle_ps::<0xee>(p, r),
                _mm256_shuffle_ps::<0x44>(q, t),
                _mm256_shuffle_ps::<0xee>(q, t),
            ]
        };
        zip_quads([a, b, c, d]: [__m256; 4]) -> [__m256; 4] = {
            [
                _mm256_permute2f128_ps::<0x20>(a, b),
                _mm256_permute2f128_ps::<0x20>(c, d),
                _mm256_permute2f128_ps::<0x31>(a, b),
                _mm256_permute2f128_ps::<0x31>(c, d),
            ]
        };
        select(m: __m256, yes: __m256, no: __m256) -> __m256 = _mm256_blendv_ps(no, yes, m);
        sum(a: __m256) -> f32 = {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        };
        largest(a: __m256) -> f32 = {
            let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
        };
    }
    intrinsics! {
        add(a, b) -> V = _mm256_add_ps(a, b);
        sub(a, b) -> V = _mm256_sub_ps(a, b);
        mul(a, b) -> V = _mm256_mul_ps(a, b);
        div(a, b) -> V = _mm256_div_ps(a, b);
        mul_add(a, b, c) -> V = _mm256_fmadd_ps(a, b, c);
        neg_mul_add(a, b, c) -> V = _mm256_fnmadd_ps(a, b, c);
        min(a, b) -> V = _mm256_min_ps(a, b);
        max(a, b) -> V = _mm256_max_ps(a, b);
        sqrt(a) -> V = _mm256_sqrt_ps(a);
        abs(a) -> V = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        copysign(a, b) -> V = {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        };
        shorten(a) -> V = _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(!0xFF)));
        exponent(t) -> V = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(t)));
        scale(a, t) -> V = {
            // Both factors are normal powers of two, and the first product is exact.
            let t = _mm256_castps_si256(t);
            let half = _mm256_srli_epi32::<1>(t);
            let rest = _mm256_sub_epi32(t, half);
            let p = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(half));
            let q = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(rest));
            _mm256_mul_ps(_mm256_mul_ps(a, p), q)
        };
        lt(a, b) -> M = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
    }
}
