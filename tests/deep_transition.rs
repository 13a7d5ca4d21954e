//! Deep transitions: a block between one hidden state and the next, against equations in f64 and their
//! finite differences, and with the same bits alone, in batches, in parts, under a budget, on any number
//! of threads and in streams.

mod common;

use bptt::{
    Accumulate, Activation, DeepTransition, Dense, Dropout, Error, Gru, LayerNormalization, Model,
    Network, Noise, Reset, Residual, Reversed, Runtime, Schedule, Stack, Vanilla, Workspace,
};
use bptt_reference::sample::uniform;
use common::tree::model_of;
use common::{Given, Layout, assert_bits, isas};

const INPUTS: usize = 3;
const HIDDEN: usize = 5;
const MIDDLE: usize = 4;

fn tanh(inputs: usize, outputs: usize) -> Dense {
    Dense::new(inputs, outputs).unwrap().with_activation(Activation::Tanh)
}

fn two_layers() -> Stack {
    Stack::new(tanh(INPUTS + HIDDEN, MIDDLE)).then(tanh(MIDDLE, HIDDEN))
}

/// Transitions of layers alone, with a skip connection, with noise, and with a layer that has a state.
fn blocks() -> Vec<Stack> {
    let width = INPUTS + HIDDEN;
    let residual = Residual::new(tanh(width, width)).unwrap();
    let normalised = Stack::new(residual).then(LayerNormalization::new(width).unwrap());
    vec![
        two_layers(),
        normalised.then(tanh(width, HIDDEN)),
        Stack::new(Dropout::new(width, 0.25).unwrap()).then(tanh(width, HIDDEN)),
        Stack::new(Gru::new(width, MIDDLE, Reset::After).unwrap()).then(tanh(MIDDLE, HIDDEN)),
    ]
}

fn network(block: Stack) -> Network {
    Network::new(DeepTransition::new(block).unwrap())
}

fn parameters(network: &Network) -> Vec<f32> {
    uniform(1, network.manifest().unwrap().len(), 0.7)
}

fn workspace(model: &mut Model, schedule: Schedule) -> Workspace {
    model.training(schedule).with_state_gradients().with_input_gradients().workspace().unwrap()
}

/// Everything that two layers of tanh as a transition depend on, in f64.
#[derive(Clone)]
struct Equations {
    parameters: Vec<f64>,
    x: Vec<f64>,
    h: Vec<f64>,
}

fn affine(parameters: &[f64], x: &[f64], outputs: usize) -> Vec<f64> {
    let (weight, bias) = parameters.split_at(outputs * x.len());
    let row = |at: usize| -> f64 {
        let products = weight[at * x.len()..][..x.len()].iter().zip(x).map(|(w, x)| w * x);
        (bias[at] + products.sum::<f64>()).tanh()
    };
    (0..outputs).map(row).collect()
}

impl Equations {
    /// h of all steps of one sequence.
    fn states(&self) -> Vec<f64> {
        let first = MIDDLE * (INPUTS + HIDDEN + 1);
        let (one, two) = self.parameters.split_at(first);
        let (mut h, mut all) = (self.h.clone(), Vec::new());
        for x in self.x.chunks(INPUTS) {
            let read = [x, &h].concat();
            h = affine(two, &affine(one, &read, MIDDLE), HIDDEN);
            all.extend_from_slice(&h);
        }
        all
    }

    /// The sum of dy y and dlast h of the last step.
    fn loss(&self, dy: &[f32], dlast: &[f32]) -> f64 {
        let h = self.states();
        let dot =
            |a: &[f64], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum() };
        dot(&h, dy) + dot(&h[h.len() - HIDDEN..], dlast)
    }
}

/// Outputs, and the gradients of parameters, inputs and the first state by central differences.
#[test]
fn two_layers_between_states_are_the_equations() {
    let network = network(two_layers());
    let (values, steps) = (parameters(&network), 6);
    let (x, h) = (uniform(2, steps * INPUTS, 1.0), uniform(3, HIDDEN, 1.0));
    let (dy, dlast) = (uniform(4, steps * HIDDEN, 1.0), uniform(5, HIDDEN, 1.0));
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    let exact = Equations { parameters: wide(&values), x: wide(&x), h: wide(&h) };
    for &isa in isas() {
        let mut model = model_of(&network, Runtime::new(isa), &values);
        let mut own = workspace(&mut model, Schedule::dense(steps, 1));
        let mut state = model.state(1).unwrap();
        state.as_mut_slice().copy_from_slice(&h);
        own.set_state(&state).unwrap();
        state.as_mut_slice().copy_from_slice(&dlast);
        own.set_last_gradient(Some(&state)).unwrap();
        let y = model.forward(&mut own, &x).unwrap();
        // Some hundred roundings of numbers below 1, or of the gradients' size.
        let near = |given: f32, expected: f64, size: f64| {
            let error = (f64::from(given) - expected).abs();
            assert!(error <= 200.0 * f64::from(f32::EPSILON) * size, "{given}, not {expected}");
        };
        y.iter().zip(exact.states()).for_each(|(y, exact)| near(*y, exact, 1.0));
        model.backward(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
        let step = 1e-5;
        let slope = |change: &dyn Fn(&mut Equations, f64)| {
            let [more, less] = [step, -step].map(|by| {
                let mut changed = exact.clone();
                change(&mut changed, by);
                changed.loss(&dy, &dlast)
            });
            (more - less) / (2.0 * step)
        };
        for (at, &given) in own.gradients().as_slice().iter().enumerate() {
            near(given, slope(&|all, by| all.parameters[at] += by), 10.0);
        }
        for (at, &given) in own.input_gradients().unwrap().iter().enumerate() {
            near(given, slope(&|all, by| all.x[at] += by), 10.0);
        }
        for (at, &given) in own.state_gradients().unwrap().as_slice().iter().enumerate() {
            near(given, slope(&|all, by| all.h[at] += by), 10.0);
        }
    }
}

/// One layer of tanh between states is a vanilla layer.
#[test]
fn one_layer_between_states_is_a_vanilla_layer() {
    let (steps, batch) = (7, 3);
    let deep = network(Stack::new(tanh(INPUTS + HIDDEN, HIDDEN)));
    let values = parameters(&deep);
    let plain = Network::new(Vanilla::new(INPUTS, HIDDEN, Activation::Tanh).unwrap());
    // [U W] and b become U, W and b.
    let (weights, bias) = values.split_at(HIDDEN * (INPUTS + HIDDEN));
    let rows = || weights.chunks(INPUTS + HIDDEN);
    let mut separate: Vec<f32> = rows().flat_map(|row| row[..INPUTS].to_vec()).collect();
    separate.extend(rows().flat_map(|row| row[INPUTS..].to_vec()));
    separate.extend_from_slice(bias);
    let runtime = Runtime::best().unwrap();
    let (mut deep, mut plain) =
        (model_of(&deep, runtime, &values), model_of(&plain, runtime, &separate));
    let (x, dy) =
        (uniform(2, steps * batch * INPUTS, 1.0), uniform(3, steps * batch * HIDDEN, 1.0));
    let mut results = [&mut deep, &mut plain].map(|model| {
        let mut own = workspace(model, Schedule::dense(steps, batch));
        let mut all = model.forward(&mut own, &x).unwrap().to_vec();
        model.backward(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
        all.extend_from_slice(own.input_gradients().unwrap());
        all.extend_from_slice(own.state_gradients().unwrap().as_slice());
        let gradients = own.gradients().as_slice();
        all.extend_from_slice(&gradients[HIDDEN * (INPUTS + HIDDEN)..]);
        all
    });
    let expected = results[1].split_off(0);
    for (given, expected) in results[0].iter().zip(expected) {
        assert!((given - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{given} {expected}");
    }
}

#[test]
fn bits_depend_on_no_batch_part_budget_or_thread() {
    let lengths = [11, 1, 0, 17, 6];
    let noise = Noise { seed: 8, step: 5, sequence: 3 };
    for block in blocks() {
        let network = network(block);
        let values = parameters(&network);
        let of_threads =
            |threads| model_of(&network, Runtime::best().unwrap().threads(threads), &values);
        let mut model = of_threads(1);
        let sequences: Vec<_> =
            (0..lengths.len()).map(|n| uniform(20 + n as u64, lengths[n] * INPUTS, 1.0)).collect();
        let layout = Layout::TimeMajor(17);
        let x = layout.joined(&sequences, INPUTS, f32::NAN);
        let schedule = layout.schedule(&lengths);
        let dy = uniform(4, schedule.given_rows() * HIDDEN, 1.0);
        let run = |model: &mut Model, mut own: Workspace| {
            own.set_noise(noise);
            model.gradients(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
            let dx = own.input_gradients().unwrap().to_vec();
            [
                own.gradients().as_slice().to_vec(),
                dx,
                own.state_gradients().unwrap().as_slice().to_vec(),
            ]
        };
        let all = workspace(&mut model, schedule.clone());
        let bytes = all.bytes();
        let expected = run(&mut model, all);
        for threads in [2, 3] {
            let mut model = of_threads(threads);
            let own = workspace(&mut model, schedule.clone());
            let given = run(&mut model, own);
            given.iter().zip(&expected).for_each(|(a, b)| assert_bits("threads", a, b));
        }
        let training = model.training(&schedule).with_budget(bytes / 2);
        let small = training.with_state_gradients().with_input_gradients().workspace().unwrap();
        assert!(small.recomputation().steps > 0, "it is divided");
        let given = run(&mut model, small);
        given.iter().zip(&expected).for_each(|(a, b)| assert_bits("a budget", a, b));

        let mut own = workspace(&mut model, schedule.clone());
        own.set_noise(noise);
        let y = model.forward(&mut own, &x).unwrap().to_vec();
        let last = own.last_state().unwrap();
        for (n, x) in sequences.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
            let expected = layout.of(&y, &lengths, n, HIDDEN);
            let (mut parts, mut state) = (Vec::new(), model.state(1).unwrap());
            for (nth, x) in x.chunks(4 * INPUTS).enumerate() {
                let mut part = workspace(&mut model, Schedule::dense(x.len() / INPUTS, 1));
                let (step, sequence) = (noise.step + 4 * nth as u64, noise.sequence + n as u64);
                part.set_noise(Noise { step, sequence, ..noise });
                part.set_state(&state).unwrap();
                parts.extend_from_slice(model.forward(&mut part, x).unwrap());
                state = part.last_state().unwrap();
            }
            assert_bits("alone and in parts", &parts, &expected);
            let own = last.sequence(n).unwrap();
            assert_bits("the last state", own.as_slice(), state.as_slice());
        }
    }
}

#[test]
fn streams_give_the_bits_of_passes() {
    for block in blocks().into_iter().filter(|block| !format!("{block:?}").contains("Dropout")) {
        let network = network(block);
        let mut model = model_of(&network, Runtime::best().unwrap(), &parameters(&network));
        let (steps, batch) = (8, 2);
        let x = uniform(2, steps * batch * INPUTS, 1.0);
        let mut own = workspace(&mut model, Schedule::dense(steps, batch));
        let expected = model.forward(&mut own, &x).unwrap().to_vec();
        let mut stream = model.stream(batch).unwrap();
        let mut y = vec![0.0; expected.len()];
        let (first, rest) = y.split_at_mut(batch * HIDDEN);
        stream.step(&x[..batch * INPUTS], first).unwrap();
        stream.forward(&x[batch * INPUTS..], rest).unwrap();
        assert_bits("a stream", &y, &expected);
        assert_bits("its state", stream.state_slice(), own.last_state().unwrap().as_slice());
    }
}

#[test]
fn a_planned_pass_allocates_nothing() {
    for block in blocks() {
        let network = network(block);
        let mut model =
            model_of(&network, Runtime::best().unwrap().threads(1), &parameters(&network));
        let x = uniform(2, 6 * 2 * INPUTS, 1.0);
        let dy = uniform(3, 6 * 2 * HIDDEN, 1.0);
        let mut own = workspace(&mut model, Schedule::dense(6, 2));
        let mut pass = || {
            model.gradients(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
        };
        pass();
        assert_eq!(allocation_counter::measure(pass).count_total, 0);
    }
}

#[test]
fn blocks_that_cannot_be_a_transition_are_refused() {
    let refused = |block: Result<DeepTransition, Error>| {
        assert!(matches!(block.unwrap_err(), Error::Mismatch { .. }));
    };
    refused(DeepTransition::new(tanh(HIDDEN, HIDDEN)));
    let reversed = Reversed::new(Vanilla::new(INPUTS + HIDDEN, HIDDEN, Activation::Tanh).unwrap());
    refused(DeepTransition::new(reversed));
}
