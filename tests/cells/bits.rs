//! What every cell promises to the bit: a sequence gets the same bits alone and in a batch, in one
//! pass and in several, in a training pass and in a stream; and nothing is left over from pass to
//! pass.

use crate::common::{
    Data, Kind, Pass, Rig, Shape, any_of, assert_bits, assert_same, check, filled, in_stretches,
    isas, sequence, shapes, shared_out,
};
use crate::with_layer;
use bptt::{
    Dense, Error, Model, Network, Parameters, Regularisation, Runtime, Schedule, State, Stream,
};
use bptt_reference::sample::uniform;
use proptest::prelude::*;
use proptest::sample::Index;
use std::ops::Range;

fn kinds() -> impl Strategy<Value = Kind> {
    any_of(Kind::kernels())
}

/// Cases of each test, for each kernel.
const CASES: u32 = 200;

/// I, H, B and τ beyond what is handled at a time: rows of a batch, depth of a sum.
const LARGE: [(usize, usize, usize, usize); 4] =
    [(300, 20, 70, 2), (3, 270, 13, 2), (2, 17, 193, 2), (5, 64, 64, 3)];

/// Runs a test on large cases.
macro_rules! each_large {
    (|$data:ident| $body:expr) => {
        for (kind, (inputs, hidden, batch, steps)) in shared_out(&LARGE, 1) {
            with_layer!(kind, (inputs, hidden), |layer| {
                let $data = Data::draw(layer, batch, steps, 2, 0.2);
                $body
            });
        }
    };
}

fn alone_is_as_in_the_batch(data: &Data, n: usize) {
    for &isa in isas() {
        let batch = Rig::new(isa, data).run(data);
        let alone = data.sequence(n);
        let alone = Pass { params: Vec::new(), ..Rig::new(isa, &alone).run(&alone) };
        assert_same(&alone, &sequence(&batch, data, n));
    }
}

#[test]
fn a_sequence_alone_and_in_a_batch() {
    let case = (kinds(), shapes(20, 24, 150, 4), any::<u64>(), any::<Index>());
    check(CASES, case, |(kind, shape, seed, n)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let data = Data::of(layer, shape, seed, 0.5).begun(seed).noisy(seed);
            alone_is_as_in_the_batch(&data, n.index(shape.batch))
        });
    });
    each_large!(|data| for n in [0, data.batch / 2, data.batch - 1] {
        alone_is_as_in_the_batch(&data, n);
    });
}

/// Up to three steps at which to cut a sequence of `steps` steps.
fn cuts() -> impl Strategy<Value = Vec<Index>> {
    proptest::collection::vec(any::<Index>(), 1..4)
}

/// The stretches between the cuts.
fn stretches(steps: usize, cuts: &[Index]) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(steps)).collect();
    ends.extend([0, steps]);
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2).map(|ends| ends[0]..ends[1]).collect()
}

fn parts_are_as_the_whole(data: &Data, stretches: &[Range<usize>]) {
    let mut data = data.clone();
    if data.layer.equations().delays()[0] > 1 {
        // With several masked products, the gradients that a stretch takes in have been masked
        // already, so the bits differ; no dropout here.
        let [h, c] = data.regularisation.zoneout();
        data.regularisation = Regularisation::none().with_zoneout(h, c).unwrap();
    }
    let data = &data;
    for &isa in isas() {
        assert_same(&in_stretches(isa, data, stretches), &Rig::new(isa, data).run(data));
    }
}

#[test]
fn a_sequence_in_one_pass_and_in_several() {
    let case = (kinds(), shapes(20, 24, 40, 12), any::<u64>(), cuts());
    check(CASES, case, |(kind, shape, seed, cuts)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let stretches = stretches(shape.steps, &cuts);
            let data = Data::of(layer, shape, seed, 0.5).begun(seed).noisy(seed);
            parts_are_as_the_whole(&data, &stretches)
        });
    });
    each_large!(|data| {
        let stretches = [0..1, 1..data.steps];
        parts_are_as_the_whole(&data, &stretches);
        parts_are_as_the_whole(&data.noisy(!0), &stretches);
    });
}

/// Sums over time that are longer than the depth handled at once, and are split at different places
/// in the whole and in its parts.
#[test]
fn a_long_sequence_in_one_pass_and_in_several() {
    let shape = (1..=3usize, 1..=18usize, 1..=4usize, 250..=600usize)
        .prop_map(|(inputs, hidden, batch, steps)| Shape::new(inputs, hidden, batch, steps));
    check(40, (kinds(), shape, any::<u64>(), cuts()), |(kind, shape, seed, cuts)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let stretches = stretches(shape.steps, &cuts);
            let data = Data::of(layer, shape, seed, 0.5).begun(seed).noisy(seed);
            parts_are_as_the_whole(&data, &stretches)
        });
    });
}

/// How a stream is fed its next steps.
#[derive(Clone, Copy, Debug)]
enum Feed {
    Step,
    Forward(usize),
}

fn feeds() -> impl Strategy<Value = Vec<Feed>> {
    let feed = prop_oneof![Just(Feed::Step), (1..=9usize).prop_map(Feed::Forward)];
    proptest::collection::vec(feed, 1..8)
}

/// The outputs of a stream that is fed as `feeds` say, over and over.
fn streamed(stream: &mut Stream, data: &Data, feeds: &[Feed]) -> Vec<f32> {
    let (input, state, steps) = (data.input(), data.state(), data.steps);
    let mut y = filled(steps * state);
    let mut done = 0;
    for feed in feeds.iter().cycle() {
        let x = &data.inputs.x[done * input..];
        let y = &mut y[done * state..];
        let taken = match *feed {
            _ if done == steps => break,
            Feed::Step => {
                stream.step(&x[..input], &mut y[..state]).unwrap();
                1
            }
            Feed::Forward(wanted) => {
                let taken = wanted.min(steps - done);
                let (x, y) = (&x[..taken * input], &mut y[..taken * state]);
                stream.forward(x, y).unwrap();
                taken
            }
        };
        done += taken;
    }
    y
}

#[track_caller]
fn assert_states(given: &State, expected: &State) {
    assert_eq!(given.manifest(), expected.manifest());
    for tensor in expected.manifest().tensors() {
        let of = |state: &State| state.tensor(tensor.name()).unwrap().to_vec();
        assert_bits(tensor.name(), &of(given), &of(expected));
    }
    assert_eq!(given.step(), expected.step());
}

fn stream_is_as_the_pass(data: &Data, feeds: &[Feed]) {
    for &isa in isas() {
        let mut rig = Rig::new(isa, data);
        let pass = rig.forward(data);
        let mut stream = rig.model.stream(data.batch).unwrap();
        stream.set_state(&data.initial()).unwrap();
        let y = streamed(&mut stream, data, feeds);
        assert_bits("y", &y, &pass.h);
        assert_states(&stream.state().unwrap(), &rig.workspace.last_state().unwrap());
        assert_bits("state", stream.state_slice(), stream.state().unwrap().as_slice());

        // A new stream and one that has been reset both start from zero.
        stream.reset();
        let again = streamed(&mut stream, data, feeds);
        rig.workspace.reset_state();
        let from_zero = rig.model.forward(&mut rig.workspace, &data.inputs.x).unwrap();
        assert_bits("y after a reset", &again, from_zero);
        let mut new = rig.model.stream(data.batch).unwrap();
        let y = streamed(&mut new, data, &[Feed::Forward(data.steps)]);
        assert_bits("y of a new stream", &y, from_zero);
    }
}

#[test]
fn a_stream_and_a_pass() {
    let run = |kind, shape: Shape, seed, feeds: &[Feed]| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            stream_is_as_the_pass(&Data::of(layer, shape, seed, 0.5).begun(seed), feeds)
        })
    };
    check(CASES, (kinds(), shapes(20, 24, 40, 12), any::<u64>(), feeds()), |case| {
        run(case.0, case.1, case.2, &case.3);
    });
    each_large!(|data| stream_is_as_the_pass(&data, &[Feed::Step, Feed::Forward(2)]));
    // One sequence has a kernel of its own for a step.
    let one = (1..=20usize, prop_oneof![1..=70usize, 250..=300usize], 1..=12usize)
        .prop_map(|(inputs, hidden, steps)| Shape::new(inputs, hidden, 1, steps));
    check(CASES, (kinds(), one, any::<u64>(), feeds()), |case| {
        run(case.0, case.1, case.2, &case.3);
    });
    // Several times more rows than a stream handles at a time.
    for kind in Kind::kernels() {
        run(kind, Shape::new(3, 9, 2, 400), 1, &[Feed::Forward(400)]);
    }
}

/// The outputs of a stream's dense layer are those of a dense layer that runs over all steps after
/// them.
fn outputs_are_a_dense_layers(data: &Data, outputs: usize, threads: usize) {
    let batch = data.batch;
    let dense = Dense::new(data.layer.output_size(), outputs).unwrap();
    let (network, after) = (data.layer.network().then(dense), Network::new(dense));
    let values = uniform(7, after.manifest().unwrap().len(), 0.5);
    let model = |network: &Network, values: &[f32], runtime: Runtime| -> Model {
        let mut parameters = network.parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(values);
        network.model(parameters, runtime).unwrap()
    };
    for &isa in isas() {
        let runtime = Runtime::new(isa);
        let all = [&data.inputs.params[..], &values].concat();
        let mut stream = model(&network, &all, runtime.threads(threads)).stream(batch).unwrap();
        let mut alone = data.model(isa, 1).stream(batch).unwrap();
        let mut after = model(&after, &values, runtime);
        let mut workspace = after.training_workspace(Schedule::dense(1, batch)).unwrap();
        let (mut y, mut o) = (filled(data.state()), filled(batch * outputs));
        for x in data.inputs.x.chunks(data.input()) {
            stream.step(x, &mut o).unwrap();
            alone.step(x, &mut y).unwrap();
            assert_bits("o", &o, after.forward(&mut workspace, &y).unwrap());
            assert_states(&stream.state().unwrap(), &alone.state().unwrap());
        }
    }
}

#[test]
fn a_stream_with_outputs() {
    let batch = prop_oneof![Just(1), 2..=40usize];
    let shape = (1..=20usize, 1..=70usize, batch, 1..=5usize)
        .prop_map(|(inputs, hidden, batch, steps)| Shape::new(inputs, hidden, batch, steps));
    let case = (kinds(), shape, any::<u64>(), 1..=40usize, 1..=3usize);
    check(CASES, case, |(kind, shape, seed, outputs, threads)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            outputs_are_a_dense_layers(&Data::of(layer, shape, seed, 0.5), outputs, threads)
        });
    });
}

/// Runs a pass that leaves NaN wherever it may.
fn poison(rig: &mut Rig, data: &Data) {
    let mut bad = data.clone();
    bad.inputs = data.inputs.map(|values| vec![f32::NAN; values.len()]);
    let pass = rig.run(&bad);
    // Without noise every gradient is NaN: max(0, a), which has slope zero for NaN, is not among
    // the kinds here. With noise a unit that keeps its state has a gradient of zero.
    let noisy = data.regularisation != Regularisation::none();
    assert!(noisy || pass.params.iter().all(|x| x.is_nan()));
}

fn nothing_is_left(data: &Data, other: &Data) {
    for &isa in isas() {
        let expected = Rig::new(isa, data).run(data);
        let mut rig = Rig::new(isa, other);
        rig.run(other);
        poison(&mut rig, data);
        for values in [&vec![f32::NAN; data.inputs.params.len()], &data.inputs.params] {
            let change = |p: &mut Parameters| {
                p.as_mut_slice().copy_from_slice(values);
                Ok::<(), Error>(())
            };
            rig.model.change(change).unwrap();
        }
        assert_same(&rig.run(data), &expected);
        assert_same(&rig.run(data), &expected);
    }
}

#[test]
fn nothing_is_left_over() {
    let case = (kinds(), shapes(20, 24, 40, 5), any::<u64>(), any::<u64>());
    check(CASES, case, |(kind, shape, seed, another)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let data = Data::of(layer, shape, seed, 0.5).noisy(seed);
            nothing_is_left(&data, &data.again(another, 2.0))
        });
    });
}
