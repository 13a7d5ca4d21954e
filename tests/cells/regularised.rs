//! Dropout and zoneout: what is drawn, what it costs in memory, what inference makes of
//! it, what is refused. That training passes compute with the noise what they should, and
//! to the same bits whatever the batch, the stretches and the threads, the other suites
//! show, whose cases have noise as well.

use crate::common::{
    Data, Kind, Options, Rig, Subject, any_of, assert_bits, assert_mismatch, assert_same, check,
    fewer, filled, isas, lstm, shapes, value,
};
use crate::with_layer;
use bptt::{Activation, ClockGroup, Clockwork, Error, Layer, Noise, Regularisation};
use bptt_reference::cells::Inputs;
use bptt_reference::{Bounded, bounds};
use proptest::prelude::*;

fn half() -> Regularisation {
    Regularisation::none().with_dropout(0.5).unwrap().with_zoneout(0.5, 0.0).unwrap()
}

/// The kernels whose layers can have noise.
fn kinds() -> Vec<Kind> {
    let all = Kind::kernels().into_iter();
    all.filter(|kind| !matches!(kind, Kind::Clockwork(..))).collect()
}

/// The same noise again, and another.
fn noise_is_a_function_of_its_place<C: Subject>(data: &Data<C>) {
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
        // Dropout does not know steps, zoneout does.
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

/// How many units keep their state: the share that was asked for, within what chance does.
#[test]
fn as_many_are_kept_as_were_asked_for() {
    let (steps, batch, hidden) = (50, 20, 100);
    for &rate in fewer(&[0.5, 0.9, 0.1, 0.0, 1.0], 2) {
        let regularisation = Regularisation::none().with_zoneout(rate, 0.0).unwrap();
        let layer = lstm(Options::NONE, 3, hidden);
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

/// A stream keeps the share that training keeps on average.
fn inference_is_the_expectation<C: Subject>(data: &Data<C>) {
    let (steps, batch) = (data.steps, data.batch);
    let (outputs, hidden) = (data.layer.output_size(), data.layer.hidden_size());
    let mut reference = data.layer.reference();
    reference.masks = data.draw_noise().expected(steps, batch, outputs, hidden);
    let inputs: Inputs<Vec<Bounded>> = data.inputs.map(|values| bounds::exact(values));
    let expected = reference.run(&inputs, None);
    for &isa in isas() {
        let weights = Rig::new(isa, data).weights;
        let stream = data.layer.stream(batch, isa).unwrap();
        let new = || stream.clone().with_regularisation(data.regularisation).unwrap();
        let mut at_once = new();
        at_once.set_state(data.initial().unwrap()).unwrap();
        let mut y = filled(steps * data.state());
        at_once.forward(&weights, &data.inputs.x, &mut y).unwrap();
        bounds::assert_within("y", &y, &expected.h);
        let mut stepped = new().with_threads(2).unwrap();
        stepped.set_state(data.initial().unwrap()).unwrap();
        for (x, y) in data.inputs.x.chunks(data.input()).zip(y.chunks(data.state())) {
            let mut step = filled(y.len());
            stepped.step(&weights, x, &mut step).unwrap();
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

/// Without noise a plan is the plan that it was.
#[test]
fn none_is_none() {
    let data = Data::draw(lstm(Options::NONE, 5, 20), 3, 4, 1, 0.3);
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let none = rig.plan.clone().with_regularisation(Regularisation::none()).unwrap();
        assert_eq!(none, rig.plan);
        let expected = rig.forward(&data).h;
        let plain = none.forward(&rig.weights, &data.inputs.x, data.initial(), &mut rig.arena);
        plain.unwrap();
        assert_bits("h", rig.arena.hidden().unwrap(), &expected);
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
    let of_s = Regularisation::none().with_zoneout(0.0, 0.25).unwrap();
    for kind in kinds() {
        with_layer!(kind, (3, 5), |layer| for &isa in isas() {
            let plan = layer.plan(2, 2, isa).unwrap().with_regularisation(of_s);
            let stream = layer.stream(2, isa).unwrap().with_regularisation(of_s);
            if layer.equations().has_state() {
                assert!(plan.is_ok() && stream.is_ok());
            } else {
                let expected = value("zoneout of c", "0.25", "0, for a cell without c");
                assert_eq!(plan.unwrap_err(), expected);
                assert_eq!(stream.unwrap_err(), expected);
            }
        });
    }
}

#[test]
fn groups_with_periods_have_none() {
    let groups = [(3, 1), (2, 2)].map(|(units, period)| ClockGroup { units, period });
    let layer = Clockwork::new(2, Activation::Tanh, &groups).unwrap();
    let given = "dropout 0.5, zoneout 0.5 and 0";
    let expected = "none, for units that move at periods of their own";
    for &isa in isas() {
        let error = layer.plan(2, 2, isa).unwrap().with_regularisation(half()).unwrap_err();
        assert_eq!(error, value("regularisation", given, expected));
        let error = layer.stream(2, isa).unwrap().with_regularisation(half()).unwrap_err();
        assert_eq!(error, value("regularisation", given, expected));
        let none = Regularisation::none();
        assert!(layer.plan(2, 2, isa).unwrap().with_regularisation(none).is_ok());
    }
}

/// A plan with noise takes nothing but a pass that is told what to draw it from, in an
/// arena that has room for it.
#[test]
fn passes_without_their_noise_are_refused() {
    let plain = Data::draw(lstm(Options::NONE, 5, 20), 3, 4, 1, 0.3);
    let data = Data { regularisation: half(), ..plain.clone() };
    for &isa in isas() {
        let Rig { plan, weights, mut arena } = Rig::new(isa, &data);
        let before = arena.hidden().unwrap_err();
        let error = plan.forward(&weights, &data.inputs.x, None, &mut arena).unwrap_err();
        let Error::Value { what, given, expected } = &error else { panic!("{error}") };
        assert_eq!((*what, given.as_str()), ("noise", "none"));
        assert!(expected.contains("forward_with"), "{expected}");
        assert_eq!(arena.hidden().unwrap_err(), before, "nothing was written");

        let mut other = Rig::new(isa, &plain).arena;
        let noise = Noise::default();
        let error = plan.forward_with(&weights, &data.inputs.x, None, noise, &mut other);
        assert_mismatch(error.unwrap_err(), "arena", "threads 1", "dropout 0.5, zoneout 0.5 and 0");
    }
}
