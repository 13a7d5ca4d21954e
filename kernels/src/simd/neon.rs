//! NEON (aarch64): 4 lanes, 32 registers.

use super::{Kernel, Simd, entry, intrinsics, memory, registers};
use std::arch::aarch64::*;

/// The NEON token.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

entry!(Neon, is_aarch64_feature_detected, "neon");

// SAFETY: the field is private to this module and `enter` makes the only value.
unsafe impl Simd for Neon {
    type V = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const MAX_ROWS: usize = 12;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a token exists only inside `enter`, whose caller has detected the features.
        unsafe { enter(kernel) }
    }
    #[inline(always)]
    fn zip_quads(self, v: [float32x4_t; 4]) -> [float32x4_t; 4] {
        v
    }
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {
        // aarch64 has no stable intrinsic for the hint; the hardware prefetcher follows the panels
        // by itself.
    }
    memory! {
        load_first(p: *const f32, n: usize) -> float32x4_t = {
            let mut lanes = [0.0f32; 4];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            vld1q_f32(lanes.as_ptr())
        };
        store_first(p: *mut f32, v: float32x4_t, n: usize) = {
            let mut lanes = [0.0f32; 4];
            vst1q_f32(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.iter().enumerate().take(n) {
                *p.add(i) = *lane;
            }
        };
        store_quads(p: *mut f32, _stride: usize, v: float32x4_t, count: usize) = {
            if count > 0 {
                vst1q_f32(p, v);
            }
        };
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        store(p: *mut f32, v: float32x4_t) = vst1q_f32(p, v);
        load_bf16_pairs(p: *const u16) -> [float32x4_t; 2] = {
            let pairs = vreinterpretq_u32_u16(vld1q_u16(p));
            let odd = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
            [vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(odd)]
        };
        load_i8(p: *const i8) -> float32x4_t = {
            let four = p.cast::<u32>().read_unaligned();
            let eight = vreinterpret_s8_u32(vdup_n_u32(four));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(eight))))
        };
    }
    registers! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        transpose4([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] = {
            let (p, q) = (vzip1q_f32(a, c), vzip2q_f32(a, c));
            let (r, t) = (vzip1q_f32(b, d), vzip2q_f32(b, d));
            [vzip1q_f32(p, r), vzip2q_f32(p, r), vzip1q_f32(q, t), vzip2q_f32(q, t)]
        };
        select(m: uint32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t = vbslq_f32(m, yes, no);
        sum(a: float32x4_t) -> f32 = {
            let pair = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(pair) + vget_lane_f32::<1>(pair)
        };
        largest(a: float32x4_t) -> f32 = vmaxvq_f32(a);
    }
    intrinsics! {
        add(a, b) -> V = vaddq_f32(a, b);
        sub(a, b) -> V = vsubq_f32(a, b);
        mul(a, b) -> V = vmulq_f32(a, b);
        div(a, b) -> V = vdivq_f32(a, b);
        mul_add(a, b, c) -> V = vfmaq_f32(c, a, b);
        neg_mul_add(a, b, c) -> V = vfmsq_f32(c, a, b);
        min(a, b) -> V = vminq_f32(a, b);
        max(a, b) -> V = vmaxq_f32(a, b);
        sqrt(a) -> V = vsqrtq_f32(a);
        abs(a) -> V = vabsq_f32(a);
        copysign(a, b) -> V = vbslq_f32(vdupq_n_u32(0x8000_0000), b, a);
        shorten(a) -> V = {
            let bits = vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(!0xFF));
            vreinterpretq_f32_u32(bits)
        };
        exponent(t) -> V = vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(t)));
        scale(a, t) -> V = {
            // Both factors are normal powers of two, and the first product is exact.
            let t = vreinterpretq_u32_f32(t);
            let half = vshrq_n_u32::<1>(t);
            let rest = vsubq_u32(t, half);
            let p = vreinterpretq_f32_u32(vshlq_n_u32::<23>(half));
            let q = vreinterpretq_f32_u32(vshlq_n_u32::<23>(rest));
            vmulq_f32(vmulq_f32(a, p), q)
        };
        lt(a, b) -> M = vcltq_f32(a, b);
    }
}
