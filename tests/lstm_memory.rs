//! What the LSTM allocates: nothing once set up, and before that as many bytes as
//! documented.

mod common;

use allocation_counter::measure;
use bptt::{Isa, Lstm, LstmGradients, OutputGradients, Purpose, Readout, Write};
use common::{Data, Rig, Shape, check, filled, isas, shapes};
use proptest::prelude::*;

/// Allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

/// The suite would pass with a counter that does not count.
#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 10]))), 1);
}

fn nothing_is_allocated(data: &Data) {
    for &isa in isas() {
        let Rig { plan, mut weights, mut arena } = Rig::new(isa, data);
        let (parameters, mut gradients) = (data.parameters(), data.parameters());
        let state = data.shape.state();
        let (mut dx, mut dh0, mut ds0) = (filled(data.x.len()), filled(state), filled(state));
        let mut stream = data.shape.lstm().stream(data.shape.batch, isa).unwrap();
        let mut y = filled(data.dy.len());
        let one = data.shape.batch * data.shape.inputs;

        let forward = || plan.forward(&weights, &data.x, data.initial(), &mut arena).unwrap();
        assert_eq!(allocations(forward), 0, "forward");
        let backward = || {
            let gradients = LstmGradients {
                parameters: &mut gradients,
                write: Write::Accumulate,
                dx: Some(&mut dx),
                dh0: Some(&mut dh0),
                ds0: Some(&mut ds0),
            };
            plan.backward(&weights, &data.x, data.outputs(), &mut arena, gradients).unwrap();
        };
        assert_eq!(allocations(backward), 0, "backward");
        assert_eq!(allocations(|| weights.update(&parameters).unwrap()), 0, "update");
        let step = || stream.step(&weights, &data.x[..one], &mut y[..state]).unwrap();
        assert_eq!(allocations(step), 0, "step");
        let forward = || stream.forward(&weights, &data.x, &mut y).unwrap();
        assert_eq!(allocations(forward), 0, "a stream's forward");
        let readout = Readout::new(data.shape.hidden, 2).unwrap();
        let readout =
            readout.pack(&readout.parameters().unwrap(), Purpose::Inference, isa).unwrap();
        let mut o = filled(2 * data.shape.batch);
        let predict = || stream.predict(&weights, &readout, &data.x[..one], &mut o).unwrap();
        assert_eq!(allocations(predict), 0, "predict");
        let state = || {
            stream.set_state(data.initial().unwrap()).unwrap();
            stream.reset();
        };
        assert_eq!(allocations(state), 0, "set_state and reset");
    }
}

#[test]
fn nothing_is_allocated_once_set_up() {
    check(16, (shapes(40, 40, 100, 6), any::<u64>()), |(shape, seed)| {
        nothing_is_allocated(&Data::draw(shape, seed, 0.5));
    });
    nothing_is_allocated(&Data::draw(Shape::new(300, 270, 70, 3), 1, 0.1));
}

/// Floats of a region: whole cache lines.
fn lines(floats: usize) -> usize {
    floats.div_ceil(16) * 16
}

/// The formula of `LstmPlan`'s documentation, in bytes.
fn documented_arena(shape: Shape, isa: Isa, threads: usize) -> usize {
    let Shape { inputs, hidden, batch, steps, .. } = shape;
    let state = batch * hidden;
    let padded = |columns: usize| columns.div_ceil(2 * isa.lanes()) * 2 * isa.lanes();
    let columns = padded(inputs) + padded(hidden);
    let states = 2 * lines((steps + 1) * state);
    let products = (steps * batch).min(96 * threads) * lines(inputs.max(4 * hidden));
    let scratch = products.max(batch * lines(4 * hidden)).max(256 * columns + 24_576 * threads);
    4 * (lines(4 * steps * state) + states + 2 * lines(state) + lines(scratch))
}

/// The formula of `LstmStream`'s documentation, in bytes.
fn documented_stream(shape: Shape, threads: usize) -> usize {
    let Shape { inputs, hidden, batch, .. } = shape;
    let rows = batch.max(192 / batch * batch);
    let step = batch * (lines(inputs) + lines(hidden));
    let scratch = (rows.min(96 * threads) * lines(inputs)).max(step);
    let spread = if (4 * hidden) % 256 == 0 { 16 } else { 0 };
    4 * (3 * lines(batch * hidden) + lines(rows * (4 * hidden + spread)) + lines(scratch))
}

#[test]
fn memory_is_as_documented() {
    check(64, shapes(300, 300, 300, 40), |shape| {
        for &isa in isas() {
            let lstm = shape.lstm();
            let plan = lstm.plan(shape.steps, shape.batch, isa).unwrap();
            assert_eq!(plan.arena_bytes(), documented_arena(shape, isa, 1), "{shape:?} on {isa}");
            let mut arena = None;
            let made = measure(|| arena = Some(plan.allocate().unwrap()));
            assert_eq!((made.count_total, made.bytes_total), (1, plan.arena_bytes() as u64));

            let mut stream = None;
            let made = measure(|| stream = Some(lstm.stream(shape.batch, isa).unwrap()));
            let stream = stream.unwrap();
            let bytes = stream.bytes();
            assert_eq!(bytes, documented_stream(shape, 1), "{shape:?} on {isa}");
            assert_eq!((made.count_total, made.bytes_total), (1, bytes as u64));

            for threads in [2, 5] {
                let plan = plan.clone().with_threads(threads).unwrap();
                assert_eq!(plan.arena_bytes(), documented_arena(shape, isa, threads));
                let stream = stream.clone().with_threads(threads).unwrap();
                assert_eq!(stream.bytes(), documented_stream(shape, threads));
            }
        }
    });
}

/// "It grows by 6H floats per step and sequence."
#[test]
fn an_arena_grows_by_six_states_a_step() {
    for &isa in isas() {
        let lstm = Lstm::new(3, 32).unwrap();
        let bytes = |steps, batch| lstm.plan(steps, batch, isa).unwrap().arena_bytes();
        assert_eq!(bytes(101, 8) - bytes(100, 8), 4 * 6 * 32 * 8);
    }
}

/// Gradients that are not wanted need no panels.
#[test]
fn weights_take_what_their_purpose_needs() {
    let data = Data::draw(Shape::new(40, 40, 1, 1), 1, 0.5);
    for &isa in isas() {
        let bytes = |purpose| {
            let pack = || drop(data.shape.lstm().pack(&data.parameters(), purpose, isa).unwrap());
            measure(pack).bytes_total
        };
        let inference = bytes(Purpose::Inference);
        let training = bytes(Purpose::Training);
        assert!(inference < training, "on {isa}");
        assert!(training < bytes(Purpose::TrainingWithInputGradient), "on {isa}");
    }
}

/// A pass with nothing but parameter gradients, as [`OutputGradients`] of nothing.
#[test]
fn optional_arguments_allocate_nothing_either() {
    let data = Data::draw(Shape::new(9, 20, 5, 3), 1, 0.5);
    for &isa in isas() {
        let Rig { plan, weights, mut arena } = Rig::new(isa, &data);
        let mut gradients = data.parameters();
        let pass = || {
            plan.forward(&weights, &data.x, None, &mut arena).unwrap();
            let gradients = LstmGradients::of(&mut gradients, Write::Overwrite);
            let outputs = OutputGradients::default();
            plan.backward(&weights, &data.x, outputs, &mut arena, gradients).unwrap();
        };
        assert_eq!(allocations(pass), 0, "on {isa}");
    }
}
