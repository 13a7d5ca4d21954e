//! Calls that need a pass which the workspace does not hold.

use super::{contents, data};
use crate::common::{Data, Rig, assert_bits, isas, value};
use bptt::{Accumulate, Error, Parameters};

const NONE: &str = "no pass";
const FORWARD: &str = "a forward pass";
const BACKWARD: &str = "a backward pass";

fn order<T>(call: &'static str, given: &'static str, expected: &'static str) -> Result<T, Error> {
    Err(Error::Order { call, given, expected })
}

/// A backward pass is refused, and leaves the gradients as they are.
#[track_caller]
fn assert_no_backward(rig: &mut Rig, data: &Data, given: &'static str) {
    let Rig { model, workspace } = rig;
    workspace.gradients_mut().as_mut_slice().copy_from_slice(&data.inputs.params);
    for accumulate in [Accumulate::No, Accumulate::Yes] {
        let result = model.backward(workspace, &data.inputs.x, &data.loss(), accumulate);
        let text = format!("backward: the workspace holds {given}, expected a forward pass");
        assert_eq!(result.as_ref().unwrap_err().to_string(), text);
        assert_eq!(result, order("backward", given, FORWARD));
    }
    assert_eq!(workspace.gradients().as_slice(), data.inputs.params);
}

/// A workspace that holds no pass shows nothing of one.
#[track_caller]
fn assert_empty(rig: &mut Rig, data: &Data) {
    assert_no_backward(rig, data, NONE);
    let workspace = &mut rig.workspace;
    assert_eq!(workspace.outputs(), order("outputs", NONE, FORWARD));
    assert_eq!(workspace.last_state(), order("last_state", NONE, FORWARD));
    assert_eq!(workspace.carry_state(), order("carry_state", NONE, FORWARD));
    for name in ["0.y", "0.c", "0.gates", "0.preactivation_gradients", "0.z"] {
        assert_eq!(workspace.activations(name), order("activations", NONE, FORWARD));
    }
    assert_eq!(workspace.input_gradients(), order("input_gradients", NONE, BACKWARD));
    assert_eq!(workspace.state_gradients(), order("state_gradients", NONE, BACKWARD));
}

#[test]
fn passes_out_of_order() {
    let data = data();
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        assert_empty(&mut rig, &data);

        let h = rig.forward(&data).h;
        let before = contents(&rig.workspace);
        let absent =
            |name: &str, pass| Err(value("activations", name, format!("what {pass} has left")));
        let workspace = &rig.workspace;
        assert_eq!(workspace.input_gradients(), order("input_gradients", FORWARD, BACKWARD));
        assert_eq!(workspace.state_gradients(), order("state_gradients", FORWARD, BACKWARD));
        for name in ["0.preactivation_gradients", "0.z", "1.y", "c", "", ".", "0.", "-1.y"] {
            assert_eq!(workspace.activations(name), absent(name, FORWARD));
        }
        assert_eq!(workspace.activations("0.gates").map(<[f32]>::len), Ok(4 * 2 * 4 * 5));
        assert_eq!(contents(workspace), before);

        rig.run(&data);
        let before = contents(&rig.workspace);
        let workspace = &rig.workspace;
        assert_eq!(workspace.outputs(), order("outputs", BACKWARD, FORWARD));
        for name in ["0.gates", "0.z", "1.c"] {
            assert_eq!(workspace.activations(name), absent(name, BACKWARD));
        }
        assert_bits("h", workspace.activations("0.y").unwrap(), &h);
        assert!(workspace.activations("0.c").is_ok() && workspace.last_state().is_ok());
        assert_eq!(contents(workspace), before);
        assert_no_backward(&mut rig, &data, BACKWARD);
    }
}

/// Once the state that a pass began from is another, or its outputs are gone, the pass is.
#[test]
fn what_ends_a_pass() {
    let data = data();
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let ends: [fn(&mut Rig, &Data); 4] = [
            |rig, data| rig.workspace.set_state(&data.initial()).unwrap(),
            |rig, _| rig.workspace.reset_state(),
            |rig, _| rig.workspace.carry_state().unwrap(),
            |rig, data| {
                rig.run(data);
                rig.workspace.carry_state().unwrap();
            },
        ];
        for end in ends {
            rig.forward(&data);
            end(&mut rig, &data);
            assert_empty(&mut rig, &data);
        }
    }
}

/// A pass that was evaluated has left its last state, from which the next one can begin, and
/// nothing else.
#[test]
fn what_an_evaluated_pass_leaves() {
    let data = data();
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        rig.forward(&data);
        let expected = rig.workspace.last_state().unwrap();
        let Rig { model, workspace } = &mut rig;
        let x = &data.inputs.x;
        model.evaluate(workspace, x, &data.loss()).unwrap();
        assert_eq!(workspace.last_state().as_ref(), Ok(&expected));
        let given = "a pass that was evaluated";
        assert_eq!(workspace.outputs(), order("outputs", given, FORWARD));
        assert_eq!(workspace.activations("0.y"), order("activations", given, FORWARD));
        let refused = model.backward(workspace, x, &data.loss(), Accumulate::No);
        assert_eq!(refused, order("backward", given, FORWARD));
        workspace.carry_state().unwrap();
        assert_eq!(workspace.last_state(), order("last_state", NONE, FORWARD));
        model.forward(workspace, x).unwrap();
        let carried = workspace.last_state().unwrap();
        assert_eq!(carried.step(), expected.step() + workspace.schedule().steps() as u64);
        assert_ne!(carried.as_slice(), expected.as_slice());
    }
}

/// A backward pass has the parameters of its forward pass, or is refused.
#[test]
fn parameters_from_before_a_change() {
    let data = data();
    let given = "a pass of other parameters, or of these before a change";
    let expected = "a forward pass of these parameters";
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let pass = rig.run(&data);
        let refused = |rig: &mut Rig| {
            let Rig { model, workspace } = rig;
            workspace.gradients_mut().as_mut_slice().copy_from_slice(&data.inputs.params);
            let before = contents(workspace);
            let error = model.backward(workspace, &data.inputs.x, &data.loss(), Accumulate::No);
            assert_eq!(error, order("backward", given, expected));
            assert_eq!(contents(workspace), before);
        };
        // Also where nothing has changed in them.
        let same = |_: &mut Parameters| Ok::<(), Error>(());
        rig.forward(&data);
        rig.model.change(same).unwrap();
        refused(&mut rig);
        // And beside a stream, which goes on with those from before.
        rig.forward(&data);
        let stream = rig.model.stream(1).unwrap();
        rig.model.change(same).unwrap();
        refused(&mut rig);
        drop(stream);
        rig.forward(&data);
        let other = Rig::new(isa, &data.again(2, 0.5));
        let own = std::mem::replace(&mut rig.model, other.model);
        refused(&mut rig);
        // The pass is still there.
        rig.model = own;
        let Rig { model, workspace } = &mut rig;
        workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
        model.backward(workspace, &data.inputs.x, &data.loss(), Accumulate::No).unwrap();
        assert_bits("params", workspace.gradients().as_slice(), &pass.params);
    }
}
