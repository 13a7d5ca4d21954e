//! Every cut of the depth into blocks.

use super::{DEPTH_BLOCK, Work};
use std::ptr::{null, null_mut};

#[test]
fn blocks_have_each_term_once_from_the_last() {
    for depth in 1..=10 * DEPTH_BLOCK + 1 {
        let work = Work::<0> {
            depth,
            a: null(),
            stride: 0,
            rows: 0,
            products: [],
            sums: None,
            accumulate: false,
            packed: null_mut(),
            panels: null_mut(),
        };
        let blocks: Vec<_> =
            (0..depth.div_ceil(DEPTH_BLOCK)).map(|block| work.block(block)).collect();
        let start = blocks.iter().fold(depth, |start, &(end, terms)| {
            assert_eq!(end, start, "a depth of {depth}");
            end - terms
        });
        assert_eq!(start, 0, "a depth of {depth}");
        let terms = || blocks.iter().map(|&(_, terms)| terms);
        assert!(terms().all(|terms| (1..=DEPTH_BLOCK).contains(&terms)));
        assert!(terms().max().unwrap() - terms().min().unwrap() <= 1, "about equal");
    }
}
