//! Gradients that come in through the last state alone, through h or c by itself
//! (deeplearning4j#8838), and passes that begin from one of them by itself
//! (onnx-tensorflow#408), against the `f64` reference and against finite differences of it.

use crate::common::{Data, Kind, Pass, Rig, Subject, filled, isas, state_of};
use crate::with_layer;
use bptt::{Accumulate, Gradients, Isa, OutputGradients, State};
use bptt_reference::Bounded;
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::cells::{Inputs, Outcome};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::sample::widen;

/// Of h and c one and not the other: the loss is its sum after the last step, or it is what is
/// drawn before the first.
const EITHER: [[f32; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];

fn data<C: Subject>(layer: C, steps: usize, loss: [f32; 2], state: [f32; 2]) -> Data<C> {
    let mut data = Data::draw(layer, 2, steps, 1, 0.6);
    let given = &mut data.inputs;
    given.dy.fill(0.0);
    given.dh_last.fill(loss[0]);
    given.dc_last.fill(loss[1]);
    given.dx_last.fill(0.0);
    given.h0.iter_mut().for_each(|h| *h *= state[0]);
    given.c0.iter_mut().for_each(|c| *c *= state[1]);
    data
}

/// A pass that has no gradient of outputs, not even zeros.
fn run<C: Subject>(isa: Isa, data: &Data<C>) -> Pass {
    let mut rig = Rig::new(isa, data);
    let forward = rig.forward(data);
    let given = &data.inputs;
    let mut parameters = data.layer.parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(&filled(given.params.len()));
    let (mut dx, mut dh0) = (filled(given.x.len()), filled(given.h0.len()));
    let (mut dc0, mut dx0) = (filled(given.c0.len()), filled(given.x0.len()));
    let last = state_of::<C>(&given.dh_last, &given.dc_last, &given.dx_last);
    let to = Gradients {
        parameters: &mut parameters,
        accumulate: Accumulate::No,
        dx: Some(&mut dx),
        initial: Some(State::from_parts(&mut dh0[..], &mut dc0[..], &mut dx0[..])),
    };
    let Rig { plan, weights, arena } = &mut rig;
    let outputs = OutputGradients { dy: None, last: Some(last) };
    plan.backward(weights, &given.x, outputs, arena, to).unwrap();
    let dz = arena.preactivation_gradients().unwrap();
    let dz = data.layer.all_steps(dz, data.first, data.steps, data.batch);
    Pass { params: parameters.as_slice().to_vec(), dx, dh0, dc0, dx0, dz, ..forward }
}

fn check<C: Subject>(data: &Data<C>, smooth: bool) {
    let layer = data.reference();
    let bounded: Inputs<Vec<Bounded>> = data.inputs.map(|values| exact(values));
    let expected = layer.run(&bounded, None);
    let passes: Vec<Pass> = isas().iter().map(|&isa| run(isa, data)).collect();
    for pass in &passes {
        for ((name, given), (_, expected)) in pass.parts().into_iter().zip(expected.parts()) {
            assert_within(name, given, expected);
        }
    }
    if !smooth {
        return;
    }
    type Part = fn(&mut Inputs<Vec<f64>>) -> &mut Vec<f64>;
    type Of<T> = fn(&Outcome<T>) -> &T;
    type Row = (&'static str, Part, Of<Vec<f32>>, Of<Vec<Bounded>>);
    let parts: [Row; 5] = [
        ("params", |i| &mut i.params, |p| &p.params, |p| &p.params),
        ("dx", |i| &mut i.x, |p| &p.dx, |p| &p.dx),
        ("dh0", |i| &mut i.h0, |p| &p.dh0, |p| &p.dh0),
        ("dc0", |i| &mut i.c0, |p| &p.dc0, |p| &p.dc0),
        ("dx0", |i| &mut i.x0, |p| &p.dx0, |p| &p.dx0),
    ];
    for (name, part, given, bound) in parts {
        let mut moved = data.inputs.map(|values| widen(values));
        let at = part(&mut moved).clone();
        let loss = |at: &[f64]| {
            part(&mut moved).copy_from_slice(at);
            layer.loss(&moved)
        };
        let quotients: Vec<Bounded> = gradient_with_error(loss, &at, 1e-5, 1e-14)
            .into_iter()
            .zip(bound(&expected))
            .map(|(d, b)| Bounded { value: d.value, bound: d.error + b.bound })
            .collect();
        let loose = quotients.iter().filter(|q| q.bound > 1e-3).count();
        assert!(loose * 20 <= quotients.len(), "{loose} bounds of {name} find no fault");
        passes.iter().for_each(|pass| assert_within(name, given(pass), &quotients));
    }
}

#[test]
fn the_last_state_alone() {
    for kind in Kind::kernels() {
        // Of few units that are nearly the same, normalised ones move far.
        let smooth = kind == kind.plain();
        for steps in [1, 4] {
            for (loss, state) in EITHER.into_iter().flat_map(|l| EITHER.map(|state| (l, state))) {
                with_layer!(kind, (2, 3), |layer| {
                    if layer.equations().has_state() || (loss, state) == (EITHER[0], EITHER[0]) {
                        check(&data(layer, steps, loss, state), smooth);
                    }
                });
            }
        }
    }
}
