//! Sizes of zero and sizes beyond memory give errors and never abort.

use crate::common::{assert_mismatch, isas, value};
use bptt::blocks::Block;
use bptt::{
    Activation, Delayed, Dense, Error, Gru, Init, LayerNorm, Leak, Leaky, Lstm, LstmGate, Model,
    Network, Reset, Runtime, Schedule, Vanilla,
};
use rand::{SeedableRng, rngs::StdRng};

fn drawn(network: &Network, isa: bptt::Isa) -> Model {
    network.init(&mut StdRng::seed_from_u64(1), Runtime::new(isa)).unwrap()
}

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
    assert_eq!(Dense::new(0, 1), Err(value("input_size", "0", "1 or more")));
    assert_eq!(Dense::new(1, 0), Err(value("output_size", "0", "1 or more")));
    for &isa in isas() {
        let mut model = drawn(&Network::new(lstm), isa);
        for (steps, batch, what) in [(0, 1, "steps"), (1, 0, "batch")] {
            let nothing = value(what, "0", "1 or more");
            let training = model.training(Schedule::dense(steps, batch));
            assert_eq!(training.bytes().unwrap_err(), nothing);
            assert_eq!(training.workspace().unwrap_err(), nothing);
        }
        assert_eq!(model.stream(0).unwrap_err(), value("batch", "0", "1 or more"));
        assert_eq!(model.state(0).unwrap_err(), value("batch", "0", "1 or more"));
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

    // Layers that fit the address space one by one.
    let large = Lstm::new(1 << (half - 4), 1 << (half - 4)).unwrap();
    let network = Network::new(large).then(large).then(large).then(large);
    assert_eq!(network.manifest().unwrap_err(), too_large("the tensors"));
    assert_eq!(network.parameters().unwrap_err(), too_large("the tensors"));

    // Sizes that fit the address space in principle, but no machine.
    let (side, far) = (1usize << (half - 4), 1usize << (2 * half - 10));
    let out_of_memory = |result: Result<(), Error>, at_least: usize| match result {
        Err(error @ Error::OutOfMemory { bytes }) => {
            assert!(bytes >= at_least, "{bytes}");
            assert_eq!(error.to_string(), format!("could not allocate {bytes} bytes"));
        }
        other => panic!("{other:?}"),
    };
    let wide = Network::new(Lstm::new(1, side).unwrap());
    out_of_memory(wide.parameters().map(drop), 16 * side * side);
    let narrow = Network::new(Lstm::new(1, 1).unwrap());
    let floats = size_of::<f32>();
    out_of_memory(narrow.state(far).map(drop), 2 * floats * far);
    for &isa in isas() {
        let (mut rng, runtime) = (StdRng::seed_from_u64(1), Runtime::new(isa));
        out_of_memory(wide.init(&mut rng, runtime).map(drop), 16 * side * side);
        let mut model = drawn(&narrow, isa);
        for (steps, batch) in [(far, 1), (1, far), (side, side / 16)] {
            let training = model.training(Schedule::dense(steps, batch));
            let bytes = training.bytes().unwrap();
            out_of_memory(training.workspace().map(drop), bytes);
        }
        out_of_memory(model.stream(far).map(drop), 4 * 6 * far);

        let mut planned = |steps, batch| {
            let training = model.training(Schedule::dense(steps, batch));
            let error = training.bytes().unwrap_err();
            assert_eq!(training.workspace().unwrap_err(), error);
            error
        };
        // Rows that fit the address space, with values kept for each that do not.
        for (steps, batch) in [(usize::MAX / 32, 1), (1, usize::MAX / 32)] {
            assert_eq!(planned(steps, batch), too_large("the workspace"));
        }
        for (steps, batch) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX / 2, 3)] {
            assert_eq!(planned(steps, batch), too_large("the schedule"));
        }
        for batch in [usize::MAX / 2, usize::MAX / 32] {
            assert_eq!(model.stream(batch).unwrap_err(), too_large("the stream"));
        }
        assert_eq!(model.state(usize::MAX / 2).unwrap_err(), too_large("the tensors"));
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
    for &isa in isas() {
        let network = Network::new(normed());
        let mut model = drawn(&network, isa);
        assert_eq!(model.parameters().tensor("0.gain").unwrap(), [1.0; 12]);
        // Another ε makes another layer with the same parameters.
        let other = Network::new(normed().with_epsilon(1e-3).unwrap());
        let other = other.model(model.parameters().clone(), Runtime::new(isa)).unwrap();
        let mut workspace = model.training_workspace(Schedule::dense(2, 1)).unwrap();
        let error = other.forward(&mut workspace, &[0.5; 4]).unwrap_err();
        assert_mismatch(error, "workspace", "epsilon: 0.00001", "epsilon: 0.001");
    }
}

/// A layer can be normalised only once, and delayed only by one step.
#[test]
fn what_cannot_be_wrapped_twice() {
    let lstm = Lstm::new(2, 3).unwrap();
    let (normed, late) = (LayerNorm::new(lstm).unwrap(), Delayed::new(lstm).unwrap());
    let given = normed.config().to_string();
    let twice = LayerNorm::new(normed.clone()).unwrap_err();
    assert_eq!(twice, value("layer", &given, "one that is not normalised yet"));
    let given = late.config().to_string();
    let twice = Delayed::new(late.clone()).unwrap_err();
    assert_eq!(twice, value("layer", &given, "one whose input is not late yet"));
    // The same with another wrapper between.
    assert!(LayerNorm::new(Delayed::new(normed).unwrap()).is_err());
    assert!(Delayed::new(LayerNorm::new(late).unwrap()).is_err());
}

#[test]
fn initial_biases_and_leaks() {
    let isa = isas()[0];
    for lstm in [Lstm::new(2, 3).unwrap(), Lstm::new(2, 3).unwrap().with_coupled_gates()] {
        let model = drawn(&Network::new(lstm.with_forget_bias(2.0).unwrap()), isa);
        let biases = model.parameters().tensor("0.bias").unwrap();
        for &gate in lstm.gates() {
            let bias = if gate == LstmGate::Forget { 2.0 } else { 0.0 };
            assert_eq!(biases[lstm.rows(gate).unwrap()], [bias; 3], "{gate:?}");
        }
        let input = lstm.rows(LstmGate::Input);
        assert_eq!(input.is_ok(), !lstm.has_coupled_gates(), "{input:?}");
    }
    let leaky = |leak| Network::new(Leaky::new(2, 3, Activation::Tanh, leak).unwrap());
    let model = drawn(&leaky(Leak::Learned { initial: 0.75 }), isa);
    let parameters = model.parameters();
    let rho = parameters.tensor("0.rho").unwrap();
    assert!(rho.iter().all(|rho| (rho - 3f32.ln()).abs() < 1e-6));
    // The initial values do not matter later.
    let of = |network: Network| network.model(parameters.clone(), Runtime::new(isa));
    let other = of(leaky(Leak::Learned { initial: 0.5 })).unwrap();
    let mut model = drawn(&leaky(Leak::Learned { initial: 0.75 }), isa);
    let mut workspace = model.training_workspace(Schedule::dense(2, 1)).unwrap();
    assert!(other.forward(&mut workspace, &[0.5; 4]).is_ok());
    let error = of(leaky(Leak::Layer(0.5))).unwrap_err();
    assert_mismatch(error, "parameters", "0.rho [3]", "0.bias [3]");
}

#[test]
fn initial_weights_without_a_limit() {
    for (limit, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
        let init = Init::Uniform { limit };
        let (mut rng, runtime) = (StdRng::seed_from_u64(1), Runtime::new(isas()[0]));
        let error = Network::new(Lstm::new(2, 3).unwrap()).init_with(init, &mut rng, runtime);
        assert_eq!(error.unwrap_err(), value("limit", given, "finite, 0 or more"));
    }
}
