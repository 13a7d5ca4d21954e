//! Products with quantised weights, for inference. If a pass spends its time on reading
//! weights, weights of half the size make it twice as fast. Knows formats and how to
//! load their values into registers; must not know cells.
//!
//! The arithmetic is in f32: a value is widened when it is loaded (and an int8 is multiplied by
//! its scale), so the result has the same bits as with f32 weights that were rounded to the
//! format. Panels are in the same order as in f32, `[group][block of depth][panel][k]`. Within
//! a term, the two vectors of bf16 are interleaved, so that a shift gives one vector and a mask
//! the other; the two vectors of int8 stand one after the other.

use crate::format::Format;
use crate::gemm::layout::{DEPTH_BLOCK, GROUP, PANEL};
use crate::gemm::prefetch::Prefetch;
use crate::gemm::rhs::{PackedMatrix, Place};
use crate::gemm::tile::{self, Product, Sums};
use crate::simd::{Kernel, MAX_LANES, Simd};
use crate::tuning::QUANTISED_AHEAD;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A format other than f32, as kernels read it.
///
/// # Safety
/// An implementation promises that a value takes `BYTES` bytes, and that [`pair`](Self::pair)
/// reads no more than its 2 · LANES values.
pub(crate) unsafe trait Quantised {
    /// Bytes of a value.
    const BYTES: usize;

    /// Loads the two vectors of a panel's term as f32. `scales` has a scale for each lane.
    ///
    /// # Safety
    /// `p` is readable for 2 · LANES values of the format.
    unsafe fn pair<S: Simd>(simd: S, p: *const u8, scales: [S::V; PANEL]) -> [S::V; PANEL];
}

pub(crate) struct Bf16;

// SAFETY: a bf16 has two bytes, and 2 · LANES of them are read.
unsafe impl Quantised for Bf16 {
    const BYTES: usize = Format::Bf16.bytes();
    #[inline(always)]
    unsafe fn pair<S: Simd>(simd: S, p: *const u8, _: [S::V; PANEL]) -> [S::V; PANEL] {
        // SAFETY: `p` is readable for 2 · LANES values.
        unsafe { simd.load_bf16_pairs(p.cast()) }
    }
}

pub(crate) struct Int8;

// SAFETY: an int8 has one byte, and 2 · LANES of them are read.
unsafe impl Quantised for Int8 {
    const BYTES: usize = Format::Int8.bytes();
    #[inline(always)]
    unsafe fn pair<S: Simd>(simd: S, p: *const u8, scales: [S::V; PANEL]) -> [S::V; PANEL] {
        let p = p.cast::<i8>();
        // SAFETY: `p` is readable for 2 · LANES values.
        unsafe {
            let (first, second) = (simd.load_i8(p), simd.load_i8(p.add(S::LANES)));
            [simd.mul(first, scales[0]), simd.mul(second, scales[1])]
        }
    }
}

/// Computes `acc[v] += Σₖ a[k] · b[k][FIRST + v]` for one row `a` and a block of depth, whose
/// panels start at `panels`.
///
/// # Safety
/// 1. `a` is readable for `depth` floats;
/// 2. the panels are readable for `depth` terms of FIRST + V vectors, in whole panels of `W`;
/// 3. the scales, if there are some, are readable for FIRST + V vectors.
#[inline(always)]
unsafe fn row<S: Simd, W: Quantised, const FIRST: usize, const V: usize>(
    simd: S,
    a: *const f32,
    panels: *const u8,
    depth: usize,
    scales: Option<*const f32>,
    acc: &mut [S::V; V],
) {
    let mut scale = [simd.zero(); V];
    // SAFETY: k < depth, so `a` (1) and the panels (2) have the term; FIRST + v < FIRST + V, so
    // there are scales for the vector (3).
    unsafe {
        if let Some(scales) = scales {
            for v in 0..V {
                scale[v] = simd.load(scales.add((FIRST + v) * S::LANES));
            }
        }
        let term = PANEL * S::LANES * W::BYTES;
        for k in 0..depth {
            let row = simd.splat(*a.add(k));
            for v in (0..V).step_by(PANEL) {
                let p = panels.add(((FIRST + v) / PANEL * depth + k) * term);
                simd.prefetch(p.wrapping_add(QUANTISED_AHEAD * 64).cast());
                let pair = W::pair(simd, p, [scale[v], scale[v + 1]]);
                acc[v] = simd.mul_add(row, pair[0], acc[v]);
                acc[v + 1] = simd.mul_add(row, pair[1], acc[v + 1]);
            }
        }
    }
}

/// Adds the product of one row `a` with a group of `V` vectors to `acc`.
///
/// # Safety
/// As for [`PackedMatrix::multiply_row`], and the matrix's format is `W`.
#[inline(always)]
pub(crate) unsafe fn multiply_row<S: Simd, W: Quantised, const V: usize>(
    simd: S,
    a: *const f32,
    weights: &PackedMatrix,
    group: usize,
    acc: &mut [[S::V; V]; 1],
) {
    // Sums whose address is taken live in memory. This takes the address of a copy, so that `acc`
    // can stay in registers.
    let mut sums = *acc;
    let to = sums.as_mut_ptr().cast();
    // SAFETY: this function asks for the same of `a`, the group and the format; the sums are V
    // vectors.
    simd.call(unsafe { Row::<W, V>::new(a, weights, group, to) });
    *acc = sums;
}

/// The work of [`multiply_row`] as a kernel: a function of its own, which all cells share.
struct Row<'a, W, const V: usize> {
    a: *const f32,
    weights: &'a PackedMatrix,
    group: usize,
    /// The `V` sums.
    to: *mut f32,
    format: PhantomData<W>,
}

impl<'a, W: Quantised, const V: usize> Row<'a, W, V> {
    /// Takes the operands of one product.
    ///
    /// # Safety
    /// 1. As for [`multiply_row`];
    /// 2. `to` is readable and writable for V vectors.
    #[inline(always)]
    unsafe fn new(a: *const f32, weights: &'a PackedMatrix, group: usize, to: *mut f32) -> Self {
        Self { a, weights, group, to, format: PhantomData }
    }
}

impl<W: Quantised, const V: usize> Kernel for Row<'_, W, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { a, weights, group, to, .. } = self;
        let mut sums = [[simd.zero(); V]; 1];
        // SAFETY: the caller of `new` promised that the sums are V vectors (2) and that the
        // operands are as `whole_row` asks (1).
        unsafe {
            for v in 0..V {
                sums[0][v] = simd.load(to.add(v * S::LANES));
            }
            whole_row::<S, W, V>(simd, a, weights, group, &mut sums);
            for v in 0..V {
                simd.store(to.add(v * S::LANES), sums[0][v]);
            }
        }
    }
}

/// Runs [`row`] over the whole depth for the `V` vectors of a group. It takes the vectors in two
/// halves if the registers cannot hold the scales of all beside the sums.
///
/// # Safety
/// As for [`multiply_row`].
#[inline(always)]
unsafe fn whole_row<S: Simd, W: Quantised, const V: usize>(
    simd: S,
    a: *const f32,
    weights: &PackedMatrix,
    group: usize,
    acc: &mut [[S::V; V]; 1],
) {
    const HALF: usize = GROUP / 2;
    let depth = weights.depth();
    let scales = weights.scales(group, S::LANES);
    let mut first_k = 0;
    while first_k < depth {
        let terms = DEPTH_BLOCK.min(depth - first_k);
        // SAFETY: first_k < depth, so `a` has the terms, and the group has the panels, with a
        // scale for each of its columns; FIRST + HALF ≤ V.
        unsafe {
            let panels = weights.block_start(group, V, first_k, S::LANES);
            let a = a.add(first_k);
            if S::MAX_ROWS > 6 || V < GROUP {
                row::<S, W, 0, V>(simd, a, panels, terms, scales, &mut acc[0]);
            } else {
                let mut low = [acc[0][0], acc[0][1], acc[0][2], acc[0][3]];
                let mut high = [acc[0][V - 4], acc[0][V - 3], acc[0][V - 2], acc[0][V - 1]];
                row::<S, W, 0, HALF>(simd, a, panels, terms, scales, &mut low);
                row::<S, W, HALF, HALF>(simd, a, panels, terms, scales, &mut high);
                for v in 0..HALF {
                    acc[0][v] = low[v];
                    acc[0][V - HALF + v] = high[v];
                }
            }
        }
        first_k += DEPTH_BLOCK;
    }
}

/// The product of several rows with a block of depth of a group. It widens the panels once and
/// then multiplies them as f32.
pub(crate) struct Widened<'a> {
    weights: &'a PackedMatrix,
    rows: usize,
    a: *const f32,
    place: Place,
    first_k: usize,
    sums: &'a Sums,
    prefetches: &'a [Prefetch],
}

impl<'a> Widened<'a> {
    /// Takes the operands of [`PackedMatrix::multiply`].
    ///
    /// # Safety
    /// As for [`PackedMatrix::multiply`], and the matrix's format is not f32.
    #[inline(always)]
    pub(crate) unsafe fn new(
        weights: &'a PackedMatrix,
        (rows, a): (usize, *const f32),
        place: Place,
        first_k: usize,
        sums: &'a Sums,
        prefetches: &'a [Prefetch],
    ) -> Self {
        Self { weights, rows, a, place, first_k, sums, prefetches }
    }
}

impl Kernel for Widened<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, rows, a, place, first_k, sums, prefetches } = self;
        let depth = DEPTH_BLOCK.min(weights.depth() - first_k);
        let mut stage = Stage(MaybeUninit::uninit());
        let to = stage.0.as_mut_ptr().cast::<f32>();
        // SAFETY: the caller of `new` promised the place as `widen` asks, and the operand and sums
        // as the tile asks; the stage has room for a block of a group's panels.
        unsafe {
            match weights.format() {
                Format::F32 => unreachable!("f32 needs no widening"),
                Format::Bf16 => widen::<S, Bf16>(simd, weights, place, first_k, depth, to),
                Format::Int8 => widen::<S, Int8>(simd, weights, place, first_k, depth, to),
            }
            let panel_stride = PANEL * S::LANES * depth;
            let product = Product { a, panels: to, panel_stride, depth, ahead: to };
            tile::group(simd, rows, product, place.vecs, sums, prefetches);
        }
    }
}

/// Room for the panels of a block of depth of a group, as f32.
#[repr(align(64))]
struct Stage(MaybeUninit<[f32; DEPTH_BLOCK * GROUP * MAX_LANES]>);

/// Widens a group's block of depth, `depth` terms from `first_k` on, to f32.
///
/// # Safety
/// 1. The place is one of the matrix, `first_k` is less than its depth, and its format is `W`;
/// 2. `to` is writable for the block in f32.
#[inline(always)]
unsafe fn widen<S: Simd, W: Quantised>(
    simd: S,
    weights: &PackedMatrix,
    place: Place,
    first_k: usize,
    depth: usize,
    to: *mut f32,
) {
    let scales = weights.scales(place.group, S::LANES);
    // SAFETY: vectors come in pairs, padding included, and so do the scales (1); the loops go over
    // the pairs and terms of the block, in the matrix (1) and in `to` (2).
    unsafe {
        let mut from = weights.block_start(place.group, place.vecs, first_k, S::LANES);
        let mut to = to;
        for vec in (0..place.vecs).step_by(PANEL) {
            let mut scale = [simd.zero(); PANEL];
            if let Some(scales) = scales {
                let scales = scales.add(vec * S::LANES);
                scale = [simd.load(scales), simd.load(scales.add(S::LANES))];
            }
            for _ in 0..depth {
                simd.prefetch(from.wrapping_add(QUANTISED_AHEAD * 64).cast());
                let pair = W::pair(simd, from, scale);
                simd.store(to, pair[0]);
                simd.store(to.add(S::LANES), pair[1]);
                from = from.add(PANEL * S::LANES * W::BYTES);
                to = to.add(PANEL * S::LANES);
            }
        }
    }
}
