//! A reversed block has the bits of its inner block on sequences that were reversed by hand, for
//! sequences of one length and of different ones, in passes of one thread and of several.

mod common;

use bptt::blocks::Block;
use bptt::{
    Accumulate, Dense, Embedding, Error, Format, Gru, Input, Lstm, Model, Network, Noise,
    Regularisation, Reset, Reversed, Runtime, Schedule, State, Tokens, Workspace,
};
use bptt_reference::sample::uniform;
use common::{Given, Kind, Layout, Subject, assert_bits, drawn_model, drawn_state, isas};

/// Steps of padded arrays: more than any sequence has.
const STEPS: usize = 7;

/// Sequences, and the row of each of their steps in the caller's arrays.
struct Rows {
    schedule: Schedule,
    /// For each sequence its rows, the first step first.
    of: Vec<Vec<usize>>,
}

impl Rows {
    fn dense(steps: usize, batch: usize) -> Self {
        let of = |n| (0..steps).map(|step| step * batch + n).collect();
        Self { schedule: Schedule::dense(steps, batch), of: (0..batch).map(of).collect() }
    }

    /// The same sequences in the three layouts of the caller's arrays.
    fn ragged(lengths: &[usize]) -> [Self; 3] {
        [Layout::TimeMajor(STEPS), Layout::BatchFirst(STEPS), Layout::Packed].map(|layout| {
            let of = |n: usize| (0..lengths[n]).map(|step| layout.row(lengths, n, step)).collect();
            Self { schedule: layout.schedule(lengths), of: (0..lengths.len()).map(of).collect() }
        })
    }

    /// The rows with each sequence reversed within its length; padding stays.
    fn reversed<T: Copy>(&self, rows: &[T], width: usize) -> Vec<T> {
        let mut to = rows.to_vec();
        for of in &self.of {
            for (row, mirror) in of.iter().zip(of.iter().rev()) {
                to[mirror * width..][..width].copy_from_slice(&rows[row * width..][..width]);
            }
        }
        to
    }
}

/// A drawn state after some steps.
fn begun_state(model: &Model, batch: usize, seed: u64) -> State {
    let mut state = drawn_state(model, batch, seed);
    state.set_step(5).unwrap();
    state
}

/// What passes over sequences computed.
struct Results {
    y: Vec<f32>,
    last: State,
    dx: Vec<f32>,
    dstate: State,
    gradients: Vec<f32>,
    workspace: Workspace,
}

/// Passes forward and backward; tokens have no gradient.
fn run(model: &mut Model, schedule: &Schedule, x: Input<'_>, dy: &[f32]) -> Results {
    let batch = schedule.batch();
    let (state, dlast) = (begun_state(model, batch, 2), begun_state(model, batch, 3));
    let mut training = model.training(schedule).with_state_gradients();
    if matches!(x, Input::Features(_)) {
        training = training.with_input_gradients();
    }
    let mut workspace = training.workspace().unwrap();
    workspace.set_state(&state).unwrap();
    workspace.set_last_gradient(Some(&dlast)).unwrap();
    workspace.set_noise(Noise { seed: 5, step: 3, sequence: 2 });
    let y = model.forward(&mut workspace, x).unwrap().to_vec();
    let last = workspace.last_state().unwrap();
    model.backward(&mut workspace, x, &Given(dy), Accumulate::No).unwrap();
    Results {
        y,
        last,
        dx: workspace.input_gradients().map(<[f32]>::to_vec).unwrap_or_default(),
        dstate: workspace.state_gradients().unwrap(),
        gradients: workspace.gradients().as_slice().to_vec(),
        workspace,
    }
}

/// Compares passes of `reversed` with passes of `plain` over what is reversed by hand.
#[track_caller]
fn assert_reverses(what: &str, rows: &Rows, reversed: &mut Model, plain: &mut Model) {
    let bptt::InputSize::Features(inputs) = plain.input() else { unreachable!("of features") };
    let outputs = plain.output_size();
    let count = rows.schedule.given_rows();
    let (x, dy) = (uniform(7, count * inputs, 1.0), uniform(8, count * outputs, 1.0));
    let given = run(reversed, &rows.schedule, Input::from(&x), &dy);
    let (x, dy) = (rows.reversed(&x, inputs), rows.reversed(&dy, outputs));
    let expected = run(plain, &rows.schedule, Input::from(&x), &dy);
    assert_bits(&format!("y, {what}"), &given.y, &rows.reversed(&expected.y, outputs));
    assert_bits(&format!("dx, {what}"), &given.dx, &rows.reversed(&expected.dx, inputs));
    assert_bits(&format!("last, {what}"), given.last.as_slice(), expected.last.as_slice());
    assert_eq!(given.last.step(), expected.last.step());
    assert_bits(&format!("dstate, {what}"), given.dstate.as_slice(), expected.dstate.as_slice());
    assert_bits(&format!("gradients, {what}"), &given.gradients, &expected.gradients);
    // What the inner block keeps is in its own order.
    for name in ["0.preactivation_gradients", "0.c"] {
        assert_eq!(
            given.workspace.activations(name).ok(),
            expected.workspace.activations(name).ok(),
            "{name}, {what}"
        );
    }
}

#[test]
fn every_layer_is_as_reversed_by_hand() {
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let noise = match nth % 2 == 0 && kind.takes_noise() {
            true => Regularisation::none().with_dropout(0.3).unwrap().with_zoneout(0.4, 0.0),
            false => Ok(Regularisation::none()),
        }
        .unwrap();
        let (reversed, plain) = (subject.reversed_with(noise), subject.network_with(noise));
        let mut rows = vec![Rows::dense(6, 3), Rows::dense(1, 2)];
        rows.extend(Rows::ragged(&[6, 0, 3, 5]));
        rows.extend(Rows::ragged(&[0, 0]));
        for &isa in isas() {
            for (at, rows) in rows.iter().enumerate() {
                let threads = 1 + (nth + at) % 3;
                let runtime = Runtime::new(isa).threads(threads);
                let what = format!("{kind:?}, {:?}, {threads} threads", rows.schedule);
                let (mut reversed, mut plain) =
                    (drawn_model(&reversed, runtime), drawn_model(&plain, runtime));
                assert_reverses(&what, rows, &mut reversed, &mut plain);
            }
        }
    }
}

/// Work that is enough for threads to help.
#[test]
fn threads_change_no_bit() {
    bptt_kernels::team::set_cores(8);
    let network = Network::new(Reversed::new(Lstm::new(40, 70).unwrap()));
    let plain = Network::new(Lstm::new(40, 70).unwrap());
    for &isa in isas() {
        for threads in [1, 2, 3] {
            let mut reversed = drawn_model(&network, Runtime::new(isa).threads(threads));
            let mut plain = drawn_model(&plain, Runtime::new(isa));
            let what = format!("{threads} threads");
            assert_reverses(&what, &Rows::dense(9, 8), &mut reversed, &mut plain);
        }
    }
}

#[test]
fn twice_reversed_is_as_it_was() {
    let gru = || Gru::new(3, 9, Reset::After).unwrap();
    for &isa in isas() {
        let mut once = drawn_model(&Network::new(gru()), Runtime::new(isa));
        let network = Network::new(Reversed::new(Reversed::new(gru())));
        let mut twice = drawn_model(&network, Runtime::new(isa));
        for rows in Rows::ragged(&[6, 0, 3, 5]) {
            let count = rows.schedule.given_rows();
            let (x, dy) = (uniform(7, count * 3, 1.0), uniform(8, count * 9, 1.0));
            let given = run(&mut twice, &rows.schedule, Input::from(&x), &dy);
            let expected = run(&mut once, &rows.schedule, Input::from(&x), &dy);
            assert_bits("y", &given.y, &expected.y);
            assert_bits("dx", &given.dx, &expected.dx);
            assert_bits("gradients", &given.gradients, &expected.gradients);
        }
    }
}

/// The order of the rows of an embedding or a dense layer shows only in the sums of the gradients.
#[test]
fn tokens_and_dense_layers() {
    let embedding = || Embedding::new(11, 4).unwrap();
    let dense = || Dense::new(4, 3).unwrap();
    let reversed = Network::new(Reversed::new(embedding())).then(Reversed::new(dense()));
    let plain = Network::new(embedding()).then(dense());
    for &isa in isas() {
        for rows in Rows::ragged(&[6, 0, 3, 5]) {
            let count = rows.schedule.given_rows();
            // No token is as large as that of the padding.
            let mut tokens = vec![u32::MAX; count];
            for (n, of) in rows.of.iter().enumerate() {
                of.iter().zip(n..).for_each(|(&row, token)| tokens[row] = token as u32 * 7 % 11);
            }
            let dy = uniform(8, count * 3, 1.0);
            let (mut reversed, mut plain) =
                (drawn_model(&reversed, Runtime::new(isa)), drawn_model(&plain, Runtime::new(isa)));
            let given = run(&mut reversed, &rows.schedule, Tokens(&tokens).into(), &dy);
            let as_it_is = run(&mut plain, &rows.schedule, Tokens(&tokens).into(), &dy);
            assert_bits("y", &given.y, &as_it_is.y);
            let (tokens, dy) = (rows.reversed(&tokens, 1), rows.reversed(&dy, 3));
            let expected = run(&mut plain, &rows.schedule, Tokens(&tokens).into(), &dy);
            assert_bits("gradients", &given.gradients, &expected.gradients);
        }
    }
}

/// A reversed layer between others, with the blocks one by one and its rows reversed by hand.
#[test]
fn a_reversed_layer_within_a_network() {
    let (lstm, gru) = (Lstm::new(3, 8).unwrap(), Gru::new(8, 6, Reset::After).unwrap());
    let dense = Dense::new(6, 2).unwrap();
    let network = Network::new(lstm).then(Reversed::new(gru)).then(dense);
    for &isa in isas() {
        for rows in Rows::ragged(&[6, 0, 3, 5]).into_iter().chain([Rows::dense(4, 3)]) {
            let runtime = Runtime::new(isa);
            let mut whole = drawn_model(&network, runtime);
            let mut values = whole.parameters().as_slice();
            let mut parts =
                [Network::new(lstm), Network::new(gru), Network::new(dense)].map(|own| {
                    let mut parameters = own.parameters().unwrap();
                    let (mine, rest) = values.split_at(parameters.as_slice().len());
                    parameters.as_mut_slice().copy_from_slice(mine);
                    values = rest;
                    own.model(parameters, runtime).unwrap()
                });
            let count = rows.schedule.given_rows();
            let (x, dy) = (uniform(7, count * 3, 1.0), uniform(8, count * 2, 1.0));
            let mut space = whole.training_workspace(&rows.schedule).unwrap();
            let y = whole.forward(&mut space, &x).unwrap().to_vec();
            whole.backward(&mut space, &x, &Given(&dy), Accumulate::No).unwrap();
            let mut spaces = parts.each_mut().map(|part| {
                part.training(&rows.schedule).with_input_gradients().workspace().unwrap()
            });
            let [first, second, third] = &mut spaces;
            let h = parts[0].forward(first, &x).unwrap().to_vec();
            let h = rows.reversed(&h, 8);
            let g = parts[1].forward(second, &h).unwrap().to_vec();
            let g = rows.reversed(&g, 6);
            assert_bits("y", &y, parts[2].forward(third, &g).unwrap());
            parts[2].backward(third, &g, &Given(&dy), Accumulate::No).unwrap();
            let dg = rows.reversed(third.input_gradients().unwrap(), 6);
            parts[1].backward(second, &h, &Given(&dg), Accumulate::No).unwrap();
            let dh = rows.reversed(second.input_gradients().unwrap(), 8);
            parts[0].backward(first, &x, &Given(&dh), Accumulate::No).unwrap();
            let gradients = spaces.map(|space| space.gradients().as_slice().to_vec()).concat();
            assert_bits("gradients", space.gradients().as_slice(), &gradients);
        }
    }
}

/// The last part of a sequence comes first, and its last state begins the part before.
#[test]
fn parts_of_a_sequence_are_as_the_whole() {
    let network = Network::new(Reversed::new(Lstm::new(2, 5).unwrap()));
    let x = uniform(7, 9 * 2, 1.0);
    for &isa in isas() {
        let mut model = drawn_model(&network, Runtime::new(isa));
        let mut whole = model.training_workspace(Schedule::dense(9, 1)).unwrap();
        let expected = model.forward(&mut whole, &x).unwrap().to_vec();
        let mut part = model.training_workspace(Schedule::dense(3, 1)).unwrap();
        for (x, expected) in x.chunks(3 * 2).zip(expected.chunks(3 * 5)).rev() {
            assert_bits("y", model.forward(&mut part, x).unwrap(), expected);
            part.carry_state().unwrap();
        }
    }
}

#[test]
fn a_stream_is_refused() {
    let reversed = Reversed::new(Lstm::new(2, 3).unwrap());
    assert!(reversed.as_recurrent().is_none());
    let network = Network::new(Dense::new(2, 2).unwrap()).then(reversed);
    let model = drawn_model(&network, Runtime::best().unwrap());
    let error = model.stream(1).unwrap_err().to_string();
    assert!(error.starts_with("a block of the stream is Reversed { block: Lstm {"), "{error}");
    assert!(
        error.ends_with("expected one that needs no later steps: a stream does not have them yet")
    );
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let network = Network::new(Reversed::new(Lstm::new(2, 3).unwrap()));
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let mut workspace = model.training_workspace(Schedule::dense(4, 1)).unwrap();
    let y = model.forward(&mut workspace, &[0.5; 8]).unwrap().to_vec();
    let error = model.forward(&mut workspace, &[0.5; 7]).unwrap_err();
    assert_eq!(error, Error::Length { what: "x", given: 7, expected: 8 });
    let error = model.forward(&mut workspace, Tokens(&[0; 4])).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "input", .. }), "{error}");
    assert_bits("y", workspace.outputs().unwrap(), &y);
    // Weights in fewer bits are for streams, which a reversed layer has none of.
    let mut model = model.quantised(Format::Int8).unwrap();
    let error = model.training_workspace(Schedule::dense(4, 1)).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "weights", .. }), "{error}");
}

/// The bytes that the page of the block gives, beyond those of the inner block.
#[test]
fn the_memory_is_as_documented() {
    let lines = |floats: usize| floats.next_multiple_of(16) * size_of::<f32>();
    let bytes = |network: &Network| {
        let mut model = drawn_model(network, Runtime::best().unwrap());
        model.training(Schedule::dense(5, 3)).bytes().unwrap()
    };
    let (x, y) = (lines(15 * 2), lines(15 * 7));
    let dense = || Dense::new(2, 7).unwrap();
    let reversed = bytes(&Network::new(Reversed::new(dense())));
    assert_eq!(reversed, bytes(&Network::new(dense())) + x + y);
    // An LSTM reads its outputs. Those are kept in its own order, so the network needs no room for
    // their gradient.
    let lstm = || Lstm::new(2, 7).unwrap();
    let reversed = bytes(&Network::new(Reversed::new(lstm())));
    assert_eq!(reversed, bytes(&Network::new(lstm())) + x + 2 * y - y);
}
