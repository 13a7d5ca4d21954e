//! Sequences of different lengths: each has the bits of itself alone, in every layout of the
//! caller's arrays, in any order and on any number of threads, and padding is never read.

mod common;

use bptt::{
    Accumulate, Activation, Dense, Embedding, Error, Isa, Lstm, Network, Noise, Padding,
    Regularisation, Runtime, Schedule, SoftmaxCrossEntropy, SquaredError, Tokens,
};
use common::{
    Kind, Layout, Own, Sequence, Subject, assert_bits, draw_list, drawn_model, isas, lengths_of,
    run_alone, run_list,
};

/// Steps of padded arrays: more than any sequence has.
const STEPS: usize = 11;

const LAYOUTS: [Layout; 3] = [Layout::TimeMajor(STEPS), Layout::BatchFirst(STEPS), Layout::Packed];

const NOISE: Noise = Noise { seed: 5, step: 0, sequence: 0 };

/// The results of a pass over all sequences, and the gradients of the parameters.
fn run(
    network: &Network,
    (isa, threads): (Isa, usize),
    layout: Layout,
    sequences: &[Sequence],
) -> (Vec<Own>, Vec<f32>) {
    let mut model = drawn_model(network, Runtime::new(isa).threads(threads));
    let training = model.training(layout.schedule(&lengths_of(&model, sequences)));
    let mut workspace = training.with_input_gradients().with_state_gradients().workspace().unwrap();
    workspace.set_noise(NOISE);
    let own = run_list((&model, &mut workspace), layout, sequences, Accumulate::No);
    (own, workspace.gradients().as_slice().to_vec())
}

/// The sum of the gradients of sequences alone, and how far another order of the sum may be from
/// it: each element is a sum of at most `rows` products, whose sizes together are not known; but
/// they are at most those of the largest element's, up to the cancellation within an element, which
/// the factor of 64 covers.
fn assert_sum(gradients: &[f32], alone: &[(Own, Vec<f32>)], rows: usize, what: &str) {
    let sum: Vec<f64> = (0..gradients.len())
        .map(|at| alone.iter().map(|(_, gradients)| f64::from(gradients[at])).sum())
        .collect();
    let largest = sum.iter().fold(0.0f64, |most, sum| most.max(sum.abs()));
    let bound = 64.0 * rows as f64 * f64::from(f32::EPSILON) * largest;
    for (at, (&given, expected)) in gradients.iter().zip(&sum).enumerate() {
        let error = (f64::from(given) - expected).abs();
        assert!(error <= bound, "{what}: gradient {at} is {given}, expected {expected} ± {bound}");
    }
}

/// The lengths of sequences in [`is_as_alone`].
const LENGTHS: [usize; 7] = [3, 0, 6, 3, 1, 10, 5];

fn is_as_alone(subject: &Subject, noise: Regularisation, sequences: &[Sequence]) {
    let network = subject.network_with(noise);
    for &isa in isas() {
        let mut model = drawn_model(&network, Runtime::new(isa));
        let alone = (0..).zip(sequences).map(|(sequence, own)| {
            // The noise of a sequence depends on its place.
            run_alone(&mut model, own, Noise { sequence, ..NOISE })
        });
        let alone: Vec<_> = alone.collect();
        let mut all: Option<Vec<f32>> = None;
        for (layout, threads) in LAYOUTS.into_iter().zip([1, 3, 2]) {
            let start = sequences[0].state.step();
            let what =
                format!("{subject:?}, {noise:?}, {layout:?}, {threads} threads from {start}");
            let (own, gradients) = run(&network, (isa, threads), layout, sequences);
            for (n, (given, (expected, _))) in own.iter().zip(&alone).enumerate() {
                given.assert_same(&format!("sequence {n}, {what}"), expected);
            }
            // One order of the sums, whatever the layout and the threads.
            let first = all.get_or_insert_with(|| gradients.clone());
            assert_bits(&what, &gradients, first);
            assert_sum(&gradients, &alone, LENGTHS.iter().sum(), &what);
        }
    }
}

#[test]
fn each_sequence_is_as_alone() {
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let sequences = |start| draw_list(&subject, &LENGTHS, nth as u64, start);
        if matches!(kind, Kind::Clockwork(..)) {
            // Which groups move at which step depends on where the clock stands.
            for start in (0..6).chain([(1 << 63) - 1]) {
                is_as_alone(&subject, Regularisation::none(), &sequences(start));
            }
            continue;
        }
        is_as_alone(&subject, Regularisation::none(), &sequences(0));
        if nth % 2 == 0 && kind.takes_noise() {
            let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
            let noise = Regularisation::none().with_dropout(0.3);
            let noise = noise.and_then(|noise| noise.with_zoneout(0.4, cell)).unwrap();
            is_as_alone(&subject, noise, &sequences(0));
        }
    }
}

/// A cell, delays, and groups of which one moves at each step or none does.
const SUMMED: [Kind; 4] = [
    Kind::LSTM,
    Kind::Skip(Activation::Tanh, &[5, 2]),
    Kind::Clockwork(Activation::Tanh, &[1, 3]),
    Kind::Clockwork(Activation::Tanh, &[2, 3]),
];

fn summed_on_isas() -> impl Iterator<Item = (Kind, &'static Isa)> {
    SUMMED.into_iter().flat_map(|kind| isas().iter().map(move |isa| (kind, isa)))
}

/// Sequences of different lengths have one order of the sums, in whatever order they are given.
#[test]
fn the_order_of_sequences_does_not_matter() {
    for kind in SUMMED {
        let subject = Subject { kind, inputs: 3, hidden: 9 };
        let mut sequences = draw_list(&subject, &[4, 1, 0, 7, 3, 10], 3, 0);
        let network = subject.network();
        for &isa in isas() {
            let (_, expected) = run(&network, (isa, 1), Layout::Packed, &sequences);
            for _ in 0..5 {
                sequences.rotate_left(1);
                sequences.swap(0, 3);
                let (_, given) = run(&network, (isa, 1), Layout::BatchFirst(STEPS), &sequences);
                assert_bits("gradients", &given, &expected);
            }
        }
    }
}

/// Sequences of one length that are given as such, and the dense schedule.
#[test]
fn equal_lengths_are_as_dense() {
    for (kind, &isa) in summed_on_isas() {
        let subject = Subject { kind, inputs: 3, hidden: 17 };
        let sequences = draw_list(&subject, &[70; 4], 3, 0);
        let mut model = drawn_model(&subject.network(), Runtime::new(isa));
        let mut dense = model.training_workspace(Schedule::dense(70, 4)).unwrap();
        let steps = 0..70 * 3;
        let x: Vec<f32> = steps
            .step_by(3)
            .flat_map(|at| sequences.iter().flat_map(move |s| &s.x[at..at + 3]))
            .copied()
            .collect();
        let y = model.forward(&mut dense, &x).unwrap().to_vec();
        model.backward(&mut dense, &x, &|y: &mut [f32]| f64::from(y[0]), Accumulate::No).unwrap();
        let schedule = Schedule::padded(&[70; 4], 70).unwrap();
        let mut ragged = model.training_workspace(&schedule).unwrap();
        assert_bits("y", model.forward(&mut ragged, &x).unwrap(), &y);
        model.backward(&mut ragged, &x, &|y: &mut [f32]| f64::from(y[0]), Accumulate::No).unwrap();
        assert_bits("gradients", ragged.gradients().as_slice(), dense.gradients().as_slice());
    }
}

#[test]
fn no_sequence_has_a_step() {
    for (kind, &isa) in summed_on_isas() {
        let subject = Subject { kind, inputs: 3, hidden: 5 };
        let sequences = draw_list(&subject, &[0; 3], 3, 0);
        for layout in LAYOUTS {
            let (own, gradients) = run(&subject.network(), (isa, 2), layout, &sequences);
            for (own, sequence) in own.iter().zip(&sequences) {
                assert_bits("last state", own.last.as_slice(), sequence.state.as_slice());
                assert_bits("dstate", own.dstate.as_slice(), sequence.dlast.as_slice());
            }
            assert!(gradients.iter().all(|&gradient| gradient == 0.0));
        }
    }
}

/// Tokens, several layers and losses: padding is read nowhere, and the mean is over what is there.
#[test]
fn networks_with_losses() {
    let network = Network::new(Embedding::new(11, 5).unwrap())
        .then(Lstm::new(5, 9).unwrap())
        .then(Lstm::new(9, 6).unwrap())
        .then(Dense::new(6, 4).unwrap());
    let lengths = [3, 0, 5, 1];
    for &isa in isas() {
        let mut model = drawn_model(&network, Runtime::new(isa));
        let mut seen: Option<(f64, f64, Vec<f32>)> = None;
        for layout in LAYOUTS {
            let schedule = layout.schedule(&lengths);
            // No token and no class is so large.
            let (mut tokens, mut classes) = (vec![u32::MAX; schedule.given_rows()], vec![]);
            classes.clone_from(&tokens);
            let mut targets = vec![f32::NAN; schedule.given_rows() * 4];
            for (n, &len) in lengths.iter().enumerate() {
                for step in 0..len {
                    let row = layout.row(&lengths, n, step);
                    tokens[row] = (n * 5 + step) as u32 % 11;
                    classes[row] = (n + step) as u32 % 4;
                    targets[row * 4..][..4].copy_from_slice(&[n as f32, 0.5, step as f32, 1.0]);
                }
            }
            let mut workspace = model.training_workspace(&schedule).unwrap();
            let entropy = SoftmaxCrossEntropy::mean(&classes);
            let squares = SquaredError::mean(&targets);
            let x = Tokens(&tokens);
            let first = model.gradients(&mut workspace, x, &entropy, Accumulate::No).unwrap();
            let second = model.gradients(&mut workspace, x, &squares, Accumulate::Yes).unwrap();
            let gradients = workspace.gradients().as_slice().to_vec();
            assert_eq!(model.evaluate(&mut workspace, x, &entropy).unwrap(), first);
            assert_eq!(model.evaluate(&mut workspace, x, &squares).unwrap(), second);
            let (a, b, all) = seen.get_or_insert((first, second, gradients.clone()));
            assert_eq!((first, second), (*a, *b));
            assert_bits("gradients", &gradients, all);
            assert!(first.is_finite() && second.is_finite());
            tokens[layout.row(&lengths, 2, 4)] = 11;
            let error = model.forward(&mut workspace, Tokens(&tokens)).unwrap_err();
            let row = layout.row(&lengths, 2, 4);
            assert_eq!(error, Error::Token { row, given: 11, tokens: 11 });
        }
    }
}

#[test]
fn what_stands_after_the_end() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = drawn_model(&network, Runtime::new(isas()[0]));
    let schedule = Schedule::padded(&[2, 0, 3], 4).unwrap().with_padding(Padding::LastOutput);
    let mut workspace = model.training_workspace(&schedule).unwrap();
    let y = model.forward(&mut workspace, &[0.5; 4 * 3 * 2]).unwrap();
    let row = |step: usize, n: usize| &y[(step * 3 + n) * 3..][..3];
    assert_eq!((row(2, 0), row(3, 0), row(3, 2)), (row(1, 0), row(1, 0), row(2, 2)));
    assert_eq!(row(0, 0), row(0, 2));
    assert!((0..4).all(|step| row(step, 1) == [0.0; 3]));
}

#[test]
fn lengths_that_are_refused() {
    let error = Schedule::padded(&[2, 5], 4).unwrap_err();
    assert_eq!(error.to_string(), "length is 5, expected at most the 4 steps of the arrays");
    for none in [Schedule::packed(&[]), Schedule::padded(&[], 3)] {
        assert!(matches!(none, Err(Error::Value { what: "batch", .. })));
    }
    let far = Schedule::packed(&[usize::MAX / 2, 3]).unwrap_err();
    assert_eq!(far, Error::TooLarge { what: "the schedule" });
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = drawn_model(&network, Runtime::new(isas()[0]));
    let schedule = Schedule::packed(&[2, 1]).unwrap();
    let mut workspace = model.training_workspace(&schedule).unwrap();
    let error = model.forward(&mut workspace, &[0.0; 5]).unwrap_err();
    assert_eq!(error, Error::Length { what: "x", given: 5, expected: 6 });
}
