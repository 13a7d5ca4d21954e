//! Blocks that act on each row alone, against the equations on every instruction set, and dropout
//! between layers.

mod common;

use bptt::{
    Accumulate, Activation, Dense, Dropout, Error, LayerNormalization, Lstm, Network, Noise,
    Runtime, Schedule, SquaredError, State,
};
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::sample::uniform;
use bptt_reference::tape::{Id, Rows, Tape};
use bptt_reference::{Activation as Phi, Bounded};
use common::tree::model_of;
use common::{Given, Layout, assert_bits, isas};
use proptest::prelude::*;

/// What a pass over rows computes, and what it was given.
struct Pass {
    parameters: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    gradients: Vec<f32>,
}

/// Runs a network over `rows` steps of one sequence.
fn run(network: &Network, runtime: Runtime, (rows, inputs): (usize, usize), seed: u64) -> Pass {
    let count = network.manifest().unwrap().len();
    let (parameters, x) = (uniform(seed, count, 1.0), uniform(seed ^ 1, rows * inputs, 1.0));
    let dy = uniform(seed ^ 2, rows * network.output_size(), 1.0);
    let mut model = model_of(network, runtime, &parameters);
    let training = model.training(Schedule::dense(rows, 1)).with_input_gradients();
    let mut workspace = training.workspace().unwrap();
    let y = model.forward(&mut workspace, &x).unwrap().to_vec();
    model.backward(&mut workspace, &x, &Given(&dy), Accumulate::No).unwrap();
    let dx = workspace.input_gradients().unwrap().to_vec();
    let gradients = workspace.gradients().as_slice().to_vec();
    // A stream has the bits of the pass.
    let mut streamed = vec![0.0; y.len()];
    model.stream(1).unwrap().forward(&x, &mut streamed).unwrap();
    assert_bits("a stream", &streamed, &y);
    Pass { parameters, x, dy, y, dx, gradients }
}

/// Compares a pass with what `equations` computes for a row from the parameters and the row of x.
fn check(
    pass: &Pass,
    (inputs, outputs): (usize, usize),
    equations: impl Fn(&mut Tape<Bounded>, Id, Id) -> Id,
) {
    let mut tape = Tape::default();
    let parameters = tape.leaf(&exact(&pass.parameters));
    let (mut xs, mut seeds) = (Vec::new(), Vec::new());
    for ((x, y), dy) in
        pass.x.chunks(inputs).zip(pass.y.chunks(outputs)).zip(pass.dy.chunks(outputs))
    {
        let x = tape.leaf(&exact(x));
        let of_row = equations(&mut tape, parameters, x);
        assert_within("y", y, tape.value(of_row));
        xs.push(x);
        seeds.push((of_row, exact(dy)));
    }
    let adjoints = tape.backward(&seeds);
    for (x, dx) in xs.into_iter().zip(pass.dx.chunks(inputs)) {
        assert_within("dx", dx, adjoints.of(x));
    }
    assert_within("gradients", &pass.gradients, adjoints.of(parameters));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dense_layers_with_activations_are_within_their_bounds(
        rows in 1usize..30, inputs in 1usize..40, outputs in 1usize..40, seed: u64,
    ) {
        for (activation, phi) in [
            (Activation::Tanh, Phi::Tanh),
            (Activation::Logistic, Phi::Logistic),
            (Activation::Relu, Phi::Relu),
        ] {
            let dense = Dense::new(inputs, outputs).unwrap().with_activation(activation);
            for &isa in isas() {
                let pass = run(&Network::new(dense), Runtime::new(isa), (rows, inputs), seed >> 8);
                check(&pass, (inputs, outputs), |tape, parameters, x| {
                    let weights = Rows { matrix: parameters, start: 0, rows: outputs, columns: inputs };
                    let sum = tape.affine(&[(weights, x)], Some((parameters, inputs * outputs)));
                    // A ReLU whose sum is within its error of 0 may be on either side; the pass shows
                    // on which.
                    tape.map(phi, sum)
                });
            }
        }
    }

    #[test]
    fn layer_normalisation_is_within_its_bounds(
        rows in 1usize..30, size in 1usize..70, seed: u64,
    ) {
        let epsilon = 0.25f32;
        let norm = LayerNormalization::new(size).unwrap().with_epsilon(epsilon).unwrap();
        for &isa in isas() {
            let pass = run(&Network::new(norm), Runtime::new(isa), (rows, size), seed >> 8);
            check(&pass, (size, size), |tape, parameters, x| {
                let [gain, bias] = [0, size].map(|start| tape.part(parameters, start, size));
                let normal = tape.norm(x, f64::from(epsilon));
                let scaled = tape.mul(gain, normal);
                tape.add(scaled, bias)
            });
        }
    }
}

/// The threads share rows, and sums keep their order.
#[test]
fn threads_change_no_bit() {
    let network = Network::new(Dense::new(90, 70).unwrap().with_activation(Activation::Tanh))
        .then(LayerNormalization::new(70).unwrap())
        .then(Dropout::new(70, 0.3).unwrap())
        .then(Dense::new(70, 70).unwrap().with_activation(Activation::Relu));
    let parameters = uniform(1, network.manifest().unwrap().len(), 0.3);
    let (x, dy) = (uniform(2, 500 * 90, 1.0), uniform(3, 500 * 70, 1.0));
    for &isa in isas() {
        let of = |threads| {
            let mut model = model_of(&network, Runtime::new(isa).threads(threads), &parameters);
            let training = model.training(Schedule::dense(500, 1)).with_input_gradients();
            let mut workspace = training.workspace().unwrap();
            let y = model.forward(&mut workspace, &x).unwrap().to_vec();
            model.backward(&mut workspace, &x, &Given(&dy), Accumulate::No).unwrap();
            let dx = workspace.input_gradients().unwrap().to_vec();
            (y, dx, workspace.gradients().as_slice().to_vec())
        };
        let one = of(1);
        assert!([2, 3].into_iter().all(|threads| of(threads) == one), "{isa}");
    }
}

/// y = m ⊙ x and dx = m ⊙ dy with one mask, which has as many zeros as it should. Instruction sets and
/// threads do not matter, and evaluation has no mask.
#[test]
fn dropout_drops_what_it_should() {
    let (rows, size, probability) = (200, 77, 0.3);
    let network = Network::new(Dropout::new(size, probability).unwrap());
    let (x, dy) = (vec![1.0; rows * size], vec![2.0; rows * size]);
    let mut masks = Vec::new();
    for &isa in isas() {
        for threads in [1, 2] {
            let runtime = Runtime::new(isa).threads(threads);
            let mut model = model_of(&network, runtime, &[]);
            let training = model.training(Schedule::dense(rows, 1)).with_input_gradients();
            let mut workspace = training.workspace().unwrap();
            workspace.set_noise(Noise { seed: 9, ..Noise::default() });
            let y = model.forward(&mut workspace, &x).unwrap().to_vec();
            model.backward(&mut workspace, &x, &Given(&dy), Accumulate::No).unwrap();
            let dx: Vec<f32> =
                workspace.input_gradients().unwrap().iter().map(|d| d / 2.0).collect();
            assert_bits("dx", &dx, &y);
            masks.push(y);
            // A seed of its own has a mask of its own.
            workspace.set_noise(Noise { seed: 10, ..Noise::default() });
            assert_ne!(model.forward(&mut workspace, &x).unwrap(), &masks[0]);
            let sum = |y: &mut [f32]| y.iter().map(|y| f64::from(*y)).sum::<f64>();
            let all = model.evaluate(&mut workspace, &x, &sum).unwrap();
            assert_eq!(all, (rows * size) as f64);
        }
    }
    assert!(masks.iter().all(|mask| *mask == masks[0]));
    assert!(masks[0].iter().all(|&m| m == 0.0 || m == 1.0 / (1.0 - probability)));
    let dropped = masks[0].iter().filter(|m| **m == 0.0).count() as f64;
    let (count, p) = ((rows * size) as f64, f64::from(probability));
    assert!((dropped - count * p).abs() < 4.0 * (count * p * (1.0 - p)).sqrt(), "{dropped}");
}

/// A sequence has the same masks alone, in a batch, in parts and under a budget.
#[test]
fn dropout_belongs_to_steps_and_sequences() {
    let network = Network::new(Lstm::new(3, 20).unwrap())
        .then(Dropout::new(20, 0.5).unwrap())
        .then(Lstm::new(20, 9).unwrap());
    let parameters = uniform(1, network.manifest().unwrap().len(), 0.5);
    let lengths = [30, 0, 41, 7];
    let sequences: Vec<_> =
        lengths.iter().enumerate().map(|(n, len)| uniform(n as u64, len * 3, 1.0)).collect();
    let dys: Vec<_> =
        lengths.iter().enumerate().map(|(n, len)| uniform(50 + n as u64, len * 9, 1.0)).collect();
    let noise = Noise { seed: 4, step: 3, sequence: 2 };
    let mut model = model_of(&network, Runtime::best().unwrap(), &parameters);
    let layout = Layout::BatchFirst(41);
    let (x, dy) = (layout.joined(&sequences, 3, 0.0), layout.joined(&dys, 9, 0.0));
    let mut all = model.training_workspace(layout.schedule(&lengths)).unwrap();
    all.set_noise(noise);
    let y = model.forward(&mut all, &x).unwrap().to_vec();
    model.backward(&mut all, &x, &Given(&dy), Accumulate::No).unwrap();
    let budget = model.training(layout.schedule(&lengths)).with_budget(all.bytes() / 3);
    let mut small = budget.workspace().unwrap();
    small.set_noise(noise);
    model.gradients(&mut small, &x, &Given(&dy), Accumulate::No).unwrap();
    assert_bits("a budget", small.gradients().as_slice(), all.gradients().as_slice());
    for (n, x) in sequences.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
        let mut state: Option<State> = None;
        let mut parts = Vec::new();
        for (nth, x) in x.chunks(5 * 3).enumerate() {
            let mut part = model.training_workspace(Schedule::dense(x.len() / 3, 1)).unwrap();
            let (step, sequence) = (noise.step + 5 * nth as u64, noise.sequence + n as u64);
            part.set_noise(Noise { step, sequence, ..noise });
            if let Some(state) = &state {
                part.set_state(state).unwrap();
            }
            parts.extend_from_slice(model.forward(&mut part, x).unwrap());
            state = Some(part.last_state().unwrap());
        }
        assert_bits("alone and in parts", &layout.of(&y, &lengths, n, 9), &parts);
    }
}

/// Dropout between the layers of a stack: gradients are those of the same masks, by differences.
#[test]
fn gradients_go_through_the_masks() {
    let (steps, batch) = (3, 2);
    let network = Network::new(Lstm::new(4, 4).unwrap())
        .then(Dropout::new(4, 0.5).unwrap())
        .then(Lstm::new(4, 4).unwrap());
    let parameters = uniform(1, network.manifest().unwrap().len(), 0.5);
    let x = uniform(2, steps * batch * 4, 1.0);
    let targets = uniform(3, steps * batch * 4, 1.0);
    let loss = SquaredError::mean(&targets);
    let mut model = model_of(&network, Runtime::best().unwrap(), &parameters);
    let mut workspace = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
    workspace.set_noise(Noise { seed: 1, ..Noise::default() });
    model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
    let gradients = workspace.gradients().as_slice().to_vec();
    // The loss with the same masks, from outputs of training passes.
    let value_at = |parameters: &[f32]| {
        let mut model = model_of(&network, Runtime::best().unwrap(), parameters);
        let mut workspace = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
        workspace.set_noise(Noise { seed: 1, ..Noise::default() });
        let y = model.forward(&mut workspace, &x).unwrap();
        let squares = y.iter().zip(&targets).map(|(y, t)| f64::from(y - t).powi(2));
        squares.sum::<f64>() / y.len() as f64
    };
    for at in (0..parameters.len()).step_by(7) {
        let step = 1.0 / 64.0;
        let moved = |by: f32| {
            let mut moved = parameters.clone();
            moved[at] += by;
            value_at(&moved)
        };
        let difference = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        // The error of a central difference is of the order of the step squared; losses are rounded
        // to some 1e-7.
        assert!((difference - f64::from(gradients[at])).abs() < 1e-3, "{at}: {difference}");
    }
}

#[test]
fn wrong_options_are_refused() {
    for probability in [1.0, -0.1, f32::NAN] {
        let error = Dropout::new(3, probability).unwrap_err();
        assert!(matches!(error, Error::Value { what: "dropout", .. }), "{error}");
    }
    assert!(Dropout::new(0, 0.5).is_err());
    assert!(LayerNormalization::new(0).is_err());
    for epsilon in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let norm = LayerNormalization::new(3).unwrap();
        assert!(matches!(norm.with_epsilon(epsilon), Err(Error::Value { what: "epsilon", .. })));
    }
}
