//! Tests of every cut of the depth and of the columns into blocks.

use super::{Blocks, DEPTH_BLOCK, ROW_BLOCK, TOGETHER, depth_block};

#[test]
fn blocks_of_depth_have_each_term_once_from_the_last() {
    for depth in 1..=10 * DEPTH_BLOCK + 1 {
        let blocks: Vec<_> =
            (0..depth.div_ceil(DEPTH_BLOCK)).map(|block| depth_block(depth, block)).collect();
        let start = blocks.iter().fold(depth, |start, block| {
            assert_eq!(block.end, start, "a depth of {depth}");
            block.end - block.depth
        });
        assert_eq!(start, 0, "a depth of {depth}");
        let terms = || blocks.iter().map(|block| block.depth);
        assert!(terms().all(|terms| (1..=DEPTH_BLOCK).contains(&terms)));
        assert!(terms().max().unwrap() - terms().min().unwrap() <= 1, "about equal");
    }
}

#[test]
fn blocks_of_columns_have_each_column_once() {
    for rows in 1..=1100 {
        for threads in [1, 2, 3, 4, 7, 8, 16, 256] {
            let blocks = Blocks::of(rows, threads);
            let mut end = 0;
            let mut sizes = Vec::new();
            for block in 0..blocks.count {
                let columns = blocks.columns(rows, block);
                assert_eq!(columns.first, end, "{rows} columns, {threads} threads");
                assert!(columns.first.is_multiple_of(TOGETHER));
                assert!((1..=ROW_BLOCK).contains(&columns.len));
                end = columns.end();
                sizes.push(columns.len);
            }
            assert_eq!(end, rows, "{threads} threads");
            if threads == 1 {
                assert!(sizes.iter().rev().skip(1).all(|&size| size == ROW_BLOCK), "{sizes:?}");
                continue;
            }
            let least = sizes.iter().min().unwrap() + 2 * TOGETHER;
            assert!(sizes.iter().all(|&size| size < least), "about equal: {sizes:?}");
            // With enough columns every thread gets the same number of blocks.
            if rows >= 64 * threads {
                assert!(blocks.count.is_multiple_of(threads), "{rows} columns, {threads} threads");
            }
        }
    }
}
