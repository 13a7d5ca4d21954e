//! A pass of a drawn cell and shape on every instruction set.
//!
//! Over moderate numbers each step is within its derived bound of the f64
//! reference. Over any bit patterns, NaN, infinities and denormals among them:
//! states of an LSTM in their ranges or NaN, a NaN in an input in all units of its row,
//! and the same bits for a sequence alone, in the batch, and in a stream.
#![no_main]

use bptt::{Activation, Isa};
use bptt_fuzz::common::{Data, Kind, Pass, Rig, part, rows_of};
use bptt_fuzz::{Bytes, assert_same, with_layer};
use bptt_reference::bounds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    let raw = bytes.byte() % 2 == 1;
    let (kind, shape) = (bytes.kind(), bytes.shape());
    with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
        let data = Data::made(layer, shape.batch, shape.steps, |_, len| {
            (0..len).map(|_| if raw { bytes.raw() } else { bytes.moderate() / 2.0 }).collect()
        });
        let noisy = !raw && bytes.byte() % 2 == 1;
        let data = if noisy { data.noisy(bytes.below(1 << 15) as u64 * 77_777) } else { data };
        for &isa in Isa::available() {
            let mut rig = Rig::new(isa, &data);
            let pass = rig.run(&data);
            if raw {
                not_a_number(kind, &data, &pass);
            } else {
                within_bounds(&data, &pass);
            }
            alone(isa, &data, &pass);
            if !noisy {
                streamed(isa, &data, &rig, &pass);
            }
        }
    });
});

/// Each step from the pass's own results of the step before, against the
/// reference.
fn within_bounds(data: &Data, pass: &Pass) {
    let inputs = data.inputs.map(|values| bounds::exact(values));
    let given = pass.map(|values| bounds::exact(values));
    let expected = data.reference().run(&inputs, Some(&given));
    for ((name, actual), (_, expected)) in pass.parts().into_iter().zip(expected.parts()) {
        bounds::assert_within(name, actual, expected);
    }
}

/// A NaN goes on to what it is a term of, unless max(0, a) or a gate of 0 stops it.
fn not_a_number(kind: Kind, data: &Data, pass: &Pass) {
    use Activation::Relu;
    if matches!(kind.plain(), Kind::Vanilla(Relu) | Kind::Leaky(Relu, _) | Kind::Clockwork(Relu, _))
        || kind == Kind::IndRnn(Relu)
    {
        return;
    }
    let (inputs, outputs) = (data.layer.input_size(), data.layer.output_size());
    if data.layer.is_late() {
        return;
    }
    // Of a clockwork all units see the first step's input.
    let steps = if matches!(kind, Kind::Clockwork(..)) { 1 } else { data.steps };
    let x = &data.inputs.x[..steps * data.input()];
    for (row, x) in x.chunks(inputs).enumerate() {
        if x.iter().any(|x| x.is_nan()) {
            assert!(pass.h[row * outputs..][..outputs].iter().all(|y| y.is_nan()), "row {row}");
        }
    }
    if let Kind::Lstm(options) = kind.plain()
        && !options.projected
    {
        assert!(pass.h.iter().all(|y| y.is_nan() || (-1.0..=1.0).contains(y)));
    }
}

/// One sequence alone has the bits that it has in the batch.
fn alone(isa: Isa, data: &Data, pass: &Pass) {
    let n = data.inputs.params.len() % data.batch;
    let sequence = data.sequence(n);
    let own = Rig::new(isa, &sequence).run(&sequence);
    let (inputs, hidden, outputs) =
        (data.layer.input_size(), data.layer.hidden_size(), data.layer.output_size());
    let gates = data.layer.equations().gates() * hidden;
    for (what, own, all, width) in [
        ("gates", &own.gates, &pass.gates, gates),
        ("h", &own.h, &pass.h, outputs),
        ("s", &own.c, &pass.c, hidden),
        ("dz", &own.dz, &pass.dz, gates),
        ("dx", &own.dx, &pass.dx, inputs),
        ("dh0", &own.dh0, &pass.dh0, outputs),
        ("ds0", &own.dc0, &pass.dc0, hidden),
        ("dx0", &own.dx0, &pass.dx0, inputs),
    ] {
        assert_same(what, isa, own, &rows_of(all, width, data.batch, n));
    }
}

/// A stream, first step by step and then the rest at once, has the pass's bits.
fn streamed(isa: Isa, data: &Data, rig: &Rig, pass: &Pass) {
    let mut stream = rig.model.stream(data.batch).unwrap();
    stream.set_state(&data.initial()).unwrap();
    let single = data.inputs.params.len() % (data.steps + 1);
    let (first, rest) = data.inputs.x.split_at(single * data.input());
    for (t, x) in first.chunks(data.input()).enumerate() {
        let mut y = vec![f32::NAN; data.state()];
        stream.step(x, &mut y).unwrap();
        assert_same("a step", isa, &y, &pass.h[t * y.len()..][..y.len()]);
    }
    let mut y = vec![f32::NAN; (data.steps - single) * data.state()];
    stream.forward(rest, &mut y).unwrap();
    assert_same("a stretch", isa, &y, &pass.h[pass.h.len() - y.len()..]);
    let state = stream.state().unwrap();
    assert_eq!(state.step(), data.first + data.steps as u64);
    let [h, c, x] = ["h", "c", "x"].map(|name| part(&state, name));
    // Of a short sequence some of the last states are initial ones.
    let all = [&data.inputs.h0[..], &pass.h].concat();
    assert_same("the last h", isa, &h, &all[all.len() - h.len()..]);
    assert_same("the input that waits", isa, &x, &data.inputs.x[data.inputs.x.len() - x.len()..]);
    assert_same("the last c", isa, &c, &pass.c[pass.c.len() - c.len()..]);
    // A workspace's state after its last step is the stream's.
    let last = rig.workspace.last_state().unwrap();
    assert_same("the last state", isa, last.as_slice(), state.as_slice());
}
