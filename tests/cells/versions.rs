//! The weights of a backward pass are those of its forward pass: not others of the same layer,
//! nor the same ones after an update.

use crate::common::{
    Data, Kind, Rig, Snapshot, Subject, assert_bits, assert_same, clockwork, filled, isas,
};
use crate::with_layer;
use bptt::{
    Accumulate, Error, Gradients, Init, Layer, Lstm, OutputGradients, Parameters, Purpose, Readout,
    ReadoutGradients, Reduction, Targets,
};
use rand::{SeedableRng, rngs::SmallRng};

#[track_caller]
fn assert_of_others(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Order { call: "backward", .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("of other weights, or of these before an update"), "{text}");
    assert!(text.contains("expected") && text.contains("of these weights"), "{text}");
}

/// A backward pass that is refused, of which nothing is written.
#[track_caller]
fn assert_refused<C: Subject>(rig: &mut Rig<C>, data: &Data<C>) {
    let mut parameters = data.parameters();
    let mut dx = filled(data.inputs.x.len());
    let before = Snapshot::of(&[parameters.as_slice(), &dx, rig.arena.hidden().unwrap()]);
    let gradients = Gradients {
        parameters: &mut parameters,
        accumulate: Accumulate::Yes,
        dx: Some(&mut dx),
        initial: None,
    };
    let Rig { plan, weights, arena } = rig;
    let outputs = data.outputs();
    assert_of_others(plan.backward(weights, &data.inputs.x, outputs, arena, gradients));
    let after = Snapshot::of(&[parameters.as_slice(), &dx, rig.arena.hidden().unwrap()]);
    assert_eq!(after, before);
    assert!(rig.arena.gates().is_ok(), "the forward pass is still there");
}

fn check_layer<C: Subject>(layer: C) {
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let other = data.again(2, 0.5);
    for &isa in isas() {
        for threads in [1, 2] {
            let mut rig = Rig::with_threads(isa, &data, threads);
            let expected = rig.run(&data);

            // After an update, be it by the same values.
            for parameters in [other.parameters(), data.parameters()] {
                rig.forward(&data);
                rig.weights.update(&parameters).unwrap();
                assert_refused(&mut rig, &data);
            }
            // One that was refused has changed nothing. Then again a pass of its own.
            let forward = rig.forward(&data);
            let mut gradients = data.layer.parameters().unwrap();
            let pass = rig.backward(&data, &mut gradients, Accumulate::No, forward);
            assert_same(&pass, &expected);

            // Others of the same layer, and these again.
            let forward = rig.forward(&data);
            let others =
                data.layer.pack(&data.parameters(), Purpose::TrainingWithInputGradient, isa);
            let these = std::mem::replace(&mut rig.weights, others.unwrap());
            assert_refused(&mut rig, &data);
            // A clone has the same contents.
            rig.weights = these.clone();
            let pass = rig.backward(&data, &mut gradients, Accumulate::No, forward);
            assert_same(&pass, &expected);
            // An update of either makes it another: twice from one clone, and each by itself.
            let (mut a, mut b) = (these.clone(), these);
            for weights in [&mut a, &mut b] {
                weights.update(&other.parameters()).unwrap();
            }
            rig.weights = a;
            rig.forward(&data);
            rig.weights = b;
            assert_refused(&mut rig, &data);
        }
    }
}

#[test]
fn they_are_those_of_the_forward_pass() {
    for kind in Kind::kernels() {
        with_layer!(kind, (3, 5), |layer| check_layer(layer));
    }
}

/// An update that is refused leaves the weights what they were.
#[test]
fn a_refused_update_is_none() {
    let layer = Lstm::new(3, 5).unwrap();
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        let forward = rig.forward(&data);
        let other = Lstm::new(3, 6).unwrap().parameters().unwrap();
        rig.weights.update(&other).unwrap_err();
        let mut gradients = data.layer.parameters().unwrap();
        let pass = rig.backward(&data, &mut gradients, Accumulate::No, forward);
        assert_same(&pass, &expected);
    }
}

/// A forward pass that is refused leaves the arena the one that it holds, and its weights.
#[test]
fn a_refused_forward_pass_is_none() {
    let layer = clockwork(bptt::Activation::Tanh, &[1, 2], 3, 5);
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        let forward = rig.forward(&data);
        let others = Rig::new(isa, &data).weights;
        let initial = bptt::ClockedState { h: &data.inputs.h0[..], step: 1 << 63 };
        let x = &data.inputs.x;
        rig.plan.forward(&others, x, Some(initial), &mut rig.arena).unwrap_err();
        let mut gradients = data.layer.parameters().unwrap();
        let pass = rig.backward(&data, &mut gradients, Accumulate::No, forward);
        assert_same(&pass, &expected);
    }
}

/// Several stretches that hand the state on, the last one first on the way back, and gradients
/// added up over several passes: all with the weights as they are between two updates.
#[test]
fn stretches_and_accumulation_go_on_working() {
    let data = Data::draw(Lstm::new(3, 5).unwrap(), 2, 12, 1, 0.5);
    for &isa in isas() {
        let parts = [0..4, 4..8, 8..12].map(|steps| data.stretch(steps));
        let mut rig = Rig::new(isa, &parts[0]);
        let mut arenas = parts.each_ref().map(|_| rig.plan.allocate().unwrap());
        let mut gradients = data.layer.parameters().unwrap();
        for update in 0..3 {
            gradients.as_mut_slice().fill(0.0);
            let mut carried = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                let (before, rest) = arenas.split_at_mut(n);
                let initial = before.last().map(|arena| arena.last().unwrap());
                rig.plan.forward(&rig.weights, &part.inputs.x, initial, &mut rest[0]).unwrap();
            }
            for (part, arena) in parts.iter().zip(&mut arenas).rev() {
                let (h, c) = carried.split_at(carried.len() / 2);
                let last = (!carried.is_empty()).then_some(bptt::LstmState { h, c });
                let (mut dh0, mut dc0) = (vec![0.0; 10], vec![0.0; 10]);
                let to = Gradients {
                    parameters: &mut gradients,
                    accumulate: Accumulate::Yes,
                    dx: None,
                    initial: Some(bptt::LstmState { h: &mut dh0[..], c: &mut dc0[..] }),
                };
                let outputs = OutputGradients { dy: Some(&part.inputs.dy), last };
                rig.plan.backward(&rig.weights, &part.inputs.x, outputs, arena, to).unwrap();
                carried = [dh0, dc0].concat();
            }
            // The same in one pass.
            let whole = data.layer.plan(12, 2, isa).unwrap();
            let (mut arena, mut expected) =
                (whole.allocate().unwrap(), data.layer.parameters().unwrap());
            let x = &data.inputs.x;
            whole.forward(&rig.weights, x, None, &mut arena).unwrap();
            let outputs = OutputGradients { dy: Some(&data.inputs.dy), last: None };
            let to = Gradients::of(&mut expected, Accumulate::No);
            whole.backward(&rig.weights, x, outputs, &mut arena, to).unwrap();
            assert_bits("gradients", gradients.as_slice(), expected.as_slice());

            let mut parameters: Parameters<Lstm> = data.parameters();
            for (theta, g) in parameters.as_mut_slice().iter_mut().zip(gradients.as_slice()) {
                *theta -= 0.01 * (update + 1) as f32 * g;
            }
            rig.weights.update(&parameters).unwrap();
        }
        // A stream asks for no such thing.
        let mut stream = data.layer.stream(2, isa).unwrap();
        let mut y = filled(10);
        for x in data.inputs.x.chunks(data.input()) {
            stream.step(&rig.weights, x, &mut y).unwrap();
            rig.weights.update(&data.parameters()).unwrap();
        }
    }
}

/// A readout's, where ∂L/∂h is wanted of a loss of ours. Of a gradient of the caller's it knows
/// no weights.
#[test]
fn those_of_a_readout_are_those_of_its_loss() {
    let readout = Readout::new(5, 4).unwrap();
    let parameters = readout.init(Init::Glorot, &mut SmallRng::seed_from_u64(1)).unwrap();
    let (h, classes) = ([0.5; 15], [0, 3, 1]);
    let targets = Targets { classes: &classes, mask: None, reduction: Reduction::Sum };
    for &isa in isas() {
        let mut weights =
            readout.pack(&parameters, Purpose::TrainingWithInputGradient, isa).unwrap();
        let plan = readout.plan(3, isa).unwrap();
        let mut arena = plan.allocate().unwrap();
        plan.loss(&weights, &h, targets, &mut arena).unwrap();
        let clone = weights.clone();
        weights.update(&parameters).unwrap();
        let (mut gradients, mut dh) = (readout.parameters().unwrap(), filled(15));
        let accumulate = Accumulate::No;
        let to = ReadoutGradients { parameters: &mut gradients, accumulate, dh: Some(&mut dh) };
        assert_of_others(plan.backward(&weights, &h, &mut arena, to));
        assert!(gradients.as_slice().iter().all(|&g| g == 0.0));
        assert_bits("dh", &dh, &filled(15));

        let to = ReadoutGradients { parameters: &mut gradients, accumulate, dh: Some(&mut dh) };
        plan.backward(&clone, &h, &mut arena, to).unwrap();
        let (expected, expected_dh) = (gradients.clone(), dh.clone());
        // Those of the parameters are sums that no weights are part of.
        let to = ReadoutGradients::of(&mut gradients, accumulate);
        plan.backward(&weights, &h, &mut arena, to).unwrap();
        assert_bits("gradients", gradients.as_slice(), expected.as_slice());
        let given = arena.output_gradients().unwrap().to_vec();
        arena.output_gradients_mut().copy_from_slice(&given);
        let to = ReadoutGradients { parameters: &mut gradients, accumulate, dh: Some(&mut dh) };
        plan.backward(&weights, &h, &mut arena, to).unwrap();
        assert_bits("gradients", gradients.as_slice(), expected.as_slice());
        assert_bits("dh", &dh, &expected_dh);
    }
}
