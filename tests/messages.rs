//! Error messages: they say the value that was given and what was expected, and the two are never
//! the same text.

mod common;

use bptt::{
    Accumulate, Activation, Delayed, Error, Format, Gru, Isa, Layer, LayerNorm, Leak, Leaky, Lstm,
    LstmGate, Model, Network, Parameters, Regularisation, Regularised, Reset, Runtime, Schedule,
    Skip,
};
use common::{Kind, Options, assert_bits, isas, lstm, value};
use rand::{SeedableRng, rngs::SmallRng};

/// The two sides of a mismatch.
#[track_caller]
fn sides(error: Error) -> [String; 2] {
    let Error::Mismatch { given, expected, .. } = error else { panic!("{error:?}") };
    assert_ne!(given, expected);
    [given, expected]
}

fn init(layer: impl Layer, isa: Isa) -> Model {
    let network = Network::new(layer.recurrent());
    network.init(&mut SmallRng::seed_from_u64(1), Runtime::new(isa)).unwrap()
}

#[test]
fn a_forget_bias_is_finite() {
    let layer = Lstm::new(2, 3).unwrap();
    for (bias, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        assert_eq!(layer.with_forget_bias(bias), Err(value("forget_bias", given, "finite")));
    }
    for bias in [0.0, -0.5, f32::MAX] {
        let layer = layer.with_forget_bias(bias).unwrap();
        let model = init(layer, Isa::best().unwrap());
        let forget = layer.rows(LstmGate::Forget).unwrap();
        assert_eq!(model.parameters().tensor("0.bias").unwrap()[forget], [bias; 3]);
    }
}

/// The initial values of parameters do not matter to passes: models, workspaces, parameters, states
/// and streams of layers that differ only in them fit each other.
fn fit_each_other(isa: Isa, a: impl Layer, b: impl Layer) {
    let mut a = init(a, isa);
    let network = init(b, isa).network().clone();
    let mut b = network.model(a.parameters().clone(), Runtime::new(isa)).unwrap();
    let schedule = Schedule::dense(4, 2);
    let [mut own, mut other] =
        [&mut a, &mut b].map(|model| model.training_workspace(&schedule).unwrap());
    let x = vec![0.5; 4 * 2 * 3];
    let ones = |y: &mut [f32]| {
        y.fill(1.0);
        0.0
    };
    own.set_state(&b.state(2).unwrap()).unwrap();
    let mut passes = [&mut own, &mut other].map(|workspace| {
        let h = a.forward(workspace, &x).unwrap().to_vec();
        a.backward(workspace, &x, &ones, Accumulate::No).unwrap();
        [h, workspace.gradients().as_slice().to_vec()].concat()
    });
    let [expected, given] = &mut passes;
    assert_bits("h and gradients", given, expected);
    let mut y = vec![0.0; 4 * 2 * a.output_size()];
    let mut stream = b.stream(2).unwrap();
    stream.set_state(&a.state(2).unwrap()).unwrap();
    stream.forward(&x, &mut y).unwrap();
    assert_bits("h of a stream", &y, &expected[..y.len()]);
}

#[test]
fn what_parameters_begin_from_is_no_part_of_a_workspace() {
    for &isa in isas() {
        let biased = |bias: f32| Lstm::new(3, 5).unwrap().with_forget_bias(bias).unwrap();
        fit_each_other(isa, biased(1.0), biased(-2.5));
        let normed = |bias| LayerNorm::new(biased(bias)).unwrap();
        fit_each_other(isa, normed(1.0), normed(0.5));
        let late = |bias| Delayed::new(biased(bias)).unwrap();
        fit_each_other(isa, late(1.0), late(0.5));
        let leak = |initial| Leaky::new(3, 5, Activation::Tanh, Leak::Learned { initial }).unwrap();
        fit_each_other(isa, leak(0.5), leak(0.25));
    }
}

/// For layers that differ, the messages about parameters, workspaces and states say what was given
/// and what was expected, and the two differ.
fn tell_apart<L: Layer + Clone>(isa: Isa, layers: &[L]) {
    let schedule = Schedule::dense(2, 1);
    let mut models: Vec<Model> = layers.iter().map(|layer| init(layer.clone(), isa)).collect();
    let mut workspaces: Vec<_> =
        models.iter_mut().map(|model| model.training_workspace(&schedule).unwrap()).collect();
    for (n, a) in models.iter().enumerate() {
        for (m, b) in models.iter().enumerate() {
            let x = vec![0.0; 2 * layers[m].input_size()];
            let fits = b.manifest() == a.manifest();
            let made = b.network().model(a.parameters().clone(), Runtime::new(isa));
            assert_eq!(made.is_ok(), fits);
            if let Err(error) = made {
                sides(error);
            }
            let (state, own) = (a.state(1).unwrap(), b.state(1).unwrap());
            let set = b.stream(1).unwrap().set_state(&state);
            assert_eq!(set.is_ok(), state.manifest() == own.manifest());
            if let Err(error) = set {
                sides(error);
            }
            let pass = b.forward(&mut workspaces[n], &x);
            if n == m {
                assert!(pass.is_ok());
                continue;
            }
            let [given, expected] = sides(pass.unwrap_err());
            let pass = a.forward(&mut workspaces[m], &vec![0.0; 2 * layers[n].input_size()]);
            assert_eq!(sides(pass.unwrap_err()), [expected, given]);
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
            Kind::HardGru(reset, phi, gates) => {
                let gru = Gru::new(3, 5, reset).unwrap().with_candidate(phi);
                grus.push(gru.with_gate_activation(gates));
            }
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
    let late: Vec<_> = leaky.iter().cloned().map(|layer| Delayed::new(layer).unwrap()).collect();
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

/// A message lists all α if there are few, and only the first that differs if there are many.
#[test]
fn the_alpha_that_differs_is_said() {
    let isa = Isa::best().unwrap();
    for (units, says) in [
        (3, ["[0.5, 0.5, 0.5]", "[0.5, 0.5, 0.25]"]),
        (300, ["300 numbers, 0.5 at 299", "300 numbers, 0.25 at 299"]),
    ] {
        let mut alphas = vec![0.5; units];
        let layers = [0.5, 0.25].map(|last| {
            alphas[units - 1] = last;
            let leak = Leak::Units(alphas.clone().into());
            Leaky::new(2, units, Activation::Tanh, leak).unwrap()
        });
        tell_apart(isa, &layers);
        let late = layers.clone().map(|layer| Delayed::new(layer).unwrap());
        tell_apart(isa, &late);
        let [mut one, other] = late.map(|layer| init(layer, isa));
        let mut workspace = one.training_workspace(Schedule::dense(1, 1)).unwrap();
        let error = other.forward(&mut workspace, &[0.0; 2]).unwrap_err();
        for (side, says) in sides(error).iter().zip(says) {
            assert!(side.contains(says), "{side}");
        }
    }
}

/// Models that differ in one thing each.
#[test]
fn workspaces_say_which_model_they_are_of() {
    let isa = Isa::best().unwrap();
    let layer = lstm(Options::NONE, 3, 5);
    let (network, runtime) = (Network::new(layer), Runtime::new(isa));
    let noise = |h| {
        let noise = Regularisation::none().with_zoneout(h, 0.0).unwrap();
        Network::new(Regularised::new(layer, noise).unwrap())
    };
    let model = |network: &Network, runtime: Runtime| {
        network.model(network.parameters().unwrap(), runtime).unwrap()
    };
    let mut others = vec![
        model(&network, runtime.threads(2)),
        model(&noise(0.5), runtime),
        model(&noise(0.5f32.next_up()), runtime),
        model(&network.clone().then(layer_of(5)), runtime),
    ];
    let rest = Isa::available().iter().filter(|&&other| other != isa);
    others.extend(rest.map(|&other| model(&network, Runtime::new(other))));
    others.push(model(&network, runtime));
    let (schedule, x) = (Schedule::dense(4, 2), vec![0.0; 4 * 2 * 3]);
    let mut workspaces: Vec<_> =
        others.iter_mut().map(|other| other.training_workspace(&schedule).unwrap()).collect();
    for (n, model) in others.iter().enumerate() {
        for (m, workspace) in workspaces.iter_mut().enumerate() {
            let pass = model.forward(workspace, &x);
            if n == m {
                assert!(pass.is_ok());
            } else {
                sides(pass.unwrap_err());
            }
        }
    }
    // With a workspace for another schedule, the errors say how many elements or sequences it is
    // for.
    let mut model = model(&network, runtime);
    for (steps, batch) in [(5, 2), (4, 3)] {
        let mut workspace = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
        let error = model.forward(&mut workspace, &x).unwrap_err();
        assert_eq!(error, common::length("x", 4 * 2 * 3, steps * batch * 3));
        let state = model.state(batch + 1).unwrap();
        sides(workspace.set_state(&state).unwrap_err());
        sides(workspace.set_last_gradient(Some(&state)).unwrap_err());
    }
}

fn layer_of(inputs: usize) -> Lstm {
    lstm(Options::NONE, inputs, 5)
}

#[test]
fn a_stream_takes_whole_steps() {
    for &isa in isas() {
        let mut stream = init(Lstm::new(3, 5).unwrap(), isa).stream(2).unwrap();
        for given in [1, 5, 7, 11] {
            let mut y = vec![0.0; given / 6 * 10];
            let error = stream.forward(&vec![0.0; given], &mut y).unwrap_err();
            assert_eq!(error, Error::Multiple { what: "x", given, of: 6 });
            let text = format!("x has {given} elements, expected a multiple of 6");
            assert_eq!(error.to_string(), text);
        }
        stream.forward(&[0.0; 12], &mut [0.0; 20]).unwrap();
    }
}

#[test]
fn weights_say_what_they_are_packed_for() {
    let layer = Lstm::new(3, 5).unwrap();
    let (schedule, x) = (Schedule::dense(1, 1), [0.0; 3]);
    let zero = |y: &mut [f32]| {
        y.fill(0.0);
        0.0
    };
    for &isa in isas() {
        let model = init(layer, isa);
        for format in [Format::Bf16, Format::Int8] {
            let mut narrow = model.quantised(format).unwrap();
            let error = narrow.training_workspace(&schedule).unwrap_err();
            let [given, expected] = sides(error);
            assert!(given.contains(&format!("{format:?}")) && given.contains("inference"));
            assert!(expected.contains("F32") && expected.contains("training"), "{expected}");
        }
        // A model that has made no workspace for these gradients, and so lacks their panels.
        let with_input = |workspace: bptt::Training<'_>, input| {
            let training = if input { workspace.with_input_gradients() } else { workspace };
            training.workspace().unwrap()
        };
        for (has, wants) in [(None, false), (None, true), (Some(false), true)] {
            let (mut one, mut other) = (init(layer, isa), init(layer, isa));
            let mut workspace = with_input(one.training(&schedule), wants);
            if let Some(has) = has {
                with_input(other.training(&schedule), has);
            }
            other.forward(&mut workspace, &x).unwrap();
            let error = other.backward(&mut workspace, &x, &zero, Accumulate::No).unwrap_err();
            sides(error);
            let error = other.gradients(&mut workspace, &x, &zero, Accumulate::No).unwrap_err();
            sides(error);
            // The pass is still there, and can be used with a model that has the panels.
            assert_eq!(workspace.outputs().unwrap().len(), 5);
            with_input(other.training(&schedule), wants);
            other.backward(&mut workspace, &x, &zero, Accumulate::No).unwrap();
        }
    }
}

/// An error about a name from a fixed list says which names there are.
#[test]
fn what_there_is_to_choose_from_is_said() {
    let network = Network::new(Skip::new(2, 3, Activation::Tanh, &[1, 5]).unwrap());
    let parameters: Parameters = network.parameters().unwrap();
    let error = parameters.tensor("0.weight_hh_2").unwrap_err();
    let there = "0.weight_ih [3, 2], 0.weight_hh [2, 3, 3], 0.bias [3]";
    assert_eq!(error.to_string(), format!("tensor is 0.weight_hh_2, expected one of {there}"));
    let error = network.state(2).unwrap().tensor("0.c").unwrap_err();
    assert_eq!(error.to_string(), "tensor is 0.c, expected one of 0.h [5, 2, 3]");
}
