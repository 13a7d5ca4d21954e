//! Passes that end at pages that may not be touched, and passes over sequences of different lengths.

use super::case::Case;
use super::{STEPS, hidden, ragged};
use crate::common::{assert_bits, isas};
use bptt_kernels::recurrence::MoveRows;
use proptest::prelude::*;

/// Units and periods of groups.
const SETS: [&[(usize, usize)]; 4] =
    [&[(1, 1)], &[(3, 1), (5, 2), (8, 4)], &[(16, 2), (1, 3)], &[(17, 5), (4, 6)]];

/// Compares passes over all sequences with passes over each alone.
fn each_is_as_alone(case: &Case) {
    let width = hidden(&case.groups);
    for &isa in isas() {
        let all = case.run(isa, <[f32]>::to_vec);
        for n in 0..case.rows.schedule().batch() {
            let alone = case.alone(n).run(isa, <[f32]>::to_vec);
            let what = |of: &str| {
                let Case { groups, rows, start, threads, .. } = case;
                let rows = rows.schedule();
                format!(
                    "{of} of sequence {n}, {groups:?} from {start}, {rows:?}, {threads} threads"
                )
            };
            assert_bits(&what("h"), &case.rows_of(n, width, &all.h), &alone.h);
            assert_bits(&what("dz"), &case.moves_of(n, &all.dz), &alone.dz);
            assert_bits(&what("dh"), case.state_of(n, &all.dh), &alone.dh);
        }
    }
}

/// Lengths with the longest first.
fn sorted(mut lengths: Vec<usize>) -> Vec<usize> {
    lengths.sort_by(|a, b| b.cmp(a));
    lengths
}

proptest! {
    #[test]
    fn each_sequence_is_as_alone(
        of in proptest::collection::vec((1usize..20, 1usize..7), 1..4),
        lengths in proptest::collection::vec(0usize..10, 1..20),
        (start, threads, cut) in (0u64..12, 1usize..4, 0usize..10),
    ) {
        let case = Case::draw(&of, MoveRows::dense(0, 1), start);
        let rows = ragged(&sorted(lengths), &case.groups);
        let cut = cut.min(rows.schedule().steps());
        each_is_as_alone(&Case { threads, gap: 3, cut, ..Case::draw(&of, rows, start) });
    }
}

/// As large as to be divided among threads, by sequences and by units.
#[test]
fn each_sequence_is_as_alone_on_threads() {
    for (of, batch) in [(&[(30, 1), (20, 2), (10, 4)][..], 70), (&[(160, 1), (120, 3)], 9)] {
        for (start, threads) in [(0, 2), (1, 3)] {
            let case = Case::draw(of, MoveRows::dense(0, 1), start);
            let rows = ragged(&sorted((0..batch).map(|n| n * n % 23).collect()), &case.groups);
            each_is_as_alone(&Case { threads, ..Case::draw(of, rows, start) });
        }
    }
}

#[cfg(unix)]
#[test]
fn passes_stay_in_their_slices() {
    use crate::common::guarded::{Guarded, Side};
    for of in SETS {
        let groups = super::groups(of);
        let ragged = |lengths: &[usize]| ragged(lengths, &groups);
        for (rows, start) in [
            (MoveRows::dense(STEPS, 1), 0),
            (MoveRows::dense(STEPS, 5), 4),
            (MoveRows::dense(STEPS, 67), 1),
            (ragged(&[3, 2, 2, 0]), 0),
            (ragged(&[9, 5, 1]), 4),
        ] {
            let steps = rows.schedule().steps();
            let case = Case { cut: steps.min(3), ..Case::draw(of, rows, start) };
            for &isa in isas() {
                let expected = case.run(isa, <[f32]>::to_vec);
                for (side, gap) in
                    [(Side::Begin, 0), (Side::End, 0), (Side::Begin, 3), (Side::End, 3)]
                {
                    println!("{of:?}, {:?} from {start} on {isa}, {side:?}", rows.schedule());
                    let case = Case { gap, ..case.clone() };
                    let given = case.run(isa, |values| Guarded::new(values, side));
                    assert_bits("h", &given.h, &expected.h);
                    assert_bits("dz", &given.dz, &expected.dz);
                    assert_bits("dh", &given.dh, &expected.dh);
                }
            }
        }
    }
}
