//! What is the clockwork's own: its groups, its count of steps, what moves when, and that
//! with one group it is a vanilla unit.

use crate::common::{Data, Rig, assert_bits, assert_same, check, filled, isas, shapes, value};
use bptt::{Activation, ClockGroup, ClockedState, Clockwork, Error, Init, Layer, Purpose, Vanilla};
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
                    which is another for each";
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

    // In any order, and the shortest period first then.
    let clockwork = of(&[(3, 65_536), (1, 5), (2, 1)]).unwrap();
    let groups: Vec<_> = clockwork.groups().map(|group| (group.units, group.period)).collect();
    assert_eq!(groups, [(2, 1), (1, 5), (3, 65_536)]);
    let mut parameters = clockwork.init(Init::Orthogonal, &mut StdRng::seed_from_u64(1)).unwrap();
    let all = 6 * 2 + (2 * 6 + 4 + 3 * 3) + 6;
    assert_eq!((clockwork.parameter_count(), parameters.as_slice().len()), (all, all));
    assert_eq!(parameters.clock_group(1).unwrap().map(<[f32]>::len), [4, 12, 2]);
    let [u, w, b] = parameters.clock_group_mut(5).unwrap();
    assert_eq!([u.len(), w.len(), b.len()], [2, 4, 1]);
    // One row of W is of length 1.
    assert!((w.iter().map(|w| w * w).sum::<f32>() - 1.0).abs() < 1e-5);
    (u[0], w[0], b[0]) = (2.0, 3.0, 4.0);
    let place = |at| parameters.as_slice()[at];
    assert_eq!([place(2 * 2), place(12 + 12), place(12 + 25 + 2)], [2.0, 3.0, 4.0]);
    let error = parameters.clock_group(2).unwrap_err();
    assert_eq!(error, value("period", "2", "that of one of the layer's groups, [1, 5, 65536]"));
}

/// A count of steps that is too large, before anything is written.
#[test]
fn steps_beyond_the_count() {
    let groups = [1, 3].map(|period| ClockGroup { units: 2, period });
    let layer = Clockwork::new(3, Activation::Tanh, &groups).unwrap();
    let data = Data::draw(layer, 2, 4, 1, 0.5);
    let h = &data.inputs.h0[..];
    for &isa in isas() {
        let mut rig = crate::common::Rig::new(isa, &data);
        let expected = rig.forward(&data).h;
        let crate::common::Rig { plan, weights, arena } = &mut rig;
        let mut stream = data.layer.stream(2, isa).unwrap();
        for step in [1 << 63, u64::MAX] {
            let refused = Err(value("step", &step.to_string(), "below 2⁶³"));
            let initial = Some(ClockedState { h, step });
            assert_eq!(plan.forward(weights, &data.inputs.x, initial, arena), refused);
            assert_eq!(arena.hidden().unwrap(), expected);
            assert_eq!(stream.set_state(ClockedState { h, step }), refused);
            assert_eq!(stream.state(), ClockedState { h: &[0.0; 8][..], step: 0 });
        }
        let step = (1 << 63) - 1;
        let initial = Some(ClockedState { h, step });
        plan.forward(weights, &data.inputs.x, initial, arena).unwrap();
        assert_eq!(arena.last().unwrap().step, step + 4);
        stream.set_state(ClockedState { h, step }).unwrap();
        assert_eq!(stream.state().step, step);
        let short = Error::Length { what: "h", given: 7, expected: 8 };
        assert_eq!(stream.set_state(ClockedState { h: &h[1..], step: 0 }), Err(short));
        assert_eq!(stream.state(), ClockedState { h, step });
    }
}

/// One group that moves at each step is a vanilla unit, to the bit.
#[test]
fn one_group_of_period_one() {
    check(48, (shapes(40, 60, 40, 9), any::<u64>()), |(shape, seed)| {
        let groups = [ClockGroup { units: shape.hidden, period: 1 }];
        let clockwork = Clockwork::new(shape.inputs, Activation::Tanh, &groups).unwrap();
        let vanilla = Vanilla::new(shape.inputs, shape.hidden, Activation::Tanh).unwrap();
        let data = Data::of(clockwork, shape, seed, 0.5);
        let (batch, steps, first, inputs) = (data.batch, data.steps, 0, data.inputs.clone());
        let expected = Data { first, ..Data::with_inputs(vanilla, batch, steps, inputs) };
        for &isa in isas() {
            let given = Rig::new(isa, &data).run(&data);
            assert_same(&given, &Rig::new(isa, &expected).run(&expected));
        }
    });
}

/// What stands between two moves is the same number, whatever comes in, and a gradient goes
/// through it unchanged.
#[test]
fn between_its_moves_a_group_holds() {
    let groups = [(3, 2), (20, 5), (2, 7)].map(|(units, period)| ClockGroup { units, period });
    let layer = Clockwork::new(4, Activation::Tanh, &groups).unwrap();
    let (batch, steps, hidden) = (3, 21, 25);
    let data = Data::draw(layer, batch, steps, 1, 0.5);
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let h = rig.run(&data).h;
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
        let mut one = data.stretch(1..2);
        one.first = 1;
        one.inputs.dy.fill(0.0);
        let pass = Rig::new(isa, &one).run(&one);
        assert_bits("h", &pass.h, &one.inputs.h0);
        assert_bits("dh0", &pass.dh0, &one.inputs.dh_last);
        assert!(pass.params.iter().chain(&pass.dx).all(|&gradient| gradient == 0.0));
    }
}

/// A state that halves at each move becomes zero, not denormal, in the units that move; what
/// a caller gives stays as it is where they do not.
#[test]
fn a_decaying_state_becomes_zero() {
    let groups = [1, 2].map(|period| ClockGroup { units: 9, period });
    let layer = Clockwork::new(1, Activation::Identity, &groups).unwrap();
    let mut parameters = layer.parameters().unwrap();
    for (period, width) in [(1, 18), (2, 9)] {
        let [_, w, _] = parameters.clock_group_mut(period).unwrap();
        (0..9).for_each(|unit| w[unit * width + unit] = 0.5);
    }
    for &isa in isas() {
        let weights = layer.pack(&parameters, Purpose::Inference, isa).unwrap();
        for batch in [1, 5] {
            let mut stream = layer.stream(batch, isa).unwrap();
            let h = vec![1.0; batch * 18];
            stream.set_state(ClockedState { h: &h, step: 0 }).unwrap();
            let (x, mut y) = (vec![0.0; batch], filled(batch * 18));
            for _ in 0..280 {
                stream.step(&weights, &x, &mut y).unwrap();
                assert!(y.iter().all(|y| !y.is_subnormal()), "{y:?} on {isa}");
            }
            assert!(y.iter().all(|&y| y == 0.0));
            stream.set_state(ClockedState { h: &vec![1e-40; batch * 18], step: 1 }).unwrap();
            stream.step(&weights, &x, &mut y).unwrap();
            for row in y.chunks(18) {
                assert_eq!(row, [[0.0; 9], [1e-40; 9]].concat());
            }
        }
    }
}
