//! A pass in memory in which an earlier pass has left NaN wherever it could has the same bits as
//! one in fresh memory, even if it begins from the zero state that no caller gives
//! (onnxruntime#3893). Gradients that overwrite such memory equal those written to a buffer of
//! zeros.

use crate::common::{
    Data, Kind, Rig, SENTINEL, assert_bits, assert_same, fewer, filled, is_slow, isas,
};
use crate::with_layer;
use bptt::{Accumulate, Dense, Isa, Model, Runtime, State, Stream};
use bptt_reference::sample::uniform;

/// I, H, B and τ: units that fill a vector and units that do not, one group of them and more, each
/// with a batch of one row, of fewer rows than a tile, and of more.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(3, 3, 1, 4), (1, 16, 1, 4), (2, 16, 2, 3), (5, 20, 3, 4), (3, 40, 13, 3), (7, 150, 2, 2)];

/// Runs a test on data of each kernel and shape, with and without biases and noise.
macro_rules! each_case {
    (|$data:ident| $body:expr) => {
        for kind in Kind::kernels() {
            for &(inputs, hidden, batch, steps) in fewer(&SHAPES, 2) {
                with_layer!(kind, (inputs, hidden), |layer| {
                    let $data = Data::draw(layer, batch, steps, 1, 0.4);
                    $body;
                    let mut $data = $data.noisy(!0);
                    let mut parameters = $data.parameters();
                    parameters.tensor_mut("0.bias").unwrap().fill(0.0);
                    $data.inputs.params = parameters.as_slice().to_vec();
                    $body
                });
            }
        }
    };
}

/// A pass whose inputs and gradients are all NaN.
fn poison(rig: &mut Rig, data: &Data) {
    let mut bad = data.clone();
    bad.inputs = data.inputs.map(|values| vec![f32::NAN; values.len()]);
    let pass = rig.run(&bad);
    assert!(pass.h.iter().any(|h| h.is_nan()) && pass.dx.iter().any(|dx| dx.is_nan()));
}

/// States and gradients of a pass that is given only its input and a gradient of its outputs.
fn from_nothing(rig: &mut Rig, data: &Data) -> [Vec<f32>; 4] {
    let Rig { model, workspace } = rig;
    workspace.set_noise(data.noise);
    workspace.reset_state();
    workspace.set_last_gradient(None).unwrap();
    let h = model.forward(workspace, &data.inputs.x).unwrap().to_vec();
    let c = workspace.activations("0.c").map_or(Vec::new(), <[f32]>::to_vec);
    workspace.gradients_mut().as_mut_slice().fill(SENTINEL);
    model.backward(workspace, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
    let parameters = workspace.gradients().as_slice().to_vec();
    [h, c, parameters, workspace.input_gradients().unwrap().to_vec()]
}

fn assert_all(given: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (nth, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert_bits(["h", "c", "params", "dx"][nth], given, expected);
    }
}

#[test]
fn a_workspace_full_of_nan() {
    fn run(isa: Isa, threads: usize, data: &Data) {
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
        // A state that was given to one pass is not used by a later pass that is given none.
        assert_all(&from_nothing(&mut rig, data), &from_zero);

        // The memory of a larger pass, as it comes back from the allocator.
        let more = Data::draw(data.layer, 2 * data.batch, data.steps + 1, 2, 0.4);
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

const OUTPUTS: usize = 3;

/// Streams of the layer, and of the layer with a dense layer after it.
struct Streams {
    layer: Stream,
    outputs: Stream,
}

impl Streams {
    fn new(isa: Isa, threads: usize, data: &Data) -> Self {
        let model = data.model(isa, threads);
        let dense = Dense::new(data.layer.output_size(), OUTPUTS).unwrap();
        let network = model.network().clone().then(dense);
        let mut parameters = network.parameters().unwrap();
        let (layer, dense) = parameters.as_mut_slice().split_at_mut(data.inputs.params.len());
        layer.copy_from_slice(&data.inputs.params);
        dense.copy_from_slice(&uniform(5, dense.len(), 0.5));
        let both = network.model(parameters, Runtime::new(isa).threads(threads)).unwrap();
        let stream = |model: &Model| model.stream(data.batch).unwrap();
        Self { layer: stream(&model), outputs: stream(&both) }
    }

    /// The outputs of a step, of a stretch, and of a step with the dense layer.
    fn fed(&mut self, data: &Data, x: &[f32]) -> Vec<f32> {
        let (input, state) = (data.input(), data.state());
        let mut all = filled(data.steps * state);
        self.layer.step(&x[..input], &mut all[..state]).unwrap();
        self.layer.forward(&x[input..], &mut all[state..]).unwrap();
        let mut o = filled(data.batch * OUTPUTS);
        self.outputs.step(&x[..input], &mut o).unwrap();
        let mut more = filled((data.steps - 1) * data.batch * OUTPUTS);
        self.outputs.forward(&x[input..], &mut more).unwrap();
        [all, o, more].concat()
    }

    fn reset(&mut self) {
        self.layer.reset();
        self.outputs.reset();
    }

    /// A dense layer has no state, so both streams have the same states.
    fn set_state(&mut self, state: &State) {
        self.layer.set_state(state).unwrap();
        self.outputs.set_state(state).unwrap();
    }
}

#[test]
fn a_stream_full_of_nan() {
    fn run(isa: Isa, threads: usize, data: &Data) {
        let new = || Streams::new(isa, threads, data);
        let x = &data.inputs.x;
        let from_zero = new().fed(data, x);
        let mut given = new();
        given.set_state(&data.initial());
        let expected = given.fed(data, x);

        let bad = vec![f32::NAN; x.len()];
        let mut streams = new();
        assert!(streams.fed(data, &bad).iter().any(|y| y.is_nan()));
        streams.reset();
        assert_bits("y after a reset", &streams.fed(data, x), &from_zero);
        streams.fed(data, &bad);
        streams.set_state(&data.initial());
        assert_bits("y from a state", &streams.fed(data, x), &expected);
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

/// Gradients that overwrite are the same in buffers of NaN, of zeros and of any numbers, and equal
/// those added to zeros.
#[test]
fn gradients_do_not_depend_on_what_they_overwrite() {
    fn run(isa: Isa, data: &Data) {
        let mut rig = Rig::new(isa, data);
        let expected = rig.run(data);
        let len = data.inputs.params.len();
        for (write, before) in [
            (Accumulate::No, vec![f32::INFINITY; len]),
            (Accumulate::No, vec![0.0; len]),
            (Accumulate::No, uniform(9, len, 3.0)),
            (Accumulate::Yes, vec![0.0; len]),
        ] {
            let mut parameters = before;
            let forward = rig.forward(data);
            assert_same(&rig.backward(data, &mut parameters, write, forward), &expected);
        }
    }
    each_case!(|data| isas().iter().for_each(|&isa| run(isa, &data)));
}
