//! The inputs of the last steps side by side, by hand, and as the convolution of a QRNN.

mod common;

use bptt::{
    Accumulate, Dense, Error, Model, Network, Pooling, Qrnn, Runtime, Schedule, Window, Workspace,
};
use bptt_reference::sample::uniform;
use common::tree::model_of;
use common::{Given, Layout, assert_bits};

const SIZE: usize = 2;

fn model(network: &Network) -> Model {
    let values = uniform(1, network.manifest().unwrap().len(), 0.7);
    model_of(network, Runtime::best().unwrap(), &values)
}

fn workspace(model: &mut Model, schedule: Schedule) -> Workspace {
    model.training(schedule).with_state_gradients().with_input_gradients().workspace().unwrap()
}

/// Whole numbers, so that sums have no rounding: sequences shorter than the window, longer ones and an
/// empty one, from a state of their own, with a gradient by the last state.
#[test]
fn windows_are_as_by_hand() {
    let lengths = [5, 1, 0, 3, 2];
    let batch = lengths.len();
    for steps in [1, 2, 3, 4] {
        let history = steps - 1;
        let network = Network::new(Window::new(SIZE, steps).unwrap());
        let mut model = model(&network);
        let whole = |seed, len| -> Vec<f32> {
            uniform(seed, len, 50.0).into_iter().map(f32::round).collect()
        };
        let width = SIZE * steps;
        let x: Vec<Vec<f32>> =
            (0..batch).map(|n| whole(10 + n as u64, lengths[n] * SIZE)).collect();
        let dy: Vec<Vec<f32>> =
            (0..batch).map(|n| whole(20 + n as u64, lengths[n] * width)).collect();
        let (before, dlast) =
            (whole(30, history * batch * SIZE), whole(31, history * batch * SIZE));
        let layout = Layout::TimeMajor(6);
        let mut own = workspace(&mut model, layout.schedule(&lengths));
        let mut state = model.state(batch).unwrap();
        state.as_mut_slice().copy_from_slice(&before);
        own.set_state(&state).unwrap();
        state.as_mut_slice().copy_from_slice(&dlast);
        own.set_last_gradient(Some(&state)).unwrap();
        let given = layout.joined(&x, SIZE, f32::NAN);
        let y = model.forward(&mut own, &given).unwrap().to_vec();
        let last = own.last_state().unwrap();
        let of_rows = layout.joined(&dy, width, f32::NAN);
        model.backward(&mut own, &given, &Given(&of_rows), Accumulate::No).unwrap();
        let (dx, dstate) = (own.input_gradients().unwrap(), own.state_gradients().unwrap());
        for n in 0..batch {
            // All inputs of the sequence, those of the state first.
            let of_state =
                |state: &[f32], nth: usize| state[(nth * batch + n) * SIZE..][..SIZE].to_vec();
            let mut inputs: Vec<f32> =
                (0..history).flat_map(|nth| of_state(&before, nth)).collect();
            inputs.extend_from_slice(&x[n]);
            let expected: Vec<f32> =
                (0..lengths[n]).flat_map(|step| inputs[step * SIZE..][..width].to_vec()).collect();
            assert_bits("y", &layout.of(&y, &lengths, n, width), &expected);
            let mut d = vec![0.0; inputs.len()];
            for nth in 0..history {
                let from = (lengths[n] + nth) * SIZE;
                assert_bits("last", &of_state(last.as_slice(), nth), &inputs[from..][..SIZE]);
                d[from..][..SIZE].copy_from_slice(&of_state(&dlast, nth));
            }
            for (step, dy) in dy[n].chunks(width).enumerate() {
                d[step * SIZE..][..width].iter_mut().zip(dy).for_each(|(d, dy)| *d += dy);
            }
            assert_bits("dx", &layout.of(dx, &lengths, n, SIZE), &d[history * SIZE..]);
            for nth in 0..history {
                assert_bits("dstate", &of_state(dstate.as_slice(), nth), &d[nth * SIZE..][..SIZE]);
            }
        }
    }
}

#[test]
fn a_budget_and_a_stream_change_no_bit() {
    let (steps, batch) = (60, 2);
    let network =
        Network::new(Window::new(SIZE, 4).unwrap()).then(Dense::new(4 * SIZE, 3).unwrap());
    let mut model = model(&network);
    let (x, dy) = (uniform(2, steps * batch * SIZE, 1.0), uniform(3, steps * batch * 3, 1.0));
    let schedule = Schedule::dense(steps, batch);
    let mut whole = workspace(&mut model, schedule.clone());
    model.gradients(&mut whole, &x, &Given(&dy), Accumulate::No).unwrap();
    let training = model.training(&schedule).with_budget(whole.bytes() / 3);
    let mut small = training.with_state_gradients().with_input_gradients().workspace().unwrap();
    model.gradients(&mut small, &x, &Given(&dy), Accumulate::No).unwrap();
    assert_bits("dx", small.input_gradients().unwrap(), whole.input_gradients().unwrap());
    let (small, whole) = (small.state_gradients().unwrap(), whole.state_gradients().unwrap());
    assert_bits("dstate", small.as_slice(), whole.as_slice());
    let mut workspace = workspace(&mut model, schedule);
    let expected = model.forward(&mut workspace, &x).unwrap().to_vec();
    let mut y = vec![0.0; expected.len()];
    let mut stream = model.stream(batch).unwrap();
    let (first, rest) = y.split_at_mut(batch * 3);
    stream.step(&x[..batch * SIZE], first).unwrap();
    stream.forward(&x[batch * SIZE..], rest).unwrap();
    assert_bits("a stream", &y, &expected);
}

/// A QRNN of width 2 reads each input beside the one before.
#[test]
fn a_qrnn_behind_a_window_is_the_one_of_the_paper() {
    let steps = 9;
    let qrnn = || Qrnn::new(2 * SIZE, 5, Pooling::ForgetInputOutput).unwrap();
    let network = Network::new(Window::new(SIZE, 2).unwrap()).then(qrnn());
    let (mut windowed, mut plain) = (model(&network), model(&Network::new(qrnn())));
    let x = uniform(2, steps * SIZE, 1.0);
    let before = [&[0.0; SIZE][..], &x].concat();
    let pairs: Vec<f32> = before.windows(2 * SIZE).step_by(SIZE).flatten().copied().collect();
    let mut one = windowed.training_workspace(Schedule::dense(steps, 1)).unwrap();
    let mut other = plain.training_workspace(Schedule::dense(steps, 1)).unwrap();
    let expected = plain.forward(&mut other, &pairs).unwrap();
    assert_bits("y", windowed.forward(&mut one, &x).unwrap(), expected);
}

#[test]
fn empty_windows_are_refused() {
    for (size, steps) in [(0, 2), (2, 0)] {
        assert!(matches!(Window::new(size, steps), Err(Error::Value { .. })));
    }
    assert!(matches!(Window::new(usize::MAX / 2, 4), Err(Error::TooLarge { .. })));
}
