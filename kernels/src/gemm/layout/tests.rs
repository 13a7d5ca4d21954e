//! Tests of every cut of rows into tiles and blocks.

use super::{ROW_BLOCK, cut, heights, row_blocks};
use crate::Isa;
use crate::simd::{Kernel, Simd};

#[test]
fn cuts_have_each_row_once() {
    for rows in 0..=300 {
        for tiles in 1..=40 {
            let cuts: Vec<_> = (0..tiles).map(|tile| cut(rows, tiles, tile)).collect();
            let end = cuts.iter().fold(0, |end, cut| {
                assert_eq!(cut.first, end, "{rows} rows in {tiles} tiles");
                cut.end()
            });
            assert_eq!(end, rows);
            let heights = || cuts.iter().map(|cut| cut.len);
            assert!(heights().max().unwrap() - heights().min().unwrap() <= 1, "about equal");
        }
    }
}

/// Checks the heights of an instruction set's tiles.
struct Heights;

impl Kernel for Heights {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for rows in 1..=300 {
            let all: Vec<_> = heights::<S>(rows).collect();
            assert_eq!(all.iter().map(|tile| tile.len).sum::<usize>(), rows);
            assert!(all.iter().all(|tile| (1..=S::MAX_ROWS).contains(&tile.len)));
        }
    }
}

#[test]
fn no_tile_is_taller_than_the_registers_allow() {
    Isa::available().iter().for_each(|isa| isa.enter(Heights));
}

#[test]
fn blocks_have_each_row_once() {
    for batch in 0..=1000 {
        let blocks: Vec<_> = row_blocks(batch).collect();
        let end = blocks.iter().fold(0, |end, block| {
            assert_eq!(block.first, end, "a batch of {batch}");
            block.end()
        });
        assert_eq!(end, batch);
        let heights = || blocks.iter().map(|block| block.len);
        assert!(heights().all(|rows| (1..=ROW_BLOCK).contains(&rows)));
        let about_equal = heights().max().unwrap_or(0) - heights().min().unwrap_or(0) <= 1;
        assert!(about_equal, "a batch of {batch}");
        // `pack_batch` relies on this: no block of a larger batch has only one row.
        assert!(batch < 2 || heights().all(|rows| rows > 1), "a batch of {batch}");
    }
}
