//! Hard sigmoids, ReLU candidates and clipped states: values by hand that tell the two hard
//! sigmoids apart, gradients by difference quotients, and what is refused. The suites over all kinds
//! compare them with the reference, step by step.

mod common;

use bptt::{
    Accumulate, Activation, Candidate, Dense, Error, GateActivation, Gru, Lstm, Model, Network,
    Parameters, Reset, Runtime, Schedule, Vanilla,
};
use bptt_reference::finite::gradient;
use bptt_reference::sample::widen;
use common::{Data, Kind, Rig, Shape, Subject, isas};

/// Arguments, and the values of x / 6 + 1/2 and of 0.2 x + 1/2 between 0 and 1. No other slope fits
/// (tensorflow#47495, tensorflow#65381).
const VALUES: [(f32, f32, f32); 7] = [
    (-3.0, 0.0, 0.0),
    (-2.75, 0.041_666_67, 0.0),
    (-1.0, 0.333_333_34, 0.3),
    (0.0, 0.5, 0.5),
    (1.5, 0.75, 0.8),
    (2.5, 0.916_666_7, 1.0),
    (40.0, 1.0, 1.0),
];

/// A model whose parameters are zeros, except those that `set` sets.
fn model(network: &Network, runtime: Runtime, set: impl FnOnce(&mut Parameters)) -> Model {
    let mut parameters = network.parameters().unwrap();
    parameters.as_mut_slice().fill(0.0);
    set(&mut parameters);
    network.model(parameters, runtime).unwrap()
}

/// One step of a stream from zero input and the state `h`, if there is one.
fn step(model: &Model, state: &[f32]) -> (f32, Vec<f32>) {
    let mut stream = model.stream(1).unwrap();
    let mut before = stream.state().unwrap();
    before.as_mut_slice().copy_from_slice(state);
    stream.set_state(&before).unwrap();
    let mut y = [f32::NAN];
    stream.step(&[0.0], &mut y).unwrap();
    (y[0], stream.state().unwrap().as_slice().to_vec())
}

fn assert_near(given: f32, expected: f32, of: &str) {
    assert!((given - expected).abs() <= 2.0 * f32::EPSILON, "{given}, not {expected}: {of}");
}

#[test]
fn the_two_hard_sigmoids_are_told_apart() {
    for &isa in isas() {
        let runtime = Runtime::new(isa);
        for (a, sixth, fifth) in VALUES {
            for (gates, phi, candidate, expected) in [
                (
                    GateActivation::HardSigmoid,
                    Activation::HardSigmoid,
                    Candidate::HardSigmoid,
                    sixth,
                ),
                (
                    GateActivation::HardSigmoid02,
                    Activation::HardSigmoid02,
                    Candidate::HardSigmoid02,
                    fifth,
                ),
            ] {
                let of = format!("{gates:?} of {a} on {isa}");
                let biased = |network: &Network| {
                    model(network, runtime, |p| p.tensor_mut("0.bias").unwrap().fill(a))
                };
                let vanilla = Network::new(Vanilla::new(1, 1, phi).unwrap());
                assert_near(step(&biased(&vanilla), &[0.0]).0, expected, &of);
                let dense = Network::new(Dense::new(1, 1).unwrap().with_activation(phi));
                assert_near(step(&biased(&dense), &[]).0, expected, &of);
                for reset in [Reset::After, Reset::Before] {
                    // u h₋ + (1 − u) n is u where h₋ = 1 and n = tanh(0), and σ(a) n where h₋ = 0.
                    let gru = Gru::new(1, 1, reset).unwrap().with_gate_activation(gates);
                    let update = |p: &mut Parameters| p.tensor_mut("0.bias").unwrap()[1] = a;
                    let model_of_u = model(&Network::new(gru), runtime, update);
                    assert_near(step(&model_of_u, &[1.0]).0, expected, &of);
                    let gru = Gru::new(1, 1, reset).unwrap().with_candidate(candidate);
                    let new = |p: &mut Parameters| {
                        p.tensor_mut("0.bias").unwrap().copy_from_slice(&[0.0, -200.0, a]);
                    };
                    let model_of_n = model(&Network::new(gru), runtime, new);
                    assert_near(step(&model_of_n, &[0.5]).0, expected, &of);
                }
                // c = f c₋ + i g: with g = tanh(0) it is f c₋, and with c₋ = 0 it is i g.
                let lstm = Lstm::new(1, 1).unwrap().with_gate_activation(gates);
                let forget = |p: &mut Parameters| p.tensor_mut("0.bias").unwrap()[1] = a;
                let model_of_f = model(&Network::new(lstm), runtime, forget);
                assert_near(step(&model_of_f, &[0.0, 1.0]).1[1], expected, &of);
                let lstm = Lstm::new(1, 1).unwrap().with_candidate(candidate);
                let new = |p: &mut Parameters| {
                    p.tensor_mut("0.bias").unwrap().copy_from_slice(&[200.0, 0.0, a, 200.0]);
                };
                let (h, state) = step(&model(&Network::new(lstm), runtime, new), &[0.0, 0.0]);
                assert_near(state[1], expected, &of);
                assert_near(h, expected.tanh(), &of);
            }
        }
    }
}

/// ReLU of a candidate has no upper bound.
#[test]
fn a_candidate_may_exceed_one() {
    for &isa in isas() {
        for (a, expected) in [(-2.0, 0.0), (5.0, 5.0)] {
            let gru = Gru::new(1, 1, Reset::Before).unwrap().with_candidate(Candidate::Relu);
            let new = |p: &mut Parameters| {
                p.tensor_mut("0.bias").unwrap().copy_from_slice(&[0.0, -200.0, a]);
            };
            let model = model(&Network::new(gru), Runtime::new(isa), new);
            assert_eq!(step(&model, &[0.5]).0, expected);
        }
    }
}

/// The outputs of one step with zero input, and ∂L/∂ of the named parameter where ∂L/∂h = 1.
fn one_step(model: &mut Model, parameter: &str) -> (f32, Vec<f32>) {
    let mut workspace = model.training_workspace(Schedule::dense(1, 1)).unwrap();
    let y = model.forward(&mut workspace, &[0.0]).unwrap()[0];
    let loss = |y: &mut [f32]| {
        y.fill(1.0);
        0.0
    };
    model.backward(&mut workspace, &[0.0], &loss, Accumulate::No).unwrap();
    (y, workspace.gradients().tensor(parameter).unwrap().to_vec())
}

/// The derivative is the slope between the limits, and 0 at a limit and beyond it.
#[test]
fn a_derivative_is_a_slope_or_zero() {
    for &isa in isas() {
        for (a, sixth, fifth) in VALUES {
            for (phi, y, slope) in [
                (Activation::HardSigmoid, sixth, 1.0 / 6.0),
                (Activation::HardSigmoid02, fifth, 0.2),
            ] {
                let network = Network::new(Vanilla::new(1, 1, phi).unwrap());
                let biased = |p: &mut Parameters| p.tensor_mut("0.bias").unwrap().fill(a);
                let mut model = model(&network, Runtime::new(isa), biased);
                let (_, gradient) = one_step(&mut model, "0.bias");
                let expected = if y > 0.0 && y < 1.0 { slope } else { 0.0 };
                assert_eq!(gradient, [expected], "{phi:?} of {a} on {isa}");
            }
        }
    }
}

/// All gates are open, and g = max(0, 0.5): c = 0.5. It is clipped where the limit is 0.5 or less.
#[test]
fn a_clipped_cell_state_has_no_gradient() {
    let lstm = Lstm::new(1, 1).unwrap().with_candidate(Candidate::Relu);
    let lstm = lstm.with_gate_activation(GateActivation::HardSigmoid);
    let open = |p: &mut Parameters| {
        p.tensor_mut("0.bias").unwrap().copy_from_slice(&[9.0, 9.0, 0.5, 9.0]);
    };
    for &isa in isas() {
        for (limit, c, goes_through) in
            [(0.25, 0.25, false), (0.5, 0.5, false), (0.5f32.next_up(), 0.5, true)]
        {
            let network = Network::new(lstm.with_cell_clip(limit).unwrap());
            let mut model = model(&network, Runtime::new(isa), open);
            let (h, state) = step(&model, &[0.0, 0.0]);
            assert_eq!(state[1], c);
            assert_near(h, c.tanh(), "h");
            let (again, gradient) = one_step(&mut model, "0.bias");
            assert_eq!(again, h);
            let slope = if goes_through { 1.0 - c.tanh() * c.tanh() } else { 0.0 };
            assert_near(gradient[2], slope, &format!("limit {limit} on {isa}"));
            assert_eq!([gradient[0], gradient[1], gradient[3]], [0.0; 3]);
            assert_eq!(step(&model, &[0.0, -9.0]).1[1], -limit);
        }
    }
}

/// h = P m, where P is 2 and m is that of an LSTM with open gates, without a limit and with one.
#[test]
fn a_clipped_projection_has_no_gradient() {
    let lstm = Lstm::new(1, 1).unwrap().with_projection(1).unwrap();
    let set = |p: &mut Parameters| {
        p.tensor_mut("0.bias").unwrap().copy_from_slice(&[9.0, 9.0, -0.5, 9.0]);
        p.tensor_mut("0.weight_hr").unwrap().fill(2.0);
    };
    for &isa in isas() {
        let runtime = Runtime::new(isa);
        let (whole, through) =
            one_step(&mut model(&Network::new(lstm), runtime, set), "0.weight_hr");
        assert!(whole < -0.5 && through[0] < 0.0);
        let limit = -whole;
        for (limit, goes_through) in
            [(0.5, false), (limit.next_down(), false), (limit, false), (limit.next_up(), true)]
        {
            let network = Network::new(lstm.with_projection_clip(limit).unwrap());
            let mut model = model(&network, runtime, set);
            let (h, gradient) = one_step(&mut model, "0.weight_hr");
            assert_eq!(h, whole.max(-limit));
            assert_eq!(step(&model, &[0.0, 0.0]).0, h);
            assert_eq!(gradient, if goes_through { &through[..] } else { &[0.0] });
        }
    }
}

/// Gradients are difference quotients of the reference, which are exact except within a step of a
/// place where the derivative jumps. States have to be clipped, but not all of them.
#[test]
fn gradients_are_difference_quotients() {
    for (seed, kind) in Kind::hard().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 2, hidden: 4 };
        let data = Data::of(subject, Shape::new(2, 4, 2, 3), seed as u64, 0.75);
        let (layer, mut inputs) = (data.reference(), data.inputs.map(|part| widen(part)));
        let at = inputs.params.clone();
        let loss = |at: &[f64]| {
            inputs.params.copy_from_slice(at);
            layer.loss(&inputs)
        };
        let expected = gradient(loss, &at, 1e-6);
        for &isa in isas() {
            let pass = Rig::new(isa, &data).run(&data);
            for (k, (&given, &expected)) in pass.params.iter().zip(&expected).enumerate() {
                let error = (f64::from(given) - expected).abs();
                assert!(error <= 1e-4 * (1.0 + expected.abs()), "{kind:?} {k}: {given} {expected}");
            }
            let limits = |values: &[f32], limit: Option<f32>| {
                let Some(limit) = limit else { return };
                let clipped = values.iter().filter(|v| v.abs() == limit).count();
                assert!(0 < clipped && clipped < values.len(), "{kind:?}: {clipped} are clipped");
                assert!(values.iter().all(|v| v.abs() <= limit));
            };
            if let Kind::Lstm(options) | Kind::NormedLstm(options) = kind {
                limits(&pass.c, options.hard.cell_clip);
                limits(&pass.h, options.hard.projection_clip);
            }
        }
    }
}

/// Options that are off are not in the configuration, so that files have the text that they had.
#[test]
fn options_are_named_where_they_are_on() {
    let lstm = Lstm::new(3, 4).unwrap();
    let text = |lstm: Lstm| bptt::blocks::Block::config(&lstm).to_string();
    assert!(!text(lstm).contains("gate_activation") && !text(lstm).contains("clip"));
    let all = lstm.with_gate_activation(GateActivation::HardSigmoid02).with_cell_clip(3.0).unwrap();
    let all = all.with_projection(2).unwrap().with_projection_clip(0.5).unwrap();
    for part in ["gate_activation: hard_sigmoid_02", "cell_clip: 3", "projection_clip: 0.5"] {
        assert!(text(all).contains(part), "{}", text(all));
    }
    assert_eq!((all.cell_clip(), all.projection_clip()), (Some(3.0), Some(0.5)));
    assert_eq!(all.gate_activation(), GateActivation::HardSigmoid02);
    assert!(!text(all.with_gate_activation(GateActivation::Logistic)).contains("gate_activation"));
}

#[test]
fn wrong_limits_are_refused() {
    let lstm = Lstm::new(3, 4).unwrap();
    for limit in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let refused = |error, what: &str| {
            let Error::Value { what: named, given, expected } = error else { panic!("{error}") };
            assert_eq!((named, given), (what, limit.to_string()));
            assert_eq!(expected, "positive and finite");
        };
        refused(lstm.with_cell_clip(limit).unwrap_err(), "cell_clip");
        let projected = lstm.with_projection(2).unwrap();
        refused(projected.with_projection_clip(limit).unwrap_err(), "projection_clip");
    }
    let error = lstm.with_projection_clip(0.5).unwrap_err().to_string();
    assert!(error.contains("0.5 for a layer without a projection"), "{error}");
}
