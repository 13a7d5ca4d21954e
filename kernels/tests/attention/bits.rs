//! Threads, other sequences and how time is divided change no bit.

use super::common::{Attended, AttentionCase, AttentionGradients, Scores, assert_bits, isas};
use super::{KINDS, lengths};
use bptt_kernels::Isa;
use bptt_kernels::team::set_cores;

/// Case with enough rows for several tasks.
fn large(scores: Scores) -> AttentionCase {
    let batch = lengths([[70, 21], [1, 9], [0, 4], [33, 1], [48, 17], [64, 21]]);
    AttentionCase::draw(scores, &batch, 145, 11)
}

fn both(case: &AttentionCase, isa: Isa) -> (Attended, AttentionGradients) {
    let forward = case.forward(isa, <[f32]>::to_vec);
    let backward = case.backward(isa, &forward.weights, <[f32]>::to_vec);
    (forward, backward)
}

fn assert_same(given: &(Attended, AttentionGradients), expected: &(Attended, AttentionGradients)) {
    let all = |(forward, backward): &(Attended, AttentionGradients)| {
        let AttentionGradients { dweights, dscores, dqueries, dkeys, dvalues, dvector } =
            backward.clone();
        let Attended { scores, weights, contexts } = forward.clone();
        [
            ("scores", scores),
            ("weights", weights),
            ("contexts", contexts),
            ("dweights", dweights),
            ("dscores", dscores),
            ("dqueries", dqueries),
            ("dkeys", dkeys),
            ("dvalues", dvalues),
            ("dvector", dvector),
        ]
    };
    for ((name, given), (_, expected)) in all(given).iter().zip(&all(expected)) {
        assert_bits(name, given, expected);
    }
}

#[test]
fn threads_and_stretches_change_no_bit() {
    set_cores(8);
    for &isa in isas() {
        for scores in KINDS {
            let case = large(scores);
            let expected = both(&case, isa);
            for threads in [1, 2, 3] {
                for cut in [0, 1, 5, 20] {
                    let case = AttentionCase { threads, cut, gap: cut, ..case.clone() };
                    assert_same(&both(&case, isa), &expected);
                }
            }
        }
    }
}

/// A sequence alone gets the bits that it gets among others.
#[test]
fn other_sequences_change_no_bit() {
    for &isa in isas() {
        for scores in KINDS {
            let case = large(scores);
            let (forward, backward) = both(&case, isa);
            for sequence in 0..case.lengths.len() {
                let alone = case.alone(sequence);
                let (own, own_backward) = both(&alone, isa);
                let (rows, source) = (&case.rows[sequence], case.source[sequence].clone());
                let of_rows = |all: &[f32], stride: usize, width: usize| -> Vec<f32> {
                    rows.iter().flat_map(|row| &all[row * stride..][..width]).copied().collect()
                };
                let (width, longest) = (case.width, case.longest());
                let len = source.len();
                for (name, all, own) in [
                    ("scores", &forward.scores, &own.scores),
                    ("weights", &forward.weights, &own.weights),
                    ("dα", &backward.dweights, &own_backward.dweights),
                    ("de", &backward.dscores, &own_backward.dscores),
                ] {
                    assert_bits(name, own, &of_rows(all, longest, len));
                }
                let of_rows = |all| of_rows(all, width, width);
                assert_bits("contexts", &own.contexts, &of_rows(&forward.contexts));
                assert_bits("dQ", &own_backward.dqueries, &of_rows(&backward.dqueries));
                let of_source = |all: &[f32]| all[source.start * width..][..len * width].to_vec();
                assert_bits("dK", &own_backward.dkeys, &of_source(&backward.dkeys));
                assert_bits("dV", &own_backward.dvalues, &of_source(&backward.dvalues));
            }
        }
    }
}
