//! Two layers in both directions, of sequences of different lengths that begin from states of their own,
//! against PyTorch's results in f64: the files `torch_*_stack` of `tests/data`, whose README says how
//! they were made. Needs no PyTorch.

#[path = "../common/mod.rs"]
mod common;
#[path = "../cells_data/file.rs"]
#[allow(dead_code, reason = "the suites use parts of it")]
mod file;
mod translators;

use bptt::{
    Accumulate, Bidirectional, Gru, Lstm, Manifest, Model, Network, Reset, Runtime, Schedule, State,
};
use common::{Given, isas};
use file::{Case, File};

/// The unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Panics unless each number is as near to the library's as some thousand roundings allow: those of 9
/// steps, forward and back, of two layers of 9 units, in sums of up to 45 terms, none of which is larger
/// than the largest number here.
#[track_caller]
fn assert_near(what: &str, given: &[f32], expected: &[f64]) {
    assert_eq!(given.len(), expected.len(), "length of {what}");
    let most = expected.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (at, (&given, &expected)) in given.iter().zip(expected).enumerate() {
        let error = (f64::from(given) - expected).abs();
        assert!(error <= 1000.0 * U * most, "{what}[{at}] is {given}, expected {expected}");
    }
}

/// The layers and directions in PyTorch's order: our prefix and their suffix.
const PLACES: [(&str, &str); 4] = [
    ("0.forward", "l0"),
    ("0.reverse", "l0_reverse"),
    ("1.forward", "l1"),
    ("1.reverse", "l1_reverse"),
];

/// Which of their results are compared: values, or gradients.
#[derive(Clone, Copy)]
enum Of {
    Values,
    Gradients,
}

/// Our parameters of a layer, each with its name, made of theirs. Where each gate has one bias here it
/// is the sum of their two, whose gradient is that of either; a GRU keeps that of its candidate apart.
fn parameters(
    place: usize,
    is_gru: bool,
    hidden: usize,
    read: impl Fn(&str) -> Vec<f64>,
    of: Of,
) -> Vec<(String, Vec<f64>)> {
    let (ours, theirs) = PLACES[place];
    let [ih, hh] = ["bias_ih", "bias_hh"].map(|name| read(&format!("{name}_{theirs}")));
    let summed = if is_gru { 2 * hidden } else { 4 * hidden };
    let bias = (0..ih.len()).map(|at| match of {
        Of::Values if at < summed => ih[at] + hh[at],
        _ => ih[at],
    });
    let mut all = vec![
        (format!("{ours}.weight_ih"), read(&format!("weight_ih_{theirs}"))),
        (format!("{ours}.weight_hh"), read(&format!("weight_hh_{theirs}"))),
        (format!("{ours}.bias"), bias.collect()),
    ];
    if is_gru {
        all.push((format!("{ours}.bias_hn"), hh[summed..].to_vec()));
    }
    all
}

/// The state of all layers made of theirs, `[4, B, H]` of h and of c.
fn state(model: &Model, batch: usize, parts: &[(&str, Vec<f32>)]) -> State {
    let mut state = model.state(batch).unwrap();
    for (name, values) in parts {
        for ((place, _), values) in PLACES.iter().zip(values.chunks(values.len() / 4)) {
            state.tensor_mut(&format!("{place}.{name}")).unwrap().copy_from_slice(values);
        }
    }
    state
}

/// Compares a state with theirs.
fn assert_state(what: &str, given: &State, name: &str, expected: &[f64]) {
    for ((place, _), expected) in PLACES.iter().zip(expected.chunks(expected.len() / 4)) {
        let given = given.tensor(&format!("{place}.{name}")).unwrap();
        assert_near(&format!("{what} {place}.{name}"), given, expected);
    }
}

fn compare(case: &Case, network: &Network, is_gru: bool, runtime: Runtime) {
    let (steps, batch) = case.steps_and_batch("x");
    let (hidden, lengths) = (case.width("h0"), case.lengths());
    let mut values = network.parameters().unwrap();
    let given = |name: &str| case.given(name).into_iter().map(f64::from).collect();
    for place in 0..4 {
        for (name, own) in parameters(place, is_gru, hidden, given, Of::Values) {
            let own: Vec<f32> = own.iter().map(|&value| value as f32).collect();
            values.tensor_mut(&name).unwrap().copy_from_slice(&own);
        }
    }
    let mut model = network.model(values, runtime).unwrap();
    let training = model.training(Schedule::padded(&lengths, steps).unwrap());
    let mut workspace = training.with_input_gradients().with_state_gradients().workspace().unwrap();
    let names: &[&str] = if is_gru { &["h"] } else { &["h", "c"] };
    let parts = |of: &dyn Fn(&str) -> String| -> Vec<(&str, Vec<f32>)> {
        names.iter().map(|name| (*name, case.given(&of(name)))).collect()
    };
    let begin = state(&model, batch, &parts(&|name| format!("{name}0")));
    let dlast = state(&model, batch, &parts(&|name| format!("d{name}_last")));
    workspace.set_state(&begin).unwrap();
    workspace.set_last_gradient(Some(&dlast)).unwrap();
    let x = case.given("x");
    let what = format!("{case:?} on {runtime:?}");
    assert_near(&what, model.forward(&mut workspace, &x).unwrap(), &case.result("y"));
    let last = workspace.last_state().unwrap();
    model.backward(&mut workspace, &x, &Given(&case.given("dy")), Accumulate::No).unwrap();
    assert_near(&what, workspace.input_gradients().unwrap(), &case.result("grad.x"));
    let dstate = workspace.state_gradients().unwrap();
    for name in names {
        assert_state(&what, &last, name, &case.result(&format!("{name}_n")));
        assert_state(&what, &dstate, name, &case.result(&format!("grad.{name}0")));
    }
    let manifest: &Manifest = workspace.gradients().manifest();
    let mut compared = 0;
    for place in 0..4 {
        let read = |name: &str| case.result(&format!("grad.{name}"));
        for (name, expected) in parameters(place, is_gru, hidden, read, Of::Gradients) {
            assert_near(&name, workspace.gradients().tensor(&name).unwrap(), &expected);
            compared += 1;
        }
    }
    assert_eq!(compared, manifest.tensors().len(), "all gradients");
}

/// Compares all cases of a file.
fn check(file: &File, is_gru: bool) {
    for case in file.cases() {
        let (inputs, hidden) = (case.width("x"), case.width("h0"));
        let lstm = |inputs| Lstm::new(inputs, hidden).unwrap();
        let gru = |inputs| Gru::new(inputs, hidden, Reset::After).unwrap();
        let network = match is_gru {
            true => Network::new(Bidirectional::new(gru(inputs), gru(inputs)))
                .then(Bidirectional::new(gru(2 * hidden), gru(2 * hidden))),
            false => Network::new(Bidirectional::new(lstm(inputs), lstm(inputs)))
                .then(Bidirectional::new(lstm(2 * hidden), lstm(2 * hidden))),
        };
        for &isa in isas() {
            for threads in [1, 2] {
                compare(&case, &network, is_gru, Runtime::new(isa).threads(threads));
            }
        }
    }
}

#[test]
fn two_lstms_in_both_directions() {
    check(&data_file!("torch_lstm_stack"), false);
}

#[test]
fn two_grus_in_both_directions() {
    check(&data_file!("torch_gru_stack"), true);
}
