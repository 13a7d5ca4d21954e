//! Sequences of different lengths: each has the bits of itself alone, in every layout of the
//! caller's arrays, in any order and on any number of threads, and padding is never read.

mod common;

use bptt::{
    Accumulate, Activation, Dense, Embedding, Error, Isa, Lstm, Model, Network, Noise, Padding,
    Regularisation, Runtime, Schedule, SoftmaxCrossEntropy, SquaredError, State, Tokens,
};
use bptt_reference::sample::uniform;
use common::{Given, Kind, Layout, Subject, assert_bits, drawn_model, isas};

/// Steps of padded arrays: more than any sequence has.
const STEPS: usize = 11;

const LAYOUTS: [Layout; 3] = [Layout::TimeMajor(STEPS), Layout::BatchFirst(STEPS), Layout::Packed];

/// What is drawn for one sequence.
#[derive(Clone, Debug)]
struct Sequence {
    x: Vec<f32>,
    dy: Vec<f32>,
    state: Vec<f32>,
    dlast: Vec<f32>,
    /// Its place in the noise.
    number: u64,
    /// The steps that all sequences have taken before the pass.
    start: u64,
}

/// The results of a sequence.
#[derive(Debug)]
struct Results {
    y: Vec<f32>,
    last: Vec<f32>,
    dx: Vec<f32>,
    dstate: Vec<f32>,
    gradients: Vec<f32>,
}

fn draw(subject: &Subject, lengths: &[usize], seed: u64) -> Vec<Sequence> {
    let (inputs, outputs) = (subject.input_size(), subject.output_size());
    let state = subject.network().state(1).unwrap().as_slice().len();
    let of = |(number, &len): (usize, &usize)| {
        let draw = |k: u64, len| uniform(seed + 100 * k + number as u64, len, 1.0);
        Sequence {
            x: draw(1, len * inputs),
            dy: draw(2, len * outputs),
            state: draw(3, state),
            dlast: draw(4, state),
            number: number as u64,
            start: 0,
        }
    };
    lengths.iter().enumerate().map(of).collect()
}

/// The tensors of a state of each sequence, joined to a state of all.
fn join_states(model: &Model, states: &[&[f32]]) -> State {
    let batch = states.len();
    let mut all = model.state(batch).unwrap();
    let one = model.state(1).unwrap();
    for (tensor, of_all) in one.manifest().tensors().iter().zip(all.manifest().clone().tensors()) {
        let width = tensor.shape()[tensor.shape().len() - 1];
        let to = &mut all.as_mut_slice()[of_all.range()];
        for (index, to) in to.chunks_mut(width).enumerate() {
            let from = tensor.range().start + index / batch * width;
            to.copy_from_slice(&states[index % batch][from..from + width]);
        }
    }
    all
}

/// The state of sequence `n` of a state of all.
fn state_of(all: &State, n: usize) -> Vec<f32> {
    let mut own = Vec::new();
    for tensor in all.manifest().tensors() {
        let (width, batch) =
            (tensor.shape()[tensor.shape().len() - 1], tensor.shape()[tensor.shape().len() - 2]);
        let values = &all.as_slice()[tensor.range()];
        own.extend(values.chunks(width).skip(n).step_by(batch).flatten());
    }
    own
}

/// Passes over all sequences.
fn run(
    network: &Network,
    (isa, threads): (Isa, usize),
    layout: Layout,
    sequences: &[Sequence],
    padding: f32,
) -> (Vec<Results>, Vec<f32>) {
    let mut model = drawn_model(network, Runtime::new(isa).threads(threads));
    let (bptt::InputSize::Features(inputs), outputs) = (model.input(), model.output_size()) else {
        unreachable!("all layers here read features");
    };
    let lengths: Vec<_> = sequences.iter().map(|s| s.x.len() / inputs).collect();
    let schedule = layout.schedule(&lengths);
    let training = model.training(&schedule).with_input_gradients().with_state_gradients();
    let mut workspace = training.workspace().unwrap();
    let states = |of: fn(&Sequence) -> &[f32]| -> State {
        join_states(&model, &sequences.iter().map(of).collect::<Vec<_>>())
    };
    let mut state = states(|s| &s.state);
    state.set_step(sequences[0].start).unwrap();
    workspace.set_state(&state).unwrap();
    workspace.set_last_gradient(Some(&states(|s| &s.dlast))).unwrap();
    workspace.set_noise(Noise { seed: 5, step: 0, sequence: sequences[0].number });
    let part = |of: fn(&Sequence) -> Vec<f32>, width: usize| {
        layout.joined(&sequences.iter().map(of).collect::<Vec<_>>(), width, padding)
    };
    let x = part(|s| s.x.clone(), inputs);
    let y = model.forward(&mut workspace, &x).unwrap().to_vec();
    let last = workspace.last_state().unwrap();
    let dy = part(|s| s.dy.clone(), outputs);
    model.backward(&mut workspace, &x, &Given(&dy), Accumulate::No).unwrap();
    let (dx, dstate) = (workspace.input_gradients().unwrap(), workspace.state_gradients().unwrap());
    let own: Vec<bool> = {
        let mut own = vec![false; schedule.given_rows()];
        for (n, &len) in lengths.iter().enumerate() {
            (0..len).for_each(|step| own[layout.row(&lengths, n, step)] = true);
        }
        own
    };
    for (row, own) in own.iter().enumerate().filter(|(_, own)| !**own) {
        assert!(!own && y[row * outputs..][..outputs].iter().all(|&y| y == 0.0));
        assert!(dx[row * inputs..][..inputs].iter().all(|&dx| dx == 0.0));
    }
    let results = (0..sequences.len()).map(|n| Results {
        y: layout.of(&y, &lengths, n, outputs),
        last: state_of(&last, n),
        dx: layout.of(dx, &lengths, n, inputs),
        dstate: state_of(&dstate, n),
        gradients: Vec::new(),
    });
    (results.collect(), workspace.gradients().as_slice().to_vec())
}

/// A pass over a sequence alone, or its state if it has no step.
fn alone(network: &Network, isa: Isa, sequence: &Sequence) -> Results {
    let mut model = drawn_model(network, Runtime::new(isa));
    let outputs = model.output_size();
    let steps = sequence.dy.len() / outputs;
    if steps == 0 {
        let Sequence { state, dlast, .. } = sequence.clone();
        let gradients = vec![0.0; model.manifest().len()];
        return Results { y: vec![], last: state, dx: vec![], dstate: dlast, gradients };
    }
    let training = model.training(Schedule::dense(steps, 1));
    let mut workspace = training.with_input_gradients().with_state_gradients().workspace().unwrap();
    let mut state = join_states(&model, &[&sequence.state]);
    state.set_step(sequence.start).unwrap();
    workspace.set_state(&state).unwrap();
    workspace.set_last_gradient(Some(&join_states(&model, &[&sequence.dlast]))).unwrap();
    workspace.set_noise(Noise { seed: 5, step: 0, sequence: sequence.number });
    let y = model.forward(&mut workspace, &sequence.x).unwrap().to_vec();
    let last = workspace.last_state().unwrap().as_slice().to_vec();
    model.backward(&mut workspace, &sequence.x, &Given(&sequence.dy), Accumulate::No).unwrap();
    Results {
        y,
        last,
        dx: workspace.input_gradients().unwrap().to_vec(),
        dstate: workspace.state_gradients().unwrap().as_slice().to_vec(),
        gradients: workspace.gradients().as_slice().to_vec(),
    }
}

fn assert_same(what: &str, given: &Results, expected: &Results) {
    assert_bits(&format!("y, {what}"), &given.y, &expected.y);
    assert_bits(&format!("last state, {what}"), &given.last, &expected.last);
    assert_bits(&format!("dx, {what}"), &given.dx, &expected.dx);
    assert_bits(&format!("dstate, {what}"), &given.dstate, &expected.dstate);
}

/// The sum of the gradients of sequences alone, and how far another order of the sum may be from
/// it: each element is a sum of at most `rows` products, whose sizes together are not known; but
/// they are at most those of the largest element's, up to the cancellation within an element, which
/// the factor of 64 covers.
fn assert_sum(gradients: &[f32], alone: &[Results], rows: usize, what: &str) {
    let sum: Vec<f64> = (0..gradients.len())
        .map(|at| alone.iter().map(|one| f64::from(one.gradients[at])).sum())
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
        let alone: Vec<_> =
            sequences.iter().map(|sequence| alone(&network, isa, sequence)).collect();
        let mut all: Option<Vec<f32>> = None;
        for (layout, threads) in LAYOUTS.into_iter().zip([1, 3, 2]) {
            let start = sequences[0].start;
            let what =
                format!("{subject:?}, {noise:?}, {layout:?}, {threads} threads from {start}");
            let (own, gradients) = run(&network, (isa, threads), layout, sequences, f32::NAN);
            for (n, (given, expected)) in own.iter().zip(&alone).enumerate() {
                assert_same(&format!("sequence {n}, {what}"), given, expected);
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
        let mut sequences = draw(&subject, &LENGTHS, nth as u64);
        if matches!(kind, Kind::Clockwork(..)) {
            // Which groups move at which step depends on where the clock stands.
            for start in (0..6).chain([(1 << 63) - 1]) {
                sequences.iter_mut().for_each(|sequence| sequence.start = start);
                is_as_alone(&subject, Regularisation::none(), &sequences);
            }
            continue;
        }
        is_as_alone(&subject, Regularisation::none(), &sequences);
        if nth % 2 == 0 {
            let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
            let noise = Regularisation::none().with_dropout(0.3);
            let noise = noise.and_then(|noise| noise.with_zoneout(0.4, cell)).unwrap();
            is_as_alone(&subject, noise, &sequences);
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
        let mut sequences = draw(&subject, &[4, 1, 0, 7, 3, 10], 3);
        let network = subject.network();
        for &isa in isas() {
            let (_, expected) = run(&network, (isa, 1), Layout::Packed, &sequences, 0.0);
            for _ in 0..5 {
                sequences.rotate_left(1);
                sequences.swap(0, 3);
                let (_, given) =
                    run(&network, (isa, 1), Layout::BatchFirst(STEPS), &sequences, 1e30);
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
        let sequences = draw(&subject, &[70; 4], 3);
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
        let sequences = draw(&subject, &[0; 3], 3);
        for layout in LAYOUTS {
            let (own, gradients) = run(&subject.network(), (isa, 2), layout, &sequences, f32::NAN);
            for (own, sequence) in own.iter().zip(&sequences) {
                assert_bits("last state", &own.last, &sequence.state);
                assert_bits("dstate", &own.dstate, &sequence.dlast);
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
