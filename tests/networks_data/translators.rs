//! Encoder–decoder networks with attention against a program in PyTorch, in f64: the files
//! `torch_bahdanau` and `torch_luong` of `tests/data`.

use super::{assert_near, isas};
use crate::common::Given;
use crate::data_file;
use crate::file::{Case, File};
use bptt::{
    Accumulate, Activation, Attention, AttentionWrapper, Bidirectional, Bridge, Context, Dense,
    Encoder, Gru, Inputs, Keys, Lstm, Network, Reset, Runtime, Schedule,
};

/// Attention inside the step of a GRU, whose first state is a map of the encoder's last.
fn bahdanau(case: &Case) -> Network {
    let (inputs, units) = (case.width("x"), case.width("encoder.0.forward.weight_hh"));
    let (keys, hidden) = (case.width("0.attention.vector"), case.width("0.block.weight_hh"));
    let gru = |inputs, hidden| Gru::new(inputs, hidden, Reset::After).unwrap();
    let encoder = Encoder::new(Bidirectional::new(gru(inputs, units), gru(inputs, units)))
        .then(Keys::new(2 * units, keys).unwrap());
    let attention = Attention::additive(hidden, 2 * units, keys).unwrap();
    let block = gru(inputs + 2 * units, hidden);
    let writer = Network::new(AttentionWrapper::new(block, attention).unwrap())
        .then(Dense::new(hidden, 3).unwrap());
    writer.with_encoder(encoder.with_bridge(Bridge::Dense(Activation::Tanh))).unwrap()
}

/// Attention after an LSTM, which begins with the encoder's last state and reads it in each step.
fn luong(case: &Case) -> Network {
    let (inputs, hidden) = (case.width("x"), case.width("1.weight_hh"));
    let encoder = Encoder::new(Lstm::new(inputs, hidden).unwrap());
    let output = Dense::new(2 * hidden, 3).unwrap().with_activation(Activation::Tanh);
    let writer = Network::new(Context::new(inputs, 2 * hidden).unwrap())
        .then(Lstm::new(inputs + 2 * hidden, hidden).unwrap())
        .then(Attention::general(hidden, hidden).unwrap())
        .then(output);
    writer.with_encoder(encoder.with_bridge(Bridge::Copy)).unwrap()
}

fn compare(case: &Case, network: &Network, weights: &str, runtime: Runtime) {
    let what = format!("{case:?} on {runtime:?}");
    let mut values = network.parameters().unwrap();
    let names: Vec<String> =
        values.manifest().tensors().iter().map(|tensor| tensor.name().into()).collect();
    for name in &names {
        values.tensor_mut(name).unwrap().copy_from_slice(&case.given(name));
    }
    let mut model = network.model(values, runtime).unwrap();
    let (steps, batch) = case.steps_and_batch("x");
    let (source_steps, _) = case.steps_and_batch("source");
    let (lengths, source_lengths) = (case.lengths(), case.indices("source_lengths"));
    let schedule = Schedule::padded(&lengths, steps).unwrap();
    let sources = Schedule::padded(&source_lengths, source_steps).unwrap();
    let training = model.training(&schedule).with_source(sources);
    let training = training.with_input_gradients().with_source_gradients();
    let mut workspace = training.workspace().unwrap();
    let (x, source) = (case.given("x"), case.given("source"));
    let inputs = Inputs::new(&x).with_source(&source);
    let y = model.forward(&mut workspace, inputs).unwrap();
    assert_near(&what, y, &case.result("y"));
    let expected = case.result("weights");
    let longest = source_lengths.iter().max().unwrap();
    let given = workspace.activations(weights).unwrap();
    for step in 0..schedule.steps() {
        for (n, row) in (schedule.start(step)..schedule.start(step + 1)).enumerate() {
            let at = (step * batch + schedule.sequence(n)) * source_steps;
            let (given, expected) = (&given[row * longest..], &expected[at..]);
            assert_near(&what, &given[..*longest], &expected[..*longest]);
        }
    }
    model.backward(&mut workspace, inputs, &Given(&case.given("dy")), Accumulate::No).unwrap();
    for name in &names {
        let expected = case.result(&format!("grad.{name}"));
        assert_near(
            &format!("{what}: {name}"),
            workspace.gradients().tensor(name).unwrap(),
            &expected,
        );
    }
    assert_near(&what, workspace.input_gradients().unwrap(), &case.result("grad.x"));
    assert_near(&what, workspace.source_gradients().unwrap(), &case.result("grad.source"));
}

fn check(file: &File, network: impl Fn(&Case) -> Network, weights: &str) {
    for case in file.cases() {
        let network = network(&case);
        for &isa in isas() {
            for threads in [1, 3] {
                compare(&case, &network, weights, Runtime::new(isa).threads(threads));
            }
        }
    }
}

#[test]
fn additive_attention_inside_the_step_is_pytorchs() {
    check(&data_file!("torch_bahdanau"), bahdanau, "0.weights");
}

#[test]
fn general_attention_after_the_step_is_pytorchs() {
    check(&data_file!("torch_luong"), luong, "2.weights");
}
