//! Portable code: plain Rust on 4 lanes, which the compiler maps to the vectors of the target.
//!
//! `mul_add` is a product and a sum with two roundings: a fused one would be a library call per
//! lane on targets without the instruction.

use super::{Kernel, Simd, memory};

/// The token that every machine has.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

/// Every CPU can run this.
pub(crate) fn detect() -> bool {
    true
}

/// Runs `kernel` in plain Rust.
///
/// # Safety
/// Always safe; it is `unsafe` only to have the signature of the other instruction sets' entries.
#[inline(never)]
pub(crate) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Portable(()))
}

const LANES: usize = 4;

/// Four lanes, aligned so that they are one machine register on targets with vectors.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Lanes([f32; LANES]);

#[inline(always)]
fn map(a: Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    Lanes([f(a.0[0]), f(a.0[1]), f(a.0[2]), f(a.0[3])])
}

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    Lanes([f(a.0[0], b.0[0]), f(a.0[1], b.0[1]), f(a.0[2], b.0[2]), f(a.0[3], b.0[3])])
}

// SAFETY: needs no CPU feature.
unsafe impl Simd for Portable {
    type V = Lanes;
    type M = [bool; LANES];
    const LANES: usize = LANES;
    const MAX_ROWS: usize = 6;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `enter` is safe on every CPU.
        unsafe { enter(kernel) }
    }
    memory! {
        load(p: *const f32) -> Lanes = Lanes(p.cast::<[f32; LANES]>().read_unaligned());
        store(p: *mut f32, v: Lanes) = p.cast::<[f32; LANES]>().write_unaligned(v.0);
        load_first(p: *const f32, n: usize) -> Lanes = {
            let mut v = [0.0; LANES];
            for (i, lane) in v.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            Lanes(v)
        };
        store_first(p: *mut f32, v: Lanes, n: usize) = {
            for (i, lane) in v.0.iter().enumerate().take(n) {
                *p.add(i) = *lane;
            }
        };
        load_bf16_pairs(p: *const u16) -> [Lanes; 2] = {
            let pairs = p.cast::<[[u16; 2]; LANES]>().read_unaligned();
            let mut wide = [Lanes([0.0; LANES]); 2];
            for (lane, pair) in pairs.into_iter().enumerate() {
                for of in 0..2 {
                    wide[of].0[lane] = f32::from_bits(u32::from(pair[of]) << 16);
                }
            }
            wide
        };
        load_i8(p: *const i8) -> Lanes = {
            Lanes(p.cast::<[i8; LANES]>().read_unaligned().map(f32::from))
        };
        store_quads(p: *mut f32, _stride: usize, v: Lanes, count: usize) = {
            if count > 0 {
                p.cast::<[f32; LANES]>().write_unaligned(v.0);
            }
        };
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes([x; LANES])
    }
    #[inline(always)]
    fn transpose4(self, [a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
        let column = |i: usize| Lanes([a.0[i], b.0[i], c.0[i], d.0[i]]);
        [column(0), column(1), column(2), column(3)]
    }
    #[inline(always)]
    fn zip_quads(self, v: [Lanes; 4]) -> [Lanes; 4] {
        v
    }
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}
    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        self.sub(c, self.mul(a, b))
    }
    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Lanes) -> Lanes {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, f32::copysign)
    }
    #[inline(always)]
    fn shorten(self, a: Lanes) -> Lanes {
        map(a, |a| f32::from_bits(a.to_bits() & !0xFF))
    }
    #[inline(always)]
    fn exponent(self, t: Lanes) -> Lanes {
        map(t, |t| f32::from_bits(t.to_bits() << 23))
    }
    #[inline(always)]
    fn scale(self, a: Lanes, t: Lanes) -> Lanes {
        // Both factors are normal powers of two, and the first product is exact.
        zip(a, t, |a, t| {
            let half = t.to_bits() >> 1;
            let rest = t.to_bits() - half;
            a * f32::from_bits(half << 23) * f32::from_bits(rest << 23)
        })
    }
    #[inline(always)]
    fn lt(self, a: Lanes, b: Lanes) -> [bool; LANES] {
        std::array::from_fn(|i| a.0[i] < b.0[i])
    }
    #[inline(always)]
    fn select(self, m: [bool; LANES], yes: Lanes, no: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|i| if m[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn sum(self, a: Lanes) -> f32 {
        (a.0[0] + a.0[2]) + (a.0[1] + a.0[3])
    }
    #[inline(always)]
    fn largest(self, a: Lanes) -> f32 {
        let m = |a: f32, b: f32| if a > b { a } else { b };
        m(m(a.0[0], a.0[2]), m(a.0[1], a.0[3]))
    }
}
