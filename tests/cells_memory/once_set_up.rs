//! Passes, updates and steps of a stream allocate nothing once they have been set up.

use crate::common::{Data, Kind, check, filled, isas, shapes, shared_out};
use crate::{allocations, networks, with_layer};
use bptt::{
    Accumulate, Adam, Dense, Error, Input, Isa, Loss, Model, Network, Parameters, Runtime,
    Schedule, Sgd, SoftmaxCrossEntropy, SquaredError, Tokens, Workspace,
};
use bptt_reference::sample::uniform;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

/// All gradients.
fn all_gradients(model: &mut Model, data: &Data) -> Workspace {
    let training = model.training(data.schedule());
    training.with_input_gradients().with_state_gradients().workspace().unwrap()
}

/// Passes over these data, and updates by their gradients, on one thread.
pub fn passes_allocate_nothing(model: &mut Model, data: &Data) {
    let (x, loss) = (&data.inputs.x, data.loss());
    let (initial, last) = (data.initial(), data.last_gradient());
    let mut workspace = all_gradients(model, data);
    let state = || {
        workspace.set_noise(data.noise);
        workspace.set_state(&initial).unwrap();
        workspace.set_last_gradient(Some(&last)).unwrap();
    };
    assert_eq!(allocations(state), 0, "set_state and set_last_gradient");
    let forward = || {
        model.forward(&mut workspace, x).unwrap();
    };
    assert_eq!(allocations(forward), 0, "forward");
    let backward = || {
        model.backward(&mut workspace, x, &loss, Accumulate::Yes).unwrap();
    };
    assert_eq!(allocations(backward), 0, "backward");
    let views = || {
        workspace.input_gradients().unwrap();
        workspace.activations("0.preactivation_gradients").unwrap();
    };
    assert_eq!(allocations(views), 0, "views");
    let gradients = || {
        model.gradients(&mut workspace, x, &loss, Accumulate::No).unwrap();
    };
    assert_eq!(allocations(gradients), 0, "gradients");
    let mut inference = model.inference_workspace(data.schedule()).unwrap();
    inference.set_state(&initial).unwrap();
    let infer = || {
        model.forward(&mut inference, x).unwrap();
    };
    assert_eq!(allocations(infer), 0, "inference");
    let carried = || {
        workspace.carry_state().unwrap();
        workspace.reset_state();
    };
    assert_eq!(allocations(carried), 0, "carry_state and reset_state");
    let evaluate = || {
        model.evaluate(&mut workspace, x, &loss).unwrap();
    };
    assert_eq!(allocations(evaluate), 0, "evaluate");
    let parameters = &data.inputs.params;
    let change = || {
        let change = |to: &mut Parameters| {
            to.as_mut_slice().copy_from_slice(parameters);
            Ok::<(), Error>(())
        };
        model.change(change).unwrap();
    };
    assert_eq!(allocations(change), 0, "change");
    let mut adam = Adam::new(1e-3);
    for update in 0..3 {
        let mut clipped = adam.clip_norm(1.0);
        let train = || {
            model.train(&mut workspace, x, &loss, &mut clipped).unwrap();
        };
        // Two moments of each parameter.
        assert_eq!(allocations(train), if update == 0 { 2 } else { 0 }, "update {update}");
    }
}

/// A stream through the layer alone, and one with a dense layer after it.
pub fn streams_allocate_nothing(data: &Data, isa: Isa) {
    let (x, one) = (&data.inputs.x, data.input());
    let dense = Dense::new(data.layer.output_size(), 2).unwrap();
    let layer = data.layer.network_with(data.regularisation);
    for network in [layer.clone(), layer.then(dense)] {
        let parameters = network.parameters().unwrap();
        let model = network.model(parameters, Runtime::new(isa)).unwrap();
        let mut stream = model.stream(data.batch).unwrap();
        let mut y = filled(data.steps * data.batch * model.output_size());
        let step = || stream.step(&x[..one], &mut y[..data.batch * model.output_size()]).unwrap();
        assert_eq!(allocations(step), 0, "step");
        let forward = || stream.forward(x, &mut y).unwrap();
        assert_eq!(allocations(forward), 0, "a stream's forward");
        let state = stream.state().unwrap();
        let state = || {
            stream.set_state(&state).unwrap();
            stream.state_slice();
            stream.reset();
        };
        assert_eq!(allocations(state), 0, "set_state and reset");
    }
}

fn nothing_is_allocated(data: &Data) {
    for &isa in isas() {
        passes_allocate_nothing(&mut data.model(isa, 1), data);
        streams_allocate_nothing(data, isa);
    }
}

/// Passes over sequences of different lengths, wherever a clock stands.
#[test]
fn nothing_is_allocated_for_different_lengths() {
    for kind in Kind::kernels() {
        with_layer!(kind, (3, 20), |layer| for &isa in isas() {
            let mut model = layer.model(isa, &vec![0.1; layer.parameter_count()]);
            let schedule = Schedule::padded(&[4, 0, 11, 7], 12).unwrap();
            let training = model.training(&schedule).with_input_gradients();
            let mut workspace = training.with_state_gradients().workspace().unwrap();
            let mut inference = model.inference_workspace(&schedule).unwrap();
            let x = vec![0.5; schedule.given_rows() * layer.input_size()];
            for start in 0..3 {
                let mut state = model.state(4).unwrap();
                state.set_step(start).unwrap();
                workspace.set_state(&state).unwrap();
                let loss = |y: &mut [f32]| f64::from(y[0]);
                let passes = || {
                    model.forward(&mut workspace, &x).unwrap();
                    model.backward(&mut workspace, &x, &loss, Accumulate::Yes).unwrap();
                };
                assert_eq!(allocations(passes), 0, "{kind:?} from {start} on {isa}");
                inference.set_state(&state).unwrap();
                let infer = || {
                    model.forward(&mut inference, &x).unwrap();
                };
                assert_eq!(allocations(infer), 0, "{kind:?} inferred from {start} on {isa}");
            }
        });
    }
}

#[test]
fn nothing_is_allocated_once_set_up() {
    for kind in Kind::kernels() {
        check(6, (shapes(40, 40, 100, 6), any::<u64>()), |(shape, seed)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                nothing_is_allocated(&Data::of(layer, shape, seed, 0.5))
            });
        });
    }
    for (kind, (inputs, hidden)) in shared_out(&[(300, 20), (17, 270)], 1) {
        with_layer!(kind, (inputs, hidden), |layer| {
            nothing_is_allocated(&Data::draw(layer, 70, 3, 1, 0.1))
        });
    }
}

/// A pass that computes only parameter gradients, with a loss whose gradient is zero.
#[test]
fn optional_arguments_allocate_nothing_either() {
    for kind in Kind::kernels() {
        with_layer!(kind, (9, 20), |layer| {
            let data = Data::draw(layer, 5, 3, 1, 0.5);
            for &isa in isas() {
                let mut model = data.model(isa, 1);
                let mut workspace = model.training_workspace(data.schedule()).unwrap();
                let none = |y: &mut [f32]| {
                    y.fill(0.0);
                    0.0
                };
                let pass = || {
                    model.gradients(&mut workspace, &data.inputs.x, &none, Accumulate::No).unwrap();
                };
                assert_eq!(allocations(pass), 0, "{kind:?} on {isa}");
            }
        });
    }
}

/// Inputs of `rows` rows.
enum Rows {
    Features(Vec<f32>),
    Tokens(Vec<u32>),
}

impl Rows {
    fn of(network: &Network, rows: usize) -> Self {
        match network.input() {
            bptt::InputSize::Features(size) => Self::Features(uniform(1, rows * size, 1.0)),
            bptt::InputSize::Tokens(count) => {
                Self::Tokens((0..rows).map(|row| (row * 7 % count) as u32).collect())
            }
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::Features(x) => x.into(),
            Self::Tokens(x) => Tokens(x).into(),
        }
    }
}

#[test]
fn networks_allocate_nothing_either() {
    let schedule = Schedule::dense(9, 4);
    for (network, _) in networks() {
        let x = Rows::of(&network, 36);
        for &isa in isas() {
            let mut rng = SmallRng::seed_from_u64(1);
            let mut model = network.init(&mut rng, Runtime::new(isa)).unwrap();
            let outputs = model.output_size();
            let targets = vec![0.5; 36 * outputs];
            let classes: Vec<u32> = (0..36).map(|row| row % outputs as u32).collect();
            let squares = SquaredError::mean(&targets);
            let entropy = SoftmaxCrossEntropy::mean(&classes);
            let losses: [&dyn Loss; 2] = [&squares, &entropy];
            let mut workspace = model.training_workspace(&schedule).unwrap();
            let mut sgd = Sgd::new(0.01).with_momentum(0.5).unwrap();
            for (update, loss) in losses.into_iter().cycle().take(4).enumerate() {
                let train = || {
                    model.train(&mut workspace, x.input(), loss, &mut sgd).unwrap();
                    workspace.carry_state().unwrap();
                };
                assert_eq!(allocations(train), u64::from(update == 0), "{network:?} on {isa}");
            }
            let (mut stream, mut y) = (model.stream(4).unwrap(), filled(36 * outputs));
            let forward = || stream.forward(x.input(), &mut y).unwrap();
            assert_eq!(allocations(forward), 0, "{network:?} on {isa}");
        }
    }
}

/// A stream goes on with the parameters that it began with, so the next change has to allocate
/// others, once.
#[test]
fn a_change_beside_a_stream_makes_room_once() {
    let schedule = Schedule::dense(9, 4);
    for (network, _) in networks() {
        let x = Rows::of(&network, 36);
        for &isa in isas() {
            let mut rng = SmallRng::seed_from_u64(1);
            let mut model = network.init(&mut rng, Runtime::new(isa)).unwrap();
            let targets = vec![0.5; 36 * model.output_size()];
            let loss = SquaredError::mean(&targets);
            let mut workspace = model.training_workspace(&schedule).unwrap();
            let mut sgd = Sgd::new(0.01);
            let mut train = |model: &mut Model| {
                allocations(|| {
                    model.train(&mut workspace, x.input(), &loss, &mut sgd).unwrap();
                })
            };
            train(&mut model);
            assert_eq!(train(&mut model), 0);
            let (_stream, bytes) = (model.stream(1).unwrap(), model.packed_bytes());
            assert!(train(&mut model) > 0);
            assert_eq!(model.packed_bytes(), bytes);
            assert_eq!(train(&mut model), 0);
        }
    }
}
