//! Weights in fewer bits: a pass over them has the bits of one over f32 weights rounded to the
//! format. Also how large the rounding is, what it does to the outputs, and what is refused.

use crate::common::{
    Data, Kind, Rig, Shape, Subject, any_of, assert_bits, assert_mismatch, check, filled, isas,
    shapes, shared_out,
};
use crate::with_layer;
use bptt::{
    Accumulate, Activation, Error, Format, Init, Isa, Lstm, Model, Network, Parameters, Runtime,
    Vanilla, Workspace,
};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

const NARROW: [Format; 2] = [Format::Bf16, Format::Int8];

fn round_row(row: &mut [f32], format: Format) {
    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    for weight in row {
        *weight = format.rounded(*weight, largest);
    }
}

/// The parameters that a format rounds to: U, W and P are rounded output by output.
fn rounded(parameters: &Parameters, format: Format) -> Parameters {
    let mut rounded = parameters.clone();
    for tensor in parameters.manifest().tensors() {
        let of = ["0.weight_ih", "0.weight_hh", "0.weight_hr"];
        // A weight that each unit has alone is a vector, and stays f32.
        let is_matrix = tensor.shape().len() > 1;
        if is_matrix && of.iter().any(|name| tensor.name().starts_with(name)) {
            let depth = tensor.shape()[tensor.shape().len() - 1];
            let rows = rounded.tensor_mut(tensor.name()).unwrap().chunks_exact_mut(depth);
            rows.for_each(|row| round_row(row, format));
        }
    }
    rounded
}

/// The outputs of a training pass, of a stream and of single steps; the workspace belongs to a
/// model with f32 weights.
fn outputs(data: &Data, model: &Model, workspace: &mut Workspace) -> [Vec<f32>; 3] {
    let x = &data.inputs.x;
    workspace.set_state(&data.initial()).unwrap();
    let pass = model.forward(workspace, x).unwrap().to_vec();
    let stream = || {
        let mut stream = model.stream(data.batch).unwrap();
        stream.set_state(&data.initial()).unwrap();
        stream
    };
    let mut whole = filled(data.steps * data.state());
    stream().forward(x, &mut whole).unwrap();
    let (mut stepped, mut stream) = (filled(whole.len()), stream());
    let steps = x.chunks(data.input()).zip(stepped.chunks_mut(data.state()));
    for (x, y) in steps {
        stream.step(x, y).unwrap();
    }
    [pass, whole, stepped]
}

fn as_from_rounded_weights(data: &Data) {
    let parameters = data.parameters();
    for &isa in isas() {
        let Rig { model, mut workspace } = Rig::new(isa, data);
        for format in NARROW {
            let narrow = model.quantised(format).unwrap();
            let expected = data.layer.model(isa, rounded(&parameters, format).as_slice());
            let [expected, ..] = outputs(data, &expected, &mut workspace);
            for (way, given) in
                ["pass", "stream", "steps"].iter().zip(outputs(data, &narrow, &mut workspace))
            {
                assert_bits(&format!("h, {format:?} on {isa}, {way}"), &given, &expected);
            }
        }
    }
}

#[test]
fn a_pass_is_one_over_rounded_weights() {
    let run = |kind, shape: Shape, seed, weights| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            as_from_rounded_weights(&Data::of(layer, shape, seed, weights))
        })
    };
    let case = (any_of(Kind::kernels()), shapes(40, 70, 30, 5), any::<u64>());
    check(160, case, |(kind, shape, seed)| run(kind, shape, seed, 0.5));
    // Beyond what is handled at a time: depth of a sum, rows of a batch.
    let large = [(300, 20, 70, 2), (3, 270, 1, 3), (3, 270, 13, 2), (2, 17, 193, 2)];
    for (kind, (inputs, hidden, batch, steps)) in shared_out(&large, 1) {
        run(kind, Shape::new(inputs, hidden, batch, steps), 2, 0.2);
    }
}

fn lstm_data(inputs: usize, hidden: usize, batch: usize, steps: usize, weights: f32) -> Data {
    Data::draw(Subject { kind: Kind::LSTM, inputs, hidden }, batch, steps, 1, weights)
}

#[test]
fn rounding_is_within_its_bounds() {
    check(256, (-4.0f32..4.0, 0.0f32..8.0), |(weight, more)| {
        let largest = weight.abs() + more;
        let bf16 = Format::Bf16.rounded(weight, largest);
        assert!((bf16 - weight).abs() <= weight.abs() / 256.0, "{weight} to {bf16}");
        let int8 = Format::Int8.rounded(weight, largest);
        // Half a quantisation step, and the roundings of the scale, the quotient and the product.
        let bound = largest * (0.5 / 127.0 + 2.0 * f32::EPSILON);
        assert!((int8 - weight).abs() <= bound, "{weight} of {largest} to {int8}");
    });
    assert_eq!(Format::Int8.rounded(0.0, 0.0), 0.0);
    assert_eq!(Format::Int8.rounded(f32::MIN_POSITIVE, f32::MIN_POSITIVE), 0.0);
}

/// Finite weights stay finite, the largest included, even beside tiny ones, and a step over them
/// has the bits of a step over the rounded weights.
#[test]
fn the_largest_weights_stay_finite() {
    const MAX: f32 = f32::MAX;
    let near = [MAX, MAX.next_down(), 3.4e38, 3.39e38, 3.38e38, 1e38, 127.0 * 2f32.powi(120)];
    for largest in near {
        for weight in near.into_iter().filter(|&w| w <= largest).chain([1.0, 1e-30, 0.0]) {
            for format in NARROW {
                for weight in [weight, -weight] {
                    let rounded = format.rounded(weight, largest);
                    assert!(rounded.is_finite(), "{weight:e} of {largest:e} in {format:?}");
                    let step =
                        if format == Format::Bf16 { weight.abs() / 256.0 } else { largest / 254.0 };
                    let off = (f64::from(rounded) - f64::from(weight)).abs();
                    assert!(
                        off <= f64::from(step) * 1.0001,
                        "{weight:e} of {largest:e} to {rounded:e}"
                    );
                }
            }
        }
    }
    for special in [f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(Format::Bf16.rounded(special, MAX), special);
    }
    assert!(Format::Bf16.rounded(f32::NAN, MAX).is_nan());

    // Rows of the largest number, of its negative, and of both with tiny numbers between.
    let rows: [[f32; 3]; 6] = [
        [MAX, MAX, MAX],
        [-MAX, -MAX, 1e-30],
        [MAX, 1e-30, -MAX],
        [1e-30, MAX, 0.0],
        [-1e-38, -MAX, 1.0],
        [1.0, 0.5, -0.25],
    ];
    let network = Network::new(Vanilla::new(3, 6, Activation::Identity).unwrap());
    let mut parameters = network.parameters().unwrap();
    parameters.tensor_mut("0.weight_ih").unwrap().copy_from_slice(&rows.concat());
    for &isa in isas() {
        let model = |p: &Parameters| network.model(p.clone(), Runtime::new(isa)).unwrap();
        for format in NARROW {
            let narrow = model(&parameters).quantised(format).unwrap();
            let expected = model(&rounded(&parameters, format));
            for (k, batch) in [(0, 1), (1, 1), (2, 1), (0, 13), (1, 13), (2, 13)] {
                let mut x = vec![0.0; 3 * batch];
                x.iter_mut().skip(k).step_by(3).for_each(|x| *x = 0.5);
                let step = |model: &Model| {
                    let mut y = filled(6 * batch);
                    model.stream(batch).unwrap().step(&x, &mut y).unwrap();
                    y
                };
                let y = step(&narrow);
                assert!(y.iter().all(|y| y.is_finite()), "{y:?} of {format:?} on {isa}");
                assert_bits("h", &y, &step(&expected));
            }
        }
    }
}

/// Checks what the formats' documentation says of the outputs of untrained layers: each output,
/// within ±1, over 100 steps of inputs within ±1.
#[test]
fn outputs_are_as_close_as_documented() {
    let isa = Isa::best().unwrap();
    for hidden in [64, 256] {
        let network = Network::new(Lstm::new(hidden, hidden).unwrap());
        let mut rng = SmallRng::seed_from_u64(1);
        let whole = network.init_with(Init::Glorot, &mut rng, Runtime::new(isa)).unwrap();
        let data = lstm_data(hidden, hidden, 1, 100, 0.0);
        let pass = |model: &Model| {
            let mut y = filled(100 * hidden);
            model.stream(1).unwrap().forward(&data.inputs.x, &mut y).unwrap();
            y
        };
        let exact = pass(&whole);
        for (format, documented) in [(Format::Bf16, 0.01), (Format::Int8, 0.03)] {
            let narrow = pass(&whole.quantised(format).unwrap());
            let worst = exact.iter().zip(&narrow).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            println!("{format:?}, H {hidden}: off by {worst:.5} at most");
            assert!(worst <= documented, "{format:?}, H {hidden}: {worst}");
            assert!(worst > 0.0, "{format:?} changed nothing");
        }
    }
}

#[test]
fn weights_that_int8_cannot_hold_are_refused_and_nothing_is_written() {
    let isa = Isa::best().unwrap();
    let data = lstm_data(3, 5, 2, 4, 0.5);
    let Rig { model, mut workspace } = Rig::new(isa, &data);
    for bad in [f32::NAN, f32::INFINITY] {
        // A fault in U, then in W: no weights before it may be packed either.
        for at in [7, 4 * 5 * 3 + 11] {
            let mut narrow = model.quantised(Format::Int8).unwrap();
            let before = outputs(&data, &narrow, &mut workspace);
            // A model alone, and one whose stream goes on with the weights from before.
            for stream in [None, Some(narrow.stream(2).unwrap())] {
                let change = |p: &mut Parameters| {
                    p.as_mut_slice()[at] = bad;
                    Ok::<(), Error>(())
                };
                let error = narrow.change(change).unwrap_err();
                assert!(matches!(error, Error::Value { what: "weights", .. }), "{error}");
                for (given, before) in outputs(&data, &narrow, &mut workspace).iter().zip(&before) {
                    assert_bits("h", given, before);
                }
                drop(stream);
            }
            let mut changed = data.inputs.params.clone();
            changed[at] = bad;
            let changed = data.layer.model(isa, &changed);
            let error = changed.quantised(Format::Int8).unwrap_err();
            assert!(matches!(error, Error::Value { what: "weights", .. }), "{error}");
            assert!(changed.quantised(Format::Bf16).is_ok());
        }
    }
}

#[test]
fn they_have_no_backward_pass() {
    let isa = Isa::best().unwrap();
    let data = lstm_data(3, 5, 2, 4, 0.5);
    let Rig { model, mut workspace } = Rig::new(isa, &data);
    for format in NARROW {
        let mut narrow = model.quantised(format).unwrap();
        let given = format!("{format:?}, which are for inference");
        let error = narrow.training_workspace(data.schedule()).unwrap_err();
        assert_mismatch(error, "weights", &given, "F32, for training");

        // A workspace of an f32 model takes its forward pass, but refuses its backward pass.
        let y = narrow.forward(&mut workspace, &data.inputs.x).unwrap().to_vec();
        workspace.gradients_mut().as_mut_slice().fill(7.0);
        let loss = data.loss();
        let error = narrow.backward(&mut workspace, &data.inputs.x, &loss, Accumulate::No);
        assert_mismatch(error.unwrap_err(), "weights", &given, "F32, for training");
        assert_bits("y", workspace.outputs().unwrap(), &y);
        let error = narrow.gradients(&mut workspace, &data.inputs.x, &loss, Accumulate::No);
        assert_mismatch(error.unwrap_err(), "weights", &given, "F32, for training");
        assert_bits("y", workspace.outputs().unwrap(), &y);
        assert!(workspace.gradients().as_slice().iter().all(|&d| d == 7.0));
    }
}

/// Weights take the bytes that the format says, plus the scales.
#[test]
fn their_size() {
    let network = Network::new(Lstm::new(64, 128).unwrap());
    let model = network.model(network.parameters().unwrap(), Runtime::best().unwrap()).unwrap();
    let (values, bias) = (4 * 128 * (64 + 128), 4 * 128 * 4);
    let bytes = |format| model.quantised(format).unwrap().packed_bytes();
    assert_eq!(bytes(Format::F32), 4 * values + bias);
    assert_eq!(bytes(Format::Bf16), 2 * values + bias);
    assert_eq!(bytes(Format::Int8), values + 2 * 4 * 128 * 4 + bias);
}
