//! Slices of drawn lengths: a call whose lengths are right succeeds, any other
//! gives a typed error and writes nothing; none panics.
#![no_main]

use bptt::{
    Accumulate, Error, Format, Isa, Lstm, Model, Network, Runtime, Schedule, SquaredError, State,
};
use bptt_fuzz::common::{Data, Rig};
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
        stream(&mut bytes, &data, &rig);
    });
});

/// No machine has so many bytes.
const TOO_MANY: usize = 1 << (usize::BITS - 8);

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
    let Ok(lstm) = Lstm::new(inputs, hidden) else { return };
    let network = Network::new(lstm);
    // Only a small model is made, which is asked for passes of any size.
    if network.manifest().is_ok_and(|manifest| manifest.len() > 1 << 16) {
        return;
    }
    for &isa in Isa::available() {
        let parameters = network.parameters().unwrap();
        let mut model = network.model(parameters, Runtime::new(isa)).unwrap();
        let schedule = Schedule::dense(steps, batch);
        let training = model.training(&schedule).with_input_gradients().with_state_gradients();
        match training.bytes() {
            Ok(bytes) => {
                assert!(bytes / 4 >= hidden, "{lstm:?}, {bytes} bytes");
                assert!(bytes < TOO_MANY || training.workspace().is_err());
            }
            Err(_) => assert!(training.workspace().is_err()),
        }
        if batch == 0 || batch >= TOO_MANY {
            assert!(model.stream(batch).is_err() && model.state(batch).is_err());
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

/// A state of mostly the right batch, and whether it is.
fn state(bytes: &mut Bytes, model: &Model, batch: usize) -> (State, bool) {
    let given = length(bytes, batch).max(1);
    let mut state = model.state(given).unwrap();
    state.as_mut_slice().fill(0.5);
    (state, given == batch)
}

fn assert_state(result: Result<(), Error>, right: bool) -> bool {
    match result {
        Ok(()) => assert!(right, "a state of another batch was taken"),
        Err(Error::Mismatch { given, expected, .. }) => assert!(!right && given != expected),
        Err(other) => panic!("not an error of a state: {other}"),
    }
    right
}

fn forward(bytes: &mut Bytes, isa: Isa, data: &Data, rig: &mut Rig) {
    let before = rig.forward(data).h;
    let Rig { model, workspace } = rig;
    let (given, right) = state(bytes, model, data.batch);
    if !assert_state(workspace.set_state(&given), right) {
        assert_same("the outputs", isa, workspace.outputs().unwrap(), &before);
        let again = model.forward(workspace, &data.inputs.x).unwrap();
        assert_same("the outputs of the same state", isa, again, &before);
    }
    let before = model.forward(workspace, &data.inputs.x).unwrap().to_vec();
    let x = vec![0.5; length(bytes, data.inputs.x.len())];
    let right = x.len() == data.inputs.x.len();
    if !assert_length(model.forward(workspace, &x).map(|_| ()), right) {
        assert_same("the outputs", isa, workspace.outputs().unwrap(), &before);
    }
}

fn backward(bytes: &mut Bytes, isa: Isa, data: &Data, rig: &mut Rig) {
    let before = rig.forward(data).h;
    let Rig { model, workspace } = rig;
    let (last, right) = state(bytes, model, data.batch);
    assert_state(workspace.set_last_gradient(Some(&last)), right);
    let rights = [data.inputs.x.len(), data.inputs.dy.len()];
    let lengths = rights.map(|right| length(bytes, right));
    let [x, targets] = lengths.map(|n| vec![0.5; n]);
    let loss = SquaredError::sum(&targets);
    workspace.gradients_mut().as_mut_slice().fill(BEFORE);
    let at_once = bytes.byte().is_multiple_of(2);
    let result = match at_once {
        true => model.gradients(workspace, &x, &loss, Accumulate::Yes),
        false => model.backward(workspace, &x, &loss, Accumulate::Yes),
    };
    if !assert_length(result.map(|_| ()), lengths == rights) {
        assert_same("the outputs", isa, workspace.outputs().unwrap(), &before);
        let untouched = workspace.gradients().as_slice().iter().all(|&g| g == BEFORE);
        assert!(untouched, "the parameters' gradients were written");
    }
    // Models without the panels that a gradient needs.
    let bare = data.model(isa, 1);
    let result = bare.gradients(workspace, &data.inputs.x, &data.loss(), Accumulate::No);
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
    let mut narrow = bare.quantised(Format::Bf16).unwrap();
    let result = narrow.training_workspace(data.schedule());
    assert!(matches!(result, Err(Error::Mismatch { .. })), "{result:?}");
}

fn stream(bytes: &mut Bytes, data: &Data, rig: &Rig) {
    let (outputs, inputs) = (data.state(), data.input());
    let mut stream = rig.model.stream(data.batch).unwrap();
    let (given, right) = state(bytes, &rig.model, data.batch);
    if !assert_state(stream.set_state(&given), right) {
        assert!(stream.state_slice().iter().all(|&v| v == 0.0));
    }

    let rights = [inputs, outputs];
    let lengths = rights.map(|right| length(bytes, right));
    let [x, mut y] = lengths.map(|n| vec![BEFORE; n]);
    if !assert_length(stream.step(&x, &mut y), lengths == rights) {
        assert!(y.iter().all(|&v| v == BEFORE));
    }

    let steps = bytes.below(9);
    let lengths = [steps * inputs, steps * outputs].map(|n| match n {
        0 => bytes.below(3),
        n => length(bytes, n),
    });
    let fits = lengths[0] % inputs == 0 && lengths[1] == lengths[0] / inputs * outputs;
    let [x, mut y] = lengths.map(|n| vec![BEFORE; n]);
    if !assert_length(stream.forward(&x, &mut y), fits) {
        assert!(y.iter().all(|&v| v == BEFORE));
    }
}
