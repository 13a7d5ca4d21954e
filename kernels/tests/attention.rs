//! Attention against plain loops with derived tolerances and against finite differences. Threads, other
//! sequences and how time is divided change no bit; what does not fit is refused before anything is
//! written.

mod common;

use bptt_kernels::attention::{
    AdditiveGradients, AdditiveScores, Alignment, Contexts, DotScores, Softmax, SoftmaxGradients,
    SourceGradients,
};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::{Pass, set_cores};
use bptt_kernels::{Isa, KernelError};
use bptt_reference::Number;
use bptt_reference::bounds::Bounded;
use common::{
    Attended, AttentionCase, AttentionGradients, Lengths, SENTINEL, Scores, assert_bits, isas,
};

const KINDS: [Scores; 2] = [Scores::Dot, Scores::Additive];

/// The rows of sequences.
fn lengths<const N: usize>(of: [[usize; 2]; N]) -> Vec<Lengths> {
    of.iter().map(|&[source, queries]| Lengths { source, queries }).collect()
}

/// Batches of sequences without rows of one kind or both, of one row, and of more rows than any tile
/// has.
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

fn check_forward(case: &AttentionCase, given: &Attended) {
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

fn check_backward(case: &AttentionCase, weights: &[f32], given: &AttentionGradients) {
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

/// The gradients of all four inputs are those that central differences give, up to the rounding of f32
/// sums of at most some hundred terms of about one.
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
        let queries = Strided { values: &queries, stride: 3 };
        let mut scores = [0.0; 15];
        let to = StridedMut { values: &mut scores, stride: 5 };
        AdditiveScores { stretch, vector: &[1.0, 2.0, 4.0], queries, keys: &keys, scores: to }
            .run(isa, pass)
            .unwrap();
        assert_eq!(scores[..10], [7.0; 10]);
        let (mut dvector, mut dqueries, mut dkeys) = ([0.0; 3], [9.0; 9], [0.0; 15]);
        AdditiveGradients {
            stretch,
            vector: &[1.0, 2.0, 4.0],
            queries,
            keys: &keys,
            dscores: Strided { values: &[1.0; 15], stride: 5 },
            dvector: &mut dvector,
            dqueries: StridedMut { values: &mut dqueries, stride: 3 },
            dkeys: &mut dkeys,
        }
        .run(isa, pass)
        .unwrap();
        assert_eq!((dvector, dqueries, dkeys), ([10.0; 3], [0.0; 9], [0.0; 15]));
    }
}

/// What was refused, and why.
fn refused<T: std::fmt::Debug>(result: Result<T, KernelError>) -> (&'static str, &'static str) {
    match result.unwrap_err() {
        KernelError::Short { what, .. } => ("short", what),
        KernelError::Length { what, .. } => ("length", what),
        KernelError::Dimension { what, .. } => ("dimension", what),
        KernelError::TooLarge { what } => ("large", what),
        other => panic!("{other}"),
    }
}

#[test]
fn alignments_are_checked() {
    let of = |source: &[usize], queries: &[usize], rows: &[usize]| {
        refused(Alignment::new(source.to_vec(), queries.to_vec(), rows.to_vec()))
    };
    assert_eq!(of(&[], &[0], &[]), ("dimension", "source"));
    assert_eq!(of(&[1, 2], &[0, 0], &[]), ("dimension", "source"));
    assert_eq!(of(&[0, 2, 1], &[0, 0, 0], &[]), ("dimension", "source"));
    assert_eq!(of(&[0, 1], &[], &[]), ("dimension", "queries"));
    assert_eq!(of(&[0, 1, 2], &[0, 2, 1], &[5]), ("dimension", "queries"));
    assert_eq!(of(&[0, 1], &[0, 1, 2], &[5, 6]), ("length", "queries"));
    assert_eq!(of(&[0, 1], &[0, 1], &[5, 6]), ("length", "rows"));
    assert_eq!(of(&[0, 1, 2], &[0, 1, 3], &[5, 6, 5]), ("dimension", "rows"));
    assert_eq!(of(&[0, 1], &[0, 1], &[usize::MAX]), ("large", "rows"));
    let alignment = Alignment::new(vec![0, 4, 7], vec![0, 1, 3], vec![5, 2, 9]).unwrap();
    assert_eq!((alignment.sequences(), alignment.source_rows()), (2, 7));
    assert_eq!((alignment.query_rows(), alignment.longest(), alignment.steps()), (10, 4, 2));
    assert_eq!(refused(alignment.stretch(1..3)), ("dimension", "stretch"));
    #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
    let reversed = alignment.stretch(2..1);
    assert_eq!(refused(reversed), ("dimension", "stretch"));
    assert!(alignment.stretch(2..2).is_ok());
}

/// Runs each entry with buffers of these lengths and strides, and says what was refused. Nothing is
/// written then.
#[derive(Clone, Copy)]
struct Given {
    source: usize,
    queries: usize,
    stride: usize,
    weights: usize,
    weights_stride: usize,
    /// As `source`, of what is written.
    gradients: usize,
    dvector: usize,
}

impl Given {
    /// Sizes that fit: query rows 0 to 2 of two floats, four source rows, of which three are one
    /// sequence's.
    const FITS: Self = Self {
        source: 8,
        queries: 8,
        stride: 3,
        weights: 12,
        weights_stride: 4,
        gradients: 8,
        dvector: 2,
    };

    /// What each of the seven entries refuses, or nothing.
    fn refused(self) -> [Option<(&'static str, &'static str)>; 7] {
        let alignment = Alignment::new(vec![0, 3, 4], vec![0, 2, 3], vec![1, 2, 0]).unwrap();
        let (isa, stretch, pass) = (Isa::available()[0], alignment.whole(), &mut Pass::serial());
        let (source, queries) = (vec![1.0; self.source], vec![1.0; self.queries]);
        let weights = vec![1.0; self.weights];
        let keys = &source[..];
        let queries = Strided { values: &queries, stride: self.stride };
        let weights = Strided { values: &weights, stride: self.weights_stride };
        let vector = &[1.0; 2];
        let mut scores = vec![7.0; self.weights];
        let mut contexts = vec![7.0; self.queries];
        let mut gradients = vec![7.0; self.gradients];
        let mut dvector = vec![7.0; self.dvector];
        let mut of = |entry| {
            let to = StridedMut { values: &mut scores, stride: self.weights_stride };
            let rows = StridedMut { values: &mut contexts, stride: self.stride };
            let dkeys = &mut gradients[..];
            let result = match entry {
                0 => DotScores { stretch, width: 2, queries, keys, scores: to }.run(isa, pass),
                1 => AdditiveScores { stretch, vector, queries, keys, scores: to }.run(isa, pass),
                2 => Softmax { stretch, scores: to }.run(isa, pass),
                3 => SoftmaxGradients { stretch, weights, gradients: to }.run(isa, pass),
                4 => {
                    let (values, contexts, accumulate) = (keys, rows, true);
                    Contexts { stretch, width: 2, weights, values, contexts, accumulate }
                        .run(isa, pass)
                }
                5 => {
                    SourceGradients { stretch, width: 2, weights, rows: queries, gradients: dkeys }
                        .run(isa, pass)
                }
                _ => AdditiveGradients {
                    stretch,
                    vector,
                    queries,
                    keys,
                    dscores: weights,
                    dvector: &mut dvector,
                    dqueries: rows,
                    dkeys,
                }
                .run(isa, pass),
            };
            let all = [&scores[..], &contexts, &gradients, &dvector].concat();
            let refused = result.is_err().then(|| refused(result));
            assert!(refused.is_none() || all.iter().all(|x| *x == 7.0), "entry {entry} wrote");
            scores.fill(7.0);
            contexts.fill(7.0);
            gradients.fill(7.0);
            dvector.fill(7.0);
            refused
        };
        std::array::from_fn(&mut of)
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let fits = Given::FITS;
    assert_eq!(fits.refused(), [None; 7]);
    let [short, length] = [|what| Some(("short", what)), |what| Some(("length", what))];
    for source in [7, 9] {
        let expected =
            [length("keys"), length("keys"), None, None, length("values"), None, length("keys")];
        assert_eq!(Given { source, ..fits }.refused(), expected);
    }
    for gradients in [7, 9] {
        let expected = [None, None, None, None, None, length("gradients"), length("dkeys")];
        assert_eq!(Given { gradients, ..fits }.refused(), expected);
    }
    for dvector in [1, 3] {
        let expected = [None, None, None, None, None, None, length("dvector")];
        assert_eq!(Given { dvector, ..fits }.refused(), expected);
    }
    let stride = short("stride");
    let expected = [stride, stride, None, None, stride, stride, stride];
    assert_eq!(Given { stride: 1, ..fits }.refused(), expected);
    let (queries, rows) = (short("queries"), short("rows"));
    let expected = [queries, queries, None, None, short("contexts"), rows, queries];
    assert_eq!(Given { queries: 7, ..fits }.refused(), expected);
    assert_eq!(Given { weights_stride: 2, ..fits }.refused(), [stride; 7]);
    let (scores, weights) = (short("scores"), short("weights"));
    let expected = [scores, scores, scores, weights, weights, weights, short("dscores")];
    assert_eq!(Given { weights: 11, ..fits }.refused(), expected);
    let large = |what| Some(("large", what));
    let all = Given { stride: usize::MAX, ..fits }.refused();
    assert_eq!(all[0], large("queries"));
    let all = Given { weights_stride: usize::MAX, ..fits }.refused();
    assert_eq!(all[2], large("scores"));
}
