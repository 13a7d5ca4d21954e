//! Attention against plain loops with derived tolerances and against finite differences. Threads,
//! other sequences and how time is divided change no bit; what does not fit is refused before
//! anything is written.

mod bits;
#[path = "../common/mod.rs"]
mod common;
mod errors;
mod loops;

use bptt_kernels::attention::{AdditiveGradients, AdditiveScores, Alignment, Softmax};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::Pass;
use common::{AttentionCase, Lengths, Scores, assert_bits, isas};
use loops::{check_backward, check_forward};

const KINDS: [Scores; 2] = [Scores::Dot, Scores::Additive];

/// The rows of sequences.
fn lengths<const N: usize>(of: [[usize; 2]; N]) -> Vec<Lengths> {
    of.iter().map(|&[source, queries]| Lengths { source, queries }).collect()
}

/// Batches of sequences without rows of one kind or both, of one row, and of more rows than any
/// tile has.
fn batches() -> Vec<Vec<Lengths>> {
    vec![
        lengths([]),
        lengths([[0, 0]]),
        lengths([[0, 3], [2, 0]]),
        lengths([[1, 1]]),
        lengths([[20, 1], [5, 1], [9, 1]]),
        lengths([[33, 7], [0, 2], [1, 13], [12, 0], [8, 4], [4, 5]]),
    ]
}

fn cases() -> Vec<AttentionCase> {
    let mut all = Vec::new();
    for (seed, batch) in batches().iter().enumerate() {
        for width in [1, 3, 8, 17, 64, 100] {
            for scores in KINDS {
                let drawn = AttentionCase::draw(scores, batch, width, seed as u64);
                all.push(AttentionCase { gap: seed % 3, cut: seed % 2, ..drawn });
            }
        }
    }
    all
}

#[test]
fn every_entry_is_within_its_bound() {
    for &isa in isas() {
        for case in cases() {
            let given = case.forward(isa, <[f32]>::to_vec);
            check_forward(&case, &given);
            let gradients = case.backward(isa, &given.weights, <[f32]>::to_vec);
            check_backward(&case, &given.weights, &gradients);
        }
    }
}

/// Σ c ⊙ dc of a forward pass in f64.
fn loss(case: &AttentionCase, inputs: &[Vec<f64>; 4]) -> f64 {
    let [queries, keys, values, vector] = inputs;
    let width = case.width;
    let mut loss = 0.0;
    for (rows, source) in case.rows.iter().zip(&case.source) {
        for r in rows {
            let scores: Vec<f64> = source
                .clone()
                .map(|s| {
                    let terms = (0..width).map(|a| {
                        let (q, k) = (queries[r * width + a], keys[s * width + a]);
                        match case.scores {
                            Scores::Dot => q * k,
                            Scores::Additive => vector[a] * (q + k).tanh(),
                        }
                    });
                    terms.sum()
                })
                .collect();
            let all: f64 = scores.iter().map(|e| e.exp()).sum();
            for (s, e) in source.clone().zip(scores) {
                for a in 0..width {
                    let d = f64::from(case.dcontexts[r * width + a]);
                    loss += e.exp() / all * values[s * width + a] * d;
                }
            }
        }
    }
    loss
}

/// The gradients of all four inputs are those that central differences give, up to the rounding of
/// f32 sums of at most some hundred terms of about one.
#[test]
fn gradients_are_finite_differences() {
    const STEP: f64 = 1e-5;
    for scores in KINDS {
        for width in [3, 17] {
            let batch = lengths([[5, 3], [0, 1], [9, 7], [1, 2]]);
            let drawn = AttentionCase::draw(scores, &batch, width, 3);
            let zeros = |of: &[f32]| vec![0.0; of.len()];
            let case = AttentionCase {
                dqueries: zeros(&drawn.queries),
                dkeys: zeros(&drawn.keys),
                dvalues: zeros(&drawn.values),
                dvector: zeros(&drawn.vector),
                cut: 2,
                ..drawn
            };
            let inputs = [&case.queries, &case.keys, &case.values, &case.vector]
                .map(|of| of.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
            for &isa in isas() {
                let weights = case.forward(isa, <[f32]>::to_vec).weights;
                let given = case.backward(isa, &weights, <[f32]>::to_vec);
                let given = [given.dqueries, given.dkeys, given.dvalues, given.dvector];
                for (of, given) in given.iter().enumerate() {
                    for (k, &given) in given.iter().enumerate() {
                        let moved = |by: f64| {
                            let mut inputs = inputs.clone();
                            inputs[of][k] += by;
                            loss(&case, &inputs)
                        };
                        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                        let off = (slope - f64::from(given)).abs();
                        assert!(off < 1e-5, "{scores:?} {of} {k}: {given}, expected {slope}");
                    }
                }
            }
        }
    }
}

#[test]
fn scores_may_be_huge_or_infinite() {
    let alignment = Alignment::new(vec![0, 5, 5], vec![0, 2, 3], vec![0, 1, 2]).unwrap();
    let stretch = alignment.whole();
    let pass = &mut Pass::serial();
    for &isa in isas() {
        let mut all = [
            [1e30, -1e30, 1e30, f32::NEG_INFINITY, 0.0, 9.0],
            [-1e30, -1e30, f32::NEG_INFINITY, -3e38, f32::NEG_INFINITY, f32::NAN],
            [f32::NAN; 6],
        ]
        .concat();
        Softmax { stretch, scores: StridedMut { values: &mut all, stride: 6 } }
            .run(isa, pass)
            .unwrap();
        assert_bits("weights", &all[..6], &[0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_bits("weights", &all[6..12], &[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_bits("weights of no source", &all[12..], &[0.0; 6]);

        let (queries, keys) = ([3e38; 9], [3e38, -1e30, 1e30].repeat(5));
        let [queries, keys] = [&queries[..], &keys[..]].map(|values| Strided { values, stride: 3 });
        let mut scores = [0.0; 15];
        let to = StridedMut { values: &mut scores, stride: 5 };
        AdditiveScores { stretch, vector: &[1.0, 2.0, 4.0], queries, keys, scores: to }
            .run(isa, pass)
            .unwrap();
        assert_eq!(scores[..10], [7.0; 10]);
        let (mut dvector, mut dqueries, mut dkeys) = ([0.0; 3], [9.0; 9], [0.0; 15]);
        AdditiveGradients {
            stretch,
            vector: &[1.0, 2.0, 4.0],
            queries,
            keys,
            dscores: Strided { values: &[1.0; 15], stride: 5 },
            dvector: &mut dvector,
            dqueries: StridedMut { values: &mut dqueries, stride: 3 },
            dkeys: StridedMut { values: &mut dkeys, stride: 3 },
        }
        .run(isa, pass)
        .unwrap();
        assert_eq!((dvector, dqueries, dkeys), ([10.0; 3], [0.0; 9], [0.0; 15]));
    }
}
