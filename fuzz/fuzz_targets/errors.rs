//! Slices of drawn lengths: a call whose lengths are right succeeds, any other
//! gives a typed error and writes nothing; none panics.
#![no_main]

use bptt::{
    Accumulate, Error, Gradients, Isa, Layer, Lstm, OutputGradients, Parts, Purpose, State,
};
use bptt_fuzz::common::{Data, Rig, Subject, state_of};
use bptt_fuzz::{Bytes, assert_same, with_layer};
use libfuzzer_sys::fuzz_target;

/// What stands in buffers before a call.
const BEFORE: f32 = 12_345.678;

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    sizes(&mut bytes);
    let (kind, shape) = (bytes.kind(), bytes.shape());
    let isa = Isa::available()[usize::from(bytes.byte()) % Isa::available().len()];
    with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
        let data = Data::made(layer, shape.batch, shape.steps, |_, len| vec![0.125; len]);
        let mut rig = Rig::new(isa, &data);
        forward(&mut bytes, isa, &data, &mut rig);
        backward(&mut bytes, isa, &data, &mut rig);
        stream(&mut bytes, isa, &data, &rig);
    });
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
        0 => right.saturating_sub(1),
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
        Err(Error::Multiple { given, of, .. }) => assert!(!right && given % of != 0),
        Err(other) => panic!("not an error of a length: {other}"),
    }
    right
}

fn forward<C: Subject>(bytes: &mut Bytes, isa: Isa, data: &Data<C>, rig: &mut Rig<C>) {
    let given = &data.inputs;
    let rights = [given.x.len(), given.h0.len(), given.c0.len()];
    let [x, h0, c0] = rights.map(|right| length(bytes, right));
    // A cell without a cell state takes none.
    let right = [x, h0] == rights[..2] && (c0 == rights[2] || rights[2] == 0);
    let [x, h0, c0] = [x, h0, c0].map(|n| vec![0.5; n]);
    rig.plan.forward(&rig.weights, &given.x, None, &mut rig.arena).unwrap();
    let before = rig.arena.hidden().unwrap().to_vec();
    let initial = Some(state_of::<C>(&h0, &c0, &given.x0));
    let result = rig.plan.forward(&rig.weights, &x, initial, &mut rig.arena);
    if !assert_length(result, right) {
        assert_same("the arena", isa, rig.arena.hidden().unwrap(), &before);
    }
}

fn backward<C: Subject>(bytes: &mut Bytes, isa: Isa, data: &Data<C>, rig: &mut Rig<C>) {
    let given = &data.inputs;
    let (inputs, state, cell) = (given.x.len(), given.h0.len(), given.c0.len());
    let rights = [inputs, given.dy.len(), state, cell, inputs, state, cell];
    let lengths = rights.map(|right| length(bytes, right));
    // A cell without a cell state takes none.
    let right = (0..7).all(|at| lengths[at] == rights[at] || (cell == 0 && at % 3 == 0 && at > 0));
    let [x, dy, dh_last, dc_last, mut dx, mut dh0, mut dc0] = lengths.map(|n| vec![BEFORE; n]);
    let mut dx0 = vec![BEFORE; given.x0.len()];
    let mut parameters = data.layer.parameters().unwrap();
    parameters.as_mut_slice().fill(BEFORE);
    rig.plan.forward(&rig.weights, &given.x, None, &mut rig.arena).unwrap();
    let gates = rig.arena.gates().unwrap().to_vec();
    let result = rig.plan.backward(
        &rig.weights,
        &x,
        OutputGradients {
            dy: Some(&dy),
            last: Some(state_of::<C>(&dh_last, &dc_last, &given.dx_last)),
        },
        &mut rig.arena,
        Gradients {
            parameters: &mut parameters,
            accumulate: Accumulate::Yes,
            dx: Some(&mut dx),
            initial: Some(State::from_parts(&mut dh0[..], &mut dc0[..], &mut dx0[..])),
        },
    );
    if !assert_length(result, right) {
        assert_same("the gates", isa, rig.arena.gates().unwrap(), &gates);
        for (what, values) in [
            ("the parameters' gradients", parameters.as_slice()),
            ("dx", &dx),
            ("dh0", &dh0),
            ("ds0", &dc0),
        ] {
            assert!(values.iter().all(|&v| v == BEFORE), "{what} was written");
        }
    }
    // Weights without the panels that a gradient needs.
    let layer = &data.layer;
    let weights = layer.pack(&layer.parameters().unwrap(), Purpose::Inference, isa).unwrap();
    rig.plan.forward(&weights, &given.x, None, &mut rig.arena).unwrap();
    let gradients = Gradients::of(&mut parameters, Accumulate::No);
    let outputs = OutputGradients::default();
    let result = rig.plan.backward(&weights, &given.x, outputs, &mut rig.arena, gradients);
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
}

fn stream<C: Subject>(bytes: &mut Bytes, isa: Isa, data: &Data<C>, rig: &Rig<C>) {
    let (state, cell, inputs) = (data.state(), data.inputs.c0.len(), data.input());
    let mut stream = data.layer.stream(data.batch, isa).unwrap();
    let rights = [data.inputs.h0.len(), cell];
    let lengths = rights.map(|right| length(bytes, right));
    let right = lengths[0] == rights[0] && (lengths[1] == cell || cell == 0);
    let [h, c] = lengths.map(|n| vec![0.5; n]);
    if !assert_length(stream.set_state(state_of::<C>(&h, &c, &data.inputs.x0)), right) {
        let Parts { h, c, x, .. } = stream.state().into_parts();
        let others = c.unwrap_or_default().iter().chain(x.unwrap_or_default());
        assert!(h.iter().chain(others).all(|&v| v == 0.0));
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
