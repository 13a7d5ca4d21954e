//! A backward pass must have the same parameters as its forward pass: not another model's, and not
//! the same model's after a change.

use crate::common::{
    Data, Kind, Options, Rig, Snapshot, Subject, assert_bits, assert_mismatch, assert_same,
    clockwork, filled, isas, length, lstm,
};
use crate::with_layer;
use bptt::{
    Accumulate, Dense, Error, Lstm, Model, Network, Parameters, Runtime, Schedule, Sgd,
    SoftmaxCrossEntropy, Workspace,
};
use bptt_reference::sample::uniform;
use rand::{SeedableRng, rngs::SmallRng};

#[track_caller]
fn assert_of_others(result: Result<f64, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Order { call: "backward", .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("of other parameters, or of these before a change"), "{text}");
    assert!(text.contains("expected a forward pass of these parameters"), "{text}");
}

/// A backward pass that is refused and writes nothing.
#[track_caller]
fn assert_refused(model: &Model, workspace: &mut Workspace, data: &Data) {
    let marks = filled(data.inputs.params.len());
    workspace.gradients_mut().as_mut_slice().copy_from_slice(&marks);
    workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
    let left = |workspace: &Workspace| {
        let gates = workspace.activations("0.gates").unwrap();
        Snapshot::of(&[workspace.gradients().as_slice(), workspace.outputs().unwrap(), gates])
    };
    let before = left(workspace);
    for accumulate in [Accumulate::Yes, Accumulate::No] {
        let refused = model.backward(workspace, &data.inputs.x, &data.loss(), accumulate);
        assert_of_others(refused);
        assert_eq!(left(workspace), before);
    }
    assert!(workspace.input_gradients().is_err() && workspace.state_gradients().is_err());
}

fn changed(model: &mut Model, parameters: &[f32]) {
    let change = |to: &mut Parameters| {
        to.as_mut_slice().copy_from_slice(parameters);
        Ok::<(), Error>(())
    };
    model.change(change).unwrap();
}

fn check_layer(layer: Subject) {
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let other = data.again(2, 0.5);
    let mut parameters = filled(data.inputs.params.len());
    for &isa in isas() {
        for threads in [1, 2] {
            let mut rig = Rig::with_threads(isa, &data, threads);
            let expected = rig.run(&data);

            // After a change, even to the same values, and whether or not streams go on with the
            // parameters from before.
            for values in [&other.inputs.params, &data.inputs.params] {
                for streams in [0, 1] {
                    let _streams = (0..streams).map(|_| rig.model.stream(1)).collect::<Vec<_>>();
                    rig.forward(&data);
                    changed(&mut rig.model, values);
                    assert_refused(&rig.model, &mut rig.workspace, &data);
                }
            }
            // The refused pass has changed nothing. A pass of its own works again.
            let forward = rig.forward(&data);
            let pass = rig.backward(&data, &mut parameters, Accumulate::No, forward);
            assert_same(&pass, &expected);

            // Another model with the same parameters, then this one again.
            let forward = rig.forward(&data);
            let mut others = Rig::with_threads(isa, &data, threads).model;
            assert_refused(&others, &mut rig.workspace, &data);
            let pass = rig.backward(&data, &mut parameters, Accumulate::No, forward);
            assert_same(&pass, &expected);
            // The same change to both models does not make them one.
            changed(&mut rig.model, &other.inputs.params);
            changed(&mut others, &other.inputs.params);
            rig.forward(&data);
            assert_refused(&others, &mut rig.workspace, &data);
        }
    }
}

#[test]
fn they_are_those_of_the_forward_pass() {
    for kind in Kind::kernels() {
        with_layer!(kind, (3, 5), |layer| check_layer(layer));
    }
}

/// Packing more panels of the same parameters does not count as a change: another workspace needs
/// gradients that nobody asked for so far, and packs over the weights that streams read or beside
/// them.
#[test]
fn what_is_packed_later_is_of_the_same_parameters() {
    let data = Data::draw(Subject { kind: Kind::LSTM, inputs: 3, hidden: 5 }, 2, 4, 1, 0.5);
    let x = &data.inputs.x;
    for &isa in isas() {
        for streams in [0, 1] {
            let mut model = data.model(isa, 1);
            let mut workspace = model.training_workspace(data.schedule()).unwrap();
            model.gradients(&mut workspace, x, &data.loss(), Accumulate::No).unwrap();
            let expected = workspace.gradients().clone();
            model.forward(&mut workspace, x).unwrap();
            let _streams = (0..streams).map(|_| model.stream(1)).collect::<Vec<_>>();
            let bytes = model.packed_bytes();
            let training = model.training(data.schedule()).with_input_gradients();
            let mut other = training.workspace().unwrap();
            let all = model.packed_bytes();
            assert!(all > bytes);
            // A workspace that needs fewer gradients takes none of the panels away.
            let _more = (0..streams).map(|_| model.stream(1)).collect::<Vec<_>>();
            model.training_workspace(data.schedule()).unwrap();
            assert_eq!(model.packed_bytes(), all);
            workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
            model.backward(&mut workspace, x, &data.loss(), Accumulate::No).unwrap();
            assert_bits("gradients", workspace.gradients().as_slice(), expected.as_slice());
            model.gradients(&mut other, x, &data.loss(), Accumulate::No).unwrap();
            assert_bits("gradients", other.gradients().as_slice(), expected.as_slice());
        }
    }
}

/// A change that is refused leaves passes valid.
#[test]
fn a_refused_update_is_none() {
    let layer = Subject { kind: Kind::LSTM, inputs: 3, hidden: 5 };
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let mut parameters = filled(data.inputs.params.len());
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        let mut check = |rig: &mut Rig, refuse: &mut dyn FnMut(&mut Model) -> Error| {
            let forward = rig.forward(&data);
            let error = refuse(&mut rig.model);
            let pass = rig.backward(&data, &mut parameters, Accumulate::No, forward);
            assert_same(&pass, &expected);
            assert_same(&rig.run(&data), &expected);
            error
        };
        // A change that the caller gives up.
        let error = check(&mut rig, &mut |model| {
            model.change(|_| Err(length("values", 3, 4))).unwrap_err()
        });
        assert_eq!(error, length("values", 3, 4));
        // Parameters of other layers, with fewer and with more tensors.
        for hidden in [4, 6] {
            let other = Network::new(Lstm::new(3, hidden).unwrap()).parameters().unwrap();
            let error = check(&mut rig, &mut |model| {
                let change = |to: &mut Parameters| {
                    *to = other.clone();
                    Ok::<(), Error>(())
                };
                model.change(change).unwrap_err()
            });
            let given = format!("0.bias [{}]", 4 * hidden);
            assert_mismatch(error, "parameters", &given, "0.bias [20]");
        }
    }
}

/// Gradients are not written over parameters of other layers that were put in their place.
#[test]
fn gradients_of_another_network_are_refused() {
    let layer = Subject { kind: Kind::LSTM, inputs: 3, hidden: 5 };
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let x = &data.inputs.x;
    for &isa in isas() {
        for hidden in [4, 6] {
            let Rig { model, mut workspace } = Rig::new(isa, &data);
            model.forward(&mut workspace, x).unwrap();
            let other = Network::new(Lstm::new(3, hidden).unwrap()).parameters().unwrap();
            let own = std::mem::replace(workspace.gradients_mut(), other);
            let refused = model.backward(&mut workspace, x, &data.loss(), Accumulate::No);
            let given = format!("0.bias [{}]", 4 * hidden);
            assert_mismatch(refused.unwrap_err(), "parameter gradients", &given, "0.bias [20]");
            assert!(workspace.gradients().as_slice().iter().all(|&g| g == 0.0));
            *workspace.gradients_mut() = own;
            model.backward(&mut workspace, x, &data.loss(), Accumulate::No).unwrap();
        }
    }
}

/// A forward pass that is refused leaves the workspace with the pass that it holds.
#[test]
fn a_refused_forward_pass_is_none() {
    let layer =
        Subject { kind: Kind::Clockwork(bptt::Activation::Tanh, &[1, 2]), inputs: 3, hidden: 5 };
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let mut parameters = filled(data.inputs.params.len());
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        let forward = rig.forward(&data);
        // No sequence can have come to this state, so it is refused.
        let mut state = data.initial();
        let error = state.set_step(1 << 63).unwrap_err();
        assert!(matches!(error, Error::Value { what: "step", .. }), "{error}");
        assert_eq!(state, data.initial());
        // Workspaces of the same model, of another model of its network, and of another network.
        let (Rig { model, workspace }, x) = (&mut rig, &data.inputs.x);
        let others = data.model(isa, 1);
        for model in [&*model, &others] {
            let error = model.forward(workspace, &x[1..]).unwrap_err();
            assert_eq!(error, length("x", x.len() - 1, x.len()));
        }
        let another = Network::new(clockwork(bptt::Activation::Relu, &[1, 2], 3, 5));
        let another = another.model(data.parameters(), Runtime::new(isa)).unwrap();
        let error = another.forward(workspace, x).unwrap_err();
        assert_mismatch(error, "workspace", "tanh", "relu");
        let loss = data.loss();
        let refused = another.gradients(workspace, x, &loss, Accumulate::No);
        assert_mismatch(refused.unwrap_err(), "workspace", "tanh", "relu");
        let pass = rig.backward(&data, &mut parameters, Accumulate::No, forward);
        assert_same(&pass, &expected);
    }
}

/// Several stretches that hand the state on, the last one first on the way back, with gradients
/// accumulated over several passes, all with the parameters as they are between two updates.
#[test]
fn stretches_and_accumulation_go_on_working() {
    let layer = Subject { kind: Kind::LSTM, inputs: 3, hidden: 5 };
    let data = Data::draw(layer, 2, 12, 1, 0.5);
    for &isa in isas() {
        let parts = [0..4, 4..8, 8..12].map(|steps| data.stretch(steps));
        let mut model = data.model(isa, 1);
        let mut workspaces = parts.each_ref().map(|part| {
            model.training(part.schedule()).with_state_gradients().workspace().unwrap()
        });
        let mut whole = model.training_workspace(data.schedule()).unwrap();
        let mut values = data.inputs.params.clone();
        for update in 0..3 {
            for (n, part) in parts.iter().enumerate() {
                let (before, rest) = workspaces.split_at_mut(n);
                if let Some(before) = before.last() {
                    rest[0].set_state(&before.last_state().unwrap()).unwrap();
                }
                model.forward(&mut rest[0], &part.inputs.x).unwrap();
            }
            let mut gradients = vec![0.0; values.len()];
            let mut carried = None;
            for (part, workspace) in parts.iter().zip(&mut workspaces).rev() {
                workspace.gradients_mut().as_mut_slice().copy_from_slice(&gradients);
                workspace.set_last_gradient(carried.as_ref()).unwrap();
                let (x, loss) = (&part.inputs.x, part.loss());
                model.backward(workspace, x, &loss, Accumulate::Yes).unwrap();
                gradients.copy_from_slice(workspace.gradients().as_slice());
                carried = Some(workspace.state_gradients().unwrap());
            }
            // The same steps in one pass.
            model.gradients(&mut whole, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
            assert_bits("gradients", &gradients, whole.gradients().as_slice());

            for (theta, g) in values.iter_mut().zip(&gradients) {
                *theta -= 0.01 * (update + 1) as f32 * g;
            }
            changed(&mut model, &values);
        }
        a_stream_has_the_parameters_it_began_with(&mut model, &data);
    }
}

/// A stream needs no such match, and goes on through changes.
fn a_stream_has_the_parameters_it_began_with(model: &mut Model, data: &Data) {
    let mut expected = filled(data.inputs.dy.len());
    model.stream(2).unwrap().forward(&data.inputs.x, &mut expected).unwrap();
    let (mut stream, mut y) = (model.stream(2).unwrap(), filled(10));
    for (x, expected) in data.inputs.x.chunks(data.input()).zip(expected.chunks(10)) {
        stream.step(x, &mut y).unwrap();
        assert_bits("y", &y, expected);
        changed(model, &data.inputs.params);
    }
}

/// The same holds for a dense layer with a loss of our own, alone and after another layer, for an
/// update by an optimiser and by the caller.
#[test]
fn those_of_a_dense_layer_are_those_of_its_loss() {
    let dense = Dense::new(5, 4).unwrap();
    let layer = Network::new(lstm(Options::NONE, 5, 5)).then(dense);
    let (x, classes) = (uniform(1, 15, 0.5), [0, 3, 1]);
    let loss = SoftmaxCrossEntropy::sum(&classes);
    for (network, isa) in [Network::new(dense), layer]
        .iter()
        .flat_map(|network| isas().iter().map(move |&isa| (network, isa)))
    {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut model = network.init(&mut rng, Runtime::new(isa)).unwrap();
        let training = model.training(Schedule::dense(3, 1)).with_input_gradients();
        let mut workspace = training.workspace().unwrap();
        let value = model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
        let (expected, dx) =
            (workspace.gradients().clone(), workspace.input_gradients().unwrap().to_vec());

        let values = model.parameters().as_slice().to_vec();
        let outputs = model.forward(&mut workspace, &x).unwrap().to_vec();
        let marks = filled(expected.as_slice().len());
        workspace.gradients_mut().as_mut_slice().copy_from_slice(&marks);
        changed(&mut model, &values);
        assert_of_others(model.backward(&mut workspace, &x, &loss, Accumulate::No));
        assert_bits("gradients", workspace.gradients().as_slice(), &marks);
        assert_bits("outputs", workspace.outputs().unwrap(), &outputs);

        model.forward(&mut workspace, &x).unwrap();
        let again = model.backward(&mut workspace, &x, &loss, Accumulate::No).unwrap();
        assert_eq!(again.to_bits(), value.to_bits());
        assert_bits("gradients", workspace.gradients().as_slice(), expected.as_slice());
        assert_bits("dx", workspace.input_gradients().unwrap(), &dx);
        // A loss without gradients leaves no pass for a backward one.
        assert_eq!(model.evaluate(&mut workspace, &x, &loss).unwrap().to_bits(), value.to_bits());
        let error = model.backward(&mut workspace, &x, &loss, Accumulate::No).unwrap_err();
        assert!(
            matches!(error, Error::Order { given: "a pass that was evaluated", .. }),
            "{error}"
        );

        let mut other = model.training_workspace(Schedule::dense(3, 1)).unwrap();
        model.forward(&mut workspace, &x).unwrap();
        model.train(&mut other, &x, &loss, &mut Sgd::new(0.0)).unwrap();
        assert_of_others(model.backward(&mut workspace, &x, &loss, Accumulate::No));
    }
}
