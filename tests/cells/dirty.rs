//! Memory in which an earlier pass has left NaN wherever it could: the next pass has the bits
//! of one in fresh memory, also where it begins from the zero state that nobody gives it
//! (onnxruntime#3893), and gradients that overwrite have those of a buffer of zeros.

use crate::common::{
    Data, Kind, Rig, Subject, assert_bits, assert_same, fewer, filled, is_slow, isas,
};
use crate::with_layer;
use bptt::{Accumulate, Gradients, Isa, OutputGradients, Purpose, Readout, Regularisation, Stream};
use bptt_reference::sample::uniform;

/// I, H, B and τ: units that fill a vector and that do not, one group of them and more, each
/// with a batch that is one row, fewer than a tile's, and more.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(3, 3, 1, 4), (1, 16, 1, 4), (2, 16, 2, 3), (5, 20, 3, 4), (3, 40, 13, 3), (7, 150, 2, 2)];

/// The test on data of each kernel and shape, with and without biases and noise.
macro_rules! each_case {
    (|$data:ident| $body:expr) => {
        for kind in Kind::kernels() {
            for &(inputs, hidden, batch, steps) in fewer(&SHAPES, 2) {
                with_layer!(kind, (inputs, hidden), |layer| {
                    let $data = Data::draw(layer, batch, steps, 1, 0.4);
                    $body;
                    let mut $data = $data.noisy(!0);
                    let mut parameters = $data.parameters();
                    parameters.split_mut()[2].fill(0.0);
                    $data.inputs.params = parameters.as_slice().to_vec();
                    $body
                });
            }
        }
    };
}

/// A pass from NaN to NaN.
fn poison<C: Subject>(rig: &mut Rig<C>, data: &Data<C>) {
    let mut bad = data.clone();
    bad.inputs = data.inputs.map(|values| vec![f32::NAN; values.len()]);
    let pass = rig.run(&bad);
    assert!(pass.h.iter().any(|h| h.is_nan()) && pass.dx.iter().any(|dx| dx.is_nan()));
}

/// States and gradients of a pass that is given nothing but its input and a gradient of its
/// outputs.
fn from_nothing<C: Subject>(rig: &mut Rig<C>, data: &Data<C>) -> [Vec<f32>; 4] {
    let Rig { plan, weights, arena } = rig;
    plan.forward_with(weights, &data.inputs.x, None, data.noise, arena).unwrap();
    let (h, c) = (arena.hidden().unwrap().to_vec(), arena.cell_states().unwrap().to_vec());
    let mut parameters = data.layer.parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(&filled(data.inputs.params.len()));
    let mut dx = filled(data.inputs.x.len());
    let to = Gradients {
        parameters: &mut parameters,
        accumulate: Accumulate::No,
        dx: Some(&mut dx),
        initial: None,
    };
    let outputs = OutputGradients { dy: Some(&data.inputs.dy), last: None };
    plan.backward(weights, &data.inputs.x, outputs, arena, to).unwrap();
    [h, c, parameters.as_slice().to_vec(), dx]
}

fn assert_all(given: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (nth, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert_bits(["h", "c", "params", "dx"][nth], given, expected);
    }
}

#[test]
fn an_arena_full_of_nan() {
    fn run<C: Subject>(isa: Isa, threads: usize, data: &Data<C>) {
        let new = || Rig::with_threads(isa, data, threads);
        let expected = new().run(data);
        let from_zero = from_nothing(&mut new(), data);
        let mut zero = data.clone();
        for part in [&mut zero.inputs.h0, &mut zero.inputs.c0, &mut zero.inputs.x0] {
            part.fill(0.0);
        }
        for part in [&mut zero.inputs.dh_last, &mut zero.inputs.dc_last, &mut zero.inputs.dx_last] {
            part.fill(0.0);
        }
        let given_zeros = new().run(&zero);
        let given_zeros = [given_zeros.h, given_zeros.c, given_zeros.params, given_zeros.dx];
        assert_all(&given_zeros, &from_zero);

        let mut rig = new();
        poison(&mut rig, data);
        assert_all(&from_nothing(&mut rig, data), &from_zero);
        poison(&mut rig, data);
        assert_same(&rig.run(data), &expected);
        // What a state that was given has left is none of a pass that is given none.
        assert_all(&from_nothing(&mut rig, data), &from_zero);

        // The memory of a larger pass, as it comes back from the allocator.
        let more = Data::draw(data.layer.clone(), 2 * data.batch, data.steps + 1, 2, 0.4);
        let more = Data { regularisation: data.regularisation, ..more };
        let mut larger = Rig::with_threads(isa, &more, threads);
        poison(&mut larger, &more);
        drop((larger, rig));
        assert_all(&from_nothing(&mut new(), data), &from_zero);
    }
    each_case!(|data| for &isa in isas() {
        run(isa, 1, &data);
    });
    // Enough work that helpers are called.
    for kind in Kind::kernels().into_iter().step_by(if is_slow() { 40 } else { 4 }) {
        with_layer!(kind, (40, 100), |layer| {
            let data = Data::draw(layer, 100, 2, 1, 0.2);
            isas().iter().for_each(|&isa| run(isa, 3, &data));
        });
    }
}

/// The outputs of a step, of a stretch, and of a layer after the cell.
fn fed<C: Subject>(stream: &mut Stream<C>, rig: &Rig<C>, data: &Data<C>, x: &[f32]) -> Vec<f32> {
    const OUTPUTS: usize = 3;
    let (input, state) = (data.input(), data.state());
    let readout = Readout::new(data.layer.output_size(), OUTPUTS).unwrap();
    let mut dense = readout.parameters().unwrap();
    dense.as_mut_slice().copy_from_slice(&uniform(5, readout.parameter_count(), 0.5));
    let dense = readout.pack(&dense, Purpose::Inference, rig.plan.isa()).unwrap();
    let mut all = filled(data.steps * state);
    stream.step(&rig.weights, &x[..input], &mut all[..state]).unwrap();
    stream.forward(&rig.weights, &x[input..], &mut all[state..]).unwrap();
    let mut o = filled(data.batch * OUTPUTS);
    stream.predict(&rig.weights, &dense, &x[..input], &mut o).unwrap();
    [all, o].concat()
}

#[test]
fn a_stream_full_of_nan() {
    fn run<C: Subject>(isa: Isa, threads: usize, data: &Data<C>) {
        let rig = Rig::new(isa, data);
        let (_, zoneout) = (data.regularisation.dropout(), data.regularisation.zoneout());
        let zoneout = Regularisation::none().with_zoneout(zoneout[0], zoneout[1]).unwrap();
        let new = || {
            let stream = data.layer.stream(data.batch, isa).unwrap();
            let stream = stream.with_threads(threads).unwrap();
            stream.with_regularisation(zoneout).unwrap()
        };
        let x = &data.inputs.x;
        let from_zero = fed(&mut new(), &rig, data, x);
        let mut given = new();
        given.set_state(data.initial().unwrap()).unwrap();
        let expected = fed(&mut given, &rig, data, x);

        let bad = vec![f32::NAN; x.len()];
        let mut stream = new();
        assert!(fed(&mut stream, &rig, data, &bad).iter().any(|y| y.is_nan()));
        stream.reset();
        assert_bits("y after a reset", &fed(&mut stream, &rig, data, x), &from_zero);
        fed(&mut stream, &rig, data, &bad);
        stream.set_state(data.initial().unwrap()).unwrap();
        assert_bits("y from a state", &fed(&mut stream, &rig, data, x), &expected);
    }
    each_case!(|data| for &isa in isas() {
        run(isa, 1, &data);
    });
    for kind in Kind::kernels().into_iter().step_by(if is_slow() { 40 } else { 4 }) {
        with_layer!(kind, (40, 100), |layer| {
            let data = Data::draw(layer, 100, 2, 1, 0.2);
            isas().iter().for_each(|&isa| run(isa, 3, &data));
        });
    }
}

/// Buffers of NaN, of zeros and of anything that are overwritten, and zeros that are added to.
#[test]
fn gradients_do_not_depend_on_what_they_overwrite() {
    fn run<C: Subject>(isa: Isa, data: &Data<C>) {
        let mut rig = Rig::new(isa, data);
        let expected = rig.run(data);
        let len = data.inputs.params.len();
        for (write, before) in [
            (Accumulate::No, vec![f32::INFINITY; len]),
            (Accumulate::No, vec![0.0; len]),
            (Accumulate::No, uniform(9, len, 3.0)),
            (Accumulate::Yes, vec![0.0; len]),
        ] {
            let mut parameters = data.layer.parameters().unwrap();
            parameters.as_mut_slice().copy_from_slice(&before);
            let forward = rig.forward(data);
            assert_same(&rig.backward(data, &mut parameters, write, forward), &expected);
        }
    }
    each_case!(|data| isas().iter().for_each(|&isa| run(isa, &data)));
}
