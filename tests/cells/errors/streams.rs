//! Arguments of a stream that do not fit.

use super::data;
use crate::common::{Data, Kind, Options, Snapshot, Subject, filled, isas, length};
use bptt::{
    Activation, Candidate, Dense, Embedding, Error, Input, Isa, Model, Network, Reset, Runtime,
    Stream, Tokens,
};
use bptt_reference::sample::uniform;

/// Features of a dense layer after the layer.
const OUTPUTS: usize = 3;

fn model(network: &Network, isa: Isa, threads: usize) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.5);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa).threads(threads)).unwrap()
}

/// Calls of the stream that are refused, and write neither the outputs nor the state.
#[track_caller]
fn assert_refused(stream: &mut Stream, step: bool, x: Input<'_>, y: usize, error: &Error) {
    let (state, before) = (stream.state().unwrap(), Snapshot::of(&[stream.state_slice()]));
    let mut out = filled(y);
    let given = if step { stream.step(x, &mut out) } else { stream.forward(x, &mut out) };
    assert_eq!(given.as_ref(), Err(error));
    assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(y)]));
    assert_eq!(Snapshot::of(&[stream.state_slice()]), before);
    assert_eq!(stream.state().unwrap().step(), state.step());
}

/// `one` floats of a step's input, and `out` of its output.
fn check(stream: &mut Stream, one: usize, out: usize) {
    let refused = |stream: &mut Stream, step, x: usize, y: usize, error: Error| {
        assert_refused(stream, step, Input::Features(&filled(x)), y, &error);
    };
    for (x, y, error) in [
        (one - 1, out, length("x", one - 1, one)),
        (one + 1, out, length("x", one + 1, one)),
        (0, out, length("x", 0, one)),
        (2 * one, out, length("x", 2 * one, one)),
        (one, out - 1, length("y", out - 1, out)),
        (one, out + 1, length("y", out + 1, out)),
        (one, 0, length("y", 0, out)),
        (2 * one, 2 * out, length("y", 2 * out, out)),
    ] {
        refused(stream, true, x, y, error);
    }
    for (x, y, error) in [
        (2 * one + 1, 2 * out, Error::Multiple { what: "x", given: 2 * one + 1, of: one }),
        (one - 1, out, Error::Multiple { what: "x", given: one - 1, of: one }),
        (2 * one, 3 * out, length("y", 3 * out, 2 * out)),
        (2 * one, 2 * out - 1, length("y", 2 * out - 1, 2 * out)),
        (one, out + 1, length("y", out + 1, out)),
        (0, out, length("y", out, 0)),
    ] {
        refused(stream, false, x, y, error);
    }
    let tokens = [0; 7];
    let (given, expected) = ("tokens".into(), "3 features a row".into());
    let error = Error::Mismatch { what: "input", given, expected };
    assert_refused(stream, true, Input::Tokens(&tokens), out, &error);
    assert_refused(stream, false, Input::Tokens(&tokens), out, &error);
    // No steps are a stretch that leaves everything as it is.
    let before = stream.state().unwrap();
    stream.forward(&[], &mut []).unwrap();
    assert_eq!(stream.state().unwrap(), before);
}

/// Layers whose single step has a kernel of its own, and those whose has not; each alone and with
/// a dense layer after it, of one sequence and of two, on one thread and more.
#[test]
fn arguments_of_other_lengths() {
    let projected = Options { projected: true, ..Options::NONE };
    let kinds = [
        Kind::LSTM,
        Kind::Lstm(projected),
        Kind::NormedLstm(Options::NONE),
        Kind::Gru(Reset::After, Candidate::Tanh),
        Kind::LateGru(Reset::Before, Candidate::Tanh),
        Kind::LateLstm(Options::NONE),
        Kind::Skip(Activation::Tanh, &[1, 3]),
        Kind::Clockwork(Activation::Tanh, &[1, 2, 4]),
    ];
    for (&isa, kind) in isas().iter().flat_map(|isa| kinds.map(|kind| (isa, kind))) {
        for (batch, threads) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            let layer = Subject { kind, inputs: 3, hidden: 5 };
            let data = Data::draw(layer, batch, 4, 1, 0.5).begun(3);
            let (one, state) = (data.input(), data.state());
            let mut stream = data.model(isa, threads).stream(batch).unwrap();
            stream.set_state(&data.initial()).unwrap();
            check(&mut stream, one, state);
            assert_eq!(stream.state().unwrap(), data.initial());

            let dense = Dense::new(layer.output_size(), OUTPUTS).unwrap();
            let model = model(&layer.network().then(dense), isa, threads);
            let mut stream = model.stream(batch).unwrap();
            stream.set_state(&data.initial()).unwrap();
            check(&mut stream, one, OUTPUTS * batch);
            assert_eq!(stream.state().unwrap(), data.initial());
        }
    }
}

/// Tokens that there are not, also in the last of many steps.
#[test]
fn tokens_that_there_are_not() {
    let lstm = data().layer.network();
    let lstm = lstm.blocks().next().unwrap().as_recurrent().unwrap();
    let network = Network::new(Embedding::new(7, 3).unwrap()).then(lstm);
    for &isa in isas() {
        for batch in [1, 2] {
            let mut stream = model(&network, isa, 1).stream(batch).unwrap();
            let out = 5 * batch;
            let mut y = filled(out);
            stream.step(Tokens(&vec![6; batch]), &mut y).unwrap();
            let mut tokens = vec![3; 300 * batch];
            tokens[299 * batch] = 7;
            let beyond = |row| Error::Token { row, given: 7, tokens: 7 };
            assert_refused(
                &mut stream,
                true,
                Input::Tokens(&tokens[299 * batch..]),
                out,
                &beyond(0),
            );
            let error = beyond(299 * batch);
            assert_refused(&mut stream, false, Input::Tokens(&tokens), 300 * out, &error);
            let many = length("tokens", batch + 1, batch);
            assert_refused(&mut stream, true, Input::Tokens(&tokens[..=batch]), out, &many);
            let (given, expected) = ("features".into(), "tokens below 7".into());
            let mismatch = Error::Mismatch { what: "input", given, expected };
            let features = vec![0.0; batch];
            assert_refused(&mut stream, true, Input::Features(&features), out, &mismatch);
            assert_refused(&mut stream, false, Input::Features(&features), out, &mismatch);
        }
    }
}
