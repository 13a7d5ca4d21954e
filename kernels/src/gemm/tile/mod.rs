//! The register tile: a few rows times a few vectors of columns, summed over the depth in
//! registers. All products with panels of f32 run through [`accumulate`]. Knows operands and
//! their strides; must not know what the sums mean.
//!
//! Columns are packed two vectors to a *panel*, `[depth][2][lane]`, and up to four panels to a
//! *group*. A tall tile takes one panel at a time: 12 rows × 2 vectors use 24 of 32 registers as
//! accumulators and read the least memory per multiply-add. A flat tile takes two or four
//! panels, so that enough sums are in flight to hide the latency. The depth is cut into blocks
//! so that a panel stays in the first-level cache while all tiles of rows pass over it.
//!
//! Each output is one chain `((start + a₀b₀) + a₁b₁) + …` in the order of the depth, whatever
//! the size of the tile. So results do not depend on the number of rows, and a sum may be stored
//! and loaded again between two blocks of depth without a change of its bits.

mod sums;
#[cfg(test)]
mod tests;

use crate::gemm::layout::{Area, PANEL, RUN, Span, heights, lhs_len};
use crate::gemm::prefetch::{Prefetch, Walk};
pub(crate) use crate::rows::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::tuning::{PREFETCH, UNROLL, most_prefetches};
pub(crate) use sums::{Grid, Sums};

/// The operands of a product: packed rows of `depth` terms, and a group of panels.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// The lhs, packed as `[tile][k / RUN][row][RUN]`, with the rows cut into tiles by [`heights`].
    pub a: *const f32,
    /// The group's first panel, at the first term.
    pub panels: *const f32,
    /// Floats from one panel to the next.
    pub panel_stride: usize,
    /// Terms of the sum.
    pub depth: usize,
    /// Memory that the sweep reads next, to be prefetched meanwhile; may point anywhere.
    pub ahead: *const f32,
}

/// Floats in a cache line.
const LINE: usize = 16;

/// Computes `acc[r][v] += Σₖ a[r][k] · b[k][first + v]`, and meanwhile prefetches about `ahead`
/// floats from `product.ahead` on and the rows of `walk`. Each turn of the loop takes only one
/// pair of vectors from `walk`: a turn with more prefetches than the CPU can hold would wait.
///
/// # Safety
/// 1. The product's `a` is readable for [`lhs_len`] of R rows and the depth;
/// 2. its panels are readable for the vectors `first .. first + V`, in whole panels.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const R: usize, const V: usize>(
    simd: S,
    product: Product,
    first: usize,
    ahead: usize,
    mut walk: Walk<'_>,
    acc: &mut [[S::V; V]; R],
) {
    // SAFETY: the panels have the vectors first .. first + V (2), the rows are R (1), and each
    // call of `terms` ends at the depth or before.
    unsafe {
        let start = product.panels.add(first / PANEL * product.panel_stride);
        let whole = product.depth - product.depth % UNROLL;
        let step = (ahead * UNROLL / whole.max(1)).min(const { most_prefetches(R) } * LINE);
        let mut at = product.ahead;
        let mut k = 0;
        while k < whole {
            for line in 0..PREFETCH {
                simd.prefetch(at.wrapping_add(line * LINE));
            }
            // Tall tiles of many rows need no more lines, so they take only this one branch.
            if const { most_prefetches(R) > PREFETCH } && step > PREFETCH * LINE {
                simd.prefetch(at.wrapping_add(2 * LINE));
                if step > 3 * LINE {
                    simd.prefetch(at.wrapping_add(3 * LINE));
                    if const { most_prefetches(R) > 4 } && step > 4 * LINE {
                        for line in 4..8 {
                            simd.prefetch(at.wrapping_add(line * LINE));
                        }
                    }
                }
            }
            at = at.wrapping_add(step);
            walk.ask(simd);
            terms::<S, R, V, UNROLL>(simd, product, start, k, acc);
            k += UNROLL;
        }
        while walk.is_under_way() {
            walk.ask(simd);
        }
        while k < product.depth {
            terms::<S, R, V, 1>(simd, product, start, k, acc);
            k += 1;
        }
    }
}

/// Adds the terms k .. k + U to `acc`, in order.
///
/// # Safety
/// As for [`accumulate`]; `start` is the first panel that the tile reads, and k + U ≤ depth.
#[inline(always)]
unsafe fn terms<S: Simd, const R: usize, const V: usize, const U: usize>(
    simd: S,
    product: Product,
    start: *const f32,
    k: usize,
    acc: &mut [[S::V; V]; R],
) {
    // SAFETY: term k + u is in the same run as k, since U divides both RUN and k, so the packed
    // rows (1) and the panels (2) have the term.
    unsafe {
        let a = product.a.add(k / RUN * RUN * R + k % RUN);
        let b = start.add(k * PANEL * S::LANES);
        for u in 0..U {
            // The R · V sums leave little room in the registers. So all values of the operand with
            // fewer of them stay in registers, and the values of the other are loaded one by one.
            if R < V {
                let mut rows = [simd.zero(); R];
                for r in 0..R {
                    rows[r] = simd.splat(*a.add(r * RUN + u));
                }
                for v in 0..V {
                    let weights = simd.load(b.add(at::<S>(u, v, product.panel_stride)));
                    for r in 0..R {
                        acc[r][v] = simd.mul_add(rows[r], weights, acc[r][v]);
                    }
                }
            } else {
                let mut weights = [simd.zero(); V];
                for v in 0..V {
                    weights[v] = simd.load(b.add(at::<S>(u, v, product.panel_stride)));
                }
                for r in 0..R {
                    let row = simd.splat(*a.add(r * RUN + u));
                    for v in 0..V {
                        acc[r][v] = simd.mul_add(row, weights[v], acc[r][v]);
                    }
                }
            }
        }
    }
}

/// Returns the floats from the first vector of term 0 to vector `v` of term `u`.
#[inline(always)]
fn at<S: Simd>(u: usize, v: usize, panel_stride: usize) -> usize {
    v / PANEL * panel_stride + (u * PANEL + v % PANEL) * S::LANES
}

/// The size of a tile.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Number of rows.
    height: usize,
    /// Number of vectors.
    width: usize,
}

/// The place where a tile starts.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Index of the tile's first row among the rows of the product.
    row: usize,
    /// Index of the tile's first vector in the group.
    vec: usize,
}

/// The tile of `R` rows from `row` on and `V` vectors of the group from `first` on.
struct Tile<'a, const R: usize, const V: usize> {
    product: Product,
    sums: &'a Sums,
    prefetches: &'a [Prefetch],
    /// Floats from `product.ahead` on that this tile prefetches.
    ahead: usize,
    row: usize,
    first: usize,
}

impl<'a, const R: usize, const V: usize> Tile<'a, R, V> {
    /// Takes the operands of one tile.
    ///
    /// # Safety
    /// 1. For the R rows and V vectors from the start on, the product is as [`accumulate`] asks;
    /// 2. for the same rows and vectors, the sums are as [`Sums::load`] and [`Sums::store`] ask.
    #[inline(always)]
    unsafe fn new(
        product: Product,
        sums: &'a Sums,
        prefetches: &'a [Prefetch],
        ahead: usize,
        Start { row, vec: first }: Start,
    ) -> Self {
        Self { product, sums, prefetches, ahead, row, first }
    }
}

impl<const R: usize, const V: usize> Kernel for Tile<'_, R, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, sums, prefetches, ahead, row, first } = self;
        let product = Product { a: product.a.wrapping_add(lhs_len(row, product.depth)), ..product };
        let rows = Span { first: row, len: R };
        let walk = Walk::new(prefetches, Area { rows, vecs: Span { first, len: V } });
        // SAFETY: the caller of `new` promised the product (1) and the sums (2).
        unsafe {
            let mut acc = sums.load::<S, R, V>(simd, row, first);
            accumulate(simd, product, first, ahead, walk, &mut acc);
            sums.store(simd, row, first, &acc);
        }
    }
}

/// Multiplies `rows` rows with the `vecs` vectors of a group, at most
/// [`GROUP`](crate::gemm::layout::GROUP), tile by tile.
///
/// # Safety
/// 1. The product's `a` is readable for [`lhs_len`] of the rows and the depth, and its panels
///    are readable for the vectors, in whole panels;
/// 2. in these rows and vectors, the real lanes of the sums, or all lanes if a grid is roomy, are
///    readable and writable, and nobody else uses them.
#[inline(always)]
pub(crate) unsafe fn group<S: Simd>(
    simd: S,
    rows: usize,
    product: Product,
    vecs: usize,
    sums: &Sums,
    prefetches: &[Prefetch],
) {
    let widest = match rows.div_ceil(rows.div_ceil(S::MAX_ROWS)) {
        1 => 8,
        2 | 3 if S::MAX_ROWS == 12 => 8,
        2 | 3 => 4,
        4..=6 if S::MAX_ROWS == 12 => 4,
        _ => 2,
    };
    // A tall tile of one vector takes half as long as one of two. A flat tile waits for the latency
    // of its few sums, so it can compute the padding as well at no cost.
    let padded = widest > PANEL && !vecs.is_multiple_of(PANEL);
    let edge;
    let (vecs, sums) = if padded {
        edge = Sums { whole: false, ..*sums };
        (vecs + 1, &edge)
    } else {
        (vecs, sums)
    };
    let mut first = 0;
    let tiles = rows.div_ceil(S::MAX_ROWS);
    let mut product = product;
    while first < vecs {
        let left = vecs - first;
        let width = if left >= widest { widest } else { 1 << left.ilog2() };
        // Together the tiles of these vectors prefetch as much as they read, each its share: memory
        // that is prefetched too early is evicted before it is read.
        let ahead = product.depth * width * S::LANES / tiles;
        for Span { first: row, len: height } in heights::<S>(rows) {
            let (size, at) = (Size { height, width }, Start { row, vec: first });
            // SAFETY: row + height ≤ rows and first + width ≤ vecs (1, 2). A vector that is only
            // padding has panels (1), has no real lanes, and has room in a roomy grid (2).
            unsafe { sized_tile(simd, size, product, sums, prefetches, ahead, at) };
            product.ahead = product.ahead.wrapping_add(ahead);
        }
        first += width;
    }
}

/// Runs the tile of a size that is known only at run time.
///
/// # Safety
/// As for [`group`], for the `height` rows and `width` vectors from the start on.
#[inline(always)]
unsafe fn sized_tile<S: Simd>(
    simd: S,
    Size { height, width }: Size,
    product: Product,
    sums: &Sums,
    prefetches: &[Prefetch],
    ahead: usize,
    at: Start,
) {
    // The condition is a constant, so that a tile is not compiled for an instruction set that has
    // too few registers for it.
    macro_rules! dispatch {
        ($($r:literal by $v:literal $(above $rows:literal)?),+) => {
            match (height, width) {
                $(($r, $v) => if const { true $(&& S::MAX_ROWS > $rows)? } {
                    // SAFETY: this function asks for the same.
                    simd.call(unsafe { Tile::<$r, $v>::new(product, sums, prefetches, ahead, at) });
                } else {
                    unreachable!("a tile for more registers");
                })+
                _ => unreachable!("no tile of {height} rows and {width} vectors"),
            }
        };
    }
    dispatch!(
        3 by 1, 4 by 1, 5 by 1, 6 by 1,
        7 by 1 above 6, 8 by 1 above 6, 9 by 1 above 6, 10 by 1 above 6, 11 by 1 above 6,
        12 by 1 above 6,
        1 by 8, 2 by 8 above 6, 3 by 8 above 6,
        1 by 4, 2 by 4, 3 by 4, 4 by 4 above 6, 5 by 4 above 6, 6 by 4 above 6,
        1 by 2, 2 by 2, 3 by 2, 4 by 2, 5 by 2, 6 by 2,
        7 by 2 above 6, 8 by 2 above 6, 9 by 2 above 6, 10 by 2 above 6, 11 by 2 above 6,
        12 by 2 above 6
    );
}
