//! Gradients that come in only through the last state, through h or c alone (deeplearning4j#8838),
//! and passes that begin from only one of them (onnx-tensorflow#408), against the `f64` reference
//! and against its finite differences.

use crate::common::{Data, Kind, Pass, Rig, Subject, filled, isas};
use crate::with_layer;
use bptt::{Accumulate, Isa};
use bptt_reference::Bounded;
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::cells::{Inputs, Outcome};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::sample::widen;

/// h alone or c alone: the loss is the sum of one of them after the last step, or only one of them
/// is drawn before the first step.
const EITHER: [[f32; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];

fn data(layer: Subject, steps: usize, loss: [f32; 2], state: [f32; 2]) -> Data {
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

/// A pass whose loss depends on the last state only, so the outputs have no gradient.
fn run(isa: Isa, data: &Data) -> Pass {
    assert!(data.inputs.dy.iter().all(|&dy| dy == 0.0));
    let mut rig = Rig::new(isa, data);
    let forward = rig.forward(data);
    let mut parameters = filled(data.inputs.params.len());
    rig.backward(data, &mut parameters, Accumulate::No, forward)
}

fn check(data: &Data, smooth: bool) {
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
        // If a row has few units that are nearly equal, normalisation moves them far.
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
