//! Networks of several blocks: they compute the same bits as their blocks one by one, in passes and
//! in streams, on any number of threads, in one pass and in several.

mod common;

use bptt::{
    Accumulate, Activation, Adam, ClockGroup, Clockwork, Delayed, Dense, Embedding, Error, Format,
    Gru, Input, InputSize, Layer, LayerNorm, Lstm, Model, Network, Noise, Recurrent,
    Regularisation, Regularised, Reset, Runtime, Schedule, Skip, SoftmaxCrossEntropy, SquaredError,
    State, Tokens, Workspace, blocks::Block,
};
use bptt_reference::sample::uniform;
use common::{assert_bits, filled, isas};

const STEPS: usize = 7;
const BATCH: usize = 3;
const ROWS: usize = STEPS * BATCH;

/// The blocks of a network, each as a network of its own.
fn blocks() -> Vec<Network> {
    let groups = [1, 2].map(|period| ClockGroup { units: 4, period });
    vec![
        Network::new(Embedding::new(11, 5).unwrap()),
        Network::new(Lstm::new(5, 18).unwrap().with_peepholes().unwrap()),
        Network::new(LayerNorm::new(Gru::new(18, 7, Reset::After).unwrap()).unwrap()),
        Network::new(Dense::new(7, 6).unwrap()),
        Network::new(Clockwork::new(6, Activation::Tanh, &groups).unwrap()),
        Network::new(Dense::new(8, 4).unwrap()),
    ]
}

/// One network of all of them.
fn all() -> Network {
    let groups = [1, 2].map(|period| ClockGroup { units: 4, period });
    Network::new(Embedding::new(11, 5).unwrap())
        .then(Lstm::new(5, 18).unwrap().with_peepholes().unwrap())
        .then(LayerNorm::new(Gru::new(18, 7, Reset::After).unwrap()).unwrap())
        .then(Dense::new(7, 6).unwrap())
        .then(Clockwork::new(6, Activation::Tanh, &groups).unwrap())
        .then(Dense::new(8, 4).unwrap())
}

/// A model with drawn parameters.
fn model(network: &Network, runtime: Runtime, seed: u64) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(seed, parameters.as_slice().len(), 0.4);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, runtime).unwrap()
}

/// The blocks of a model as models of their own, with their part of its parameters.
fn parts(whole: &Model) -> Vec<Model> {
    let mut rest = whole.parameters().as_slice();
    let of = |network: Network| {
        let mut parameters = network.parameters().unwrap();
        let (own, tail) = rest.split_at(parameters.as_slice().len());
        parameters.as_mut_slice().copy_from_slice(own);
        rest = tail;
        network.model(parameters, whole.runtime()).unwrap()
    };
    blocks().into_iter().map(of).collect()
}

fn tokens() -> Vec<u32> {
    (0..ROWS as u32).map(|n| n * 7 % 11).collect()
}

fn workspace(model: &mut Model) -> Workspace {
    let training = model.training(Schedule::dense(STEPS, BATCH)).with_state_gradients();
    match training.with_input_gradients().workspace() {
        Ok(workspace) => workspace,
        // Tokens have no gradient.
        Err(_) => {
            let training = model.training(Schedule::dense(STEPS, BATCH)).with_state_gradients();
            training.workspace().unwrap()
        }
    }
}

/// The values of a state's tensors in their order.
fn values(state: &State) -> Vec<f32> {
    state.as_slice().to_vec()
}

/// A loss with a given gradient.
fn given(dy: &[f32]) -> impl Fn(&mut [f32]) -> f64 {
    |y: &mut [f32]| {
        y.copy_from_slice(dy);
        0.0
    }
}

#[test]
fn a_network_has_the_bits_of_its_blocks() {
    for &isa in isas() {
        let mut whole = model(&all(), Runtime::new(isa), 1);
        let mut own = workspace(&mut whole);
        let state = {
            let mut state = whole.state(BATCH).unwrap();
            let drawn = uniform(2, state.as_slice().len(), 1.0);
            state.as_mut_slice().copy_from_slice(&drawn);
            state
        };
        let dlast = {
            let mut dlast = whole.state(BATCH).unwrap();
            let drawn = uniform(3, dlast.as_slice().len(), 1.0);
            dlast.as_mut_slice().copy_from_slice(&drawn);
            dlast
        };
        own.set_state(&state).unwrap();
        own.set_last_gradient(Some(&dlast)).unwrap();
        let (tokens, dy) = (tokens(), uniform(4, ROWS * 4, 1.0));
        let outputs = whole.forward(&mut own, Tokens(&tokens)).unwrap().to_vec();
        let gradients = own.gradients_mut().as_mut_slice();
        gradients.copy_from_slice(&filled(gradients.len()));
        whole.backward(&mut own, Tokens(&tokens), &given(&dy), Accumulate::No).unwrap();

        // The blocks one by one, forward and then backward.
        let (mut passes, mut x) = (Vec::new(), Vec::new());
        let mut rest = state.as_slice();
        let mut rest_dlast = dlast.as_slice();
        for (nth, mut model) in parts(&whole).into_iter().enumerate() {
            let mut space = workspace(&mut model);
            let mut part = model.state(BATCH).unwrap();
            let (mine, tail) = rest.split_at(part.as_slice().len());
            part.as_mut_slice().copy_from_slice(mine);
            space.set_state(&part).unwrap();
            rest = tail;
            let (mine, tail) = rest_dlast.split_at(part.as_slice().len());
            part.as_mut_slice().copy_from_slice(mine);
            space.set_last_gradient(Some(&part)).unwrap();
            rest_dlast = tail;
            let input = if nth == 0 { Input::Tokens(&tokens) } else { Input::Features(&x) };
            let y = model.forward(&mut space, input).unwrap().to_vec();
            passes.push((model, space, std::mem::replace(&mut x, y)));
        }
        assert_bits("outputs", &outputs, &x);
        let (mut dy, mut all_gradients, mut all_states) = (dy, Vec::new(), Vec::new());
        for (nth, (model, space, x)) in passes.iter_mut().enumerate().rev() {
            let input = if nth == 0 { Input::Tokens(&tokens) } else { Input::Features(x) };
            model.backward(space, input, &given(&dy), Accumulate::No).unwrap();
            all_gradients.insert(0, space.gradients().as_slice().to_vec());
            all_states.insert(0, values(&space.state_gradients().unwrap()));
            if nth > 0 {
                dy = space.input_gradients().unwrap().to_vec();
            }
        }
        assert_bits("gradients", own.gradients().as_slice(), &all_gradients.concat());
        let states = own.state_gradients().unwrap();
        assert_bits("gradients by states", states.as_slice(), &all_states.concat());
    }
}

/// Outputs, gradients and last states of a pass.
fn pass(model: &mut Model) -> [Vec<f32>; 3] {
    let (mut space, tokens) = (workspace(model), tokens());
    let dy = uniform(4, ROWS * 4, 1.0);
    let y = model.forward(&mut space, Tokens(&tokens)).unwrap().to_vec();
    let last = values(&space.last_state().unwrap());
    model.backward(&mut space, Tokens(&tokens), &given(&dy), Accumulate::No).unwrap();
    [y, space.gradients().as_slice().to_vec(), last]
}

#[test]
fn threads_change_no_bit() {
    bptt_kernels::team::set_cores(8);
    for &isa in isas() {
        let one = pass(&mut model(&all(), Runtime::new(isa), 1));
        let three = pass(&mut model(&all(), Runtime::new(isa).threads(3), 1));
        for (given, expected) in three.iter().zip(&one) {
            assert_bits("on three threads", given, expected);
        }
    }
}

#[test]
fn streams_have_the_bits_of_passes() {
    for &isa in isas() {
        let mut model = model(&all(), Runtime::new(isa), 1);
        let [expected, _, last] = pass(&mut model);
        let tokens = tokens();
        let mut at_once = filled(expected.len());
        let mut stream = model.stream(BATCH).unwrap();
        stream.forward(Tokens(&tokens), &mut at_once).unwrap();
        assert_bits("at once", &at_once, &expected);
        assert_bits("the last state", stream.state_slice(), &last);
        let mut stepped = filled(expected.len());
        stream.reset();
        for (x, y) in tokens.chunks(BATCH).zip(stepped.chunks_mut(BATCH * 4)) {
            stream.step(Tokens(x), y).unwrap();
        }
        assert_bits("step by step", &stepped, &expected);
        assert_eq!(stream.state().unwrap().step(), STEPS as u64);

        // More rows than blocks hand to each other at a time.
        let long: Vec<u32> = (0..1000).map(|n| n * 5 % 11).collect();
        let (mut one, mut other) = (filled(4000), filled(4000));
        model.stream(1).unwrap().forward(Tokens(&long), &mut one).unwrap();
        let mut stream = model.stream(1).unwrap();
        for (x, y) in long.chunks(170).zip(other.chunks_mut(170 * 4)) {
            stream.forward(Tokens(x), y).unwrap();
        }
        assert_bits("in parts", &other, &one);
    }
}

/// A stream through an embedding and a layer keeps a table of the input's part of each token's
/// gates if there are at most four times as many tokens as terms in a gate's sum. With that many
/// tokens, and with one more, its bits are those of a pass.
#[test]
fn tokens_that_are_rows_of_a_table_change_no_bit() {
    type Make = fn() -> Recurrent;
    let layers: [Make; 7] = [
        || Lstm::new(3, 9).unwrap().recurrent(),
        || {
            Lstm::new(3, 9)
                .unwrap()
                .with_peepholes()
                .unwrap()
                .with_projection(4)
                .unwrap()
                .recurrent()
        },
        || Gru::new(3, 9, Reset::After).unwrap().recurrent(),
        || Gru::new(3, 9, Reset::Before).unwrap().recurrent(),
        || Skip::new(3, 9, Activation::Tanh, &[1, 3]).unwrap().recurrent(),
        || LayerNorm::new(Lstm::new(3, 9).unwrap()).unwrap().recurrent(),
        || Delayed::new(Lstm::new(3, 9).unwrap()).unwrap().recurrent(),
    ];
    for (&isa, make) in isas().iter().flat_map(|isa| layers.iter().map(move |make| (isa, make))) {
        let terms = match make().output_size() {
            4 => 3 + 4,
            _ if make().config().kind() == "Skip" => 3 + 2 * 9,
            _ => 3 + 9,
        };
        for tokens in [4 * terms, 4 * terms + 1] {
            let embedding = Network::new(Embedding::new(tokens, 3).unwrap());
            let network = embedding.then(make()).then(Dense::new(make().output_size(), 2).unwrap());
            let mut model = model(&network, Runtime::new(isa), 5);
            let x: Vec<u32> = (0..ROWS).map(|row| (row * 37 % tokens) as u32).collect();
            let mut space = model.training_workspace(Schedule::dense(STEPS, BATCH)).unwrap();
            let expected = model.forward(&mut space, Tokens(&x)).unwrap().to_vec();
            let what = format!("{}, {tokens} tokens", make().config());
            let (mut together, mut alone) = (filled(ROWS * 2), filled(ROWS * 2));
            model.stream(BATCH).unwrap().forward(Tokens(&x), &mut together).unwrap();
            assert_bits(&what, &together, &expected);
            let mut stream = model.stream(BATCH).unwrap();
            for (x, y) in x.chunks(BATCH).zip(alone.chunks_mut(BATCH * 2)) {
                stream.step(Tokens(x), y).unwrap();
            }
            assert_bits(&what, &alone, &expected);
            let refused = stream.step(Tokens(&[0, tokens as u32, 0]), &mut alone[..BATCH * 2]);
            let error = Error::Token { row: 1, given: tokens as u32, tokens };
            assert_eq!(refused, Err(error), "{what}");
        }
    }
}

/// A long sequence in two passes, with the state carried on and the gradient handed back, has the
/// gradients of one pass.
#[test]
fn stretches_have_the_bits_of_one_pass() {
    for &isa in isas() {
        let mut model = model(&all(), Runtime::new(isa), 1);
        let [outputs, gradients, _] = pass(&mut model);
        let (tokens, dy) = (tokens(), uniform(4, ROWS * 4, 1.0));
        let cut = 3 * BATCH;
        let mut spaces = [3, STEPS - 3].map(|steps| {
            let training = model.training(Schedule::dense(steps, BATCH)).with_state_gradients();
            training.workspace().unwrap()
        });
        let mut y = model.forward(&mut spaces[0], Tokens(&tokens[..cut])).unwrap().to_vec();
        let last = spaces[0].last_state().unwrap();
        spaces[1].set_state(&last).unwrap();
        y.extend_from_slice(model.forward(&mut spaces[1], Tokens(&tokens[cut..])).unwrap());
        assert_bits("outputs", &y, &outputs);
        let later = given(&dy[cut * 4..]);
        model.backward(&mut spaces[1], Tokens(&tokens[cut..]), &later, Accumulate::No).unwrap();
        let handed = spaces[1].state_gradients().unwrap();
        let (one, two) = spaces.split_at_mut(1);
        one[0].set_last_gradient(Some(&handed)).unwrap();
        let sums = one[0].gradients_mut().as_mut_slice();
        sums.copy_from_slice(two[0].gradients().as_slice());
        let earlier = given(&dy[..cut * 4]);
        model.backward(&mut one[0], Tokens(&tokens[..cut]), &earlier, Accumulate::Yes).unwrap();
        assert_bits("gradients", one[0].gradients().as_slice(), &gradients);
    }
}

/// The state of a workspace can be carried on in place.
#[test]
fn a_workspace_carries_its_state() {
    let mut model = model(&all(), Runtime::best().unwrap(), 1);
    let tokens: Vec<u32> = (0..2 * ROWS as u32).map(|n| n * 3 % 11).collect();
    let mut expected = vec![0.0; 2 * ROWS * 4];
    model.stream(BATCH).unwrap().forward(Tokens(&tokens), &mut expected).unwrap();
    let mut space = workspace(&mut model);
    let error = space.carry_state().unwrap_err();
    assert!(matches!(error, Error::Order { call: "carry_state", .. }), "{error}");
    for (tokens, expected) in tokens.chunks(ROWS).zip(expected.chunks(ROWS * 4)) {
        assert_bits("outputs", model.forward(&mut space, Tokens(tokens)).unwrap(), expected);
        space.carry_state().unwrap();
    }
    space.reset_state();
    let again = model.forward(&mut space, Tokens(&tokens[..ROWS])).unwrap();
    assert_bits("outputs", again, &expected[..ROWS * 4]);
}

/// A model in fewer bits computes the same as one whose weights were rounded.
#[test]
fn quantised_networks_have_the_bits_of_rounded_weights() {
    let network = Network::new(Embedding::new(11, 5).unwrap()).then(Dense::new(5, 20).unwrap());
    let network = network.then(Dense::new(20, 1).unwrap());
    for &isa in isas() {
        let whole = model(&network, Runtime::new(isa), 1);
        for format in [Format::Bf16, Format::Int8] {
            let mut rounded = whole.parameters().clone();
            for (name, depth) in [("0.weight", 5), ("1.weight", 5), ("2.weight", 20)] {
                for row in rounded.tensor_mut(name).unwrap().chunks_mut(depth) {
                    let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                    row.iter_mut().for_each(|w| *w = format.rounded(*w, largest));
                }
            }
            let rounded = network.model(rounded, Runtime::new(isa)).unwrap();
            let outputs = |model: &Model| {
                let mut y = vec![0.0; ROWS];
                model.stream(1).unwrap().forward(Tokens(&tokens()), &mut y).unwrap();
                y
            };
            let mut narrow = whole.quantised(format).unwrap();
            assert_bits("outputs", &outputs(&narrow), &outputs(&rounded));
            assert_eq!(narrow.format(), format);
            let error = narrow.training_workspace(Schedule::dense(1, 1)).unwrap_err();
            assert!(error.to_string().contains("which are for inference"), "{error}");
        }
    }
}

#[test]
fn blocks_that_do_not_fit_are_named() {
    let network = Network::new(Lstm::new(3, 4).unwrap()).then(Dense::new(5, 2).unwrap());
    let texts = [
        network.manifest().unwrap_err().to_string(),
        network.parameters().unwrap_err().to_string(),
        network.state(1).unwrap_err().to_string(),
    ];
    for text in texts {
        assert!(text.contains("4 features of block 0, Lstm"), "{text}");
        assert!(text.contains("the input of block 1, Dense { input_size: 5"), "{text}");
    }
    let network = Network::new(Dense::new(3, 4).unwrap()).then(Embedding::new(4, 2).unwrap());
    assert!(matches!(network.manifest(), Err(Error::Mismatch { what: "network", .. })));
}

#[test]
fn inputs_of_the_wrong_kind_are_refused() {
    let mut model = model(&all(), Runtime::best().unwrap(), 1);
    let mut space = model.training_workspace(Schedule::dense(2, 1)).unwrap();
    assert_eq!(model.input(), InputSize::Tokens(11));
    let error = model.forward(&mut space, &[0.5; 22]).unwrap_err();
    assert_eq!(error.to_string(), "input: made for features, expected tokens below 11");
    let error = model.forward(&mut space, Tokens(&[1, 11])).unwrap_err();
    assert_eq!(error, Error::Token { row: 1, given: 11, tokens: 11 });
    let error = model.forward(&mut space, Tokens(&[1])).unwrap_err();
    assert_eq!(error, Error::Length { what: "tokens", given: 1, expected: 2 });
    let mut stream = model.stream(1).unwrap();
    let mut y = filled(4);
    let error = stream.step(Tokens(&[12]), &mut y).unwrap_err();
    assert_eq!(error, Error::Token { row: 0, given: 12, tokens: 11 });
    assert!(stream.step(&[0.5], &mut y).is_err());
    assert_bits("y", &y, &filled(4));
    let dense = Network::new(Dense::new(2, 1).unwrap());
    let dense = dense.model(dense.parameters().unwrap(), Runtime::best().unwrap()).unwrap();
    let error = dense.stream(1).unwrap().step(Tokens(&[1, 1]), &mut [0.0]).unwrap_err();
    assert_eq!(error.to_string(), "input: made for tokens, expected 2 features a row");
}

/// A workspace made for one network is refused by a model of another, unless both compute the same.
#[test]
fn workspaces_are_for_their_network() {
    let runtime = Runtime::best().unwrap();
    let network = |bias| Network::new(Lstm::new(2, 3).unwrap().with_forget_bias(bias).unwrap());
    let mut one = model(&network(1.0), runtime, 1);
    let mut space = one.training_workspace(Schedule::dense(2, 1)).unwrap();
    let same = model(&network(0.5), runtime, 2);
    same.forward(&mut space, &[0.5; 4]).unwrap();
    let coupled = Network::new(Lstm::new(2, 3).unwrap().with_coupled_gates());
    let error = model(&coupled, runtime, 1).forward(&mut space, &[0.5; 4]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("coupled_gates: false") && text.contains("coupled_gates: true"),
        "{text}"
    );
    let error = model(&network(1.0), runtime.threads(2), 1).forward(&mut space, &[0.5; 4]);
    assert!(error.unwrap_err().to_string().contains("threads 2"));
}

/// Training lowers a loss, and the optimiser's clipping is part of an update.
#[test]
fn training_learns() {
    let network = Network::new(Embedding::new(4, 8).unwrap())
        .then(Gru::new(8, 16, Reset::After).unwrap())
        .then(Dense::new(16, 4).unwrap());
    let mut model = model(&network, Runtime::best().unwrap(), 1);
    let mut space = model.training_workspace(Schedule::dense(12, 2)).unwrap();
    // Each token is followed by the next one, and the last by the first.
    let tokens: Vec<u32> = (0..24).map(|n| n / 2 % 4).collect();
    let targets: Vec<u32> = tokens.iter().map(|token| (token + 1) % 4).collect();
    let loss = SoftmaxCrossEntropy::mean(&targets);
    let mut adam = Adam::new(0.02);
    let before = model.evaluate(&mut space, Tokens(&tokens), &loss).unwrap();
    for _ in 0..60 {
        let mut clipped = adam.clip_norm(1.0);
        model.train(&mut space, Tokens(&tokens), &loss, &mut clipped).unwrap();
    }
    let after = model.evaluate(&mut space, Tokens(&tokens), &loss).unwrap();
    assert!(before > 1.0 && after < 0.1, "{before} to {after}");
    assert_eq!(adam.updates(), 60);
}

/// The gradient of a squared error by central differences.
#[test]
fn squared_error_has_the_gradient_of_its_value() {
    let network = Network::new(Dense::new(2, 3).unwrap());
    let runtime = Runtime::best().unwrap();
    let targets = uniform(1, 4 * 3, 1.0);
    for loss in [SquaredError::mean(&targets), SquaredError::sum(&targets)] {
        let mut dense = model(&network, runtime, 2);
        let mut space = dense.training_workspace(Schedule::dense(4, 1)).unwrap();
        let x = uniform(3, 8, 1.0);
        dense.gradients(&mut space, &x, &loss, Accumulate::No).unwrap();
        let gradients = space.gradients().as_slice().to_vec();
        for (at, gradient) in gradients.into_iter().enumerate() {
            let mut value = |by: f32| {
                dense
                    .change(|parameters| {
                        parameters.as_mut_slice()[at] += by;
                        Ok::<(), Error>(())
                    })
                    .unwrap();
                dense.evaluate(&mut space, &x, &loss).unwrap()
            };
            let (up, down) = (value(0.125), value(-0.25));
            value(0.125);
            // For a square the difference quotient is exact except for rounding.
            let quotient = (up - down) / 0.25;
            let bound = 1e-5 * (1.0 + up.abs() + down.abs());
            assert!((quotient - f64::from(gradient)).abs() < bound, "{quotient}, {gradient}");
        }
        let error = dense.gradients(&mut space, &x, &SquaredError::sum(&x), Accumulate::No);
        assert_eq!(error, Err(Error::Length { what: "targets", given: 8, expected: 12 }));
    }
}

/// Each layer of a network draws noise of its own.
#[test]
fn layers_draw_noise_of_their_own() {
    let noise = Regularisation::none().with_dropout(0.5).unwrap();
    let layer = || Regularised::new(Lstm::new(16, 16).unwrap(), noise).unwrap();
    let network = Network::new(layer()).then(layer());
    let mut model = model(&network, Runtime::best().unwrap(), 1);
    let mut space = model.training_workspace(Schedule::dense(3, 2)).unwrap();
    let x = uniform(5, 6 * 16, 1.0);
    let outputs = |noise: Noise, space: &mut Workspace| {
        space.set_noise(noise);
        model.forward(space, &x).unwrap().to_vec()
    };
    let first = outputs(Noise::default(), &mut space);
    assert_eq!(outputs(Noise::default(), &mut space), first);
    let other = Noise { seed: 1, ..Noise::default() };
    assert_ne!(outputs(other, &mut space), first);
    // If both had the same masks, a layer with the same parameters and inputs would agree.
    let gates = |block: usize| space.activations(&format!("{block}.gates")).unwrap().to_vec();
    assert_ne!(gates(0), gates(1));
}
