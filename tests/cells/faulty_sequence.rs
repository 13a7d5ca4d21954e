//! One sequence of a batch becomes NaN or infinite: the other sequences keep their bits, forward
//! and backward (keras#449), and so do its own earlier steps.

use crate::common::{
    Data, Kind, Pass, Rig, assert_bits, assert_same, fewer, filled, is_slow, isas, rows_of,
    sequence,
};
use crate::with_layer;
use bptt::{Format, Isa, Model};
use bptt_reference::cells::Cell as Equations;

/// I, H, B and τ: units that fill a vector and units that do not, and more than one group of them.
const SHAPES: [(usize, usize, usize, usize); 5] =
    [(3, 3, 13, 6), (2, 16, 13, 6), (5, 20, 13, 6), (3, 40, 13, 6), (4, 140, 13, 5)];

const FAULTS: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// The step at which an input is faulty.
const STEP: usize = 3;

/// The same data with a fault in one input of a sequence, or in all inputs of a step.
fn faulty(data: &Data, n: usize, fault: f32, all: bool) -> Data {
    let mut faulty = data.clone();
    let width = data.layer.input_size();
    let row = &mut faulty.inputs.x[(STEP * data.batch + n) * width..][..width];
    row[..if all { width } else { 1 }].fill(fault);
    faulty
}

/// Asserts that the other sequences' part of a buffer, `[τ, B, width]`, is unchanged.
#[track_caller]
fn assert_others(data: &Data, n: usize, given: &[f32], expected: &[f32]) {
    let width = data.layer.output_size();
    for m in (0..data.batch).filter(|&m| m != n) {
        let of = |values| rows_of(values, width, data.batch, m);
        assert_bits("y", &of(given), &of(expected));
    }
}

/// Runs passes in each of which one of the sequences has a fault.
fn passes(isa: Isa, threads: usize, data: &Data, clean: &Pass, bad: [usize; 3]) {
    let mut rig = Rig::with_threads(isa, data, threads);
    for (n, fault) in bad.into_iter().zip(FAULTS) {
        let given = rig.run(&faulty(data, n, fault, n > 0));
        for m in (0..data.batch).filter(|&m| m != n) {
            assert_same(&sequence(&given, data, m), &sequence(clean, data, m));
        }
        let before = STEP * data.state();
        assert_bits("h before it", &given.h[..before], &clean.h[..before]);
        // In a layer whose groups have periods, possibly none moves at that step.
        let sees = !matches!(data.layer.equations(), Equations::Clockwork(..));
        if fault.is_nan() && sees {
            let own = sequence(&given, data, n);
            assert!(own.dx.iter().chain(&own.h).any(|x| x.is_nan()), "a fault that shows");
        }
    }
}

#[test]
fn the_others_of_a_batch_keep_their_bits() {
    for kind in Kind::kernels() {
        for &(inputs, hidden, batch, steps) in fewer(&SHAPES, 2) {
            with_layer!(kind, (inputs, hidden), |layer| {
                let plain = Data::draw(layer, batch, steps, 1, 0.4);
                for data in [plain.clone(), plain.noisy(!0)] {
                    for &isa in isas() {
                        let clean = Rig::new(isa, &data).run(&data);
                        passes(isa, 1, &data, &clean, [0, 5, batch - 1]);
                    }
                }
            });
        }
    }
    // More rows than are handled at a time, and enough work that helpers are called.
    for kind in Kind::kernels().into_iter().step_by(if is_slow() { 40 } else { 2 }) {
        with_layer!(kind, (30, 70), |layer| {
            let data = Data::draw(layer, 101, 5, 1, 0.2);
            for &isa in isas() {
                let clean = Rig::new(isa, &data).run(&data);
                passes(isa, 1, &data, &clean, [95, 96, 97]);
                passes(isa, 3, &data, &clean, [0, 60, 100]);
            }
        });
    }
}

fn streamed(model: &Model, data: &Data) -> Vec<f32> {
    let mut stream = model.stream(data.batch).unwrap();
    let mut y = filled(data.steps * data.state());
    let x = &data.inputs.x;
    let (first, rest) = (data.input(), data.state());
    stream.step(&x[..first], &mut y[..rest]).unwrap();
    let cut = data.steps - 2;
    stream.forward(&x[first..cut * first], &mut y[rest..cut * rest]).unwrap();
    let late = x[cut * first..].chunks(first).zip(y[cut * rest..].chunks_mut(rest));
    for (x, y) in late {
        stream.step(x, y).unwrap();
    }
    y
}

#[test]
fn the_others_of_a_stream_keep_their_bits() {
    for kind in Kind::kernels() {
        for &(inputs, hidden, batch, steps) in fewer(&SHAPES, 2) {
            with_layer!(kind, (inputs, hidden), |layer| {
                let data = Data::draw(layer, batch, steps, 1, 0.4);
                for &isa in isas() {
                    let model = data.model(isa, 1);
                    for format in [Format::F32, Format::Bf16, Format::Int8] {
                        let model = model.quantised(format).unwrap();
                        let clean = streamed(&model, &data);
                        for (n, fault) in [0, 5, batch - 1].into_iter().zip(FAULTS) {
                            let faulty = faulty(&data, n, fault, true);
                            let given = streamed(&model, &faulty);
                            assert_others(&data, n, &given, &clean);
                        }
                    }
                }
            });
        }
    }
}
