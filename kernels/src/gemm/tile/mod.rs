//! The register tile: a few rows times a few vectors of columns, summed over the
//! depth in registers. Every product of the crate runs through
//! [`accumulate`]; it knows operands and their strides, and must not know what the
//! sums mean.
//!
//! Columns are packed two vectors to a *panel*, `[depth][2][lane]`, and up to
//! four panels to a *group*. A tall tile takes one panel at a time (12 rows × 2
//! vectors fill the 24 accumulators of a 32-register file and read the least per
//! product), a flat one takes two or four, so that enough sums are in flight to
//! hide the latency. The depth is cut so that a panel stays in the first-level
//! cache while the row tiles pass over it.
//!
//! Each output is one chain `((start + a₀b₀) + a₁b₁) + …` in the order of the
//! depth, whatever the tile: results do not depend on the number of rows, and a
//! sum that is stored and taken up again goes on as if it had not been.

mod sums;
#[cfg(test)]
mod tests;

use crate::gemm::layout::{Area, PANEL, RUN, Span, heights, lhs_len};
use crate::gemm::prefetch::{Prefetch, Walk};
pub(crate) use crate::rows::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::tuning::{PREFETCH, UNROLL, most_prefetches};
pub(crate) use sums::{Grid, Sums};

/// One product to sum over: `rows × depth` times a group of panels.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// The left operand, packed in tiles, `[tile][k / RUN][row][RUN]`, cut as
    /// [`heights`] cuts.
    pub a: *const f32,
    /// The group's first panel, at the first k.
    pub panels: *const f32,
    /// Floats from one panel to the next.
    pub panel_stride: usize,
    /// Terms of the sum.
    pub depth: usize,
    /// What the sweep reads next, to be fetched meanwhile; anywhere.
    pub ahead: *const f32,
}

/// Floats of a cache line.
const LINE: usize = 16;
/// `acc[r][v] += Σₖ a[r][k] · b[k][first + v]`; a pair of vectors that `walk` names
/// is asked for in each turn, so that no turn waits for room to ask for more.
///
/// # Safety
/// 1. The product's `a` is readable for [`lhs_len`] of R rows and the depth;
/// 2. its panels are for the vectors `first .. first + V`, in whole panels.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const R: usize, const V: usize>(
    simd: S,
    product: Product,
    first: usize,
    ahead: usize,
    mut walk: Walk<'_>,
    acc: &mut [[S::V; V]; R],
) {
    // SAFETY: the panels have the vectors first .. first + V (2), and k runs below the
    // depth, to which `terms` adds none.
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
            // Tall tiles of many rows need no more, so there it is one branch.
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

/// The terms k .. k + U, in order.
///
/// # Safety
/// As [`accumulate`]; `start` is the first panel that the tile reads, and k + U ≤ depth.
#[inline(always)]
unsafe fn terms<S: Simd, const R: usize, const V: usize, const U: usize>(
    simd: S,
    product: Product,
    start: *const f32,
    k: usize,
    acc: &mut [[S::V; V]; R],
) {
    // SAFETY: term k + u is in the run of k, since U divides RUN as k does, so that the packed
    // rows (1) and the panels (2) have it.
    unsafe {
        let a = product.a.add(k / RUN * RUN * R + k % RUN);
        let b = start.add(k * PANEL * S::LANES);
        for u in 0..U {
            // The fewer operands of the two stay in registers, the others come one
            // by one: R · V sums, and the files have little room beside them.
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

/// Where vector `v` of term `u` lies, from the first vector of term 0.
#[inline(always)]
fn at<S: Simd>(u: usize, v: usize, panel_stride: usize) -> usize {
    v / PANEL * panel_stride + (u * PANEL + v % PANEL) * S::LANES
}

/// How large a tile is.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// How many rows it has.
    height: usize,
    /// How many vectors.
    width: usize,
}

/// Where a tile starts.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Which of the operands' rows is its first.
    row: usize,
    /// Which of the group's vectors.
    vec: usize,
}

/// `R` rows times `V` vectors, from the first row of the operands and vector
/// `first` of the group.
struct Tile<'a, const R: usize, const V: usize> {
    product: Product,
    sums: &'a Sums,
    prefetches: &'a [Prefetch],
    /// Floats of `product.ahead` that this tile fetches.
    ahead: usize,
    row: usize,
    first: usize,
}

impl<'a, const R: usize, const V: usize> Tile<'a, R, V> {
    /// # Safety
    /// 1. For the R rows and the V vectors from the start the product is what [`accumulate`]
    ///    asks;
    /// 2. for them the sums are what [`Sums::take`] and [`Sums::leave`] ask.
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
        // SAFETY: the sums (2) and the product (1) are so, says who called `new`.
        unsafe {
            let mut acc = sums.load::<S, R, V>(simd, row, first);
            accumulate(simd, product, first, ahead, walk, &mut acc);
            sums.store(simd, row, first, &acc);
        }
    }
}

/// `rows` rows times the `vecs` vectors (at most [`GROUP`](crate::gemm::layout::GROUP)) of a group.
///
/// # Safety
/// 1. The product's `a` is readable for [`lhs_len`] of the rows and the depth, and its panels
///    for the vectors, in whole panels;
/// 2. of the rows and vectors the real lanes of the sums, or all where a grid is roomy, are
///    readable and writable, and nobody else's.
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
    // A tall tile of one vector takes half as long; a flat one waits for its few sums, and may
    // as well add up the padding.
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
        // As much as the tiles of these vectors read, each its share: what is
        // fetched too early is gone again when it is wanted.
        let ahead = product.depth * width * S::LANES / tiles;
        for Span { first: row, len: height } in heights::<S>(rows) {
            let (size, at) = (Size { height, width }, Start { row, vec: first });
            // SAFETY: row + height ≤ rows, and first + width ≤ vecs or, of a vector that is
            // padding, has no lane that is real, but panels.
            unsafe { sized_tile(simd, size, product, sums, prefetches, ahead, at) };
            product.ahead = product.ahead.wrapping_add(ahead);
        }
        first += width;
    }
}

/// Runs the tile of that size.
///
/// # Safety
/// As [`group`], of so many rows and vectors from the start.
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
    // A constant condition, so that a tile that an instruction set has no registers
    // for is not compiled for it either.
    macro_rules! dispatch {
        ($($r:literal by $v:literal $(above $rows:literal)?),+) => {
            match (height, width) {
                $(($r, $v) => if const { true $(&& S::MAX_ROWS > $rows)? } {
                    // SAFETY: this function's own.
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
