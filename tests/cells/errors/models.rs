//! Parameters, workspaces and states that are of something else.

use super::{PARAMETERS, STATE, contents, data};
use crate::common::{
    Data, Kind, Options, Rig, Snapshot, Subject, assert_bits, assert_mismatch, filled, isas,
};
use bptt::{
    Accumulate, Activation, Candidate, Dense, Error, Format, Isa, Model, Network, Optimizer,
    Parameters, Reset, Runtime, Sgd, State,
};

/// The same cell of other sizes.
fn others() -> [(Subject, &'static str); 2] {
    let of = |inputs, hidden| Subject { kind: Kind::LSTM, inputs, hidden };
    [(of(4, 5), "0.weight_ih [20, 4], "), (of(3, 6), "0.weight_ih [24, 3], ")]
}

fn passes(model: &Model, data: &Data) -> Vec<f32> {
    let mut y = filled(data.inputs.dy.len());
    model.stream(data.batch).unwrap().forward(&data.inputs.x, &mut y).unwrap();
    y
}

#[test]
fn parameters_of_other_sizes() {
    let data = data();
    for &isa in isas() {
        let Rig { mut model, mut workspace } = Rig::new(isa, &data);
        for (other, given) in others() {
            let nan = other.parameters(&filled(other.parameter_count()));
            let error = data.layer.network().model(nan.clone(), Runtime::new(isa)).unwrap_err();
            assert_mismatch(error, "parameters", given, PARAMETERS);

            workspace.reset_state();
            let before = model.forward(&mut workspace, &data.inputs.x).unwrap().to_vec();
            let replaced = |p: &mut Parameters| {
                *p = nan.clone();
                Ok::<(), Error>(())
            };
            let error = model.change(replaced).unwrap_err();
            assert_mismatch(error, "parameters", given, PARAMETERS);
            // Passes go on with those from before, and nothing is made of the others.
            let y = model.forward(&mut workspace, &data.inputs.x).unwrap();
            assert_bits("y", y, &before);
            assert_bits("y of a stream", &passes(&model, &data), &before);
            model.backward(&mut workspace, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
            let error = model.training_workspace(data.schedule()).unwrap_err();
            assert_mismatch(error, "parameters", given, PARAMETERS);
            let error = model.quantised(Format::F32).unwrap_err();
            assert_mismatch(error, "parameters", given, PARAMETERS);

            let restored = |p: &mut Parameters| {
                *p = data.parameters();
                Ok::<(), Error>(())
            };
            model.change(restored).unwrap();
            assert_bits("y", &passes(&model, &data), &before);
            model.training_workspace(data.schedule()).unwrap();
        }
    }
}

/// What a change itself refuses comes back, and passes go on with the parameters from before.
#[test]
fn changes_that_fail() {
    let data = data();
    for &isa in isas() {
        let mut model = data.model(isa, 1);
        let before = passes(&model, &data);
        let error = Error::TooLarge { what: "a change" };
        assert_eq!(model.change(|_| Err(error.clone())), Err(error));
        let error = model.change(|parameters| {
            parameters.tensor_mut("0.weight_hr")?.fill(0.0);
            Ok::<(), Error>(())
        });
        let expected = format!("tensor is 0.weight_hr, expected one of {PARAMETERS}");
        assert_eq!(error.unwrap_err().to_string(), expected);
        assert_bits("y", &passes(&model, &data), &before);
        assert_eq!(model.parameters().as_slice(), data.inputs.params);
    }
}

/// A change that fails halfway: passes go on with the parameters from before, and gradients are of
/// those, until something new is made of what it has left.
#[test]
fn changes_that_fail_halfway() {
    struct Fails;
    impl Optimizer for Fails {
        fn update(
            &mut self,
            _: Runtime,
            parameters: &mut Parameters,
            _: &mut Parameters,
        ) -> Result<(), Error> {
            parameters.as_mut_slice().fill(0.25);
            Err(Error::TooLarge { what: "a change" })
        }
    }
    let data = data();
    for &isa in isas() {
        let expected = Rig::new(isa, &data).run(&data);
        let changed = data.layer.model(isa, &vec![0.25; data.inputs.params.len()]);
        for trains in [false, true] {
            let mut rig = Rig::new(isa, &data);
            let (x, loss) = (&data.inputs.x, data.loss());
            let Rig { model, workspace } = &mut rig;
            let error = match trains {
                true => model.train(workspace, x, &loss, &mut Fails).map(drop),
                false => model.change(|parameters| {
                    parameters.as_mut_slice().fill(0.25);
                    Err(Error::TooLarge { what: "a change" })
                }),
            };
            assert_eq!(error, Err(Error::TooLarge { what: "a change" }));
            let pass = rig.run(&data);
            assert_bits("h", &pass.h, &expected.h);
            assert_bits("params", &pass.params, &expected.params);
            let before = passes(&data.model(isa, 1), &data);
            assert_bits("y", &passes(&rig.model, &data), &before);

            rig.forward(&data);
            let Rig { model, workspace } = &mut rig;
            model.training_workspace(data.schedule()).unwrap();
            assert_bits("y", &passes(model, &data), &passes(&changed, &data));
            let error = model.backward(workspace, x, &loss, Accumulate::No).unwrap_err();
            assert!(matches!(error, Error::Order { call: "backward", .. }), "{error}");
        }
    }
}

/// Every call of another model that takes a workspace refuses it.
#[track_caller]
fn assert_workspace_refused(isa: Isa, mut other: Model, given: &str, expected: &str) {
    let data = data();
    let mut rig = Rig::new(isa, &data);
    rig.forward(&data);
    let Rig { model, workspace } = &mut rig;
    workspace.gradients_mut().as_mut_slice().copy_from_slice(&data.inputs.params);
    let before = contents(workspace);
    let (x, loss) = (&data.inputs.x, data.loss());
    let refused = |error: Error| assert_mismatch(error, "workspace", given, expected);
    refused(other.forward(workspace, x).unwrap_err());
    refused(other.backward(workspace, x, &loss, Accumulate::No).unwrap_err());
    refused(other.gradients(workspace, x, &loss, Accumulate::Yes).unwrap_err());
    refused(other.evaluate(workspace, x, &loss).unwrap_err());
    let parameters = other.parameters().as_slice().to_vec();
    refused(other.train(workspace, x, &loss, &mut Sgd::new(0.5)).unwrap_err());
    assert_eq!(other.parameters().as_slice(), parameters);
    assert_eq!(contents(workspace), before);
    model.backward(workspace, x, &loss, Accumulate::No).unwrap();
}

#[test]
fn workspaces_of_other_models() {
    let (of, data) = (
        |network: Network, runtime| network.model(network.parameters().unwrap(), runtime).unwrap(),
        data(),
    );
    for &isa in isas() {
        let runtime = Runtime::new(isa);
        let lstm = |options, inputs| Subject { kind: Kind::Lstm(options), inputs, hidden: 5 };
        let other = of(lstm(Options::NONE, 4).network(), runtime);
        assert_workspace_refused(isa, other, "input_size: 3, ", "input_size: 4, ");
        // Of the same parameters.
        let options = Options { candidate: Candidate::Logistic, ..Options::NONE };
        let other = of(lstm(options, 3).network(), runtime);
        assert_eq!(other.manifest().to_string(), PARAMETERS);
        assert_workspace_refused(isa, other, "candidate: tanh", "candidate: sigmoid");
        let vanilla = Subject { kind: Kind::Vanilla(Activation::Tanh), ..data.layer };
        assert_workspace_refused(isa, of(vanilla.network(), runtime), "Lstm {", "Vanilla {");
        let network = data.layer.network().then(Dense::new(5, 5).unwrap());
        assert_workspace_refused(isa, of(network, runtime), "} on ", "}, then Dense {");
        let other = of(data.layer.network(), runtime.threads(2));
        assert_workspace_refused(isa, other, "threads 1", "threads 2");
        for &other in Isa::available().iter().filter(|&&other| other != isa) {
            let given = format!("on {isa}, threads 1");
            let expected = format!("on {other}, threads 1");
            let other = of(data.layer.network(), Runtime::new(other));
            assert_workspace_refused(isa, other, &given, &expected);
        }
    }
}

/// States of another batch or network, in all that takes them.
#[test]
fn states_of_something_else() {
    let data = data();
    let network = data.layer.network();
    let projected = Options { projected: true, ..Options::NONE };
    let of = |kind| Subject { kind, ..data.layer }.network();
    let gru = of(Kind::Gru(Reset::After, Candidate::Tanh));
    let others: [(State, &str); 5] = [
        (network.state(1).unwrap(), "0.h [1, 5], 0.c [1, 5]"),
        (network.state(3).unwrap(), "0.h [3, 5], 0.c [3, 5]"),
        (of(Kind::Lstm(projected)).state(2).unwrap(), "0.h [2, 2], 0.c [2, 5]"),
        (gru.state(2).unwrap(), "0.h [2, 5]"),
        // As many floats.
        (gru.state(4).unwrap(), "0.h [4, 5]"),
    ];
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        rig.forward(&data);
        let Rig { model, workspace } = &mut rig;
        workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
        let before = contents(workspace);
        let mut stream = model.stream(data.batch).unwrap();
        stream.set_state(&data.initial()).unwrap();
        for (state, given) in &others {
            let mut state = state.clone();
            state.as_mut_slice().fill(f32::NAN);
            state.set_step(7).unwrap();
            assert_mismatch(workspace.set_state(&state).unwrap_err(), "state", given, STATE);
            let error = workspace.set_last_gradient(Some(&state)).unwrap_err();
            assert_mismatch(error, "gradient by the last state", given, STATE);
            assert_eq!(contents(workspace), before);
            assert_mismatch(stream.set_state(&state).unwrap_err(), "state", given, STATE);
            assert_eq!(stream.state().unwrap(), data.initial());
        }
        // The state and the gradient from before are what they were.
        model.backward(workspace, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
        assert_bits("params", workspace.gradients().as_slice(), &expected.params);
        let initial = workspace.state_gradients().unwrap();
        assert_bits("dstate", initial.as_slice(), &[expected.dh0, expected.dc0].concat());
        let untouched = Snapshot::of(&[stream.state_slice()]);
        let error = stream.state().unwrap().tensor("0.x").unwrap_err();
        assert_eq!(error.to_string(), format!("tensor is 0.x, expected one of {STATE}"));
        assert_eq!(Snapshot::of(&[data.initial().as_slice()]), untouched);
    }
}
