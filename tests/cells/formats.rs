//! Weights in fewer bits: that a pass over them has the bits of one over f32 weights
//! rounded to the format, how far the rounding is off, what it does to the outputs,
//! and what is refused.

use crate::common::{
    Data, Kind, Options, Shape, Subject, any_of, assert_bits, assert_mismatch, check, filled, isas,
    lstm, shapes, shared_out,
};
use crate::with_layer;
use bptt::{
    Accumulate, Error, Format, Gradients, Init, Isa, Layer, Lstm, OutputGradients, Parameters,
    Plan, Purpose, Weights,
};
use bptt_reference::cells::Cell as Equations;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

const NARROW: [Format; 2] = [Format::Bf16, Format::Int8];

/// The lengths of W's rows, each with how many there are of it.
fn recurrent_rows<C: Subject>(layer: &C) -> Vec<(usize, usize)> {
    let width = layer.output_size();
    let Equations::Clockwork(_, groups) = layer.equations() else {
        return vec![(width, usize::MAX)];
    };
    let mut read = width;
    let of = |(units, _)| {
        read -= units;
        (read + units, units)
    };
    groups.into_iter().map(of).collect()
}

fn round_row(row: &mut [f32], format: Format) {
    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    for weight in row {
        *weight = format.rounded(*weight, largest);
    }
}

/// The parameters that a format takes them for: U, W and P rounded output by output.
fn rounded<C: Subject>(parameters: &Parameters<C>, format: Format) -> Parameters<C> {
    let mut rounded = parameters.clone();
    let layer = parameters.layer();
    let [u, w, _, _, p] = rounded.split_mut();
    u.chunks_exact_mut(layer.input_size()).for_each(|row| round_row(row, format));
    p.chunks_exact_mut(layer.hidden_size()).for_each(|row| round_row(row, format));
    let mut rest = w;
    for (depth, rows) in recurrent_rows(layer) {
        let (block, tail) = rest.split_at_mut(rest.len().min(rows.saturating_mul(depth)));
        block.chunks_exact_mut(depth).for_each(|row| round_row(row, format));
        rest = tail;
    }
    rounded
}

/// The outputs of a plan, of a stream and of single steps.
fn outputs<C: Subject>(data: &Data<C>, weights: &Weights<C>, plan: &Plan<C>) -> [Vec<f32>; 3] {
    let (layer, batch, isa, x) = (&data.layer, data.batch, plan.isa(), &data.inputs.x);
    let mut arena = plan.allocate().unwrap();
    plan.forward(weights, x, data.initial(), &mut arena).unwrap();
    let stream = || {
        let mut stream = layer.stream(batch, isa).unwrap();
        stream.set_state(data.initial().unwrap()).unwrap();
        stream
    };
    let mut whole = filled(data.steps * data.state());
    stream().forward(weights, x, &mut whole).unwrap();
    let (mut stepped, mut stream) = (filled(whole.len()), stream());
    let steps = x.chunks(data.input()).zip(stepped.chunks_mut(data.state()));
    for (x, y) in steps {
        stream.step(weights, x, y).unwrap();
    }
    [arena.hidden().unwrap().to_vec(), whole, stepped]
}

fn as_from_rounded_weights<C: Subject>(data: &Data<C>) {
    let (layer, parameters) = (&data.layer, data.parameters());
    for &isa in isas() {
        let plan = layer.plan(data.steps, data.batch, isa).unwrap();
        for format in NARROW {
            let narrow = layer.pack_inference(&parameters, format, isa).unwrap();
            let expected = rounded(&parameters, format);
            let expected = layer.pack(&expected, Purpose::Inference, isa).unwrap();
            let [expected, ..] = outputs(data, &expected, &plan);
            for (way, given) in
                ["plan", "stream", "steps"].iter().zip(outputs(data, &narrow, &plan))
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

fn lstm_data(inputs: usize, hidden: usize, batch: usize, steps: usize, weights: f32) -> Data<Lstm> {
    Data::draw(lstm(Options::NONE, inputs, hidden), batch, steps, 1, weights)
}

#[test]
fn rounding_is_within_its_bounds() {
    check(256, (-4.0f32..4.0, 0.0f32..8.0), |(weight, more)| {
        let largest = weight.abs() + more;
        let bf16 = Format::Bf16.rounded(weight, largest);
        assert!((bf16 - weight).abs() <= weight.abs() / 256.0, "{weight} to {bf16}");
        let int8 = Format::Int8.rounded(weight, largest);
        // Half a step, and the roundings of the scale, the quotient and the product.
        let bound = largest * (0.5 / 127.0 + 2.0 * f32::EPSILON);
        assert!((int8 - weight).abs() <= bound, "{weight} of {largest} to {int8}");
    });
    assert_eq!(Format::Int8.rounded(0.0, 0.0), 0.0);
    assert_eq!(Format::Int8.rounded(f32::MIN_POSITIVE, f32::MIN_POSITIVE), 0.0);
}

/// Weights that are finite stay so, the largest included, also beside tiny ones, and a step
/// over them has the bits of one over what they are rounded to.
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

    // Rows of the largest, of its negative, and of both with tiny ones between.
    let rows: [[f32; 3]; 6] = [
        [MAX, MAX, MAX],
        [-MAX, -MAX, 1e-30],
        [MAX, 1e-30, -MAX],
        [1e-30, MAX, 0.0],
        [-1e-38, -MAX, 1.0],
        [1.0, 0.5, -0.25],
    ];
    let layer = bptt::Vanilla::new(3, 6, bptt::Activation::Identity).unwrap();
    let mut parameters = layer.parameters().unwrap();
    parameters.split_mut()[0].copy_from_slice(&rows.concat());
    for &isa in isas() {
        for format in NARROW {
            let weights = layer.pack_inference(&parameters, format, isa).unwrap();
            let expected = layer.pack(&rounded(&parameters, format), Purpose::Inference, isa);
            for (k, batch) in [(0, 1), (1, 1), (2, 1), (0, 13), (1, 13), (2, 13)] {
                let mut x = vec![0.0; 3 * batch];
                x.iter_mut().skip(k).step_by(3).for_each(|x| *x = 0.5);
                let step = |weights: &Weights<bptt::Vanilla>| {
                    let mut y = filled(6 * batch);
                    layer.stream(batch, isa).unwrap().step(weights, &x, &mut y).unwrap();
                    y
                };
                let y = step(&weights);
                assert!(y.iter().all(|y| y.is_finite()), "{y:?} of {format:?} on {isa}");
                assert_bits("h", &y, &step(expected.as_ref().unwrap()));
            }
        }
    }
}

/// What the formats' documentation says of the outputs of untrained layers: each
/// output, which is within ±1, over 100 steps of inputs within ±1.
#[test]
fn outputs_are_as_close_as_documented() {
    let isa = Isa::best().unwrap();
    for hidden in [64, 256] {
        let lstm = Lstm::new(hidden, hidden).unwrap();
        let parameters = lstm.init(Init::Glorot, &mut SmallRng::seed_from_u64(1)).unwrap();
        let whole = lstm.pack(&parameters, Purpose::Inference, isa).unwrap();
        let data = lstm_data(hidden, hidden, 1, 100, 0.0);
        let pass = |weights: &Weights<Lstm>| {
            let mut y = filled(100 * hidden);
            lstm.stream(1, isa).unwrap().forward(weights, &data.inputs.x, &mut y).unwrap();
            y
        };
        let exact = pass(&whole);
        for (format, documented) in [(Format::Bf16, 0.01), (Format::Int8, 0.03)] {
            let narrow = pass(&lstm.pack_inference(&parameters, format, isa).unwrap());
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
    let (lstm, parameters) = (data.layer, data.parameters());
    let plan = lstm.plan(4, 2, isa).unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        // In U and in W: what comes before must not be packed either.
        for at in [7, 4 * 5 * 3 + 11] {
            let mut changed = data.parameters();
            changed.as_mut_slice()[at] = bad;
            let mut weights = lstm.pack_inference(&parameters, Format::Int8, isa).unwrap();
            let [before, ..] = outputs(&data, &weights, &plan);
            let error = weights.update(&changed).unwrap_err();
            assert!(matches!(error, Error::Value { what: "weights", .. }), "{error}");
            assert_bits("h", &outputs(&data, &weights, &plan)[0], &before);
            assert!(lstm.pack_inference(&changed, Format::Int8, isa).is_err());
            assert!(lstm.pack_inference(&changed, Format::Bf16, isa).is_ok());
        }
    }
}

#[test]
fn they_have_no_backward_pass() {
    let isa = Isa::best().unwrap();
    let data = lstm_data(3, 5, 2, 4, 0.5);
    let lstm = data.layer;
    let plan = lstm.plan(4, 2, isa).unwrap();
    let weights = lstm.pack_inference(&data.parameters(), Format::Bf16, isa).unwrap();
    let mut arena = plan.allocate().unwrap();
    plan.forward(&weights, &data.inputs.x, None, &mut arena).unwrap();
    let mut parameters = lstm.parameters().unwrap();
    let gradients = Gradients::of(&mut parameters, Accumulate::No);
    let outputs = OutputGradients::default();
    let error =
        plan.backward(&weights, &data.inputs.x, outputs, &mut arena, gradients).unwrap_err();
    assert_mismatch(error, "weights", "Purpose::Inference", "Purpose::Training");
}

/// They take the bytes that the format says, and scales.
#[test]
fn their_size() {
    let isa = Isa::best().unwrap();
    let lstm = Lstm::new(64, 128).unwrap();
    let parameters = lstm.parameters().unwrap();
    let (values, bias) = (4 * 128 * (64 + 128), 4 * 128 * 4);
    let bytes = |format| lstm.pack_inference(&parameters, format, isa).unwrap().bytes();
    assert_eq!(bytes(Format::F32), 4 * values + bias);
    assert_eq!(bytes(Format::Bf16), 2 * values + bias);
    assert_eq!(bytes(Format::Int8), values + 2 * 4 * 128 * 4 + bias);
}
