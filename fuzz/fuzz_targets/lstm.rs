//! A pass of a drawn shape on every instruction set.
//!
//! Over moderate numbers each step is within its derived bound of the f64
//! reference. Over any bit patterns, NaN, infinities and denormals among them:
//! gates in their ranges or NaN, a NaN in an input in all gates of its row, and
//! the same bits for a sequence alone, in the batch, and in a stream.
#![no_main]

use bptt::{Candidate, Isa};
use bptt_fuzz::{Bytes, Data, Rig, Shape, assert_same, rows_of};
use bptt_reference::lstm::{Gradients, Trace};
use bptt_reference::{Activation, Lstm, bounds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    let raw = bytes.byte() % 2 == 1;
    let shape = Shape::draw(&mut bytes);
    let data = Data::draw(shape, || if raw { bytes.raw() } else { bytes.moderate() / 2.0 });
    for &isa in Isa::available() {
        let mut rig = Rig::new(isa, &data);
        let pass = rig.run(&data);
        if raw {
            ranges(&data, &pass.0);
        } else {
            within_bounds(&data, &pass);
        }
        alone(isa, &data, &pass);
        streamed(isa, &data, &rig, &pass.0);
    }
});

/// Each step from the pass's own results of the step before, against the
/// reference.
fn within_bounds(data: &Data, (trace, gradients): &(Trace<f32>, Gradients<f32>)) {
    let candidate = match data.shape.candidate {
        Candidate::Tanh => Activation::Tanh,
        Candidate::Logistic => Activation::Logistic,
    };
    let lstm = Lstm::new(data.shape.inputs, data.shape.hidden, candidate);
    let [params, x, h0, s0, dy, dh_last, ds_last, dz] =
        [&data.params, &data.x, &data.h0, &data.s0, &data.dy, &data.dh_last, &data.ds_last]
            .into_iter()
            .chain([&gradients.dz])
            .map(|values| bounds::exact(values))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
    let given = trace.map(|value| bounds::exact(&[value])[0]);
    let expected = lstm.forward_steps(&params, &x, &h0, &s0, &given);
    for ((name, actual), (_, expected)) in trace.parts().into_iter().zip(expected.parts()) {
        bounds::assert_within(name, actual, expected);
    }
    let expected = lstm.backward_steps(&params, &x, &h0, &s0, &given, &dy, &dh_last, &ds_last, &dz);
    for ((name, actual), (_, expected)) in gradients.parts().into_iter().zip(expected.parts()) {
        bounds::assert_within(name, actual, expected);
    }
}

fn ranges(data: &Data, trace: &Trace<f32>) {
    let Shape { inputs, hidden, candidate, .. } = data.shape;
    let least = if candidate == Candidate::Tanh { -1.0 } else { 0.0 };
    for (what, values, least) in [
        ("i", &trace.i, 0.0),
        ("f", &trace.f, 0.0),
        ("g", &trace.g, least),
        ("o", &trace.o, 0.0),
        ("h", &trace.h, -1.0),
    ] {
        for y in values {
            assert!(y.is_nan() || (least..=1.0).contains(y), "{what} is {y:e}");
        }
    }
    for (row, x) in data.x.chunks(inputs).enumerate() {
        if x.iter().any(|x| x.is_nan()) {
            for gate in [&trace.i, &trace.f, &trace.g, &trace.o, &trace.h] {
                assert!(gate[row * hidden..][..hidden].iter().all(|y| y.is_nan()), "row {row}");
            }
        }
    }
}

/// One sequence alone has the bits that it has in the batch.
fn alone(isa: Isa, data: &Data, (trace, gradients): &(Trace<f32>, Gradients<f32>)) {
    let Shape { inputs, hidden, batch, .. } = data.shape;
    let n = data.params.len() % batch;
    let sequence = data.sequence(n);
    let (own, own_gradients) = Rig::new(isa, &sequence).run(&sequence);
    for ((what, own), (_, all)) in own.parts().into_iter().zip(trace.parts()) {
        assert_same(what, isa, own, &rows_of(all, hidden, batch, n));
    }
    for (what, own, all, width) in [
        ("dx", &own_gradients.dx, &gradients.dx, inputs),
        ("dh0", &own_gradients.dh0, &gradients.dh0, hidden),
        ("ds0", &own_gradients.ds0, &gradients.ds0, hidden),
        ("dz", &own_gradients.dz, &gradients.dz, 4 * hidden),
    ] {
        assert_same(what, isa, own, &rows_of(all, width, batch, n));
    }
}

/// A stream, first step by step and then the rest at once, has the plan's bits.
fn streamed(isa: Isa, data: &Data, rig: &Rig, trace: &Trace<f32>) {
    let Shape { inputs, batch, steps, .. } = data.shape;
    let mut stream = data.shape.lstm().stream(batch, isa).unwrap();
    stream.set_state(data.initial()).unwrap();
    let single = data.params.len() % (steps + 1);
    let (first, rest) = data.x.split_at(single * batch * inputs);
    for (t, x) in first.chunks(batch * inputs).enumerate() {
        let mut y = vec![f32::NAN; data.shape.state()];
        stream.step(&rig.weights, x, &mut y).unwrap();
        assert_same("a step", isa, &y, &trace.h[t * y.len()..][..y.len()]);
    }
    let mut y = vec![f32::NAN; (steps - single) * data.shape.state()];
    stream.forward(&rig.weights, rest, &mut y).unwrap();
    assert_same("a stretch", isa, &y, &trace.h[trace.h.len() - y.len()..]);
    let last = trace.s.len() - data.shape.state();
    assert_same("the last state", isa, stream.state().s, &trace.s[last..]);
}
