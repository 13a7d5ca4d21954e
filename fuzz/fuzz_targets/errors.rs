//! Slices of drawn lengths: a call whose lengths are right succeeds, any other
//! gives a typed error and writes nothing; none panics.
#![no_main]

use bptt::{Error, Isa, Lstm, LstmGradients, LstmState, OutputGradients, Purpose, Write};
use bptt_fuzz::{Bytes, Data, Rig, Shape, assert_same};
use libfuzzer_sys::fuzz_target;

/// What stands in buffers before a call.
const BEFORE: f32 = 12_345.678;

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    sizes(&mut bytes);
    let shape = Shape::draw(&mut bytes);
    let isa = Isa::available()[usize::from(bytes.byte()) % Isa::available().len()];
    let data = Data::draw(shape, || 0.125);
    let mut rig = Rig::new(isa, &data);
    forward(&mut bytes, isa, &data, &mut rig);
    backward(&mut bytes, isa, &data, &mut rig);
    stream(&mut bytes, isa, &data, &rig);
});

/// Sizes of any magnitude are refused or planned, never a panic; nothing large is
/// allocated.
fn sizes(bytes: &mut Bytes) {
    let mut any = || match bytes.byte() % 4 {
        0 => usize::from(bytes.byte()),
        1 => usize::MAX - usize::from(bytes.byte()),
        2 => 1 << (bytes.byte() % 64),
        _ => usize::from_le_bytes(std::array::from_fn(|_| bytes.byte())),
    };
    let (inputs, hidden, batch, steps) = (any(), any(), any(), any());
    if let Ok(lstm) = Lstm::new(inputs, hidden) {
        for &isa in Isa::available() {
            if let Ok(plan) = lstm.plan(steps, batch, isa) {
                assert!(plan.arena_bytes() / 4 >= hidden, "{lstm:?}, {plan:?}");
            }
        }
    }
}

/// Mostly the right length, else one near it or any other.
fn length(bytes: &mut Bytes, right: usize) -> usize {
    match bytes.byte() % 16 {
        0 => right - 1,
        1 => right + 1,
        2 => 0,
        3 => bytes.below(2 * right),
        4 => right * 2,
        _ => right,
    }
}

fn assert_length(result: Result<(), Error>, right: bool) -> bool {
    match result {
        Ok(()) => assert!(right, "a wrong length was taken"),
        Err(Error::Length { given, expected, .. }) => assert!(!right && given != expected),
        Err(other) => panic!("not an error of a length: {other}"),
    }
    right
}

fn forward(bytes: &mut Bytes, isa: Isa, data: &Data, rig: &mut Rig) {
    let (state, inputs) = (data.shape.state(), data.x.len());
    let [x, h0, s0] = [inputs, state, state].map(|right| length(bytes, right));
    let [(x, x_right), (h0, h_right), (s0, s_right)] =
        [(x, inputs), (h0, state), (s0, state)].map(|(n, right)| (vec![0.5; n], n == right));
    rig.plan.forward(&rig.weights, &data.x, None, &mut rig.arena).unwrap();
    let before = rig.arena.hidden().unwrap().to_vec();
    let initial = Some(LstmState { h: &h0, s: &s0 });
    let result = rig.plan.forward(&rig.weights, &x, initial, &mut rig.arena);
    if !assert_length(result, x_right && h_right && s_right) {
        assert_same("the arena", isa, rig.arena.hidden().unwrap(), &before);
    }
}

fn backward(bytes: &mut Bytes, isa: Isa, data: &Data, rig: &mut Rig) {
    let (state, inputs) = (data.shape.state(), data.x.len());
    let rights = [inputs, data.dy.len(), state, state, inputs, state, state];
    let lengths = rights.map(|right| length(bytes, right));
    let right = lengths == rights;
    let [x, dy, dh_last, ds_last, mut dx, mut dh0, mut ds0] = lengths.map(|n| vec![BEFORE; n]);
    let mut parameters = data.shape.lstm().parameters().unwrap();
    parameters.as_mut_slice().fill(BEFORE);
    rig.plan.forward(&rig.weights, &data.x, None, &mut rig.arena).unwrap();
    let gates = rig.arena.gates().unwrap().to_vec();
    let result = rig.plan.backward(
        &rig.weights,
        &x,
        OutputGradients { dy: Some(&dy), dh_last: Some(&dh_last), ds_last: Some(&ds_last) },
        &mut rig.arena,
        LstmGradients {
            parameters: &mut parameters,
            write: Write::Accumulate,
            dx: Some(&mut dx),
            dh0: Some(&mut dh0),
            ds0: Some(&mut ds0),
        },
    );
    if !assert_length(result, right) {
        assert_same("the gates", isa, rig.arena.gates().unwrap(), &gates);
        for (what, values) in [
            ("the parameters' gradients", parameters.as_slice()),
            ("dx", &dx),
            ("dh0", &dh0),
            ("ds0", &ds0),
        ] {
            assert!(values.iter().all(|&v| v == BEFORE), "{what} was written");
        }
    }
    // Weights without the panels that a gradient needs.
    let lstm = data.shape.lstm();
    let weights = lstm.pack(&lstm.parameters().unwrap(), Purpose::Inference, isa).unwrap();
    rig.plan.forward(&weights, &data.x, None, &mut rig.arena).unwrap();
    let gradients = LstmGradients::of(&mut parameters, Write::Overwrite);
    let outputs = OutputGradients::default();
    let result = rig.plan.backward(&weights, &data.x, outputs, &mut rig.arena, gradients);
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
}

fn stream(bytes: &mut Bytes, isa: Isa, data: &Data, rig: &Rig) {
    let (state, inputs) = (data.shape.state(), data.shape.batch * data.shape.inputs);
    let mut stream = data.shape.lstm().stream(data.shape.batch, isa).unwrap();
    let rights = [state, state];
    let lengths = rights.map(|right| length(bytes, right));
    let [h, s] = lengths.map(|n| vec![0.5; n]);
    if !assert_length(stream.set_state(LstmState { h: &h, s: &s }), lengths == rights) {
        assert!(stream.state().h.iter().chain(stream.state().s).all(|&v| v == 0.0));
    }

    let rights = [inputs, state];
    let lengths = rights.map(|right| length(bytes, right));
    let [x, mut y] = lengths.map(|n| vec![BEFORE; n]);
    if !assert_length(stream.step(&rig.weights, &x, &mut y), lengths == rights) {
        assert!(y.iter().all(|&v| v == BEFORE));
    }

    let steps = bytes.below(9);
    let lengths = [steps * inputs, steps * state].map(|n| match n {
        0 => bytes.below(3),
        n => length(bytes, n),
    });
    let fits = lengths[0] % inputs == 0 && lengths[1] == lengths[0] / inputs * state;
    let [x, mut y] = lengths.map(|n| vec![BEFORE; n]);
    if !assert_length(stream.forward(&rig.weights, &x, &mut y), fits) {
        assert!(y.iter().all(|&v| v == BEFORE));
    }
}
