//! Every call that is refused: what the error says, and that nothing has been
//! written.

use crate::common::{Data, Options, Snapshot, assert_mismatch, filled, isas, length, lstm, value};
use bptt::{
    Accumulate, Arena, Delayed, DelayedState, Error, Gradients, Gru, HiddenState, Isa, Layer, Lstm,
    LstmState, OutputGradients, Parameters, Purpose, Readout, Reset,
};

type Rig = crate::common::Rig<Lstm>;

const SHAPE: (usize, usize, usize, usize) = (3, 5, 2, 4);

fn data() -> Data<Lstm> {
    let (inputs, hidden, batch, steps) = SHAPE;
    Data::draw(lstm(Options::NONE, inputs, hidden), batch, steps, 1, 0.5)
}

/// What an arena that holds a pass shows of it.
fn contents(arena: &Arena<Lstm>) -> Snapshot {
    let gates = arena.gates().or_else(|_| arena.preactivation_gradients());
    Snapshot::of(&[gates.unwrap(), arena.hidden().unwrap(), arena.cell_states().unwrap()])
}

#[test]
fn weights_of_other_sizes() {
    let (data, others) = (data(), [Lstm::new(4, 5).unwrap(), Lstm::new(3, 6).unwrap()]);
    for &isa in isas() {
        let Rig { plan, mut weights, mut arena } = Rig::new(isa, &data);
        plan.forward(&weights, &data.inputs.x, data.initial(), &mut arena).unwrap();
        let before = contents(&arena);
        for (other, given) in others.iter().zip(["I 4, H 5", "I 3, H 6"]) {
            let mut parameters = other.parameters().unwrap();
            parameters.as_mut_slice().fill(f32::NAN);
            let error = weights.update(&parameters).unwrap_err();
            assert_mismatch(error, "parameters", given, "I 3, H 5");
            let error = data.layer.pack(&parameters, Purpose::Training, isa).unwrap_err();
            assert_mismatch(error, "parameters", given, "I 3, H 5");
        }
        plan.forward(&weights, &data.inputs.x, data.initial(), &mut arena).unwrap();
        assert_eq!(contents(&arena), before, "the weights are what they were");
    }
}

/// Calls that refuse their weights: a plan's passes and a stream's.
#[track_caller]
fn assert_weights_refused(isa: Isa, lstm: Lstm, weights_isa: Isa, given: &str, expected: &str) {
    let data = data();
    let mut rig = Rig::new(isa, &data);
    rig.forward(&data);
    let before = contents(&rig.arena);
    let parameters = lstm.parameters().unwrap();
    let weights = lstm.pack(&parameters, Purpose::Training, weights_isa).unwrap();
    let Rig { plan, arena, .. } = &mut rig;
    let error = plan.forward(&weights, &data.inputs.x, None, arena).unwrap_err();
    assert_mismatch(error, "weights", given, expected);

    let mut gradients = data.parameters();
    let of = Gradients::of(&mut gradients, Accumulate::No);
    let error = plan.backward(&weights, &data.inputs.x, data.outputs(), arena, of).unwrap_err();
    assert_mismatch(error, "weights", given, expected);
    assert_eq!(gradients.as_slice(), data.inputs.params);
    assert_eq!(contents(arena), before);

    let mut stream = data.layer.stream(data.batch, isa).unwrap();
    let (mut y, one) = (filled(data.inputs.dy.len()), data.input());
    let untouched = Snapshot::of(&[&y]);
    let state = data.state();
    let error = stream.step(&weights, &data.inputs.x[..one], &mut y[..state]).unwrap_err();
    assert_mismatch(error, "weights", given, expected);
    let error = stream.forward(&weights, &data.inputs.x, &mut y).unwrap_err();
    assert_mismatch(error, "weights", given, expected);
    assert_eq!(Snapshot::of(&[&y]), untouched);
    assert!(stream.state().h.iter().chain(stream.state().c).all(|&x| x == 0.0));
}

#[test]
fn weights_for_something_else() {
    for &isa in isas() {
        let (i, h, ..) = SHAPE;
        let other = Lstm::new(i + 1, h).unwrap();
        assert_weights_refused(isa, other, isa, "I 4, H 5", "I 3, H 5");
        let other = Lstm::new(i, h).unwrap().with_candidate(bptt::Candidate::Logistic);
        assert_weights_refused(isa, other, isa, "candidate Logistic", "candidate Tanh");
        for &other in Isa::available().iter().filter(|&&other| other != isa) {
            let lstm = Lstm::new(i, h).unwrap();
            assert_weights_refused(isa, lstm, other, other.name(), isa.name());
        }
    }
}

#[test]
fn arenas_of_other_plans() {
    let data = data();
    let (batch, steps) = (data.batch, data.steps);
    for &isa in isas() {
        let Rig { plan, weights, .. } = Rig::new(isa, &data);
        for (steps, batch, given) in
            [(steps + 1, batch, "5 steps, batch 2"), (steps, batch + 1, "4 steps, batch 3")]
        {
            let mut arena = data.layer.plan(steps, batch, isa).unwrap().allocate().unwrap();
            let error = plan.forward(&weights, &data.inputs.x, None, &mut arena).unwrap_err();
            assert_mismatch(error, "arena", given, "4 steps, batch 2");
            assert!(matches!(arena.hidden(), Err(Error::Order { .. })));
        }
    }
}

#[test]
fn forward_arguments_of_other_lengths() {
    let data = data();
    let (x, state) = (data.inputs.x.len(), data.state());
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        rig.forward(&data);
        let before = contents(&rig.arena);
        let Rig { plan, weights, arena } = &mut rig;
        let mut refused = |x: &[f32], h: &[f32], c: &[f32], expected: Error| {
            let initial = Some(LstmState { h, c });
            assert_eq!(plan.forward(weights, x, initial, arena), Err(expected));
            assert_eq!(contents(arena), before);
        };
        let (h0, c0) = (&data.inputs.h0[..], &data.inputs.c0[..]);
        let error = length("x", x - 1, x);
        assert_eq!(error.to_string(), format!("x has {} elements, expected {x}", x - 1));
        refused(&data.inputs.x[1..], h0, c0, error);
        refused(&filled(x + 1), h0, c0, length("x", x + 1, x));
        refused(&data.inputs.x, &h0[1..], c0, length("h0", state - 1, state));
        refused(&data.inputs.x, h0, &filled(state + 1), length("c0", state + 1, state));
    }
}

/// One call to `backward`, argument by argument.
struct Call {
    x: Vec<f32>,
    dy: Vec<f32>,
    dh_last: Vec<f32>,
    dc_last: Vec<f32>,
    dx: Vec<f32>,
    dh0: Vec<f32>,
    dc0: Vec<f32>,
}

impl Call {
    fn of(data: &Data<Lstm>) -> Self {
        let state = data.state();
        Self {
            x: data.inputs.x.clone(),
            dy: data.inputs.dy.clone(),
            dh_last: data.inputs.dh_last.clone(),
            dc_last: data.inputs.dc_last.clone(),
            dx: filled(data.inputs.x.len()),
            dh0: filled(state),
            dc0: filled(state),
        }
    }

    fn run(&mut self, rig: &mut Rig, parameters: &mut Parameters<Lstm>) -> Result<(), Error> {
        let outputs = OutputGradients {
            dy: Some(&self.dy),
            last: Some(LstmState { h: &self.dh_last[..], c: &self.dc_last }),
        };
        let gradients = Gradients {
            parameters,
            accumulate: Accumulate::No,
            dx: Some(&mut self.dx),
            initial: Some(LstmState { h: &mut self.dh0[..], c: &mut self.dc0 }),
        };
        rig.plan.backward(&rig.weights, &self.x, outputs, &mut rig.arena, gradients)
    }

    fn written(&self) -> Snapshot {
        Snapshot::of(&[&self.dx, &self.dh0, &self.dc0])
    }
}

#[test]
fn backward_arguments_of_other_lengths() {
    let data = data();
    type Argument = fn(&mut Call) -> &mut Vec<f32>;
    let arguments: [(&str, Argument); 7] = [
        ("x", |c| &mut c.x),
        ("dy", |c| &mut c.dy),
        ("dh_last", |c| &mut c.dh_last),
        ("dc_last", |c| &mut c.dc_last),
        ("dx", |c| &mut c.dx),
        ("dh0", |c| &mut c.dh0),
        ("dc0", |c| &mut c.dc0),
    ];
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        rig.forward(&data);
        let before = contents(&rig.arena);
        let mut parameters = data.parameters();
        for (what, argument) in arguments {
            for change in [-1, 1] {
                let mut call = Call::of(&data);
                let expected = argument(&mut call).len();
                let given = expected.checked_add_signed(change).unwrap();
                argument(&mut call).resize(given, 0.0);
                let untouched = call.written();
                let error = call.run(&mut rig, &mut parameters).unwrap_err();
                assert_eq!(error, length(what, given, expected));
                assert_eq!(call.written(), untouched, "{what}");
                assert_eq!(parameters.as_slice(), data.inputs.params, "{what}");
                assert_eq!(contents(&rig.arena), before, "{what}");
            }
        }
        let mut other = Lstm::new(3, 6).unwrap().parameters().unwrap();
        let mut call = Call::of(&data);
        let untouched = call.written();
        let error = call.run(&mut rig, &mut other).unwrap_err();
        assert_mismatch(error, "parameter gradients", "I 3, H 6", "I 3, H 5");
        assert_eq!(call.written(), untouched);
        assert!(other.as_slice().iter().all(|&x| x == 0.0));
        assert_eq!(contents(&rig.arena), before);
        call.run(&mut rig, &mut parameters).unwrap();
    }
}

#[test]
fn gradients_that_the_weights_are_not_packed_for() {
    let data = data();
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let mut parameters = data.parameters();
        for (purpose, needed) in [
            (Purpose::Inference, "Purpose::Training"),
            (Purpose::Training, "Purpose::TrainingWithInputGradient"),
        ] {
            rig.weights = data.layer.pack(&data.parameters(), purpose, isa).unwrap();
            rig.forward(&data);
            let before = contents(&rig.arena);
            let mut call = Call::of(&data);
            let untouched = call.written();
            let error = call.run(&mut rig, &mut parameters).unwrap_err();
            assert_mismatch(error, "weights", &format!("Purpose::{purpose:?}"), needed);
            assert_eq!(call.written(), untouched);
            assert_eq!(parameters.as_slice(), data.inputs.params);
            assert_eq!(contents(&rig.arena), before);
        }
    }
}

#[test]
fn passes_out_of_order() {
    let order = |call, given, expected| Error::Order { call, given, expected };
    let (none, forward, backward) = ("no pass", "a forward pass", "a backward pass");
    let data = data();
    for &isa in isas() {
        let mut rig = Rig::new(isa, &data);
        let mut parameters = data.parameters();
        let mut refused = |rig: &mut Rig, given| {
            let mut call = Call::of(&data);
            let untouched = call.written();
            let error = call.run(rig, &mut parameters).unwrap_err();
            let text = format!("backward: the arena holds {given}, expected a forward pass");
            assert_eq!(error.to_string(), text);
            assert_eq!(error, order("backward", given, forward));
            assert_eq!(call.written(), untouched);
            assert_eq!(parameters.as_slice(), data.inputs.params);
        };
        refused(&mut rig, none);
        assert_eq!(rig.arena.hidden(), Err(order("hidden", none, forward)));
        assert_eq!(rig.arena.cell_states(), Err(order("cell_states", none, forward)));
        assert_eq!(rig.arena.last().unwrap_err(), order("last", none, forward));
        assert_eq!(rig.arena.gates(), Err(order("gates", none, forward)));
        let dz = |rig: &Rig| rig.arena.preactivation_gradients().map(drop);
        assert_eq!(dz(&rig), Err(order("preactivation_gradients", none, backward)));

        rig.forward(&data);
        assert_eq!(dz(&rig), Err(order("preactivation_gradients", forward, backward)));
        let gate = |step, sequence| rig.arena.gate(bptt::LstmGate::Output, step, sequence);
        let below = |limit| format!("below {limit}, as the plan has them");
        assert_eq!(gate(4, 0), Err(value("step", "4", below(4))));
        assert_eq!(gate(0, 2), Err(value("sequence", "2", below(2))));
        assert_eq!(gate(3, 1).unwrap(), &rig.arena.gates().unwrap()[155..]);

        rig.run(&data);
        refused(&mut rig, backward);
        assert_eq!(rig.arena.gates(), Err(order("gates", backward, forward)));
        let gate = rig.arena.gate(bptt::LstmGate::Input, 0, 0);
        assert_eq!(gate, Err(order("gates", backward, forward)));
        assert!(rig.arena.hidden().is_ok() && rig.arena.cell_states().is_ok());
    }
}

#[test]
fn stream_arguments_of_other_lengths() {
    let data = data();
    let (state, one) = (data.state(), data.input());
    for &isa in isas() {
        let Rig { weights, .. } = Rig::new(isa, &data);
        let mut stream = data.layer.stream(data.batch, isa).unwrap();
        let set = |h: &[f32], c: &[f32]| stream.clone().set_state(LstmState { h, c });
        assert_eq!(set(&data.inputs.h0[1..], &data.inputs.c0), Err(length("h", state - 1, state)));
        assert_eq!(set(&data.inputs.h0, &filled(state + 1)), Err(length("c", state + 1, state)));
        stream.set_state(data.initial().unwrap()).unwrap();
        for (x, y, error) in [
            (one - 1, state, length("x", one - 1, one)),
            (one + 1, state, length("x", one + 1, one)),
            (one, state - 1, length("y", state - 1, state)),
            (one, state + 1, length("y", state + 1, state)),
        ] {
            let mut out = filled(y);
            let given = stream.step(&weights, &filled(x), &mut out);
            assert_eq!(given, Err(error));
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(y)]));
        }
        for (x, y, error) in [
            (2 * one + 1, 2 * state, Error::Multiple { what: "x", given: 2 * one + 1, of: one }),
            (2 * one, 3 * state, length("y", 3 * state, 2 * state)),
            (2 * one, 2 * state - 1, length("y", 2 * state - 1, 2 * state)),
        ] {
            let mut out = filled(y);
            let given = stream.forward(&weights, &filled(x), &mut out);
            assert_eq!(given, Err(error));
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(y)]));
        }
        let readout = |inputs: usize, isa: Isa| {
            let readout = Readout::new(inputs, 3).unwrap();
            readout.pack(&readout.parameters().unwrap(), Purpose::Inference, isa).unwrap()
        };
        let (fits, batch) = (readout(data.layer.hidden_size(), isa), data.batch);
        for (x, o, error) in [
            (one - 1, 3 * batch, length("x", one - 1, one)),
            (one + 1, 3 * batch, length("x", one + 1, one)),
            (one, 3 * batch - 1, length("o", 3 * batch - 1, 3 * batch)),
            (one, 3 * batch + 1, length("o", 3 * batch + 1, 3 * batch)),
        ] {
            let mut out = filled(o);
            assert_eq!(stream.predict(&weights, &fits, &filled(x), &mut out), Err(error));
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(o)]));
        }
        let mut refused = |readout, given: &str, expected: &str| {
            let mut out = filled(3 * batch);
            let error = stream.predict(&weights, &readout, &filled(one), &mut out).unwrap_err();
            assert_mismatch(error, "readout weights", given, expected);
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(3 * batch)]));
        };
        refused(readout(4, isa), "4 inputs, 3 outputs", "5 inputs, 3 outputs");
        for &other in Isa::available().iter().filter(|&&other| other != isa) {
            refused(readout(5, other), other.name(), isa.name());
        }
        let LstmState { h, c } = stream.state();
        assert_eq!((h, c), (&data.inputs.h0[..], &data.inputs.c0[..]));
    }
}

/// An input that is late: its parts of states, and the gradient by the one that waited, which
/// needs the panels of ∂L/∂x.
#[test]
fn inputs_that_are_late() {
    let (inputs, hidden, batch, steps) = SHAPE;
    let layer = Delayed::new(Gru::new(inputs, hidden, Reset::Before).unwrap());
    let data = Data::draw(layer, batch, steps, 1, 0.5);
    let (len, h) = (batch * inputs, &data.inputs.h0[..]);
    for &isa in isas() {
        let mut rig = crate::common::Rig::new(isa, &data);
        for given in [len - 1, len + 1] {
            let (x, wrong) = (&data.inputs.x, filled(given));
            let error = rig.plan.forward(
                &rig.weights,
                x,
                Some(DelayedState { inner: HiddenState { h }, x: &wrong[..] }),
                &mut rig.arena,
            );
            assert_eq!(error, Err(length("x0", given, len)));
            let mut stream = data.layer.stream(batch, isa).unwrap();
            assert_eq!(
                stream.set_state(DelayedState { inner: HiddenState { h }, x: &wrong[..] }),
                Err(length("x", given, len))
            );
        }
        for (purpose, fits) in
            [(Purpose::Training, false), (Purpose::TrainingWithInputGradient, true)]
        {
            rig.weights = data.layer.pack(&data.parameters(), purpose, isa).unwrap();
            for (given, waited) in [(len, len), (len - 1, len), (len, len + 1)] {
                rig.forward(&data);
                let (last, mut dh0, mut dx0) = (filled(given), filled(h.len()), filled(waited));
                let mut parameters = data.parameters();
                let outputs = OutputGradients {
                    dy: None,
                    last: Some(DelayedState { inner: HiddenState { h }, x: &last[..] }),
                };
                let inner = HiddenState { h: &mut dh0[..] };
                let initial = Some(DelayedState { inner, x: &mut dx0[..] });
                let accumulate = Accumulate::No;
                let gradients =
                    Gradients { parameters: &mut parameters, accumulate, dx: None, initial };
                let crate::common::Rig { plan, weights, arena } = &mut rig;
                let result = plan.backward(weights, &data.inputs.x, outputs, arena, gradients);
                match (given == len, waited == len) {
                    (false, _) => assert_eq!(result, Err(length("dx_last", given, len))),
                    (_, false) => assert_eq!(result, Err(length("dx0", waited, len))),
                    _ if fits => assert_eq!(result, Ok(())),
                    _ => assert_mismatch(
                        result.unwrap_err(),
                        "weights",
                        "Purpose::Training",
                        "Purpose::TrainingWithInputGradient",
                    ),
                }
                let taken = given == len && waited == len && fits;
                assert_eq!(Snapshot::of(&[&dx0]) != Snapshot::of(&[&filled(waited)]), taken);
            }
        }
    }
}
