//! The sLSTM: outputs and gradients against the equations in `f64`, and the promises about bits.

#[path = "../common/mod.rs"]
mod common;
mod equations;

use bptt::{
    Accumulate, Error, ForgetGate, Format, Model, Network, Runtime, Schedule, Slstm, State,
};
use bptt_kernels::team::set_cores;
use bptt_reference::sample::uniform;
use common::tree::{Given, Results, Sequences, model_of, run};
use common::{Layout, assert_bits, isas};
use equations::{Equations, state_of, wide};
use rand::{SeedableRng, rngs::StdRng};

/// Parameters, inputs and gradients for a network, with a state of which every unit holds something.
fn drawn(network: &Network, sequences: &Sequences, input: usize, seed: u64) -> Given {
    let (rows, batch) = (sequences.rows(), sequences.lengths.len());
    let floats = network.state(batch).unwrap().as_slice().len();
    let mut state = uniform(seed + 1, floats, 0.8);
    let part = floats / 4;
    state[2 * part..3 * part].iter_mut().for_each(|n| *n = n.abs() + 0.5);
    // A loss of the last state sees h alone.
    let mut dlast = uniform(seed + 2, floats, 1.0);
    dlast[part..].fill(0.0);
    Given {
        parameters: uniform(seed, network.manifest().unwrap().len(), 0.7),
        x: uniform(seed + 3, rows * input, 1.0),
        dy: uniform(seed + 4, rows * network.output_size(), 1.0),
        state,
        dlast,
    }
}

fn packed(lengths: &[usize]) -> Sequences {
    Sequences { layout: Layout::Packed, lengths: lengths.to_vec() }
}

fn all_equations(input: usize, hidden: usize, heads: &[usize]) -> Vec<Equations> {
    let of = |&heads: &usize| {
        [ForgetGate::Exponential, ForgetGate::Logistic].map(|forget| Equations {
            input,
            hidden,
            heads,
            forget,
            stabilised: true,
        })
    };
    heads.iter().flat_map(of).collect()
}

/// The loss whose gradients `given` has, and the outputs.
fn loss(equations: &Equations, lengths: &[usize], given: &[Vec<f64>; 5]) -> (f64, Vec<f64>) {
    let [parameters, x, dy, state, dlast] = given;
    let (hidden, mut row, mut sum, mut all) = (equations.hidden, 0, 0.0, Vec::new());
    for (n, &len) in lengths.iter().enumerate() {
        let begins = state_of(state, hidden, lengths.len(), n);
        let x = &x[row * equations.input..][..len * equations.input];
        let (y, last) = equations.run(parameters, x, &begins);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        sum += dot(&y, &dy[row * hidden..][..len * hidden]);
        sum += dot(&last[0], &state_of(dlast, hidden, lengths.len(), n)[0]);
        all.extend(y);
        row += len;
    }
    (sum, all)
}

#[track_caller]
fn near(what: &str, given: f32, expected: f64) {
    let error = (f64::from(given) - expected).abs();
    assert!(error <= 2e-5 * (1.0 + expected.abs()), "{what} is {given:e}, expected {expected:e}");
}

/// Outputs and the gradients of the parameters, the inputs and h, c and n before the first step, of
/// sequences of one length and of different lengths. The differences are those of the equations with and
/// without the stabiliser.
#[test]
fn outputs_and_gradients_are_those_of_the_equations() {
    for (nth, equations) in all_equations(3, 8, &[1, 2, 4, 8]).into_iter().enumerate() {
        let network = equations.network();
        for lengths in [&[5, 5][..], &[4, 0, 6]] {
            let sequences = packed(lengths);
            let given = drawn(&network, &sequences, 3, 100 * nth as u64);
            let mut wide = [&given.parameters, &given.x, &given.dy, &given.state, &given.dlast]
                .map(|v| wide(v));
            let plain = Equations { stabilised: false, ..equations };
            let (_, y) = loss(&equations, lengths, &wide);
            let mut slopes: [Vec<f64>; 5] = Default::default();
            for which in [0, 1, 3] {
                for at in 0..wide[which].len() {
                    let value = wide[which][at];
                    let mut slope = |equations: &Equations| {
                        let mut of = |value| {
                            wide[which][at] = value;
                            loss(equations, lengths, &wide).0
                        };
                        (of(value + 1e-5) - of(value - 1e-5)) / 2e-5
                    };
                    let (with, without) = (slope(&equations), slope(&plain));
                    wide[which][at] = value;
                    assert!((with - without).abs() < 1e-7 * (1.0 + with.abs()), "{with} {without}");
                    slopes[which].push(with);
                }
            }
            for &isa in isas() {
                let results = run(&network, Runtime::new(isa), &sequences, &given);
                let Results { y: own, dx, dstate, gradients, .. } = results;
                let name = |what: &str, at| format!("{what}[{at}] of {equations:?} on {isa}");
                own.iter()
                    .zip(&y)
                    .enumerate()
                    .for_each(|(at, (a, b))| near(&name("y", at), *a, *b));
                assert_eq!(gradients.len(), slopes[0].len());
                for (at, (a, b)) in gradients.iter().zip(&slopes[0]).enumerate() {
                    near(&name("∂L/∂ of parameters", at), *a, *b);
                }
                for (at, (a, b)) in dx.iter().zip(&slopes[1]).enumerate() {
                    near(&name("∂L/∂x", at), *a, *b);
                }
                let m = dstate.len() / 4 * 3;
                for (at, (a, b)) in dstate[..m].iter().zip(&slopes[3]).enumerate() {
                    near(&name("∂L/∂ of the state", at), *a, *b);
                }
                assert!(dstate[m..].iter().all(|&d| d == 0.0), "m is a constant");
            }
        }
    }
}

/// From the state before any step, the stabiliser is the first input gate.
#[test]
fn the_first_step_begins_from_nothing() {
    for equations in all_equations(2, 6, &[3]) {
        let network = equations.network();
        let sequences = packed(&[3]);
        let mut given = drawn(&network, &sequences, 2, 9);
        given.state.fill(0.0);
        let (parameters, x) = (wide(&given.parameters), wide(&given.x));
        let (y, last) = equations.run(&parameters, &x, &[(); 4].map(|()| vec![0.0; 6]));
        for &isa in isas() {
            let results = run(&network, Runtime::new(isa), &sequences, &given);
            results.y.iter().zip(&y).for_each(|(a, b)| near("y", *a, *b));
            results.last.iter().zip(last.concat()).for_each(|(a, b)| near("last", *a, b));
        }
    }
}

/// Each sequence has the bits that it has alone, and a stream has those of a pass.
#[test]
fn sequences_are_as_alone_and_streams_as_passes() {
    let lengths = [7, 0, 3, 7, 12];
    for equations in all_equations(5, 24, &[1, 2, 4]) {
        let (network, hidden, sequences) =
            (equations.network(), equations.hidden, packed(&lengths));
        let given = drawn(&network, &sequences, 5, 3);
        for &isa in isas() {
            let runtime = Runtime::new(isa);
            let all = run(&network, runtime, &sequences, &given);
            let model = model_of(&network, runtime, &given.parameters);
            let mut row = 0;
            for (n, len) in lengths.into_iter().enumerate().filter(|(_, len)| *len > 0) {
                let of = |all: &[f32], width: usize| all[row * width..][..len * width].to_vec();
                let part = |state: &[f32]| -> Vec<f32> {
                    let at = |part: usize| (part * lengths.len() + n) * hidden;
                    (0..4).flat_map(|part| state[at(part)..][..hidden].to_vec()).collect()
                };
                let alone = Given {
                    parameters: given.parameters.clone(),
                    x: of(&given.x, 5),
                    dy: of(&given.dy, hidden),
                    state: part(&given.state),
                    dlast: part(&given.dlast),
                };
                let own = run(&network, runtime, &packed(&[len]), &alone);
                assert_bits("y", &of(&all.y, hidden), &own.y);
                assert_bits("last", &part(&all.last), &own.last);
                assert_bits("dx", &of(&all.dx, 5), &own.dx);
                assert_bits("dstate", &part(&all.dstate), &own.dstate);

                let mut stream = model.stream(1).unwrap();
                let mut state = stream.state().unwrap();
                state.as_mut_slice().copy_from_slice(&alone.state);
                stream.set_state(&state).unwrap();
                let mut y = vec![0.0; own.y.len()];
                let (x, cut) = (&alone.x, len / 2);
                stream.forward(&x[..cut * 5], &mut y[..cut * hidden]).unwrap();
                stream.forward(&x[cut * 5..], &mut y[cut * hidden..]).unwrap();
                assert_bits("a stream", &y, &own.y);
                assert_bits("its state", stream.state().unwrap().as_slice(), &own.last);
                row += len;
            }
        }
    }
}

/// The bits of all that a training pass gives.
fn trained(model: &mut Model, given: &Given, schedule: Schedule, budget: Option<f64>) -> Vec<u32> {
    let sequences = schedule.sequences();
    let training = model.training(schedule).with_state_gradients().with_input_gradients();
    let bytes = training.bytes().unwrap();
    let training = match budget {
        None => training,
        Some(share) => training.with_budget((bytes as f64 * share) as usize),
    };
    let mut workspace = training.workspace().unwrap();
    assert!(budget.is_none() || workspace.bytes() < bytes);
    let state = |values: &[f32]| -> State {
        let mut state = model.state(sequences).unwrap();
        state.as_mut_slice().copy_from_slice(values);
        state
    };
    workspace.set_state(&state(&given.state)).unwrap();
    workspace.set_last_gradient(Some(&state(&given.dlast))).unwrap();
    let loss = common::Given(&given.dy);
    model.gradients(&mut workspace, &given.x, &loss, Accumulate::No).unwrap();
    let (last, dstate) = (workspace.last_state().unwrap(), workspace.state_gradients().unwrap());
    let dx = workspace.input_gradients().unwrap();
    let all = [last.as_slice(), dstate.as_slice(), dx, workspace.gradients().as_slice()];
    all.concat().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_and_budgets_change_no_bit() {
    set_cores(8);
    let lengths: Vec<usize> = (0..24).map(|n| 30 - n / 2).collect();
    for equations in all_equations(40, 96, &[1, 3]) {
        let (network, sequences) = (equations.network(), packed(&lengths));
        let given = drawn(&network, &sequences, 40, 5);
        let dense = Schedule::dense(sequences.rows() / 24, 24);
        assert_eq!(dense.rows(), sequences.rows() / 24 * 24);
        for &isa in isas() {
            let of = |threads, budget| {
                let mut model =
                    model_of(&network, Runtime::new(isa).threads(threads), &given.parameters);
                trained(&mut model, &given, Schedule::packed(&lengths).unwrap(), budget)
            };
            let one = of(1, None);
            assert!(of(2, None) == one && of(3, None) == one, "threads on {isa}");
            assert!(of(1, Some(0.6)) == one && of(2, Some(0.4)) == one, "a budget on {isa}");
            let rows = dense.rows();
            let part = Given {
                x: given.x[..rows * 40].to_vec(),
                dy: given.dy[..rows * 96].to_vec(),
                ..given.clone()
            };
            let of = |threads, budget| {
                let mut model =
                    model_of(&network, Runtime::new(isa).threads(threads), &given.parameters);
                trained(&mut model, &part, dense.clone(), budget)
            };
            let one = of(1, None);
            assert!(of(2, None) == one && of(3, Some(0.5)) == one, "one length on {isa}");
        }
    }
}

/// Sums of ±1e3 and ±1e30 leave all results finite, and a NaN comes from a NaN only.
#[test]
fn saturated_gates_are_finite() {
    let (steps, batch) = (6, 2);
    for equations in all_equations(2, 8, &[2]) {
        let network = equations.network();
        let sequences = Sequences { layout: Layout::TimeMajor(steps), lengths: vec![steps; batch] };
        for large in [1e3, 1e30] {
            for seed in 0..4 {
                let mut given = drawn(&network, &sequences, 2, 20 + seed);
                given.state.fill(0.0);
                // The signs of the sums change from gate to gate and from step to step.
                given.x.iter_mut().for_each(|x| *x *= large);
                for &isa in isas() {
                    let Results { y, last, gradients, dstate, .. } =
                        run(&network, Runtime::new(isa), &sequences, &given);
                    assert!(y.iter().all(|h| h.abs() <= 1.000_001), "{isa}");
                    for all in [&last, &gradients, &dstate] {
                        assert!(all.iter().all(|v| v.is_finite()), "{isa} {large}");
                    }
                }
            }
        }
        let mut given = drawn(&network, &sequences, 2, 30);
        given.x[(3 * batch + 1) * 2] = f32::NAN;
        for &isa in isas() {
            let y = run(&network, Runtime::new(isa), &sequences, &given).y;
            for (row, y) in y.chunks(8).enumerate() {
                let expected = row % batch == 1 && row / batch >= 3;
                assert!(y.iter().all(|h| h.is_nan() == expected), "row {row} on {isa}");
            }
        }
    }
}

#[test]
fn a_file_and_formats_keep_the_layer() {
    let runtime = Runtime::best().unwrap();
    for equations in all_equations(7, 20, &[1, 5]) {
        let network = equations.network();
        let model = network.init(&mut StdRng::seed_from_u64(4), runtime).unwrap();
        let read = Model::of_safetensors(&model.to_safetensors().unwrap(), runtime).unwrap();
        let parameters = [&read, &model].map(|model| model.parameters().as_slice());
        assert_bits("a file's parameters", parameters[0], parameters[1]);
        let x = uniform(1, 30 * 7, 1.0);
        let streamed = |model: &Model| {
            let mut y = vec![0.0; 30 * 20];
            model.stream(1).unwrap().forward(&x, &mut y).unwrap();
            y
        };
        assert_bits("a file's outputs", &streamed(&read), &streamed(&model));
        // Rounded weights, packed as f32, are what a narrow model has.
        let mut rounded = model.parameters().as_slice().to_vec();
        let bias = rounded.len() - 4 * 20;
        rounded[..bias].iter_mut().for_each(|w| *w = Format::Bf16.rounded(*w, 0.0));
        let (narrow, wide) =
            (model.quantised(Format::Bf16).unwrap(), model_of(&network, runtime, &rounded));
        let pairs = streamed(&narrow).into_iter().zip(streamed(&wide));
        pairs.for_each(|(a, b)| near("y in bf16", a, b.into()));
        let int8 = streamed(&model.quantised(Format::Int8).unwrap());
        assert!(int8.iter().zip(streamed(&model)).all(|(a, b)| (a - b).abs() < 0.1));
    }
}

#[test]
fn layers_are_described_and_refused() {
    let network = Network::new(Slstm::new(3, 8, 2).unwrap());
    let manifest = network.manifest().unwrap().to_string();
    assert_eq!(manifest, "0.weight_ih [32, 3], 0.weight_hh [32, 4], 0.bias [32]");
    let state = network.state(5).unwrap();
    assert!(
        ["0.h", "0.c", "0.n", "0.m"].iter().all(|part| state.tensor(part).unwrap().len() == 40)
    );
    for (sizes, what) in [
        ((0, 8, 2), "input_size"),
        ((3, 0, 2), "hidden_size"),
        ((3, 8, 0), "heads"),
        ((3, 8, 3), "heads"),
        ((3, 8, 16), "heads"),
    ] {
        let (input, hidden, heads) = sizes;
        let error = Slstm::new(input, hidden, heads).unwrap_err();
        assert!(matches!(error, Error::Value { what: given, .. } if given == what), "{error}");
    }
    let logistic = Slstm::new(3, 8, 2).unwrap().with_forget(ForgetGate::Logistic);
    let runtime = Runtime::best().unwrap();
    for (layer, open) in [(Slstm::new(3, 8, 2).unwrap(), 0.0), (logistic, 3.0)] {
        let model = Network::new(layer).init(&mut StdRng::seed_from_u64(1), runtime).unwrap();
        let bias = model.parameters().tensor("0.bias").unwrap();
        assert!(bias[8..16].iter().all(|&b| b >= open && b <= 2.0 * open));
        assert!(bias[..8].iter().chain(&bias[16..]).all(|&b| b == 0.0));
        assert!(model.parameters().tensor("0.weight_hh").unwrap().iter().all(|&w| w != 0.0));
    }
}
