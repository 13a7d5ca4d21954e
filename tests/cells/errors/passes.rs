//! Arguments of passes that do not fit, argument by argument.

use super::{PARAMETERS, contents, data};
use crate::common::{
    Data, Kind, Rig, Subject, assert_bits, assert_mismatch, filled, isas, length, part,
};
use bptt::{
    Accumulate, Candidate, Dense, Embedding, Error, Input, Isa, Loss, Model, Network, Reset,
    Runtime, Schedule, Sgd, SoftmaxCrossEntropy, SquaredError, Tokens, Workspace,
};

/// A workspace that holds a pass, a gradient by the last state, and some parameters' gradients.
fn rig(isa: Isa, data: &Data) -> Rig {
    let mut rig = Rig::new(isa, data);
    rig.forward(data);
    rig.workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
    rig.workspace.gradients_mut().as_mut_slice().copy_from_slice(&data.inputs.params);
    rig
}

/// Every call that takes an input and a loss gives this error and writes nothing.
#[track_caller]
fn assert_refused(rig: &mut Rig, x: Input<'_>, loss: &dyn Loss, check: impl Fn(Error)) {
    let Rig { model, workspace } = rig;
    let before = contents(workspace);
    check(model.backward(workspace, x, loss, Accumulate::No).unwrap_err());
    check(model.backward(workspace, x, loss, Accumulate::Yes).unwrap_err());
    check(model.gradients(workspace, x, loss, Accumulate::No).unwrap_err());
    check(model.evaluate(workspace, x, loss).unwrap_err());
    let (parameters, noise) = (model.parameters().as_slice().to_vec(), workspace.noise());
    check(model.train(workspace, x, loss, &mut Sgd::new(0.5)).unwrap_err());
    assert_eq!(model.parameters().as_slice(), parameters);
    assert_eq!(workspace.noise(), noise);
    assert_eq!(contents(workspace), before);
}

/// The pass that a workspace holds still has the backward pass that it would have had.
#[track_caller]
fn assert_intact(rig: &mut Rig, data: &Data) {
    let expected = Rig::new(rig.model.runtime().isa(), data).run(data);
    let Rig { model, workspace } = rig;
    model.backward(workspace, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
    assert_bits("params", workspace.gradients().as_slice(), &expected.params);
    assert_bits("dx", workspace.input_gradients().unwrap(), &expected.dx);
    assert_bits("dh0", &part(&workspace.state_gradients().unwrap(), "h"), &expected.dh0);
}

#[test]
fn inputs_of_other_lengths() {
    let data = data();
    let x = data.inputs.x.len();
    for &isa in isas() {
        let mut rig = rig(isa, &data);
        let error = length("x", x - 1, x);
        assert_eq!(error.to_string(), format!("x has {} elements, expected {x}", x - 1));
        // A step more or less, a row and an element, and none.
        for given in [x - 1, x + 1, x - 3, x + 3, x - 6, x + 6, 2 * x, 0] {
            let wrong = filled(given);
            let before = contents(&rig.workspace);
            let error = rig.model.forward(&mut rig.workspace, &wrong).unwrap_err();
            assert_eq!(error, length("x", given, x));
            assert_eq!(contents(&rig.workspace), before);
            let check = |error| assert_eq!(error, length("x", given, x));
            assert_refused(&mut rig, Input::Features(&wrong), &data.loss(), check);
        }
        let tokens = vec![0; data.steps * data.batch];
        let error = rig.model.forward(&mut rig.workspace, Tokens(&tokens)).unwrap_err();
        assert_mismatch(error, "input", "tokens", "3 features a row");
        let check = |error| assert_mismatch(error, "input", "tokens", "3 features a row");
        assert_refused(&mut rig, Input::Tokens(&tokens), &data.loss(), check);
        assert_intact(&mut rig, &data);
    }
}

/// Workspaces of other schedules take inputs of other lengths, and keep no pass of these.
#[test]
fn workspaces_of_other_schedules() {
    let data = data();
    let x = data.inputs.x.len();
    for &isa in isas() {
        let mut model = data.model(isa, 1);
        for (steps, batch, expected) in [(5, 2, 30), (4, 3, 36), (3, 2, 18), (1, 1, 3)] {
            let schedule = Schedule::dense(steps, batch);
            let mut workspace = model.training_workspace(&schedule).unwrap();
            assert_eq!(workspace.schedule(), &schedule);
            let error = model.forward(&mut workspace, &data.inputs.x).unwrap_err();
            assert_eq!(error, length("x", x, expected));
            let error = workspace.outputs().unwrap_err();
            assert!(matches!(error, Error::Order { .. }), "{error}");
        }
    }
}

#[test]
fn losses_of_other_lengths() {
    let data = data();
    let (y, rows) = (data.inputs.dy.len(), data.steps * data.batch);
    for &isa in isas() {
        let mut rig = rig(isa, &data);
        let x = Input::Features(&data.inputs.x);
        for change in [-1, 1] {
            let resized = |len: usize| len.checked_add_signed(change).unwrap();
            let (targets, given) = (filled(resized(y)), resized(y));
            for loss in [SquaredError::mean(&targets), SquaredError::sum(&targets)] {
                let check = |error| assert_eq!(error, length("targets", given, y));
                assert_refused(&mut rig, x, &loss, check);
            }
            let (classes, given) = (vec![0; resized(rows)], resized(rows));
            for loss in [SoftmaxCrossEntropy::mean(&classes), SoftmaxCrossEntropy::sum(&classes)] {
                let check = |error| assert_eq!(error, length("classes", given, rows));
                assert_refused(&mut rig, x, &loss, check);
            }
            let (classes, mask) = (vec![0; rows], vec![true; given]);
            let loss = SoftmaxCrossEntropy::mean(&classes).with_mask(&mask);
            let check = |error| assert_eq!(error, length("mask", given, rows));
            assert_refused(&mut rig, x, &loss, check);
        }
        for class in [5, u32::MAX] {
            let mut classes = vec![4; rows];
            classes[6] = class;
            let expected = Error::Target { row: 6, given: class, outputs: 5 };
            let loss = SoftmaxCrossEntropy::mean(&classes);
            assert_refused(&mut rig, x, &loss, |error| assert_eq!(error, expected));
        }
        assert_intact(&mut rig, &data);
    }
}

/// Room for the gradients of another network, which only a caller can have put there.
#[test]
fn gradients_of_other_sizes() {
    let data = data();
    for &isa in isas() {
        let mut rig = rig(isa, &data);
        for (other, given) in [
            (Subject { hidden: 6, ..data.layer }, "0.weight_ih [24, 3], "),
            (Subject { inputs: 2, ..data.layer }, "0.weight_ih [20, 2], "),
            // As many floats.
            (Subject { inputs: 19, hidden: 1, ..data.layer }, "0.weight_ih [4, 19], "),
        ] {
            let (x, loss) = (&data.inputs.x, data.loss());
            let zeros = other.network().parameters().unwrap();
            let own = std::mem::replace(rig.workspace.gradients_mut(), zeros);
            let Rig { model, workspace } = &mut rig;
            let before = contents(workspace);
            let refused =
                |error: Error| assert_mismatch(error, "parameter gradients", given, PARAMETERS);
            refused(model.backward(workspace, x, &loss, Accumulate::No).unwrap_err());
            refused(model.gradients(workspace, x, &loss, Accumulate::Yes).unwrap_err());
            refused(model.train(workspace, x, &loss, &mut Sgd::new(0.5)).unwrap_err());
            assert_eq!(contents(workspace), before);
            assert_eq!(model.parameters().as_slice(), data.inputs.params);
            *rig.workspace.gradients_mut() = own;
        }
        assert_intact(&mut rig, &data);
    }
}

/// A workspace of another model with the same network, for gradients that this one's parameters
/// are not packed for: it has forward passes and no backward ones.
#[test]
fn gradients_that_the_parameters_are_not_packed_for() {
    let data = data();
    for &isa in isas() {
        let mut rig = rig(isa, &data);
        let expected = "gradients by the parameters, the input, the state";
        for (plans, given) in [(false, "inference"), (true, "gradients by the parameters")] {
            rig.model = data.model(isa, 1);
            if plans {
                rig.model.training_workspace(data.schedule()).unwrap();
            }
            rig.forward(&data);
            let before = contents(&rig.workspace);
            let refused = |error: Error| assert_mismatch(error, "weights", given, expected);
            let Rig { model, workspace } = &mut rig;
            let (x, loss) = (&data.inputs.x, data.loss());
            refused(model.backward(workspace, x, &loss, Accumulate::No).unwrap_err());
            refused(model.gradients(workspace, x, &loss, Accumulate::No).unwrap_err());
            refused(model.train(workspace, x, &loss, &mut Sgd::new(0.5)).unwrap_err());
            assert_eq!(model.parameters().as_slice(), data.inputs.params);
            assert_eq!(contents(workspace), before);
        }
        // With a workspace of its own it is packed for both, and the pass is still there.
        let training = rig.model.training(data.schedule()).with_input_gradients();
        training.with_state_gradients().workspace().unwrap();
        assert_intact(&mut rig, &data);
    }
}

/// Gradients that were not planned.
#[test]
fn gradients_that_are_not_asked_for() {
    let data = data();
    let (given, expected) = ("a pass without these gradients", "a pass with them");
    let order = |call| Err(Error::Order { call, given, expected });
    for &isa in isas() {
        let mut model = data.model(isa, 1);
        for (input, state) in [(false, false), (true, false), (false, true)] {
            let mut training = model.training(data.schedule());
            if input {
                training = training.with_input_gradients();
            }
            if state {
                training = training.with_state_gradients();
            }
            let mut workspace = training.workspace().unwrap();
            let (x, loss) = (&data.inputs.x, data.loss());
            model.gradients(&mut workspace, x, &loss, Accumulate::No).unwrap();
            let given = workspace.input_gradients().map(drop);
            assert_eq!(given, if input { Ok(()) } else { order("input_gradients") });
            let given = workspace.state_gradients().map(drop);
            assert_eq!(given, if state { Ok(()) } else { order("state_gradients") });
        }
    }
}

/// An input that is late: the gradient by the one that waited needs the panels of ∂L/∂x, which
/// a model has where gradients by the state are planned.
#[test]
fn inputs_that_are_late() {
    let kind = Kind::LateGru(Reset::Before, Candidate::Tanh);
    let data = Data::draw(Subject { kind, inputs: 3, hidden: 5 }, 2, 4, 1, 0.5);
    for &isa in isas() {
        let expected = Rig::new(isa, &data).run(&data);
        let Rig { workspace: mut both, .. } = Rig::new(isa, &data);
        let mut model = data.model(isa, 1);
        let run = |model: &Model, workspace: &mut Workspace| {
            workspace.set_state(&data.initial())?;
            workspace.set_last_gradient(Some(&data.last_gradient()))?;
            model.gradients(workspace, &data.inputs.x, &data.loss(), Accumulate::No)
        };
        let mut without = model.training_workspace(data.schedule()).unwrap();
        run(&model, &mut without).unwrap();
        assert_bits("params", without.gradients().as_slice(), &expected.params);
        let error = run(&model, &mut both).unwrap_err();
        let needed = "gradients by the parameters, the input, the state";
        assert_mismatch(error, "weights", "gradients by the parameters", needed);

        let training = model.training(data.schedule()).with_state_gradients();
        let mut workspace = training.workspace().unwrap();
        run(&model, &mut workspace).unwrap();
        let state = workspace.state_gradients().unwrap();
        assert_bits("dx0", state.tensor("0.x").unwrap(), &expected.dx0);
        assert_bits("dh0", state.tensor("0.h").unwrap(), &expected.dh0);

        for batch in [1, 3] {
            let state = model.state(batch).unwrap();
            let given = format!("0.h [{batch}, 5], 0.x [{batch}, 3]");
            let error = workspace.set_state(&state).unwrap_err();
            assert_mismatch(error, "state", &given, "0.h [2, 5], 0.x [2, 3]");
        }
    }
}

/// Tokens that there are not, too few or many of them, and features in their place.
#[test]
fn tokens_that_there_are_not() {
    let network = Network::new(Embedding::new(7, 3).unwrap());
    let network = network.then(Dense::new(3, 2).unwrap());
    for &isa in isas() {
        let parameters = network.parameters().unwrap();
        let mut model = network.model(parameters, Runtime::new(isa)).unwrap();
        let mut workspace = model.training_workspace(Schedule::dense(3, 2)).unwrap();
        let loss = |_: &mut [f32]| 0.0;
        let before = model.forward(&mut workspace, Tokens(&[6; 6])).unwrap().to_vec();
        workspace.gradients_mut().as_mut_slice().fill(7.0);
        let features = [0.0; 6];
        let mismatch = Error::Mismatch {
            what: "input",
            given: "features".into(),
            expected: "tokens below 7".into(),
        };
        for (x, error) in [
            (Input::Tokens(&[0; 5]), length("tokens", 5, 6)),
            (Input::Tokens(&[0; 7]), length("tokens", 7, 6)),
            (Input::Tokens(&[0, 1, 7, 3, 8, 5]), Error::Token { row: 2, given: 7, tokens: 7 }),
            (Input::Tokens(&[u32::MAX; 6]), Error::Token { row: 0, given: u32::MAX, tokens: 7 }),
            (Input::Features(&features), mismatch),
        ] {
            let workspace = &mut workspace;
            assert_eq!(model.forward(workspace, x).unwrap_err(), error);
            assert_eq!(model.evaluate(workspace, x, &loss), Err(error.clone()));
            for accumulate in [Accumulate::No, Accumulate::Yes] {
                assert_eq!(model.backward(workspace, x, &loss, accumulate), Err(error.clone()));
                assert_eq!(model.gradients(workspace, x, &loss, accumulate), Err(error.clone()));
            }
            assert_bits("y", workspace.outputs().unwrap(), &before);
            assert!(workspace.gradients().as_slice().iter().all(|&d| d == 7.0));
        }
    }
}
