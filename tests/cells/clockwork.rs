//! Tests for the clockwork alone: its groups, its count of steps, which groups move when, and that
//! it is a vanilla layer if it has one group.

use crate::common::{
    Data, Kind, Rig, Subject, assert_bits, assert_same, check, filled, isas, shapes, value,
};
use bptt::{
    Accumulate, Activation, ClockGroup, Clockwork, Error, Init, Network, Runtime, Schedule,
};
use bptt_reference::sample::uniform;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

#[test]
fn groups_that_are_refused() {
    let of = |groups: &[(usize, usize)]| {
        let groups: Vec<_> =
            groups.iter().map(|&(units, period)| ClockGroup { units, period }).collect();
        Clockwork::new(2, Activation::Tanh, &groups)
    };
    let expected = "one or more, each of 1 unit or more and a period of 1 to 65536, \
                    no period twice";
    for (groups, given) in [
        (&[][..], "[]"),
        (&[(2, 1), (0, 2)], "[(2, 1), (0, 2)]"),
        (&[(2, 0)], "[(2, 0)]"),
        (&[(2, 65_537)], "[(2, 65537)]"),
        (&[(2, 3), (1, 1), (4, 3)], "[(2, 3), (1, 1), (4, 3)]"),
    ] {
        assert_eq!(of(groups), Err(value("groups", given, expected)));
    }
    let error = of(&[(usize::MAX, 1), (1, 2)]).unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "the parameters" });
    let no_input = Clockwork::new(0, Activation::Tanh, &[ClockGroup { units: 1, period: 1 }]);
    assert_eq!(no_input, Err(value("input_size", "0", "1 or more")));

    // Groups may be given in any order; they are sorted by period, the shortest first.
    let clockwork = of(&[(3, 65_536), (1, 5), (2, 1)]).unwrap();
    let groups: Vec<_> = clockwork.groups().map(|group| (group.units, group.period)).collect();
    assert_eq!(groups, [(2, 1), (1, 5), (3, 65_536)]);
    let network = Network::new(clockwork);
    let mut rng = StdRng::seed_from_u64(1);
    let model = network.init_with(Init::Orthogonal, &mut rng, Runtime::best().unwrap()).unwrap();
    let mut parameters = model.parameters().clone();
    let all = 6 * 2 + (2 * 6 + 4 + 3 * 3) + 6;
    assert_eq!((network.manifest().unwrap().len(), parameters.as_slice().len()), (all, all));
    let names = "0.weight_ih [6, 2], 0.weight_hh_1 [2, 6], 0.weight_hh_5 [1, 4], \
                 0.weight_hh_65536 [3, 3], 0.bias [6]";
    assert_eq!(network.manifest().unwrap().to_string(), names);
    // One row of W has length 1.
    let w = parameters.tensor("0.weight_hh_5").unwrap();
    assert!((w.iter().map(|w| w * w).sum::<f32>() - 1.0).abs() < 1e-5);
    // The third unit is the only one of the second group.
    parameters.tensor_mut("0.weight_ih").unwrap()[2 * 2] = 2.0;
    parameters.tensor_mut("0.weight_hh_5").unwrap()[0] = 3.0;
    parameters.tensor_mut("0.bias").unwrap()[2] = 4.0;
    let place = |at| parameters.as_slice()[at];
    assert_eq!([place(2 * 2), place(12 + 12), place(12 + 25 + 2)], [2.0, 3.0, 4.0]);
    let error = parameters.tensor("0.weight_hh_2").unwrap_err();
    assert_eq!(error, value("tensor", "0.weight_hh_2", format!("one of {names}")));
}

/// A count of steps that is too large is refused before anything is written.
#[test]
fn steps_beyond_the_count() {
    let kind = Kind::Clockwork(Activation::Tanh, &[1, 3]);
    let data = Data::draw(Subject { kind, inputs: 3, hidden: 4 }, 2, 4, 1, 0.5);
    for &isa in isas() {
        let Rig { model, mut workspace } = Rig::new(isa, &data);
        let mut stream = model.stream(2).unwrap();
        let refused = |step: u64| value("step", &step.to_string(), "below 2⁶³");
        let mut state = data.initial();
        state.set_step(5).unwrap();
        for step in [1 << 63, u64::MAX] {
            assert_eq!(state.set_step(step), Err(refused(step)));
            assert_eq!(state.step(), 5);
        }

        // The last count that can be given, and the steps after it.
        let step = (1 << 63) - 1;
        state.set_step(step).unwrap();
        workspace.set_state(&state).unwrap();
        let expected = model.forward(&mut workspace, &data.inputs.x).unwrap().to_vec();
        let beyond = workspace.last_state().unwrap();
        assert_eq!(beyond.step(), step + 4);
        assert_eq!(workspace.set_state(&beyond), Err(refused(step + 4)));
        assert_eq!(workspace.carry_state(), Err(refused(step + 4)));
        assert_eq!(workspace.outputs().unwrap(), expected);
        assert_eq!(stream.set_state(&beyond), Err(refused(step + 4)));
        assert_eq!((stream.state_slice(), stream.state().unwrap().step()), (&[0.0; 8][..], 0));
        stream.set_state(&state).unwrap();
        assert_eq!(stream.state().unwrap(), state);
        stream.step(&data.inputs.x[..6], &mut filled(8)).unwrap();
        assert_eq!(stream.state().unwrap().step(), step + 1);

        stream.set_state(&state).unwrap();
        let other = model.state(1).unwrap();
        let error = stream.set_state(&other).unwrap_err();
        assert_eq!(error.to_string(), "state: made for 0.h [1, 4], expected 0.h [2, 4]");
        assert_eq!(stream.state().unwrap(), state);
    }
}

/// One group that moves at each step is a vanilla layer, to the bit.
#[test]
fn one_group_of_period_one() {
    check(48, (shapes(40, 60, 40, 9), any::<u64>()), |(shape, seed)| {
        let of = |kind| Subject { kind, inputs: shape.inputs, hidden: shape.hidden };
        let clockwork = of(Kind::Clockwork(Activation::Tanh, &[1]));
        let vanilla = of(Kind::Vanilla(Activation::Tanh));
        let data = Data::of(clockwork, shape, seed, 0.5);
        let expected = Data { layer: vanilla, ..data.clone() };
        for &isa in isas() {
            let given = Rig::new(isa, &data).run(&data);
            assert_same(&given, &Rig::new(isa, &expected).run(&expected));
        }
    });
}

/// Between two moves a unit keeps its value, whatever the input is, and a gradient goes through it
/// unchanged.
#[test]
fn between_its_moves_a_group_holds() {
    let groups = [(3, 2), (20, 5), (2, 7)].map(|(units, period)| ClockGroup { units, period });
    let network = Network::new(Clockwork::new(4, Activation::Tanh, &groups).unwrap());
    let (batch, steps, hidden) = (3, 21, 25);
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.5);
    parameters.as_mut_slice().copy_from_slice(&values);
    let x = uniform(2, steps * batch * 4, 1.0);
    let drawn = |seed, step| {
        let mut state = network.state(batch).unwrap();
        state.as_mut_slice().copy_from_slice(&uniform(seed, batch * hidden, 1.0));
        state.set_step(step).unwrap();
        state
    };
    for &isa in isas() {
        let mut model = network.model(parameters.clone(), Runtime::new(isa)).unwrap();
        let mut workspace = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
        workspace.set_state(&drawn(3, 0)).unwrap();
        let h = model.forward(&mut workspace, &x).unwrap();
        for t in 1..steps {
            let [before, now] = [t - 1, t].map(|t| &h[t * batch * hidden..][..batch * hidden]);
            let mut first = 0;
            for ClockGroup { units, period } in groups {
                for n in 0..batch {
                    let unit = n * hidden + first..n * hidden + first + units;
                    if t % period == 0 {
                        assert_ne!(before[unit.clone()], now[unit], "step {t}, period {period}");
                    } else {
                        assert_bits("h", &now[unit.clone()], &before[unit]);
                    }
                }
                first += units;
            }
        }

        // No group moves at a single step after the first.
        let training = model.training(Schedule::dense(1, batch));
        let training = training.with_input_gradients().with_state_gradients();
        let mut workspace = training.workspace().unwrap();
        let (initial, last) = (drawn(3, 1), drawn(4, 0));
        let x = &x[..batch * 4];
        workspace.set_state(&initial).unwrap();
        workspace.set_last_gradient(Some(&last)).unwrap();
        assert_bits("h", model.forward(&mut workspace, x).unwrap(), initial.as_slice());
        let loss = |y: &mut [f32]| {
            y.fill(0.0);
            0.0
        };
        workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
        model.backward(&mut workspace, x, &loss, Accumulate::No).unwrap();
        let state = workspace.state_gradients().unwrap();
        assert_bits("dh0", state.as_slice(), last.as_slice());
        let all =
            workspace.gradients().as_slice().iter().chain(workspace.input_gradients().unwrap());
        assert!(all.into_iter().all(|&gradient| gradient == 0.0));
    }
}

/// A state that halves at each move becomes zero, not denormal, in the units that move. In other
/// units, a state that the caller gives stays as it is.
#[test]
fn a_decaying_state_becomes_zero() {
    let groups = [1, 2].map(|period| ClockGroup { units: 9, period });
    let network = Network::new(Clockwork::new(1, Activation::Identity, &groups).unwrap());
    let mut parameters = network.parameters().unwrap();
    for (period, width) in [(1, 18), (2, 9)] {
        let w = parameters.tensor_mut(&format!("0.weight_hh_{period}")).unwrap();
        (0..9).for_each(|unit| w[unit * width + unit] = 0.5);
    }
    for &isa in isas() {
        let model = network.model(parameters.clone(), Runtime::new(isa)).unwrap();
        for batch in [1, 5] {
            let mut stream = model.stream(batch).unwrap();
            let mut state = model.state(batch).unwrap();
            state.as_mut_slice().fill(1.0);
            stream.set_state(&state).unwrap();
            let (x, mut y) = (vec![0.0; batch], filled(batch * 18));
            for _ in 0..280 {
                stream.step(&x, &mut y).unwrap();
                assert!(y.iter().all(|y| !y.is_subnormal()), "{y:?} on {isa}");
            }
            assert!(y.iter().all(|&y| y == 0.0));
            state.as_mut_slice().fill(1e-40);
            state.set_step(1).unwrap();
            stream.set_state(&state).unwrap();
            stream.step(&x, &mut y).unwrap();
            for row in y.chunks(18) {
                assert_eq!(row, [[0.0; 9], [1e-40; 9]].concat());
            }
        }
    }
}
