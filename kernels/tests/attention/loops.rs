//! What plain loops give, with derived tolerances.

use super::common::{Attended, AttentionCase, AttentionGradients, SENTINEL, Scores};
use bptt_reference::Number;
use bptt_reference::bounds::Bounded;

fn exact(value: f32) -> Bounded {
    Bounded::exact(f64::from(value))
}

fn row<'a>(all: &'a [f32], row: usize, width: usize) -> impl Iterator<Item = Bounded> + 'a {
    all[row * width..][..width].iter().map(|&value| exact(value))
}

#[track_caller]
fn assert_within(what: &str, given: f32, expected: Bounded) {
    let ratio = expected.ratio(given);
    assert!(ratio <= 1.0, "{what} is {given:e}, expected {expected:?}: {ratio} of the bound");
}

/// Floats of a row that no sequence has, or that are beyond a sequence's source, are as they were.
fn assert_others_are_left(case: &AttentionCase, what: &str, given: &[f32], width: usize) {
    for row in 0..case.query_rows() {
        if !case.rows.concat().contains(&row) {
            let row = &given[row * width..][..width];
            assert!(row.iter().all(|x| x.to_bits() == SENTINEL.to_bits()), "{what} of no sequence");
        }
    }
}

/// Σ a ⊙ b onto a first value.
fn sum(first: f32, pairs: impl Iterator<Item = (Bounded, Bounded)>) -> Bounded {
    Bounded::dot(std::iter::once((exact(first), exact(1.0))).chain(pairs))
}

pub fn check_forward(case: &AttentionCase, given: &Attended) {
    let (width, longest) = (case.width, case.longest());
    for (rows, source) in case.rows.iter().zip(&case.source) {
        for &r in rows {
            let scores = &given.scores[r * longest..][..longest];
            for (s, &score) in source.clone().zip(scores) {
                let pairs = row(&case.queries, r, width).zip(row(&case.keys, s, width));
                let expected = match case.scores {
                    Scores::Dot => Bounded::dot(pairs),
                    Scores::Additive => {
                        let tanhs = pairs.map(|(q, k)| (q + k).tanh());
                        Bounded::dot(row(&case.vector, 0, width).zip(tanhs))
                    }
                };
                assert_within("score", score, expected);
            }
            let (scores, rest) = scores.split_at(source.len());
            assert!(rest.iter().all(|x| x.to_bits() == SENTINEL.to_bits()), "after the scores");
            let weights = &given.weights[r * longest..][..source.len()];
            check_softmax(scores, weights);
            for a in 0..width {
                let values = source.clone().map(|s| exact(case.values[s * width + a]));
                let expected = Bounded::dot(weights.iter().map(|&w| exact(w)).zip(values));
                assert_within("context", given.contexts[r * width + a], expected);
            }
        }
    }
    for (what, of, width) in [
        ("scores", &given.scores, longest),
        ("weights", &given.weights, longest),
        ("contexts", &given.contexts, width),
    ] {
        assert_others_are_left(case, what, of, width);
    }
}

/// With u = 2⁻²⁴: the difference is rounded once, which moves the exponential by u |o − max|; an
/// exponential is 2 ULP off, their sum rounded n times, and quotient and product once each.
fn check_softmax(scores: &[f32], weights: &[f32]) {
    let wide: Vec<f64> = scores.iter().map(|&e| f64::from(e)).collect();
    let largest = wide.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = wide.iter().map(|e| (e - largest).exp()).sum();
    let spread = wide.iter().map(|e| largest - e).filter(|d| *d < 100.0).fold(0.0, f64::max);
    let roundings = 2.0 * (4.0 + spread) + scores.len() as f64 + 3.0;
    for (e, &weight) in wide.iter().zip(weights) {
        let value = (e - largest).exp() / sum;
        let bound = value * roundings * (0.5f64).powi(24) * 1.01 + f64::from(f32::MIN_POSITIVE);
        assert_within("weight", weight, Bounded { value, bound });
    }
}

pub fn check_backward(case: &AttentionCase, weights: &[f32], given: &AttentionGradients) {
    let (width, longest) = (case.width, case.longest());
    let at = |of: &[f32], r: usize, s: usize| exact(of[r * longest + s]);
    let of = |all: &[f32], row: usize, a: usize| exact(all[row * width + a]);
    let tanh = |r, s, a| (of(&case.queries, r, a) + of(&case.keys, s, a)).tanh();
    let slope = |r: usize, s: usize, place: usize, a: usize| {
        at(&given.dscores, r, place) * exact(case.vector[a]) * tanh(r, s, a).tanh_slope()
    };
    let one = exact(1.0);
    for (rows, source) in case.rows.iter().zip(&case.source) {
        for &r in rows {
            let places = 0..source.len();
            for s in source.clone() {
                let pairs = row(&case.dcontexts, r, width).zip(row(&case.values, s, width));
                let given = given.dweights[r * longest + s - source.start];
                assert_within("dα", given, Bounded::dot(pairs));
            }
            let products = places.clone().map(|p| (at(weights, r, p), at(&given.dweights, r, p)));
            let products = Bounded::dot(products);
            for p in places.clone() {
                let expected = at(weights, r, p) * (at(&given.dweights, r, p) - products);
                assert_within("de", given.dscores[r * longest + p], expected);
            }
            for a in 0..width {
                let expected = match case.scores {
                    Scores::Dot => {
                        let terms = places.clone().map(|p| {
                            (at(&given.dscores, r, p), of(&case.keys, source.start + p, a))
                        });
                        sum(case.dqueries[r * width + a], terms)
                    }
                    Scores::Additive => Bounded::dot(
                        places.clone().map(|p| (slope(r, source.start + p, p, a), one)),
                    ),
                };
                assert_within("dQ", given.dqueries[r * width + a], expected);
            }
        }
        for (p, s) in source.clone().enumerate() {
            for a in 0..width {
                let terms = rows.iter().map(|&r| (at(weights, r, p), of(&case.dcontexts, r, a)));
                let expected = sum(case.dvalues[s * width + a], terms);
                assert_within("dV", given.dvalues[s * width + a], expected);
                let first = case.dkeys[s * width + a];
                let expected = match case.scores {
                    Scores::Dot => {
                        let term = |&r: &usize| (at(&given.dscores, r, p), of(&case.queries, r, a));
                        sum(first, rows.iter().map(term))
                    }
                    Scores::Additive => sum(first, rows.iter().map(|&r| (slope(r, s, p, a), one))),
                };
                assert_within("dK", given.dkeys[s * width + a], expected);
            }
        }
    }
    for a in 0..width {
        let mut terms = Vec::new();
        for (rows, source) in case.rows.iter().zip(&case.source) {
            for (&r, p) in rows.iter().flat_map(|r| (0..source.len()).map(move |p| (r, p))) {
                terms.push((at(&given.dscores, r, p), tanh(r, source.start + p, a)));
            }
        }
        match case.scores {
            Scores::Dot => assert_eq!(given.dvector[a], case.dvector[a]),
            Scores::Additive => {
                let expected = sum(case.dvector[a], terms.into_iter());
                assert_within("dv", given.dvector[a], expected);
            }
        }
    }
    assert_others_are_left(case, "dα", &given.dweights, longest);
    assert_others_are_left(case, "de", &given.dscores, longest);
    for row in (0..case.query_rows()).filter(|row| !case.rows.concat().contains(row)) {
        let of = |all: &[f32]| all[row * width..][..width].to_vec();
        assert_eq!(of(&given.dqueries), of(&case.dqueries), "dQ of no sequence");
    }
}
