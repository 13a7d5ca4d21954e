//! AVX-512 (f, bw, dq, vl): 16 lanes, 32 registers, masked edges.

use super::{Kernel, SHIFT, Simd, entry, intrinsics};
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
        // SAFETY: the token exists, so `enter` has been called before, rightly.
        unsafe { enter(kernel) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token exists, so the CPU has AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for 16 readable floats; the token for the ISA.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for 16 writable floats; the token for the ISA.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: masked lanes are not accessed; the caller vouches for the first n.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: masked lanes are not accessed; the caller vouches for the first n.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, p: *const u16) -> [__m512; 2] {
        // SAFETY: the caller vouches for 32 readable values; the token for the ISA.
        unsafe {
            let pairs = _mm512_loadu_si512(p.cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm512_slli_epi32::<16>(pairs);
            [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512 {
        // SAFETY: the caller vouches for 16 readable values; the token for the ISA.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    fn transpose4(self, [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        // SAFETY: the token exists, so the CPU has AVX-512F and AVX-512DQ.
        unsafe {
            let (p, q) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (r, t) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            [
                _mm512_shuffle_ps::<0x44>(p, r),
                _mm512_shuffle_ps::<0xee>(p, r),
                _mm512_shuffle_ps::<0x44>(q, t),
                _mm512_shuffle_ps::<0xee>(q, t),
            ]
        }
    }
    #[inline(always)]
    fn zip_quads(self, [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        // SAFETY: the token exists, so the CPU has AVX-512F.
        unsafe {
            // Quads 0 and 1 of two, and 2 and 3.
            let (p, q) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let (r, t) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            [
                _mm512_shuffle_f32x4::<0x88>(p, r),
                _mm512_shuffle_f32x4::<0xdd>(p, r),
                _mm512_shuffle_f32x4::<0x88>(q, t),
                _mm512_shuffle_f32x4::<0xdd>(q, t),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_quads(self, p: *mut f32, stride: usize, v: __m512, count: usize) {
        // SAFETY: the caller vouches for the places; the token for the ISA.
        unsafe {
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
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        if cfg!(not(miri)) {
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
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
    #[inline(always)]
    fn select(self, m: __mmask16, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: the token exists, so the CPU has AVX-512F.
        unsafe { _mm512_mask_blend_ps(m, no, yes) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: the token exists, so the CPU has AVX-512F.
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        // SAFETY: the token exists, so the CPU has AVX-512F.
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
