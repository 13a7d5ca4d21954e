//! AVX-512 (f, bw, dq, vl): 16 lanes, 32 registers, masked edges.

use super::{Kernel, SHIFT, Simd, entry, intrinsics, memory, registers};
use std::arch::x86_64::*;

/// The AVX-512 token.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

entry!(
    Avx512,
    is_x86_feature_detected,
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx2",
    "fma"
);

#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY: the field is private to this module and `enter` makes the only value.
unsafe impl Simd for Avx512 {
    type V = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const MAX_ROWS: usize = 12;

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
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        load_first(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(first(n), p);
        store_first(p: *mut f32, v: __m512, n: usize) = _mm512_mask_storeu_ps(p, first(n), v);
        load_bf16_pairs(p: *const u16) -> [__m512; 2] = {
            let pairs = _mm512_loadu_si512(p.cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm512_slli_epi32::<16>(pairs);
            [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)]
        };
        load_i8(p: *const i8) -> __m512 = {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
        };
        store_quads(p: *mut f32, stride: usize, v: __m512, count: usize) = {
            if count > 0 {
                _mm_storeu_ps(p, _mm512_castps512_ps128(v));
            }
            if count > 1 {
                _mm_storeu_ps(p.add(stride), _mm512_extractf32x4_ps::<1>(v));
            }
            if count > 2 {
                _mm_storeu_ps(p.add(2 * stride), _mm512_extractf32x4_ps::<2>(v));
            }
            if count > 3 {
                _mm_storeu_ps(p.add(3 * stride), _mm512_extractf32x4_ps::<3>(v));
            }
        };
    }
    registers! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        transpose4([a, b, c, d]: [__m512; 4]) -> [__m512; 4] = {
            let (p, q) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (r, t) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            [
                _mm512_shuffle_ps::<0x44>(p, r),
                _mm512_shuffle_ps::<0xee>(p, r),
                _mm512_shuffle_ps::<0x44>(q, t),
                _mm512_shuffle_ps::<0xee>(q, t),
            ]
        };
        zip_quads([a, b, c, d]: [__m512; 4]) -> [__m512; 4] = {
            // First the quads 0 and 1 of two vectors, then their quads 2 and 3.
            let (p, q) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let (r, t) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            [
                _mm512_shuffle_f32x4::<0x88>(p, r),
                _mm512_shuffle_f32x4::<0xdd>(p, r),
                _mm512_shuffle_f32x4::<0x88>(q, t),
                _mm512_shuffle_f32x4::<0xdd>(q, t),
            ]
        };
        select(m: __mmask16, yes: __m512, no: __m512) -> __m512 = _mm512_mask_blend_ps(m, no, yes);
        sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
        largest(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
    }
    intrinsics! {
        add(a, b) -> V = _mm512_add_ps(a, b);
        sub(a, b) -> V = _mm512_sub_ps(a, b);
        mul(a, b) -> V = _mm512_mul_ps(a, b);
        div(a, b) -> V = _mm512_div_ps(a, b);
        mul_add(a, b, c) -> V = _mm512_fmadd_ps(a, b, c);
        neg_mul_add(a, b, c) -> V = _mm512_fnmadd_ps(a, b, c);
        min(a, b) -> V = _mm512_min_ps(a, b);
        max(a, b) -> V = _mm512_max_ps(a, b);
        sqrt(a) -> V = _mm512_sqrt_ps(a);
        abs(a) -> V = _mm512_abs_ps(a);
        copysign(a, b) -> V = _mm512_or_ps(_mm512_abs_ps(a), _mm512_and_ps(b, _mm512_set1_ps(-0.0)));
        recip(a) -> V = _mm512_rcp14_ps(a);
        shorten(a) -> V = _mm512_and_ps(a, _mm512_castsi512_ps(_mm512_set1_epi32(!0xFF)));
        exponent(t) -> V = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(t)));
        scale(a, t) -> V = _mm512_scalef_ps(a, _mm512_sub_ps(t, _mm512_set1_ps(SHIFT)));
        lt(a, b) -> M = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
    }
}
