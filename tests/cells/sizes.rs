//! Sizes of nothing and sizes beyond memory: errors, never an abort.

use crate::common::{assert_mismatch, isas, value};
use bptt::{
    Activation, Error, Gru, Init, Layer, LayerNorm, Leak, Leaky, Lstm, LstmGate, Purpose, Reset,
    Vanilla,
};
use rand::{SeedableRng, rngs::StdRng};

#[test]
fn sizes_of_nothing() {
    let error = value("input_size", "0", "1 or more");
    assert_eq!(error.to_string(), "input_size is 0, expected 1 or more");
    assert_eq!(Lstm::new(0, 1), Err(error));
    assert_eq!(Lstm::new(1, 0), Err(value("hidden_size", "0", "1 or more")));
    let (inputs, hidden) =
        (value("input_size", "0", "1 or more"), value("hidden_size", "0", "1 or more"));
    assert_eq!(Vanilla::new(0, 1, Activation::Tanh), Err(inputs.clone()));
    assert_eq!(Gru::new(0, 1, Reset::After), Err(inputs));
    assert_eq!(Leaky::new(1, 0, Activation::Tanh, Leak::Layer(0.5)), Err(hidden));
    let lstm = Lstm::new(1, 1).unwrap();
    assert_eq!(lstm.with_projection(0), Err(value("output_size", "0", "1 or more")));
    for &isa in isas() {
        assert_eq!(lstm.plan(0, 1, isa), Err(value("steps", "0", "1 or more")));
        assert_eq!(lstm.plan(1, 0, isa), Err(value("batch", "0", "1 or more")));
        assert_eq!(lstm.stream(0, isa).unwrap_err(), value("batch", "0", "1 or more"));
    }
}

#[test]
fn sizes_beyond_memory() {
    let too_large = |what| Error::TooLarge { what };
    let error = Lstm::new(usize::MAX, 1).unwrap_err();
    assert_eq!(error, too_large("the parameters"));
    assert_eq!(error.to_string(), "the parameters: too large for the address space");
    assert_eq!(Lstm::new(1, usize::MAX / 2), Err(too_large("the parameters")));
    let half = usize::BITS / 2;
    assert_eq!(Lstm::new(1, 1 << half), Err(too_large("the parameters")));

    // Sizes that fit the address space in principle, and no machine.
    let (side, far) = (1usize << (half - 4), 1usize << (2 * half - 10));
    let out_of_memory = |result: Result<(), Error>, at_least: usize| match result {
        Err(error @ Error::OutOfMemory { bytes }) => {
            assert!(bytes >= at_least, "{bytes}");
            assert_eq!(error.to_string(), format!("could not allocate {bytes} bytes"));
        }
        other => panic!("{other:?}"),
    };
    let wide = Lstm::new(1, side).unwrap();
    out_of_memory(wide.parameters().map(drop), 16 * side * side);
    let mut rng = StdRng::seed_from_u64(1);
    out_of_memory(wide.init(Init::Glorot, &mut rng).map(drop), 16 * side * side);
    let narrow = Lstm::new(1, 1).unwrap();
    for &isa in isas() {
        for (steps, batch) in [(far, 1), (1, far), (side, side / 16)] {
            let plan = narrow.plan(steps, batch, isa).unwrap();
            out_of_memory(plan.allocate().map(drop), plan.arena_bytes());
        }
        out_of_memory(narrow.stream(far, isa).map(drop), 4 * 6 * far);

        let arena = |steps, batch| narrow.plan(steps, batch, isa).unwrap_err();
        for (steps, batch) in [(usize::MAX, 1), (usize::MAX / 32, 1), (1, usize::MAX / 32)] {
            assert_eq!(arena(steps, batch), too_large("the arena"));
        }
        assert_eq!(arena(1, usize::MAX), too_large("the inputs"));
        assert_eq!(arena(usize::MAX / 2, 3), too_large("the inputs"));
        let error = narrow.stream(usize::MAX / 2, isa).unwrap_err();
        assert_eq!(error, too_large("the input"));
    }
}

#[test]
fn leaks_outside_their_range() {
    let leaky = |leak| Leaky::new(2, 3, Activation::Tanh, leak);
    let fixed = |given: &str| Err(value("alpha", given, "0 or more and below 1"));
    for (alpha, given) in [(1.0, "1"), (-0.5, "-0.5"), (f32::NAN, "NaN")] {
        assert_eq!(leaky(Leak::Layer(alpha)), fixed(given));
        let given = format!("{given} of unit 1");
        assert_eq!(leaky(Leak::Units([0.5, alpha, 0.5].into())), fixed(&given));
    }
    let few = Error::Length { what: "alpha", given: 2, expected: 3 };
    assert_eq!(leaky(Leak::Units([0.5; 2].into())), Err(few));
    for (initial, given) in [(0.0, "0"), (1.0, "1"), (f32::NAN, "NaN")] {
        let error = Err(value("alpha", given, "above 0 and below 1"));
        assert_eq!(leaky(Leak::Learned { initial }), error);
    }
}

#[test]
fn normalisation_without_its_epsilon() {
    let normed = || LayerNorm::new(Lstm::new(2, 3).unwrap()).unwrap();
    for (epsilon, given) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let error = Err(value("epsilon", given, "positive and finite"));
        assert_eq!(normed().with_epsilon(epsilon), error);
    }
    let parameters = normed().init(Init::Glorot, &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(parameters.gain(), [1.0; 12]);
    // Another ε makes another layer.
    let other = normed().with_epsilon(1e-3).unwrap();
    let error = other.pack(&parameters, Purpose::Inference, isas()[0]).unwrap_err();
    assert_mismatch(error, "parameters", "ε 0.00001", "ε 0.001");
}

#[test]
fn initial_biases_and_leaks() {
    let rng = || StdRng::seed_from_u64(1);
    for lstm in [Lstm::new(2, 3).unwrap(), Lstm::new(2, 3).unwrap().with_coupled_gates()] {
        let parameters =
            lstm.with_forget_bias(2.0).unwrap().init(Init::Glorot, &mut rng()).unwrap();
        for &gate in lstm.gates() {
            let bias = if gate == LstmGate::Forget { 2.0 } else { 0.0 };
            assert_eq!(parameters.gate(gate).unwrap()[2], [bias; 3], "{gate:?}");
        }
        let input = parameters.gate(LstmGate::Input);
        assert_eq!(input.is_ok(), !lstm.has_coupled_gates(), "{input:?}");
    }
    let learned = Leaky::new(2, 3, Activation::Tanh, Leak::Learned { initial: 0.75 }).unwrap();
    let parameters = learned.init(Init::Glorot, &mut rng()).unwrap();
    assert!(parameters.leak().iter().all(|rho| (rho - 3f32.ln()).abs() < 1e-6));
    // What they began from does not matter later.
    let other = Leaky::new(2, 3, Activation::Tanh, Leak::Learned { initial: 0.5 }).unwrap();
    assert!(other.pack(&parameters, Purpose::Inference, isas()[0]).is_ok());
    let fixed = Leaky::new(2, 3, Activation::Tanh, Leak::Layer(0.5)).unwrap();
    assert!(fixed.pack(&parameters, Purpose::Inference, isas()[0]).is_err());
}

#[test]
fn initial_weights_without_a_limit() {
    for (limit, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
        let init = Init::Uniform { limit };
        let error = Lstm::new(2, 3).unwrap().init(init, &mut StdRng::seed_from_u64(1));
        assert_eq!(error.unwrap_err(), value("limit", given, "finite, 0 or more"));
    }
}
