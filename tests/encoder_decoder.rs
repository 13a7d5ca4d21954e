//! Networks with an encoder: ragged, in any order, in parts, in chunks, on any number of threads, in
//! streams and in files, always with the same bits. `tests/networks_data` compares them with PyTorch.

mod common;

use bptt::{
    Accumulate, Activation, Attention, AttentionWrapper, Bidirectional, Bridge, Context, Dense,
    Dropout, Embedding, Encoder, Error, Gru, Inputs, Keys, Lstm, Model, Network, Noise,
    OutputRecurrent, Parallel, Reset, Residual, Runtime, Schedule, Stack, Tokens, Truncated,
    Workspace,
};
use bptt_reference::sample::uniform;
use common::tree::model_of;
use common::{Given, assert_bits};

const FEATURES: usize = 3;
const SOURCE: usize = 2;
const OUTPUTS: usize = 4;
const HIDDEN: usize = 9;
const UNITS: usize = 5;

fn gru(inputs: usize, hidden: usize) -> Gru {
    Gru::new(inputs, hidden, Reset::After).unwrap()
}

fn lstm(inputs: usize, hidden: usize) -> Lstm {
    Lstm::new(inputs, hidden).unwrap()
}

fn dense(inputs: usize, outputs: usize) -> Dense {
    Dense::new(inputs, outputs).unwrap()
}

fn both() -> Encoder {
    Encoder::new(Bidirectional::new(gru(SOURCE, UNITS), gru(SOURCE, UNITS)))
}

/// Networks that read their encoder in all ways that there are, alone and together.
fn networks() -> Vec<(&'static str, Network)> {
    let tanh = Bridge::Dense(Activation::Tanh);
    let context = |inputs, size| Context::new(inputs, size).unwrap();
    let values = 2 * UNITS;
    let additive = Attention::additive(HIDDEN, values, 6).unwrap();
    let wrapped = |block: Stack, attention| AttentionWrapper::new(block, attention).unwrap();
    let inner = gru(FEATURES + values, HIDDEN);
    let with = |network: Network, encoder| network.with_encoder(encoder).unwrap();
    vec![
        (
            "a bridge alone",
            with(
                Network::new(lstm(FEATURES, HIDDEN)).then(dense(HIDDEN, OUTPUTS)),
                both().with_bridge(tanh),
            ),
        ),
        (
            "a copied state of two layers, and the context",
            with(
                Network::new(context(FEATURES, 2 * HIDDEN))
                    .then(lstm(FEATURES + 2 * HIDDEN, UNITS))
                    .then(lstm(UNITS, HIDDEN))
                    .then(dense(HIDDEN, OUTPUTS)),
                Encoder::new(lstm(SOURCE, UNITS))
                    .then(lstm(UNITS, HIDDEN))
                    .with_bridge(Bridge::Copy),
            ),
        ),
        (
            "dots after the decoder",
            with(
                Network::new(gru(FEATURES, values))
                    .then(Attention::dot(values).unwrap())
                    .then(dense(2 * values, OUTPUTS)),
                both(),
            ),
        ),
        (
            "general attention in a residual block, with dropout in both",
            with(
                Network::new(lstm(FEATURES, HIDDEN))
                    .then(Dropout::new(HIDDEN, 0.25).unwrap())
                    .then(
                        Residual::new(
                            Stack::new(Attention::general(HIDDEN, values).unwrap())
                                .then(dense(values + HIDDEN, HIDDEN)),
                        )
                        .unwrap(),
                    )
                    .then(dense(HIDDEN, OUTPUTS)),
                both().then(Dropout::new(values, 0.25).unwrap()).with_bridge(tanh),
            ),
        ),
        (
            "additive attention inside the step",
            with(
                Network::new(wrapped(Stack::new(inner), additive)).then(dense(HIDDEN, OUTPUTS)),
                both().then(Keys::new(values, 6).unwrap()).with_bridge(tanh),
            ),
        ),
        (
            "two layers that attend by dots together, side by side with one that reads the context",
            with(
                Network::new(
                    Parallel::new(wrapped(
                        Stack::new(lstm(FEATURES + values, UNITS)).then(gru(UNITS, values)),
                        Attention::dot(values).unwrap(),
                    ))
                    .with(
                        Stack::new(context(FEATURES, values)).then(gru(FEATURES + values, UNITS)),
                    ),
                )
                .then(dense(values + UNITS, OUTPUTS)),
                both().with_bridge(tanh),
            ),
        ),
        (
            "two that attend side by side",
            with(
                Network::new(gru(FEATURES, values))
                    .then(
                        Parallel::new(Attention::general(values, values).unwrap())
                            .with(Attention::general(values, values).unwrap()),
                    )
                    .then(dense(4 * values, OUTPUTS)),
                both(),
            ),
        ),
        (
            "attention inside the step of blocks that read the encoder, too",
            with(
                Network::new(wrapped(
                    Stack::new(context(FEATURES + values, values))
                        .then(gru(FEATURES + 2 * values, UNITS))
                        .then(Attention::general(UNITS, values).unwrap())
                        .then(gru(values + UNITS, values)),
                    Attention::dot(values).unwrap(),
                ))
                .then(dense(values, OUTPUTS)),
                both().with_bridge(tanh),
            ),
        ),
        (
            "a vector to a sequence",
            with(
                Network::new(context(FEATURES, UNITS))
                    .then(gru(FEATURES + UNITS, HIDDEN))
                    .then(context(HIDDEN, UNITS))
                    .then(dense(HIDDEN + UNITS, OUTPUTS)),
                Encoder::new(dense(SOURCE, UNITS)),
            ),
        ),
        (
            "outputs that are read again",
            with(
                Network::new(
                    OutputRecurrent::new(
                        Stack::new(context(FEATURES, values))
                            .then(gru(FEATURES + values, HIDDEN))
                            .then(dense(HIDDEN, FEATURES)),
                    )
                    .unwrap(),
                )
                .then(dense(FEATURES, OUTPUTS)),
                both().with_bridge(tanh),
            ),
        ),
    ]
}

/// Sequences with their sources.
#[derive(Clone)]
struct Pairs {
    lengths: Vec<usize>,
    sources: Vec<usize>,
    x: Vec<Vec<f32>>,
    source: Vec<Vec<f32>>,
    dy: Vec<Vec<f32>>,
}

impl Pairs {
    fn drawn(lengths: &[usize], sources: &[usize]) -> Self {
        let draw = |seed: u64, lengths: &[usize], width: usize| {
            let each = |(n, len): (usize, &usize)| uniform(seed + n as u64, len * width, 1.0);
            lengths.iter().enumerate().map(each).collect()
        };
        Self {
            lengths: lengths.into(),
            sources: sources.into(),
            x: draw(100, lengths, FEATURES),
            source: draw(200, sources, SOURCE),
            dy: draw(300, lengths, OUTPUTS),
        }
    }

    /// The sequences with these numbers.
    fn of(&self, order: &[usize]) -> Self {
        let pick = |all: &[Vec<f32>]| order.iter().map(|&n| all[n].clone()).collect();
        Self {
            lengths: order.iter().map(|&n| self.lengths[n]).collect(),
            sources: order.iter().map(|&n| self.sources[n]).collect(),
            x: pick(&self.x),
            source: pick(&self.source),
            dy: pick(&self.dy),
        }
    }

    fn schedules(&self) -> [Schedule; 2] {
        [&self.lengths, &self.sources].map(|lengths| Schedule::packed(lengths).unwrap())
    }
}

/// What a pass gives, in the order of the sequences.
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dsource: Vec<f32>,
    gradients: Vec<f32>,
}

const NOISE: Noise = Noise { seed: 8, step: 3, sequence: 2 };

fn workspace(model: &mut Model, pairs: &Pairs) -> Workspace {
    let [schedule, sources] = pairs.schedules();
    let training = model.training(schedule).with_source(sources);
    training.with_input_gradients().with_source_gradients().workspace().unwrap()
}

fn run_in(model: &Model, workspace: &mut Workspace, pairs: &Pairs) -> Results {
    let (x, source, dy) = (pairs.x.concat(), pairs.source.concat(), pairs.dy.concat());
    let inputs = Inputs::new(&x).with_source(&source);
    let y = model.forward(workspace, inputs).unwrap().to_vec();
    model.backward(workspace, inputs, &Given(&dy), Accumulate::No).unwrap();
    Results {
        y,
        dx: workspace.input_gradients().unwrap().to_vec(),
        dsource: workspace.source_gradients().unwrap().to_vec(),
        gradients: workspace.gradients().as_slice().to_vec(),
    }
}

fn run(model: &mut Model, pairs: &Pairs, noise: Noise) -> Results {
    let mut workspace = workspace(model, pairs);
    workspace.set_noise(noise);
    run_in(model, &mut workspace, pairs)
}

fn model(network: &Network, threads: usize) -> Model {
    let values = uniform(1, network.manifest().unwrap().len(), 0.5);
    model_of(network, Runtime::best().unwrap().threads(threads), &values)
}

/// Lengths that differ, with sources that are longer, shorter, and of one step.
fn ragged() -> Pairs {
    Pairs::drawn(&[4, 9, 1, 7, 9], &[6, 1, 11, 3, 8])
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch() {
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let pairs = ragged();
        let all = run(&mut model, &pairs, NOISE);
        let (mut row, mut of_source) = (0, 0);
        for n in 0..pairs.lengths.len() {
            let noise = Noise { sequence: NOISE.sequence + n as u64, ..NOISE };
            let alone = run(&mut model, &pairs.of(&[n]), noise);
            let rows = row..row + pairs.lengths[n];
            let own =
                |all: &[f32], width: usize| all[rows.start * width..rows.end * width].to_vec();
            assert_bits(name, &alone.y, &own(&all.y, OUTPUTS));
            assert_bits(name, &alone.dx, &own(&all.dx, FEATURES));
            let rows = of_source..of_source + pairs.sources[n];
            assert_bits(name, &alone.dsource, &all.dsource[rows.start * SOURCE..rows.end * SOURCE]);
            (row, of_source) = (row + pairs.lengths[n], rows.end);
        }
    }
}

#[test]
fn the_order_of_sequences_makes_no_difference() {
    let order = [3, 1, 4, 0, 2];
    for (name, network) in networks() {
        // Noise belongs to places in the batch.
        if name.contains("dropout") {
            continue;
        }
        let mut model = model(&network, 1);
        let pairs = ragged();
        let (all, mixed) =
            (run(&mut model, &pairs, NOISE), run(&mut model, &pairs.of(&order), NOISE));
        let starts = |lengths: &[usize]| -> Vec<usize> {
            lengths.iter().scan(0, |sum, len| Some(std::mem::replace(sum, *sum + len))).collect()
        };
        let (before, after) = (starts(&pairs.lengths), starts(&pairs.of(&order).lengths));
        for (to, &n) in order.iter().enumerate() {
            let len = pairs.lengths[n] * OUTPUTS;
            let y = &mixed.y[after[to] * OUTPUTS..][..len];
            assert_bits(name, y, &all.y[before[n] * OUTPUTS..][..len]);
        }
    }
}

/// A workspace for inference has no noise.
#[test]
fn inference_has_the_bits_of_training_without_noise() {
    for (name, network) in networks() {
        let pairs = ragged();
        let [schedule, sources] = pairs.schedules();
        let (x, source) = (pairs.x.concat(), pairs.source.concat());
        let inputs = Inputs::new(&x).with_source(&source);
        for threads in [1, 2] {
            let mut model = model(&network, threads);
            let inference = model.inference(&schedule).with_source(&sources);
            let mut workspace = inference.workspace().unwrap();
            workspace.set_noise(NOISE);
            let y = model.forward(&mut workspace, inputs).unwrap().to_vec();
            let training = model.training(&schedule).with_source(&sources);
            assert!(workspace.bytes() < training.bytes().unwrap(), "{name}");
            match name.contains("dropout") {
                false => assert_bits(name, &y, &run(&mut model, &pairs, NOISE).y),
                true => {
                    workspace.set_noise(Noise::default());
                    assert_bits(name, model.forward(&mut workspace, inputs).unwrap(), &y);
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let pairs = Pairs::drawn(&[12, 30, 1, 17, 30, 29], &[40, 1, 33, 12, 28, 40]);
    for (name, network) in networks() {
        let one = run(&mut model(&network, 1), &pairs, NOISE);
        for threads in [2, 3] {
            let given = run(&mut model(&network, threads), &pairs, NOISE);
            assert_bits(name, &given.y, &one.y);
            assert_bits(name, &given.dx, &one.dx);
            assert_bits(name, &given.dsource, &one.dsource);
            assert_bits(name, &given.gradients, &one.gradients);
        }
    }
}

/// Blocks side by side that are large enough for a thread each, and read the same source.
#[test]
fn blocks_side_by_side_share_a_source_on_two_threads() {
    let (size, steps) = (64, 100);
    let attention = || Attention::general(size, size).unwrap();
    let network = Network::new(Parallel::new(attention()).with(attention()))
        .with_encoder(Encoder::new(dense(size, size)))
        .unwrap();
    let x = uniform(5, 4 * steps * size, 1.0);
    let dy = uniform(6, 4 * steps * 4 * size, 1.0);
    let run = |threads| {
        let mut model = model(&network, threads);
        let schedule = Schedule::dense(steps, 4);
        let training = model.training(&schedule).with_source(&schedule).with_source_gradients();
        let mut workspace = training.workspace().unwrap();
        let inputs = Inputs::new(&x).with_source(&x);
        model.gradients(&mut workspace, inputs, &Given(&dy), Accumulate::No).unwrap();
        let gradients = workspace.gradients().as_slice().to_vec();
        [gradients, workspace.source_gradients().unwrap().to_vec()]
    };
    for (two, one) in run(2).iter().zip(&run(1)) {
        assert_bits("two threads", two, one);
    }
}

/// The first block of the encoder and that of the decoder have noise of their own.
#[test]
fn encoder_and_decoder_draw_other_numbers() {
    let dropout = || Dropout::new(4, 0.5).unwrap();
    let network = Network::new(dropout()).then(Context::new(4, 4).unwrap());
    let network = network.with_encoder(Encoder::new(dropout())).unwrap();
    let mut model = model(&network, 1);
    let schedule = Schedule::dense(1, 16);
    let mut workspace = model.training(&schedule).with_source(&schedule).workspace().unwrap();
    let inputs = Inputs::new(&[1.0; 16 * 4]).with_source(&[1.0; 16 * 4]);
    let y = model.forward(&mut workspace, inputs).unwrap();
    assert!(y.chunks(8).any(|row| row[..4] != row[4..]));
}

/// A workspace that another batch has used, a larger one and one with NaN, is as good as a new one.
#[test]
fn a_used_workspace_gives_the_bits_of_a_new_one() {
    for (name, network) in networks() {
        let mut model = model(&network, 2);
        let pairs = ragged();
        let fresh = run(&mut model, &pairs, NOISE);
        let mut large = Pairs::drawn(&[20, 9, 30, 7, 9, 3], &[16, 1, 21, 3, 8, 40]);
        large.x.iter_mut().chain(&mut large.source).for_each(|values| values.fill(f32::NAN));
        let mut used = workspace(&mut model, &large);
        run_in(&model, &mut used, &large);
        let [schedule, sources] = pairs.schedules();
        used.replan_with_source(schedule, sources).unwrap();
        used.set_noise(NOISE);
        for _ in 0..2 {
            let again = run_in(&model, &mut used, &pairs);
            assert_bits(name, &again.y, &fresh.y);
            assert_bits(name, &again.dx, &fresh.dx);
            assert_bits(name, &again.dsource, &fresh.dsource);
            assert_bits(name, &again.gradients, &fresh.gradients);
        }
    }
}

#[test]
fn gradients_add_up() {
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let pairs = ragged();
        let mut workspace = workspace(&mut model, &pairs);
        let once = run_in(&model, &mut workspace, &pairs).gradients;
        let (x, source, dy) = (pairs.x.concat(), pairs.source.concat(), pairs.dy.concat());
        let inputs = Inputs::new(&x).with_source(&source);
        model.gradients(&mut workspace, inputs, &Given(&dy), Accumulate::Yes).unwrap();
        let most = once.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        for (twice, once) in workspace.gradients().as_slice().iter().zip(&once) {
            assert!((twice - 2.0 * once).abs() <= 1e-5 * most, "{name}: {twice} of {once}");
        }
    }
}

/// Outputs in chunks of rows, and the value of the loss alone.
#[test]
fn chunks_of_outputs_give_the_same_bits() {
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let pairs = ragged();
        let [schedule, sources] = pairs.schedules();
        let whole = run(&mut model, &pairs, NOISE);
        let training = model.training(schedule).with_source(sources).with_chunked_outputs(4);
        let mut chunked = training.workspace().unwrap();
        chunked.set_noise(NOISE);
        let (x, source, dy) = (pairs.x.concat(), pairs.source.concat(), pairs.dy.concat());
        let inputs = Inputs::new(&x).with_source(&source);
        model.gradients(&mut chunked, inputs, &Given(&dy), Accumulate::No).unwrap();
        assert_bits(name, chunked.gradients().as_slice(), &whole.gradients);
    }
}

/// Passes that are divided, by whatever their budget allows.
#[test]
fn a_budget_changes_no_bit() {
    let pairs = Pairs::drawn(&[40, 90, 1, 70, 90], &[6, 1, 11, 3, 8]);
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let whole = run(&mut model, &pairs, NOISE);
        let bytes = workspace(&mut model, &pairs).bytes();
        for part in [2, 4] {
            let [schedule, sources] = pairs.schedules();
            let training = model.training(schedule).with_source(sources).with_budget(bytes / part);
            let training = training.with_input_gradients().with_source_gradients();
            let Ok(mut small) = training.workspace() else {
                assert_eq!(part, 4, "{name}: half of the memory is enough");
                continue;
            };
            assert!(small.bytes() <= bytes / part, "{name}");
            let again = small.recomputation();
            assert!(again.steps + again.rows > 0, "{name} is divided");
            small.set_noise(NOISE);
            let (x, source, dy) = (pairs.x.concat(), pairs.source.concat(), pairs.dy.concat());
            let inputs = Inputs::new(&x).with_source(&source);
            for _ in 0..2 {
                model.gradients(&mut small, inputs, &Given(&dy), Accumulate::No).unwrap();
                assert_bits(name, small.input_gradients().unwrap(), &whole.dx);
                assert_bits(name, small.source_gradients().unwrap(), &whole.dsource);
                assert_bits(name, small.gradients().as_slice(), &whole.gradients);
            }
            let value = model.evaluate(&mut small, inputs, &Given(&dy)).unwrap();
            let mut whole = workspace(&mut model, &pairs);
            let exact = model.evaluate(&mut whole, inputs, &Given(&dy)).unwrap();
            assert!((value - exact).abs() <= 1e-5 * exact.abs().max(1.0), "{name}");
        }
    }
}

/// The first steps in one pass and the others in the next, from the state after them.
#[test]
fn a_decoder_goes_on_where_it_stopped() {
    for (name, network) in networks() {
        if name.contains("dropout") {
            continue;
        }
        let mut model = model(&network, 1);
        let pairs = Pairs::drawn(&[9, 9], &[5, 7]);
        let all = run(&mut model, &pairs, NOISE);
        let source = pairs.source.concat();
        let (mut parts, mut state) = (vec![Vec::new(); 2], None);
        for steps in [0..4, 4..5, 5..9] {
            let schedule = Schedule::packed(&[steps.len(); 2]).unwrap();
            let sources = Schedule::packed(&pairs.sources).unwrap();
            let mut part = model.training(schedule).with_source(sources).workspace().unwrap();
            if let Some(state) = &state {
                part.set_state(state).unwrap();
            }
            let of_part = |x: &Vec<f32>| x[steps.start * FEATURES..steps.end * FEATURES].to_vec();
            let x: Vec<f32> = pairs.x.iter().flat_map(of_part).collect();
            let inputs = Inputs::new(&x).with_source(&source);
            let y = model.forward(&mut part, inputs).unwrap();
            for (part, y) in parts.iter_mut().zip(y.chunks(steps.len() * OUTPUTS)) {
                part.extend_from_slice(y);
            }
            state = Some(part.last_state().unwrap());
        }
        assert_bits(name, &parts.concat(), &all.y);
    }
}

#[test]
fn streams_give_the_bits_of_passes() {
    for (name, network) in networks() {
        let mut model = model(&network, 2);
        let pairs = Pairs::drawn(&[6, 6, 6], &[5, 7, 1]);
        let (x, source) = (pairs.x.concat(), pairs.source.concat());
        let [schedule, sources] = pairs.schedules();
        let training = model.training(schedule).with_source(&sources);
        let mut workspace = training.workspace().unwrap();
        let inputs = Inputs::new(&x).with_source(&source);
        // Without noise.
        let loss = Given(&[0.0; 3 * 6 * OUTPUTS]);
        model.evaluate(&mut workspace, inputs, &loss).unwrap();
        let last = workspace.last_state().unwrap();
        let mut stream = model.stream_with_source(&sources).unwrap();
        let mut y = [0.0; 3 * OUTPUTS];
        assert!(matches!(stream.step(&[0.0; 3 * FEATURES], &mut y), Err(Error::Order { .. })));
        // A source that is replaced leaves nothing behind.
        stream.read_source(&vec![0.5; source.len()]).unwrap();
        stream.step(&[0.25; 3 * FEATURES], &mut y).unwrap();
        stream.read_source(&source).unwrap();
        let first = stream.state().unwrap();
        for _ in 0..2 {
            for step in 0..6 {
                let row = |x: &Vec<f32>| x[step * FEATURES..][..FEATURES].to_vec();
                let x: Vec<f32> = pairs.x.iter().flat_map(row).collect();
                stream.step(&x, &mut y).unwrap();
            }
            assert_bits(name, stream.state_slice(), last.as_slice());
            stream.reset();
            assert_bits(name, stream.state_slice(), first.as_slice());
        }
    }
}

#[test]
fn files_keep_the_encoder_and_the_bridge() {
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let bytes = model.to_safetensors().unwrap();
        let mut again = Model::of_safetensors(&bytes, Runtime::best().unwrap()).unwrap();
        let (pairs, expected) = (ragged(), run(&mut model, &ragged(), NOISE));
        assert_bits(name, &run(&mut again, &pairs, NOISE).gradients, &expected.gradients);
    }
}

/// Nothing is allocated in a planned pass, and the memory is what was announced.
#[test]
fn a_planned_pass_allocates_nothing() {
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let pairs = ragged();
        let [schedule, sources] = pairs.schedules();
        let announced = model.training(&schedule).with_source(&sources).bytes().unwrap();
        let training = model.training(&schedule).with_source(&sources);
        let mut workspace = training.workspace().unwrap();
        assert_eq!(workspace.bytes(), announced, "{name}");
        let (x, source, dy) = (pairs.x.concat(), pairs.source.concat(), pairs.dy.concat());
        let inputs = Inputs::new(&x).with_source(&source);
        let mut pass = || {
            model.gradients(&mut workspace, inputs, &Given(&dy), Accumulate::No).unwrap();
        };
        pass();
        let allocated = allocation_counter::measure(pass);
        assert_eq!(allocated.count_total, 0, "{name}");
    }
}

/// A source without a step has the context 0 and no weights, one with a single step all of the weight.
#[test]
fn sources_of_no_step_and_of_one() {
    let pairs = Pairs::drawn(&[3, 2, 4], &[0, 1, 5]);
    for (name, network) in networks() {
        let mut model = model(&network, 1);
        let results = run(&mut model, &pairs, NOISE);
        let all = [results.y, results.dx, results.dsource, results.gradients];
        assert!(all.iter().flatten().all(|value| value.is_finite()), "{name}");
    }
    let (_, network) = networks().swap_remove(2);
    let mut model = model(&network, 1);
    let [schedule, sources] = pairs.schedules();
    let mut workspace = model.training(&schedule).with_source(sources).workspace().unwrap();
    let (x, source) = (pairs.x.concat(), pairs.source.concat());
    model.forward(&mut workspace, Inputs::new(&x).with_source(&source)).unwrap();
    let weights = workspace.activations("1.weights").unwrap();
    let contexts = workspace.activations("1.y").unwrap();
    for step in 0..schedule.steps() {
        for (n, row) in (schedule.start(step)..schedule.start(step + 1)).enumerate() {
            let (weights, context) = (&weights[row * 5..][..5], &contexts[row * 20..][..10]);
            match schedule.sequence(n) {
                0 => assert_eq!((weights, context), (&[0.0; 5][..], &[0.0; 10][..])),
                1 => assert_eq!(weights, [1.0, 0.0, 0.0, 0.0, 0.0]),
                _ => assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6),
            }
        }
    }
}

#[test]
fn a_decoder_that_begins_elsewhere_leaves_the_bridge_alone() {
    let (_, network) = networks().swap_remove(0);
    let mut model = model(&network, 1);
    let pairs = ragged();
    let mut workspace = workspace(&mut model, &pairs);
    let state = model.state(pairs.lengths.len()).unwrap();
    workspace.set_state(&state).unwrap();
    run_in(&model, &mut workspace, &pairs);
    assert!(workspace.gradients().tensor("bridge.weight").unwrap().iter().all(|dw| *dw == 0.0));
    workspace.reset_state();
    run_in(&model, &mut workspace, &pairs);
    assert!(workspace.gradients().tensor("bridge.weight").unwrap().iter().all(|dw| *dw != 0.0));
}

#[test]
fn tokens_are_translated() {
    let reader = Encoder::new(Embedding::new(7, 4).unwrap()).then(gru(4, 6));
    let writer = Network::new(Embedding::new(5, 4).unwrap())
        .then(gru(4, 6))
        .then(Attention::dot(6).unwrap())
        .then(dense(12, 5));
    let network = writer.with_encoder(reader.with_bridge(Bridge::Copy)).unwrap();
    let mut model = model(&network, 1);
    let training = model.training(Schedule::dense(2, 2)).with_source(Schedule::dense(3, 2));
    let mut workspace = training.workspace().unwrap();
    let inputs = |source| Inputs::new(Tokens(&[0, 1, 2, 4])).with_source(Tokens(source));
    model.forward(&mut workspace, inputs(&[0, 1, 2, 3, 4, 6])).unwrap();
    let error = model.forward(&mut workspace, inputs(&[0, 1, 2, 3, 4, 7])).unwrap_err();
    assert_eq!(error, Error::Token { row: 5, given: 7, tokens: 7 });
}

#[test]
fn what_does_not_fit_is_refused() {
    let mismatch = |error: Error| assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let decoder = || Network::new(gru(FEATURES, HIDDEN));
    // Sizes of what blocks read.
    let dots = || decoder().then(Attention::dot(HIDDEN).unwrap());
    mismatch(dots().manifest().unwrap_err());
    mismatch(dots().with_encoder(both()).unwrap_err());
    let context = Network::new(Context::new(FEATURES, UNITS).unwrap());
    mismatch(context.with_encoder(both()).unwrap_err());
    // Bridges.
    mismatch(decoder().with_encoder(both().with_bridge(Bridge::Copy)).unwrap_err());
    let learned = decoder().with_learned_state();
    let tanh = Bridge::Dense(Activation::Tanh);
    mismatch(learned.with_encoder(both().with_bridge(tanh)).unwrap_err());
    let stateless = Network::new(dense(FEATURES, OUTPUTS));
    mismatch(stateless.with_encoder(both().with_bridge(tanh)).unwrap_err());
    // Encoders whose blocks do not fit each other, or that would need a source themselves.
    mismatch(decoder().with_encoder(both().then(dense(1, 1))).unwrap_err());
    let attending = both().then(Attention::dot(2 * UNITS).unwrap());
    mismatch(decoder().with_encoder(attending).unwrap_err());
    // Blocks that cannot attend.
    let attention = Attention::dot(OUTPUTS).unwrap();
    mismatch(AttentionWrapper::new(dense(FEATURES, OUTPUTS), attention).unwrap_err());
    mismatch(AttentionWrapper::new(gru(OUTPUTS, OUTPUTS), attention).unwrap_err());
    mismatch(AttentionWrapper::new(gru(FEATURES + OUTPUTS, HIDDEN), attention).unwrap_err());
    // Schedules and inputs.
    let network = decoder().with_encoder(both()).unwrap();
    let mut model = model(&network, 1);
    let (two, three) = (Schedule::dense(4, 2), Schedule::dense(4, 3));
    mismatch(model.training(&two).workspace().unwrap_err());
    mismatch(model.training(&two).with_source(&three).workspace().unwrap_err());
    let resets = Schedule::dense(4, 2).with_resets(&[(0, 2)]).unwrap();
    mismatch(model.training(&two).with_source(&resets).workspace().unwrap_err());
    mismatch(model.training(resets).with_source(&two).workspace().unwrap_err());
    mismatch(model.stream(2).unwrap_err());
    let mut workspace = model.training(&two).with_source(&two).workspace().unwrap();
    mismatch(model.forward(&mut workspace, &[0.5; 8 * FEATURES]).unwrap_err());
    let inputs = Inputs::new(&[0.5; 8 * FEATURES]).with_source(&[0.5; 8 * SOURCE - 1]);
    let error = model.forward(&mut workspace, inputs).unwrap_err();
    assert_eq!(error, Error::Length { what: "x", given: 15, expected: 16 });
    let mut plain = common::drawn_model(&decoder(), Runtime::best().unwrap());
    mismatch(plain.training(&two).with_source(&two).workspace().unwrap_err());
    mismatch(plain.stream_with_source(&two).unwrap_err());
    assert!(matches!(plain.stream(1).unwrap().read_source(&[0.5]), Err(Error::Order { .. })));
    let mut workspace = plain.training_workspace(&two).unwrap();
    mismatch(plain.forward(&mut workspace, inputs).unwrap_err());
    mismatch(Truncated::new(&mut model, 2, 4, 2).unwrap_err());
}
