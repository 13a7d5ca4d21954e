//! What the LSTM promises to the bit: a sequence alone and in a batch, in one pass
//! and in several, in a plan and in a stream; and that nothing is left over from
//! pass to pass.

mod common;

use bptt::{Isa, LstmState, LstmStream, Purpose, Readout, Write};
use bptt_reference::lstm::{Gradients, Trace};
use bptt_reference::sample::uniform;
use common::{
    Data, Pass, Rig, Shape, assert_bits, assert_same, check, filled, isas, rows_of, shapes,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::ops::Range;

fn data(shape: impl Strategy<Value = Shape>) -> impl Strategy<Value = Data> {
    (shape, any::<u64>()).prop_map(|(shape, seed)| Data::draw(shape, seed, 0.5))
}

/// Sizes beyond what is handled at a time: rows of a batch, depth of a sum.
const LARGE: [(usize, usize, usize, usize); 4] =
    [(300, 20, 70, 2), (3, 270, 13, 2), (2, 17, 193, 2), (5, 64, 64, 3)];

fn each_large(test: impl Fn(Data)) {
    for (inputs, hidden, batch, steps) in LARGE {
        test(Data::draw(Shape::new(inputs, hidden, batch, steps), 2, 0.2));
    }
}

/// Sequence `n` of a pass over a batch, but for the parameters' gradients, which
/// are sums over the batch.
fn sequence(pass: &Pass, shape: Shape, n: usize) -> Pass {
    let of = |values: &[f32], width| rows_of(values, width, shape.batch, n);
    let hidden = shape.hidden;
    let Pass { trace, gradients } = pass;
    Pass {
        trace: Trace {
            i: of(&trace.i, hidden),
            f: of(&trace.f, hidden),
            g: of(&trace.g, hidden),
            o: of(&trace.o, hidden),
            s: of(&trace.s, hidden),
            h: of(&trace.h, hidden),
        },
        gradients: Gradients {
            params: Vec::new(),
            dx: of(&gradients.dx, shape.inputs),
            dh0: of(&gradients.dh0, hidden),
            ds0: of(&gradients.ds0, hidden),
            dz: of(&gradients.dz, 4 * hidden),
        },
    }
}

fn alone_is_as_in_the_batch(data: &Data, n: usize) {
    for &isa in isas() {
        let batch = Rig::new(isa, data).run(data);
        let alone = data.sequence(n);
        let mut alone = Rig::new(isa, &alone).run(&alone);
        alone.gradients.params.clear();
        assert_same(&alone, &sequence(&batch, data.shape, n));
    }
}

#[test]
fn a_sequence_alone_and_in_a_batch() {
    let case = (data(shapes(20, 24, 150, 4)), any::<Index>());
    check(64, case, |(data, n)| alone_is_as_in_the_batch(&data, n.index(data.shape.batch)));
    each_large(|data| {
        for n in [0, data.shape.batch / 2, data.shape.batch - 1] {
            alone_is_as_in_the_batch(&data, n);
        }
    });
}

/// Up to three places to cut `steps` steps at.
fn cuts() -> impl Strategy<Value = Vec<Index>> {
    proptest::collection::vec(any::<Index>(), 1..4)
}

/// The stretches that the cuts leave.
fn stretches(steps: usize, cuts: &[Index]) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(steps)).collect();
    ends.extend([0, steps]);
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2).map(|ends| ends[0]..ends[1]).collect()
}

/// Forward stretch by stretch with the state handed on, then backward from the
/// last stretch with its gradients handed on.
fn in_stretches(isa: Isa, data: &Data, stretches: &[Range<usize>]) -> Pass {
    let mut state = (data.h0.clone(), data.s0.clone());
    let mut done: Vec<(Data, Rig, Trace<f32>)> = Vec::new();
    for steps in stretches {
        let (h0, s0) = state;
        let part = Data { h0, s0, ..data.stretch(steps.clone()) };
        let mut rig = Rig::new(isa, &part);
        let trace = rig.forward(&part);
        let LstmState { h, s } = rig.arena.last().unwrap();
        state = (h.to_vec(), s.to_vec());
        done.push((part, rig, trace));
    }

    let mut parameters = data.shape.lstm().parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(&filled(data.params.len()));
    let (mut write, mut handed_on) = (Write::Overwrite, None);
    let mut gradients = Vec::new();
    for (part, rig, _) in done.iter_mut().rev() {
        if let Some((dh, ds)) = handed_on {
            (part.dh_last, part.ds_last) = (dh, ds);
        }
        let of_part = rig.backward(part, &mut parameters, write);
        (write, handed_on) = (Write::Accumulate, Some((of_part.dh0.clone(), of_part.ds0.clone())));
        gradients.insert(0, of_part);
    }

    let traces = |part: fn(&Trace<f32>) -> &Vec<f32>| {
        done.iter().flat_map(|(_, _, trace)| part(trace).clone()).collect()
    };
    let over_time = |part: fn(&Gradients<f32>) -> &Vec<f32>| {
        gradients.iter().flat_map(|gradients| part(gradients).clone()).collect()
    };
    Pass {
        trace: Trace {
            i: traces(|t| &t.i),
            f: traces(|t| &t.f),
            g: traces(|t| &t.g),
            o: traces(|t| &t.o),
            s: traces(|t| &t.s),
            h: traces(|t| &t.h),
        },
        gradients: Gradients {
            dx: over_time(|g| &g.dx),
            dz: over_time(|g| &g.dz),
            ..gradients[0].clone()
        },
    }
}

fn parts_are_as_the_whole(data: &Data, stretches: &[Range<usize>]) {
    for &isa in isas() {
        assert_same(&in_stretches(isa, data, stretches), &Rig::new(isa, data).run(data));
    }
}

#[test]
fn a_sequence_in_one_pass_and_in_several() {
    check(64, (data(shapes(20, 24, 40, 12)), cuts()), |(data, cuts)| {
        parts_are_as_the_whole(&data, &stretches(data.shape.steps, &cuts));
    });
    each_large(|data| parts_are_as_the_whole(&data, &[0..1, 1..data.shape.steps]));
}

/// Sums over time that pass the depth that is handled at once, at different places
/// in the whole and in its parts.
#[test]
fn a_long_sequence_in_one_pass_and_in_several() {
    let shape = (1..=3usize, 1..=18usize, 1..=4usize, 250..=600usize)
        .prop_map(|(inputs, hidden, batch, steps)| Shape::new(inputs, hidden, batch, steps));
    check(8, (data(shape), cuts()), |(data, cuts)| {
        parts_are_as_the_whole(&data, &stretches(data.shape.steps, &cuts));
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
fn streamed(stream: &mut LstmStream, rig: &Rig, data: &Data, feeds: &[Feed]) -> Vec<f32> {
    let Shape { inputs, batch, steps, .. } = data.shape;
    let (input, state) = (batch * inputs, data.shape.state());
    let mut y = filled(steps * state);
    let mut done = 0;
    for feed in feeds.iter().cycle() {
        let x = &data.x[done * input..];
        let y = &mut y[done * state..];
        let taken = match *feed {
            _ if done == steps => break,
            Feed::Step => {
                stream.step(&rig.weights, &x[..input], &mut y[..state]).unwrap();
                1
            }
            Feed::Forward(wanted) => {
                let taken = wanted.min(steps - done);
                let (x, y) = (&x[..taken * input], &mut y[..taken * state]);
                stream.forward(&rig.weights, x, y).unwrap();
                taken
            }
        };
        done += taken;
    }
    y
}

fn stream_is_as_the_plan(data: &Data, feeds: &[Feed]) {
    for &isa in isas() {
        let mut rig = Rig::new(isa, data);
        let trace = rig.forward(data);
        let mut stream = data.shape.lstm().stream(data.shape.batch, isa).unwrap();
        stream.set_state(data.initial().unwrap()).unwrap();
        let y = streamed(&mut stream, &rig, data, feeds);
        assert_bits("y", &y, &trace.h);
        let last = rig.arena.last().unwrap();
        assert_bits("h", stream.state().h, last.h);
        assert_bits("s", stream.state().s, last.s);

        // A new stream and one that is reset start from zero.
        stream.reset();
        let again = streamed(&mut stream, &rig, data, feeds);
        rig.plan.forward(&rig.weights, &data.x, None, &mut rig.arena).unwrap();
        assert_bits("y after a reset", &again, rig.arena.hidden().unwrap());
        let mut new = data.shape.lstm().stream(data.shape.batch, isa).unwrap();
        let y = streamed(&mut new, &rig, data, &[Feed::Forward(data.shape.steps)]);
        assert_bits("y of a new stream", &y, rig.arena.hidden().unwrap());
    }
}

#[test]
fn a_stream_and_a_plan() {
    check(64, (data(shapes(20, 24, 40, 12)), feeds()), |(data, feeds)| {
        stream_is_as_the_plan(&data, &feeds);
    });
    each_large(|data| stream_is_as_the_plan(&data, &[Feed::Step, Feed::Forward(2)]));
    // One sequence has a step of its own.
    let one = (1..=20usize, prop_oneof![1..=70usize, 250..=300usize], 1..=12usize)
        .prop_map(|(inputs, hidden, steps)| Shape::new(inputs, hidden, 1, steps));
    check(64, (data(one), feeds()), |(data, feeds)| stream_is_as_the_plan(&data, &feeds));
    // More rows than a stream takes at a time, several times over.
    let long = Data::draw(Shape::new(3, 9, 2, 400), 1, 0.5);
    stream_is_as_the_plan(&long, &[Feed::Forward(400)]);
}

/// The outputs that go with the steps are those of a readout after them.
#[test]
fn a_stream_with_outputs() {
    let batch = prop_oneof![Just(1), 2..=40usize];
    let shape = (1..=20usize, 1..=70usize, batch, 1..=5usize)
        .prop_map(|(inputs, hidden, batch, steps)| Shape::new(inputs, hidden, batch, steps));
    check(64, (data(shape), 1..=40usize, 1..=3usize), |(data, outputs, threads)| {
        let Shape { inputs, hidden, batch, .. } = data.shape;
        let readout = Readout::new(hidden, outputs).unwrap();
        let mut parameters = readout.parameters().unwrap();
        let values = uniform(7, readout.parameter_count(), 0.5);
        parameters.as_mut_slice().copy_from_slice(&values);
        for &isa in isas() {
            let rig = Rig::new(isa, &data);
            let weights = readout.pack(&parameters, Purpose::Inference, isa).unwrap();
            let plan = readout.plan(batch, isa).unwrap();
            let mut arena = plan.allocate().unwrap();
            let stream = data.shape.lstm().stream(batch, isa).unwrap();
            let mut alone = stream.clone();
            let mut stream = stream.with_threads(threads).unwrap();
            let mut y = filled(data.shape.state());
            let (mut o, mut expected) = (filled(batch * outputs), filled(batch * outputs));
            for x in data.x.chunks(batch * inputs) {
                stream.predict(&rig.weights, &weights, x, &mut o).unwrap();
                alone.step(&rig.weights, x, &mut y).unwrap();
                plan.forward(&weights, &y, &mut expected, &mut arena).unwrap();
                assert_bits("o", &o, &expected);
                assert_bits("h", stream.state().h, &y);
                assert_bits("s", stream.state().s, alone.state().s);
            }
        }
    });
}

/// A pass that leaves NaN wherever it may.
fn poison(rig: &mut Rig, data: &Data) {
    let nan = |values: &[f32]| vec![f32::NAN; values.len()];
    let bad = Data {
        x: nan(&data.x),
        h0: nan(&data.h0),
        s0: nan(&data.s0),
        dy: nan(&data.dy),
        dh_last: nan(&data.dh_last),
        ds_last: nan(&data.ds_last),
        ..data.clone()
    };
    let pass = rig.run(&bad);
    assert!(pass.gradients.params.iter().all(|x| x.is_nan()));
}

#[test]
fn nothing_is_left_over() {
    check(48, (data(shapes(20, 24, 40, 5)), any::<u64>()), |(data, seed)| {
        let other = Data::draw(data.shape, seed, 2.0);
        for &isa in isas() {
            let expected = Rig::new(isa, &data).run(&data);
            let mut rig = Rig::new(isa, &other);
            rig.run(&other);
            poison(&mut rig, &data);
            let mut bad = data.parameters();
            bad.as_mut_slice().fill(f32::NAN);
            rig.weights.update(&bad).unwrap();
            rig.weights.update(&data.parameters()).unwrap();
            assert_same(&rig.run(&data), &expected);
            assert_same(&rig.run(&data), &expected);
        }
    });
}
