//! Dropout and zoneout: what is drawn, how much memory it takes, how inference replaces it, and
//! what is refused. Other suites, whose cases have noise too, show that training passes compute
//! correctly with noise, and to the same bits whatever the batch, the stretches and the threads.

use crate::common::{
    Data, Kind, Options, Rig, Subject, any_of, assert_bits, assert_mismatch, assert_same, check,
    fewer, filled, isas, lstm, shapes, value,
};
use crate::with_layer;
use bptt::blocks::Block;
use bptt::{Activation, Network, Noise, Regularisation, Regularised, Runtime, Sgd};
use bptt_reference::cells::Inputs;
use bptt_reference::{Bounded, bounds};
use proptest::prelude::*;

fn half() -> Regularisation {
    Regularisation::none().with_dropout(0.5).unwrap().with_zoneout(0.5, 0.0).unwrap()
}

/// An LSTM without options.
fn subject(inputs: usize, hidden: usize) -> Subject {
    Subject { kind: Kind::LSTM, inputs, hidden }
}

/// The kernels whose layers can have noise.
fn kinds() -> Vec<Kind> {
    let all = Kind::kernels().into_iter();
    all.filter(|kind| kind.takes_noise()).collect()
}

/// The same noise again, and another.
fn noise_is_a_function_of_its_place(data: &Data) {
    for &isa in isas() {
        let mut rig = Rig::new(isa, data);
        let first = rig.run(data);
        let moved = |noise| {
            let other = Data { noise, ..data.clone() };
            Rig::new(isa, &other).run(&other).h
        };
        let noise = data.noise;
        assert_ne!(moved(Noise { seed: noise.seed ^ 1, ..noise }), first.h);
        assert_ne!(moved(Noise { sequence: noise.sequence + 99, ..noise }), first.h);
        // Dropout does not depend on the step, zoneout does.
        assert_ne!(moved(Noise { step: noise.step + 99, ..noise }), first.h);
        assert_same(&rig.run(data), &first);
    }
}

#[test]
fn a_pass_can_be_repeated() {
    for kind in kinds() {
        with_layer!(kind, (5, 40), |layer| {
            let noise = Noise { seed: 3, step: 4, sequence: 5 };
            let data = Data::draw(layer, 7, 6, 1, 0.3);
            noise_is_a_function_of_its_place(&Data { regularisation: half(), noise, ..data });
        });
    }
}

/// The share of units that keep their state is as requested, up to chance.
#[test]
fn as_many_are_kept_as_were_asked_for() {
    let (steps, batch, hidden) = (50, 20, 100);
    for &rate in fewer(&[0.5, 0.9, 0.1, 0.0, 1.0], 2) {
        let regularisation = Regularisation::none().with_zoneout(rate, 0.0).unwrap();
        let layer = subject(3, hidden);
        let data = Data { regularisation, ..Data::draw(layer, batch, steps, 1, 0.5) };
        for &isa in isas() {
            let h = Rig::new(isa, &data).run(&data).h;
            let before = [&data.inputs.h0[..], &h].concat();
            let same = h.iter().zip(&before).filter(|(now, before)| now == before).count();
            let count = (steps * batch * hidden) as f64;
            // Five standard deviations.
            let within = 5.0 * (f64::from(rate * (1.0 - rate)) / count).sqrt();
            let share = same as f64 / count;
            assert!((share - f64::from(rate)).abs() <= within, "{share} of {rate} on {isa}");
        }
    }
}

/// A stream keeps the share of its state that training keeps on average.
fn inference_is_the_expectation(data: &Data) {
    let (steps, batch) = (data.steps, data.batch);
    let (outputs, hidden) = (data.layer.output_size(), data.layer.hidden_size());
    let mut reference = data.layer.reference();
    reference.masks = data.draw_noise().expected(steps, batch, outputs, hidden);
    let inputs: Inputs<Vec<Bounded>> = data.inputs.map(|values| bounds::exact(values));
    let expected = reference.run(&inputs, None);
    for &isa in isas() {
        let stream = |threads: usize| {
            let mut stream = data.model(isa, threads).stream(batch).unwrap();
            stream.set_state(&data.initial()).unwrap();
            stream
        };
        let mut y = filled(steps * data.state());
        stream(1).forward(&data.inputs.x, &mut y).unwrap();
        bounds::assert_within("y", &y, &expected.h);
        let mut stepped = stream(2);
        for (x, y) in data.inputs.x.chunks(data.input()).zip(y.chunks(data.state())) {
            let mut step = filled(y.len());
            stepped.step(x, &mut step).unwrap();
            assert_bits("y", &step, y);
        }
    }
}

#[test]
fn a_stream_after_training_with_noise() {
    let batch = prop_oneof![Just(1), 2..=20usize];
    let case = (any_of(Kind::kernels()), shapes(12, 40, 20, 4), batch, any::<u64>());
    check(200, case, |(kind, shape, batch, seed)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let data = Data::draw(layer, batch, shape.steps, seed, 0.2);
            inference_is_the_expectation(&data.noisy(seed))
        });
    });
}

/// Without noise a layer's passes and streams are as before, and take no more memory.
#[test]
fn none_is_none() {
    let data = Data::draw(subject(5, 20), 3, 4, 1, 0.3);
    let none = Regularised::new(lstm(Options::NONE, 5, 20), Regularisation::none()).unwrap();
    let network = Network::new(none);
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let expected = rig.run(&data);
        let mut model = network.model(data.parameters(), Runtime::new(isa)).unwrap();
        let training = model.training(data.schedule());
        let training = training.with_input_gradients().with_state_gradients();
        let mut plain = Rig { workspace: training.workspace().unwrap(), model };
        assert_same(&plain.run(&data), &expected);
        assert_eq!(plain.workspace.bytes(), rig.workspace.bytes());
        let outputs = |rig: &Rig| {
            let (mut y, mut stream) = (filled(4 * 60), rig.model.stream(3).unwrap());
            stream.forward(&data.inputs.x, &mut y).unwrap();
            (y, stream.bytes())
        };
        let (given, expected) = (outputs(&plain), outputs(&rig));
        assert_bits("y", &given.0, &expected.0);
        assert_eq!(given.1, expected.1);
    }
}

#[test]
fn what_is_refused() {
    for given in [-0.1, 1.0, f32::NAN] {
        let error = Regularisation::none().with_dropout(given).unwrap_err();
        assert_eq!(error, value("dropout", &given.to_string(), "0 or more and below 1"));
    }
    for given in [-0.1, 1.5, f32::NAN] {
        let expected = |what| value(what, &given.to_string(), "0 to 1");
        let none = Regularisation::none();
        assert_eq!(none.with_zoneout(given, 0.0), Err(expected("zoneout of h")));
        assert_eq!(none.with_zoneout(0.0, given), Err(expected("zoneout of c")));
    }
    let of_c = Regularisation::none().with_zoneout(0.0, 0.25).unwrap();
    for kind in kinds() {
        with_layer!(kind, (3, 5), |layer| {
            let block = layer.network();
            let block = block.blocks().next().unwrap().as_recurrent().unwrap();
            let noisy = Regularised::new(block, of_c);
            if layer.equations().has_state() {
                // Nor can a layer with noise be wrapped in noise again.
                let given = noisy.as_ref().unwrap().config().to_string();
                let again = Regularised::new(noisy.unwrap(), Regularisation::none());
                assert_eq!(again.unwrap_err(), value("layer", &given, "one without noise"));
            } else {
                let expected = value("zoneout of c", "0.25", "0, for a cell without c");
                assert_eq!(noisy.unwrap_err(), expected);
            }
        });
    }
}

/// A type that cannot be made into a layer cannot be wrapped; the compiler refuses it, and the page
/// of [`Regularised::new`] shows that.
#[test]
fn groups_with_periods_have_none() {
    let layer = crate::common::clockwork(Activation::Tanh, &[1, 2], 2, 5);
    assert!(layer.as_recurrent().is_none());
    assert!(lstm(Options::NONE, 2, 5).as_recurrent().is_some());
}

/// A pass with noise needs a workspace with room for it. No seed has to be given: the first is seed
/// 0, and each update takes the next one.
#[test]
fn passes_without_their_noise_are_refused() {
    let plain = Data::draw(subject(5, 20), 3, 4, 1, 0.3);
    let data = Data { regularisation: half(), ..plain.clone() };
    let x = &data.inputs.x;
    for &isa in isas() {
        let Rig { mut model, .. } = Rig::new(isa, &data);
        let mut other = Rig::new(isa, &plain);
        let none = other.workspace.outputs().unwrap_err();
        let error = model.forward(&mut other.workspace, x).unwrap_err();
        let noise = "dropout: 0.5, zoneout_hidden: 0.5, zoneout_cell: 0";
        assert_mismatch(error, "workspace", "threads 1", noise);
        assert_eq!(other.workspace.outputs().unwrap_err(), none, "nothing was written");
        let held = other.forward(&plain).h;
        model.forward(&mut other.workspace, x).unwrap_err();
        assert_bits("h", other.workspace.outputs().unwrap(), &held);

        let mut workspace = model.training_workspace(data.schedule()).unwrap();
        assert_eq!(workspace.noise(), Noise::default());
        let unset = model.forward(&mut workspace, x).unwrap().to_vec();
        workspace.set_noise(Noise { seed: 1, ..Noise::default() });
        let next = model.forward(&mut workspace, x).unwrap().to_vec();
        assert_ne!(next, unset);
        workspace.set_noise(Noise::default());
        assert_bits("h", model.forward(&mut workspace, x).unwrap(), &unset);
        let mut still = Sgd::new(0.0);
        model.train(&mut workspace, x, &data.loss(), &mut still).unwrap();
        assert_eq!(workspace.noise(), Noise { seed: 1, ..Noise::default() });
        assert_bits("h", model.forward(&mut workspace, x).unwrap(), &next);
    }
}
