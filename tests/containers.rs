//! Blocks within blocks: they have the bits of their leaves run one by one, over sequences of any
//! lengths, in passes, in streams, under a budget and on several threads.

mod common;

use bptt::blocks::{Backward, Block, Config, Forward, Pass, Plain, Plan};
use bptt::{
    Accumulate, Activation, Bidirectional, Dense, Embedding, Error, Gru, Identity, Init, InputSize,
    Lstm, Manifest, Network, Noise, Parallel, Regularisation, Regularised, Reset, Residual,
    Reversed, Runtime, Schedule, SquaredError, Stack, Tokens, Vanilla,
};
use bptt_reference::sample::uniform;
use common::tree::{Given, Sequences, Tree, infer, model_of, run};
use common::{Layout, assert_bits, isas};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Drawn numbers for a pass over sequences.
fn draw(network: &Network, sequences: &Sequences, seed: u64) -> Given {
    let InputSize::Features(inputs) = network.input() else { unreachable!("no embeddings here") };
    let (rows, batch) = (sequences.rows(), sequences.lengths.len());
    let state = network.state(batch).unwrap().as_slice().len();
    let draw = |n, len, limit| uniform(seed.wrapping_add(n), len, limit);
    Given {
        parameters: draw(1, network.manifest().unwrap().len(), 0.6),
        x: draw(2, rows * inputs, 1.0),
        dy: draw(3, rows * network.output_size(), 1.0),
        state: draw(4, state, 1.0),
        dlast: draw(5, state, 1.0),
    }
}

/// Sequences of one length or of different ones, in a layout.
fn sequences(rng: &mut StdRng) -> Sequences {
    let batch = rng.random_range(1..4);
    let longest = rng.random_range(1..6);
    let mut lengths: Vec<usize> = (0..batch).map(|_| rng.random_range(0..=longest)).collect();
    lengths[rng.random_range(0..batch)] = longest;
    let layout = match rng.random_range(0..4) {
        0 => Layout::Packed,
        1 => Layout::BatchFirst(longest + 1),
        2 => Layout::TimeMajor(longest + 2),
        _ => {
            lengths.fill(longest);
            Layout::TimeMajor(longest)
        }
    };
    Sequences { layout, lengths }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_has_the_bits_of_its_leaves(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let inputs = rng.random_range(1..5);
        let (tree, sequences) = (Tree::draw(&mut rng, 3, inputs), sequences(&mut rng));
        let network = Network::new(tree.block());
        let given = draw(&network, &sequences, rng.next_u64());
        for &isa in isas() {
            let runtime = Runtime::new(isa);
            let (whole, by_hand) =
                (run(&network, runtime, &sequences, &given),
                 tree.by_hand(runtime, &sequences, &given));
            let same = |what: &str, a: &[f32], b: &[f32]| {
                assert_bits(&format!("{what} on {isa} of {tree:?}"), a, b);
            };
            same("y", &whole.y, &by_hand.y);
            same("last", &whole.last, &by_hand.last);
            same("dx", &whole.dx, &by_hand.dx);
            same("dstate", &whole.dstate, &by_hand.dstate);
            same("gradients", &whole.gradients, &by_hand.gradients);
            let [y, last] = infer(&network, runtime.threads(2), &sequences, &given);
            same("y of inference", &y, &whole.y);
            same("last state of inference", &last, &whole.last);
        }
    }

    #[test]
    fn a_stream_has_the_bits_of_a_pass(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let inputs = rng.random_range(1..5);
        let tree = Tree::draw(&mut rng, 3, inputs);
        let network = Network::new(tree.block());
        let (steps, batch) = (rng.random_range(1..9), rng.random_range(1..4));
        let sequences =
            Sequences { layout: Layout::TimeMajor(steps), lengths: vec![steps; batch] };
        let given = draw(&network, &sequences, rng.next_u64());
        let runtime = Runtime::new(isas()[0]);
        let whole = run(&network, runtime, &sequences, &given);
        let model = model_of(&network, runtime, &given.parameters);
        let stream = model.stream(batch);
        if !tree.block().is_causal() {
            prop_assert!(matches!(stream, Err(Error::Value { .. })), "{tree:?}");
            return Ok(());
        }
        let mut stream = stream.unwrap();
        let mut state = model.state(batch).unwrap();
        state.as_mut_slice().copy_from_slice(&given.state);
        let outputs = network.output_size();
        let mut y = vec![0.0; steps * batch * outputs];
        // Step by step, and all at once.
        stream.set_state(&state).unwrap();
        for (x, y) in given.x.chunks(batch * inputs).zip(y.chunks_mut(batch * outputs)) {
            stream.step(x, y).unwrap();
        }
        assert_bits(&format!("y of {tree:?}"), &y, &whole.y);
        assert_bits("state", stream.state_slice(), &whole.last);
        stream.set_state(&state).unwrap();
        stream.forward(&given.x, &mut y).unwrap();
        assert_bits(&format!("y at once of {tree:?}"), &y, &whole.y);
        assert_bits("state at once", stream.state_slice(), &whole.last);
    }

    #[test]
    fn a_budget_changes_no_bit(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        let inputs = rng.random_range(1..5);
        let tree = Tree::draw(&mut rng, 3, inputs);
        if !tree.block().is_causal() {
            return Ok(());
        }
        let network = Network::new(tree.block()).with_learned_state();
        let (steps, batch) = (rng.random_range(20..60), rng.random_range(1..4));
        let mut model = network.init(&mut rng, Runtime::new(isas()[0])).unwrap();
        let schedule = Schedule::dense(steps, batch);
        let x = uniform(seed, steps * batch * inputs, 1.0);
        let targets = uniform(seed ^ 1, steps * batch * network.output_size(), 1.0);
        let loss = SquaredError::sum(&targets);
        let mut whole = model.training(&schedule).with_input_gradients().workspace().unwrap();
        let value = model.gradients(&mut whole, &x, &loss, Accumulate::No).unwrap();
        for part in [2, 3, 5] {
            let training = model.training(&schedule).with_input_gradients();
            let training = training.with_budget(whole.bytes() / part);
            let Ok(mut small) = training.workspace() else { continue };
            prop_assert!(small.bytes() <= whole.bytes() / part);
            let again = model.gradients(&mut small, &x, &loss, Accumulate::No).unwrap();
            prop_assert_eq!(again, value, "{:?}", tree);
            let (small_dx, dx) =
                (small.input_gradients().unwrap(), whole.input_gradients().unwrap());
            assert_bits("dx", small_dx, dx);
            assert_bits("gradients", small.gradients().as_slice(), whole.gradients().as_slice());
        }
    }
}

/// Both directions run at the same time, or one after the other on both threads.
#[test]
fn threads_change_no_bit() {
    let lstm = |inputs, hidden| Lstm::new(inputs, hidden).unwrap();
    let both = Bidirectional::new(lstm(24, 40), Gru::new(24, 40, Reset::After).unwrap());
    let uneven = Bidirectional::new(lstm(80, 90), lstm(80, 12));
    let three = Parallel::new(lstm(102, 20)).with(lstm(102, 20)).with(Identity::new(102).unwrap());
    let network = Network::new(both).then(uneven).then(three);
    for (layout, lengths) in
        [(Layout::TimeMajor(60), vec![60; 3]), (Layout::Packed, vec![60, 1, 17, 0, 59])]
    {
        let sequences = Sequences { layout, lengths };
        let given = draw(&network, &sequences, 7);
        for &isa in isas() {
            let one = run(&network, Runtime::new(isa), &sequences, &given);
            for threads in [2, 3] {
                let runtime = Runtime::new(isa).threads(threads);
                let several = run(&network, runtime, &sequences, &given);
                assert!(several == one, "{threads} threads on {isa}");
            }
        }
    }
}

/// Units whose weights are all 1 count the ones that they have seen.
#[test]
fn both_directions_count() {
    let unit = || Vanilla::new(1, 1, Activation::Relu).unwrap();
    let network = Network::new(Bidirectional::new(unit(), unit()));
    let mut parameters = network.parameters().unwrap();
    for direction in ["forward", "reverse"] {
        for weight in ["weight_ih", "weight_hh"] {
            parameters.tensor_mut(&format!("0.{direction}.{weight}")).unwrap().fill(1.0);
        }
    }
    let mut model = network.model(parameters, Runtime::best().unwrap()).unwrap();
    let mut workspace = model.training_workspace(Schedule::dense(4, 1)).unwrap();
    let y = model.forward(&mut workspace, &[0.0, 0.0, 1.0, 1.0]).unwrap();
    assert_eq!(y, [0.0, 2.0, 0.0, 2.0, 1.0, 2.0, 2.0, 1.0]);
    let last = workspace.last_state().unwrap();
    assert_eq!(last.as_slice(), [2.0, 2.0]);
    assert_eq!(last.tensor("0.forward.h").unwrap(), [2.0]);
    assert_eq!(workspace.activations("0.reverse.y").unwrap(), [1.0, 2.0, 2.0, 2.0]);
}

#[test]
fn tokens_go_into_all_blocks_side_by_side() {
    let table = |size| Embedding::new(7, size).unwrap();
    let both = Bidirectional::new(
        Stack::new(table(3)).then(Lstm::new(3, 4).unwrap()),
        Stack::new(table(2)).then(Lstm::new(2, 5).unwrap()),
    );
    let network = Network::new(both);
    let mut rng = StdRng::seed_from_u64(3);
    let mut model = network.init(&mut rng, Runtime::best().unwrap()).unwrap();
    let mut workspace = model.training_workspace(Schedule::packed(&[3, 2]).unwrap()).unwrap();
    let tokens = [1, 2, 6, 2, 1];
    let y = model.forward(&mut workspace, Tokens(&tokens)).unwrap().to_vec();
    // What goes forward sees 1 and 2 in the first sequence; what goes backward sees 1 and 2 in the
    // second one, reversed.
    let mut alone = model.training_workspace(Schedule::dense(2, 1)).unwrap();
    let forward = model.forward(&mut alone, Tokens(&[1, 2])).unwrap().to_vec();
    assert_bits("forward", &y[..4], &forward[..4]);
    let reverse = model.forward(&mut alone, Tokens(&[2, 1])).unwrap();
    assert_bits("reverse", &y[3 * 9 + 4..4 * 9], &reverse[4..9]);
    let targets = vec![0.5; y.len()];
    let loss = SquaredError::mean(&targets);
    model.gradients(&mut workspace, Tokens(&tokens), &loss, Accumulate::No).unwrap();
    let of_table = workspace.gradients().tensor("0.reverse.0.weight").unwrap();
    let is_zero = |token: usize| of_table[token * 2..][..2].iter().all(|g| *g == 0.0);
    assert_eq!([0, 1, 2, 3, 4, 5, 6].map(is_zero), [true, false, false, true, true, true, false]);
}

/// Layers in different places have noise of their own, and it is drawn again as it was.
#[test]
fn noise_belongs_to_a_place() {
    let noisy = || {
        let half = Regularisation::none().with_dropout(0.5).unwrap();
        let linear = Vanilla::new(40, 40, Activation::Identity).unwrap();
        Regularised::new(linear, half).unwrap()
    };
    // y of each layer is its state with the mask: all weights but W = 1 are 0.
    let places = [
        ("0", Network::new(noisy()).then(Identity::new(40).unwrap())),
        ("1", Network::new(Identity::new(40).unwrap()).then(noisy())),
        ("0.0", Network::new(Stack::new(noisy()))),
        ("0.1", Network::new(Stack::new(Identity::new(40).unwrap()).then(noisy()))),
        ("0.1.0", Network::new(Stack::new(Identity::new(40).unwrap()).then(Stack::new(noisy())))),
    ];
    let mut masks: Vec<(&str, Vec<f32>)> = Vec::new();
    for (place, network) in places {
        let mut parameters = network.parameters().unwrap();
        let weights = parameters.tensor_mut(&format!("{place}.weight_hh")).unwrap();
        (0..40).for_each(|n| weights[n * 41] = 1.0);
        let mut model = network.model(parameters, Runtime::best().unwrap()).unwrap();
        let mut workspace = model.training_workspace(Schedule::dense(1, 1)).unwrap();
        let mut state = model.state(1).unwrap();
        state.as_mut_slice().fill(1.0);
        workspace.set_state(&state).unwrap();
        workspace.set_noise(Noise { seed: 3, ..Noise::default() });
        model.forward(&mut workspace, &[0.0; 40]).unwrap();
        let mask = workspace.activations(&format!("{place}.y")).unwrap().to_vec();
        assert!(mask.contains(&0.0) && mask.contains(&2.0), "{mask:?}");
        for (other, same) in &masks {
            assert_ne!(&mask, same, "{place} and {other}");
        }
        masks.push((place, mask));
    }
}

/// y = g ⊙ x, a block of a user.
#[derive(Clone, Debug)]
struct Gain(usize);

impl Block for Gain {
    fn config(&self) -> Config {
        Config::new("Gain").with("size", self.0)
    }
    fn input(&self) -> InputSize {
        InputSize::Features(self.0)
    }
    fn output_size(&self) -> usize {
        self.0
    }
    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("gain", &[self.0])
    }
    fn initialise(&self, gain: &mut [f32], _: Init, _: &mut dyn Rng) -> Result<(), Error> {
        gain.fill(2.0);
        Ok(())
    }
    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(GainPass { rows: plan.schedule.rows(), size: self.0 }))
    }
}

#[derive(Debug)]
struct GainPass {
    rows: usize,
    size: usize,
}

impl Pass for GainPass {
    fn forward(&self, f: Forward<'_, '_>) -> Result<(), Error> {
        let gain = f.packed.as_form::<Plain>()?.parameters();
        let x = f.x.features(self.rows, self.size)?.chunks(self.size);
        for (y, x) in f.y.chunks_mut(f.y_stride).zip(x) {
            y.iter_mut().zip(x).zip(gain).for_each(|((y, x), g)| *y = g * x);
        }
        Ok(())
    }
    fn backward(&self, b: Backward<'_, '_>) -> Result<(), Error> {
        let gain = b.packed.as_form::<Plain>()?.parameters();
        assert_eq!(b.y.len(), self.rows * self.size, "it reads outputs, as is the default");
        let x = b.x.features(self.rows, self.size)?.chunks(self.size);
        if !b.accumulate {
            b.gradients.fill(0.0);
        }
        for (dy, x) in b.dy.chunks(b.dy_stride).zip(x) {
            b.gradients.iter_mut().zip(dy).zip(x).for_each(|((dg, dy), x)| *dg += dy * x);
        }
        if let Some(dx) = b.dx {
            for (dx, dy) in dx.chunks_mut(self.size).zip(b.dy.chunks(b.dy_stride)) {
                dx.iter_mut().zip(dy).zip(gain).for_each(|((dx, dy), g)| *dx = g * dy);
            }
        }
        Ok(())
    }
}

/// All containers take blocks of a user: here y = (2 + 2) x, then
/// y + 2 y, then (2 + 2) y.
#[test]
fn a_block_of_the_user_goes_into_all_containers() {
    let gain = || Gain(2);
    let network = Network::new(Bidirectional::new(gain(), Stack::new(gain())).summed())
        .then(Residual::new(Reversed::new(gain())).unwrap())
        .then(Parallel::new(gain()).with(gain()).summed());
    let mut rng = StdRng::seed_from_u64(1);
    let mut model = network.init(&mut rng, Runtime::best().unwrap()).unwrap();
    let training = model.training(Schedule::packed(&[1, 3]).unwrap()).with_input_gradients();
    let mut workspace = training.workspace().unwrap();
    let x = [1.0, -1.0, 0.5, 2.0, 3.0, 4.0, -5.0, 6.0];
    let y = model.forward(&mut workspace, &x).unwrap().to_vec();
    assert_eq!(y, x.map(|x| 48.0 * x));
    let ones = |y: &mut [f32]| {
        y.fill(1.0);
        0.0
    };
    model.backward(&mut workspace, &x, &ones, Accumulate::No).unwrap();
    assert_eq!(workspace.input_gradients().unwrap(), [48.0; 8]);
    // Σ x · (1 + 2) · (2 + 2) for each of the first two gains.
    for gain in ["0.forward.gain", "0.reverse.0.gain"] {
        assert_eq!(workspace.gradients().tensor(gain).unwrap(), [-0.5 * 12.0, 11.0 * 12.0]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dense = |inputs, outputs| Dense::new(inputs, outputs).unwrap();
    let refused = |network: Network, text: &str| {
        let error = network.manifest().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(Network::new(Bidirectional::new(dense(3, 2), dense(2, 2))), "the input of Dense");
    refused(Network::new(Bidirectional::new(dense(3, 2), dense(3, 1)).summed()), "to be summed");
    refused(Network::new(Stack::new(dense(3, 2)).then(dense(3, 2))), "2 features of block 0");
    let tokens = Embedding::new(5, 3).unwrap();
    refused(Network::new(Parallel::new(dense(3, 2)).with(tokens)), "side by side");
    let error = Residual::new(dense(3, 2)).unwrap_err();
    let text = "a skip connection: made for Dense { input_size: 3, output_size: 2 }, with 2 \
                outputs, expected a block with as many outputs as it has inputs";
    assert_eq!(error.to_string(), text);
    assert!(Residual::new(tokens).is_err());
    assert!(Identity::new(0).is_err());

    let both = Stack::new(Bidirectional::new(dense(3, 2), dense(3, 2)));
    let network = Network::new(Residual::new(both.then(dense(4, 3))).unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let mut model = network.init(&mut rng, Runtime::best().unwrap()).unwrap();
    assert!(matches!(model.stream(1), Err(Error::Value { what: "a block of the stream", .. })));
    let budget = model.training(Schedule::dense(9, 1)).with_budget(1000).workspace();
    assert!(matches!(budget, Err(Error::Mismatch { what: "a budget", .. })));
}
