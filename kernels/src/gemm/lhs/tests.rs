//! Packs lhs operands of every height, and of depths near the ends of runs and blocks. Each value
//! has to be packed to the place where the tile of its row reads it, and to no other place.

use super::{batch_parts, by_columns, pack, pack_batch};
use crate::Isa;
use crate::gemm::layout::{DEPTH_BLOCK, ROW_BLOCK, RUN, Span, Terms, heights, lhs_len, row_blocks};
use crate::rows::Rows;
use crate::simd::{Kernel, Simd};

/// The value of floats to which nothing was packed.
const NOTHING: f32 = -1.0;
/// Floats behind the packed rows, which have to stay as they are.
const BEYOND: usize = 32;

const DEPTHS: [usize; 13] = [
    1,
    2,
    3,
    RUN - 1,
    RUN,
    RUN + 1,
    2 * RUN + 5,
    DEPTH_BLOCK - 1,
    DEPTH_BLOCK,
    DEPTH_BLOCK + 1,
    DEPTH_BLOCK + RUN,
    2 * DEPTH_BLOCK,
    2 * DEPTH_BLOCK + 1,
];

/// Returns a different number for each row and term.
fn value(row: usize, k: usize) -> f32 {
    (row * 600 + k) as f32
}

/// Reads packed rows of A, `depth` terms each, in the order of a tile, and checks each value.
fn read<S: Simd>(packed: &[f32], rows: Span, depth: usize) {
    let mut seen = vec![false; packed.len()];
    for first_k in (0..depth).step_by(DEPTH_BLOCK) {
        let terms = DEPTH_BLOCK.min(depth - first_k);
        for tile in heights::<S>(rows.len) {
            let start = rows.len * first_k + lhs_len(tile.first, terms);
            for r in 0..tile.len {
                for k in 0..terms {
                    let at = start + k / RUN * RUN * tile.len + k % RUN + r * RUN;
                    assert!(!std::mem::replace(&mut seen[at], true), "two values in one place");
                    assert_eq!(packed[at], value(rows.first + tile.first + r, first_k + k));
                }
            }
        }
    }
}

struct Packing {
    rows: usize,
    depth: usize,
    parts: usize,
}

impl Kernel for Packing {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, parts } = self;
        let stride = depth + 1;
        let a: Vec<f32> = (0..rows * stride).map(|at| value(at / stride, at % stride)).collect();
        let mut to = vec![NOTHING; lhs_len(rows, depth) + BEYOND];
        for part in 0..parts {
            // SAFETY: A has these rows, and `to` has room for all of them.
            unsafe {
                pack(simd, Rows::new(a.as_ptr(), stride), rows, depth, to.as_mut_ptr(), part, parts)
            };
        }
        let (packed, beyond) = to.split_at(lhs_len(rows, depth));
        assert_eq!(beyond, [NOTHING; BEYOND], "{rows} rows of {depth}");
        read::<S>(packed, Span { first: 0, len: rows }, depth);
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours in an interpreter")]
fn rows_are_packed_where_tiles_read_them() {
    for &isa in Isa::available() {
        for rows in 2..=ROW_BLOCK {
            for (depth, parts) in DEPTHS.into_iter().zip([1, 2, 3, 4, 8].into_iter().cycle()) {
                isa.enter(Packing { rows, depth, parts });
            }
        }
    }
}

struct BatchPacking {
    batch: usize,
    depth: usize,
}

impl Kernel for BatchPacking {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { batch, depth } = self;
        let a: Vec<f32> = (0..batch * depth).map(|at| value(at / depth, at % depth)).collect();
        let mut to = vec![NOTHING; lhs_len(batch, depth) + BEYOND];
        for part in 0..batch_parts(batch) {
            // SAFETY: A has these rows, `to` has room for them, and the batch has this part.
            unsafe {
                pack_batch(simd, Rows::new(a.as_ptr(), depth), batch, depth, to.as_mut_ptr(), part)
            };
        }
        assert_eq!(to[lhs_len(batch, depth)..], [NOTHING; BEYOND], "a batch of {batch}, {depth}");
        for rows in row_blocks(batch) {
            let block = &to[lhs_len(rows.first, depth)..][..lhs_len(rows.len, depth)];
            read::<S>(block, rows, depth);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours in an interpreter")]
fn batches_are_packed_where_tiles_read_them() {
    for &isa in Isa::available() {
        for batch in 2..=2 * ROW_BLOCK + 3 {
            for depth in [1, RUN, RUN + 1, DEPTH_BLOCK + 1] {
                isa.enter(BatchPacking { batch, depth });
            }
        }
    }
}

struct ByColumns {
    height: usize,
    depth: usize,
    /// Rows of A before the rows that are terms.
    before: usize,
}

impl Kernel for ByColumns {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { height, depth, before } = self;
        let (end, stride) = (before + depth, height + 1);
        // The last row of A is the first term.
        let of_a = |at: usize| match end - 1 - at / stride {
            k if k < depth => value(at % stride, k),
            _ => NOTHING,
        };
        let a: Vec<f32> = (0..end * stride).map(of_a).collect();
        let mut to = vec![NOTHING; lhs_len(height, depth) + BEYOND];
        let mut sums = vec![1.0; height + 1];
        let (from, terms) = (Rows::new(a.as_ptr(), stride), Terms { end, depth });
        // SAFETY: A has these rows and columns, and `to` and `sums` have room for all of them.
        unsafe { by_columns(simd, from, height, terms, to.as_mut_ptr(), sums.as_mut_ptr()) };
        let (packed, beyond) = to.split_at(lhs_len(height, depth));
        assert_eq!(beyond, [NOTHING; BEYOND], "{height} columns of {depth}");
        read::<S>(packed, Span { first: 0, len: height }, depth);
        let added = |column| 1.0 + (0..depth).map(|k| value(column, k)).sum::<f32>();
        assert!((0..height).all(|column| sums[column] == added(column)), "{height} by {depth}");
        assert_eq!(sums[height], 1.0, "a sum beyond the columns");
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours in an interpreter")]
fn columns_are_packed_where_tiles_read_them() {
    for &isa in Isa::available() {
        for height in 1..=ROW_BLOCK {
            for depth in DEPTHS.into_iter().filter(|&depth| depth <= DEPTH_BLOCK) {
                for before in [0, 2] {
                    isa.enter(ByColumns { height, depth, before });
                }
            }
        }
    }
}
