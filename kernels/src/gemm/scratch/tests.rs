//! Checks that each sum of a group has a place of its own in the scratch.

use super::For;
use crate::Isa;
use crate::gemm::layout::{GROUP, ROW_BLOCK};
use crate::simd::{Kernel, Simd};

struct Places;

impl Kernel for Places {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let mut scratch = For::<S>::new();
        let grid = scratch.grid();
        let mut seen = vec![false; GROUP * ROW_BLOCK];
        for row in 0..ROW_BLOCK {
            for vec in 0..GROUP {
                let floats = row * grid.rows.as_rows().stride() + grid.offset[vec];
                // SAFETY: row < ROW_BLOCK and vec < GROUP.
                let place = unsafe { scratch.place(row, vec) };
                assert_eq!(
                    place,
                    grid.rows.at(0, 0).wrapping_add(floats),
                    "row {row}, vector {vec}"
                );
                assert!(floats.is_multiple_of(S::LANES));
                assert!(!std::mem::replace(&mut seen[floats / S::LANES], true), "twice");
            }
        }
    }
}

#[test]
fn a_group_s_sums_have_a_place_each() {
    Isa::available().iter().for_each(|isa| isa.enter(Places));
}
