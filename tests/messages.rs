//! What an error says: the value that was given and what was expected, which are never the same.

mod common;

use bptt::{
    Accumulate, Activation, Delayed, Error, Gradients, Gru, Init, Isa, Layer, LayerNorm, Leak,
    Leaky, Lstm, OutputGradients, Purpose, Regularisation, Reset, Skip,
};
use common::{Kind, Options, Subject, assert_bits, isas, lstm, value};
use rand::{SeedableRng, rngs::SmallRng};

/// The two sides of a mismatch.
#[track_caller]
fn sides(error: Error) -> [String; 2] {
    let Error::Mismatch { given, expected, .. } = error else { panic!("{error:?}") };
    assert_ne!(given, expected);
    [given, expected]
}

#[test]
fn a_forget_bias_is_finite() {
    let layer = Lstm::new(2, 3).unwrap();
    for (bias, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        assert_eq!(layer.with_forget_bias(bias), Err(value("forget_bias", given, "finite")));
    }
    for bias in [0.0, -0.5, f32::MAX] {
        let layer = layer.with_forget_bias(bias).unwrap();
        let parameters = layer.init(Init::Glorot, &mut SmallRng::seed_from_u64(1)).unwrap();
        assert_eq!(parameters.gate(bptt::LstmGate::Forget).unwrap()[2], [bias; 3]);
    }
}

/// What parameters begin from is not what a plan is made for: plans, arenas, weights, parameters
/// and streams of layers that differ in it alone fit each other.
fn fit_each_other<C: Subject>(isa: Isa, a: &C, b: &C) {
    let parameters = a.init(Init::Glorot, &mut SmallRng::seed_from_u64(1)).unwrap();
    let weights = b.pack(&parameters, Purpose::TrainingWithInputGradient, isa).unwrap();
    let (plan, other) = (a.plan(4, 2, isa).unwrap(), b.plan(4, 2, isa).unwrap());
    let x = vec![0.5; 4 * 2 * a.input_size()];
    let pass = |arena: &mut bptt::Arena<C>| {
        plan.forward(&weights, &x, None, arena).unwrap();
        let h = arena.hidden().unwrap().to_vec();
        let mut gradients = b.parameters().unwrap();
        let to = Gradients::of(&mut gradients, Accumulate::No);
        let dy = vec![1.0; h.len()];
        let outputs = OutputGradients { dy: Some(&dy), last: None };
        plan.backward(&weights, &x, outputs, arena, to).unwrap();
        [h, gradients.as_slice().to_vec()].concat()
    };
    let expected = pass(&mut plan.allocate().unwrap());
    assert_bits("h and gradients", &pass(&mut other.allocate().unwrap()), &expected);
    let mut y = vec![0.0; 4 * 2 * a.output_size()];
    b.stream(2, isa).unwrap().forward(&weights, &x, &mut y).unwrap();
    assert_bits("h of a stream", &y, &expected[..y.len()]);
}

#[test]
fn what_parameters_begin_from_is_no_part_of_a_plan() {
    for &isa in isas() {
        let biased = |bias: f32| Lstm::new(3, 5).unwrap().with_forget_bias(bias).unwrap();
        fit_each_other(isa, &biased(1.0), &biased(-2.5));
        let normed = |bias| LayerNorm::new(biased(bias)).unwrap();
        fit_each_other(isa, &normed(1.0), &normed(0.5));
        fit_each_other(isa, &Delayed::new(biased(1.0)), &Delayed::new(biased(0.5)));
        let leak = |initial| Leaky::new(3, 5, Activation::Tanh, Leak::Learned { initial }).unwrap();
        fit_each_other(isa, &leak(0.5), &leak(0.25));
    }
}

/// Layers of a type that are not the same: what was given and what was expected differ in what
/// parameters, weights, arenas and streams say.
fn tell_apart<C: Subject>(isa: Isa, layers: &[C]) {
    for (n, a) in layers.iter().enumerate() {
        for (m, b) in layers.iter().enumerate() {
            let parameters = a.parameters().unwrap();
            let packed = b.pack(&parameters, Purpose::Training, isa);
            if n == m {
                assert!(packed.is_ok());
                continue;
            }
            let [given, expected] = sides(packed.unwrap_err());
            let weights = a.pack(&parameters, Purpose::Training, isa).unwrap();
            let plan = b.plan(2, 1, isa).unwrap();
            let (x, mut arena) = (vec![0.0; 2 * b.input_size()], plan.allocate().unwrap());
            let refused = plan.forward(&weights, &x, None, &mut arena).unwrap_err();
            assert_eq!(sides(refused), [given.clone(), expected.clone()]);

            let weights = b.pack(&b.parameters().unwrap(), Purpose::Training, isa).unwrap();
            let mut arena = a.plan(2, 1, isa).unwrap().allocate().unwrap();
            let refused = plan.forward(&weights, &x, None, &mut arena).unwrap_err();
            let [with_given, with_expected] = sides(refused);
            assert!(with_given.starts_with(&given) && with_expected.starts_with(&expected));
        }
    }
}

#[test]
fn what_differs_is_said() {
    let isa = Isa::best().unwrap();
    let mut lstms = vec![Lstm::new(3, 6).unwrap(), Lstm::new(4, 5).unwrap()];
    let mut grus = vec![Gru::new(3, 6, Reset::After).unwrap()];
    for kind in Kind::all() {
        match kind {
            Kind::Lstm(options) => lstms.push(lstm(options, 3, 5)),
            Kind::Gru(reset, phi) => grus.push(Gru::new(3, 5, reset).unwrap().with_candidate(phi)),
            _ => {}
        }
    }
    tell_apart(isa, &lstms);
    tell_apart(isa, &grus);
    let leaks = [
        Leak::Layer(0.5),
        Leak::Layer(0.5f32.next_up()),
        Leak::Units([0.5, 0.25, 0.125].into()),
        Leak::Units([0.5, 0.25, 0.125f32.next_up()].into()),
        Leak::Units([0.25, 0.25, 0.125].into()),
        Leak::Learned { initial: 0.5 },
    ];
    let leaky: Vec<Leaky> =
        leaks.into_iter().map(|leak| Leaky::new(2, 3, Activation::Tanh, leak).unwrap()).collect();
    tell_apart(isa, &leaky);
    let [given, expected] = {
        let parameters = leaky[2].parameters().unwrap();
        sides(leaky[4].pack(&parameters, Purpose::Training, isa).unwrap_err())
    };
    assert!(given.contains("0.5 of unit 0") && expected.contains("0.25 of unit 0"), "{given}");
    let late: Vec<_> = leaky.iter().cloned().map(Delayed::new).collect();
    tell_apart(isa, &late);
    let mut normed: Vec<_> =
        leaky.iter().cloned().map(|layer| LayerNorm::new(layer).unwrap()).collect();
    normed.push(normed[0].clone().with_epsilon(1e-3).unwrap());
    tell_apart(isa, &normed);
    let skip = |phi, delays: &[usize]| Skip::new(2, 3, phi, delays).unwrap();
    tell_apart(
        isa,
        &[
            skip(Activation::Tanh, &[1, 3]),
            skip(Activation::Tanh, &[1, 4]),
            skip(Activation::Relu, &[1, 3]),
        ],
    );
}

/// Plans that differ in one thing each.
#[test]
fn arenas_say_which_plan_they_are_of() {
    let isa = Isa::best().unwrap();
    let layer = lstm(Options::NONE, 3, 5);
    let plan = || layer.plan(4, 2, isa).unwrap();
    let noise = |h| Regularisation::none().with_zoneout(h, 0.0).unwrap();
    let mut others = vec![
        layer.plan(5, 2, isa).unwrap(),
        layer.plan(4, 3, isa).unwrap(),
        plan().with_threads(2).unwrap(),
        plan().with_regularisation(noise(0.5)).unwrap(),
        plan().with_regularisation(noise(0.5f32.next_up())).unwrap(),
    ];
    let rest = Isa::available().iter().filter(|&&other| other != isa);
    others.extend(rest.map(|&other| layer.plan(4, 2, other).unwrap()));
    let weights = layer.pack(&layer.parameters().unwrap(), Purpose::Training, isa).unwrap();
    let (plan, x) = (plan(), vec![0.0; 4 * 2 * 3]);
    for other in others {
        let mut arena = other.allocate().unwrap();
        sides(plan.forward(&weights, &x, None, &mut arena).unwrap_err());
    }
}

#[test]
fn a_stream_takes_whole_steps() {
    for &isa in isas() {
        let layer = Lstm::new(3, 5).unwrap();
        let weights = layer.pack(&layer.parameters().unwrap(), Purpose::Inference, isa).unwrap();
        let mut stream = layer.stream(2, isa).unwrap();
        for given in [1, 5, 7, 11] {
            let mut y = vec![0.0; given / 6 * 10];
            let error = stream.forward(&weights, &vec![0.0; given], &mut y).unwrap_err();
            assert_eq!(error, Error::Multiple { what: "x", given, of: 6 });
            let text = format!("x has {given} elements, expected a multiple of 6");
            assert_eq!(error.to_string(), text);
        }
        stream.forward(&weights, &[0.0; 12], &mut [0.0; 20]).unwrap();
    }
}

#[test]
fn weights_say_what_they_are_packed_for() {
    let layer = Lstm::new(3, 5).unwrap();
    for &isa in isas() {
        for (purpose, with_input, needed) in [
            (Purpose::Inference, false, "Purpose::Training or Purpose::TrainingWithInputGradient"),
            (Purpose::Inference, true, "Purpose::TrainingWithInputGradient"),
            (Purpose::Training, true, "Purpose::TrainingWithInputGradient"),
        ] {
            let weights = layer.pack(&layer.parameters().unwrap(), purpose, isa).unwrap();
            let plan = layer.plan(1, 1, isa).unwrap();
            let (mut arena, mut dx) = (plan.allocate().unwrap(), [0.0; 3]);
            plan.forward(&weights, &[0.0; 3], None, &mut arena).unwrap();
            let mut parameters = layer.parameters().unwrap();
            let dx = with_input.then_some(&mut dx[..]);
            let (accumulate, initial) = (Accumulate::No, None);
            let to = Gradients { parameters: &mut parameters, accumulate, dx, initial };
            let outputs = OutputGradients::default();
            let error = plan.backward(&weights, &[0.0; 3], outputs, &mut arena, to).unwrap_err();
            assert_eq!(sides(error), [format!("Purpose::{purpose:?}"), needed.into()]);
        }
    }
}

/// Those that name one of a few say which there are.
#[test]
fn what_there_is_to_choose_from_is_said() {
    let skip = Skip::new(2, 3, Activation::Tanh, &[1, 5]).unwrap();
    let error = skip.parameters().unwrap().delay(2).unwrap_err();
    assert_eq!(error.to_string(), "delay is 2, expected one of the layer's, [5, 1]");
}
