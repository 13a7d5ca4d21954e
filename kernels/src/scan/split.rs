//! How a scan is split among threads, and the units that a task has. Knows sizes; must not know
//! memory.

use crate::gemm::layout::{Span, cut};
use crate::tuning::SCAN_VECTORS;

/// Returns in how many parts the units of a scan over `rows` rows are split: whole vectors of
/// `lanes` units, enough of them in each part to be worth a meeting of the threads. A unit's steps
/// and its sums over rows are all in one part, so the number of parts changes no bit.
pub(super) fn parts(threads: usize, rows: usize, hidden: usize, lanes: usize) -> usize {
    let vectors = hidden.div_ceil(lanes);
    let worth = rows.saturating_mul(vectors) / SCAN_VECTORS;
    threads.min(vectors).min(worth).max(1)
}

/// Returns the units of part `part` of `parts`.
#[inline(always)]
pub(super) fn part(hidden: usize, lanes: usize, parts: usize, part: usize) -> Span {
    let vectors = cut(hidden.div_ceil(lanes), parts, part);
    let first = vectors.first * lanes;
    Span { first, len: (vectors.len * lanes).min(hidden - first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_vectors_that_cover_the_units() {
        for hidden in 1..=70 {
            for lanes in [4, 8, 16] {
                for threads in [1, 2, 3, 8] {
                    let parts = parts(threads, usize::MAX, hidden, lanes);
                    assert!((1..=threads).contains(&parts));
                    let mut end = 0;
                    for number in 0..parts {
                        let Span { first, len } = part(hidden, lanes, parts, number);
                        assert_eq!(first, end);
                        assert!(len > 0 && first.is_multiple_of(lanes));
                        end = first + len;
                    }
                    assert_eq!(end, hidden);
                }
            }
        }
        assert_eq!(parts(8, 1, 64, 8), 1);
    }
}
