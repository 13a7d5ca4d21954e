//! A block that reads its own outputs, against loops by hand: with teacher forcing, running free and
//! with scheduled sampling; features and tokens; alone, in batches, in parts and in streams.

mod common;

use bptt::{
    Accumulate, Activation, Choice, Dense, Embedding, Error, Gru, Input, Lstm, Model, Network,
    Noise, OutputRecurrent, Reset, Reversed, Runtime, Schedule, Stack, Tokens, Workspace,
};
use bptt_reference::sample::uniform;
use common::tree::model_of;
use common::{Given, Layout, assert_bits};

const STEPS: usize = 9;
const BATCH: usize = 3;
const FEATURES: usize = 2;
const OUTPUTS: usize = 3;
/// Features and outputs of the step before.
const WIDTH: usize = FEATURES + OUTPUTS;

/// Recurrence from the output to hidden units alone, and together with that between hidden units.
fn blocks() -> [Stack; 2] {
    let dense = |inputs, outputs| Dense::new(inputs, outputs).unwrap();
    [
        Stack::new(dense(WIDTH, 7).with_activation(Activation::Tanh)).then(dense(7, OUTPUTS)),
        Stack::new(Gru::new(WIDTH, 7, Reset::After).unwrap()).then(dense(7, OUTPUTS)),
    ]
}

fn fed(block: Stack) -> Network {
    Network::new(OutputRecurrent::new(block).unwrap())
}

fn parameters(network: &Network) -> Vec<f32> {
    uniform(1, network.manifest().unwrap().len(), 0.7)
}

/// A workspace with the gradients of the input and of the state.
fn workspace(model: &mut Model, schedule: Schedule) -> Workspace {
    model.training(schedule).with_state_gradients().with_input_gradients().workspace().unwrap()
}

#[test]
fn teacher_forcing_is_the_block_itself() {
    for block in blocks() {
        let (network, plain) = (fed(block.clone()), Network::new(block));
        let values = parameters(&network);
        let runtime = Runtime::best().unwrap();
        let (mut model, mut plain) =
            (model_of(&network, runtime, &values), model_of(&plain, runtime, &values));
        let schedule = Schedule::dense(STEPS, BATCH);
        let x = uniform(2, STEPS * BATCH * WIDTH, 1.0);
        let dy = uniform(3, STEPS * BATCH * OUTPUTS, 1.0);
        let (mut own, mut other) =
            (workspace(&mut model, schedule.clone()), workspace(&mut plain, schedule));
        let y = model.forward(&mut own, &x).unwrap().to_vec();
        assert_bits("y", &y, plain.forward(&mut other, &x).unwrap());
        model.backward(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
        plain.backward(&mut other, &x, &Given(&dy), Accumulate::No).unwrap();
        assert_bits("dx", own.input_gradients().unwrap(), other.input_gradients().unwrap());
        assert_bits("gradients", own.gradients().as_slice(), other.gradients().as_slice());
    }
}

/// Running free is a loop over a stream whose outputs go back in, and its gradients are those of a
/// pass over what it has read.
#[test]
fn running_free_is_a_loop() {
    for block in blocks() {
        let (network, plain) = (fed(block.clone()), Network::new(block));
        let values = parameters(&network);
        let runtime = Runtime::best().unwrap();
        let (mut model, mut plain) =
            (model_of(&network, runtime, &values), model_of(&plain, runtime, &values));
        // What is not read may be anything, from the second step on.
        let mut x = uniform(2, STEPS * BATCH * WIDTH, 1.0);
        for row in x.chunks_mut(WIDTH).skip(BATCH) {
            row[FEATURES..].fill(f32::NAN);
        }
        let dy = uniform(3, STEPS * BATCH * OUTPUTS, 1.0);
        let mut own = workspace(&mut model, Schedule::dense(STEPS, BATCH));
        own.set_teacher_forcing(0.0).unwrap();
        let y = model.forward(&mut own, &x).unwrap().to_vec();
        let mut stream = plain.stream(BATCH).unwrap();
        let (mut read, mut before) = (x.clone(), vec![0.0; BATCH * OUTPUTS]);
        for (t, step) in read.chunks_mut(BATCH * WIDTH).enumerate() {
            if t > 0 {
                for (row, o) in step.chunks_mut(WIDTH).zip(before.chunks(OUTPUTS)) {
                    row[FEATURES..].copy_from_slice(o);
                }
            }
            stream.step(&*step, &mut before).unwrap();
            assert_bits("y", &y[t * BATCH * OUTPUTS..][..BATCH * OUTPUTS], &before);
        }
        assert_bits("read", own.activations("0.read").unwrap(), &read);
        model.backward(&mut own, &x, &Given(&dy), Accumulate::No).unwrap();
        let mut other = workspace(&mut plain, Schedule::dense(STEPS, BATCH));
        plain.forward(&mut other, &read).unwrap();
        plain.backward(&mut other, &read, &Given(&dy), Accumulate::No).unwrap();
        assert_bits("gradients", own.gradients().as_slice(), other.gradients().as_slice());
        let mut dx = other.input_gradients().unwrap().to_vec();
        dx.chunks_mut(WIDTH).skip(BATCH).for_each(|row| row[FEATURES..].fill(0.0));
        assert_bits("dx", own.input_gradients().unwrap(), &dx);
    }
}

/// Coins belong to steps and sequences: a sequence has the same ones alone, in a batch, in parts, under
/// a budget and in a stream.
#[test]
fn scheduled_sampling_draws_by_place() {
    let lengths = [20, 1, 0, 33, 12];
    let noise = Noise { seed: 8, step: 5, sequence: 3 };
    for block in blocks() {
        let network = fed(block);
        let values = parameters(&network);
        let mut model = model_of(&network, Runtime::best().unwrap(), &values);
        let sequences: Vec<_> =
            (0..lengths.len()).map(|n| uniform(20 + n as u64, lengths[n] * WIDTH, 1.0)).collect();
        for layout in [Layout::Packed, Layout::TimeMajor(33)] {
            let x = layout.joined(&sequences, WIDTH, 0.0);
            let schedule = layout.schedule(&lengths);
            let dy = uniform(4, schedule.given_rows() * OUTPUTS, 1.0);
            let mut all = workspace(&mut model, schedule.clone());
            all.set_noise(noise);
            all.set_teacher_forcing(0.6).unwrap();
            let y = model.forward(&mut all, &x).unwrap().to_vec();
            model.backward(&mut all, &x, &Given(&dy), Accumulate::No).unwrap();
            let budget = model.training(schedule).with_budget(all.bytes() * 2 / 3);
            let mut small = budget.workspace().unwrap();
            small.set_noise(noise);
            small.set_teacher_forcing(0.6).unwrap();
            model.gradients(&mut small, &x, &Given(&dy), Accumulate::No).unwrap();
            assert!(small.recomputation().steps > 0, "it is divided");
            assert_bits("a budget", small.gradients().as_slice(), all.gradients().as_slice());
            for (n, x) in sequences.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
                let expected = layout.of(&y, &lengths, n, OUTPUTS);
                let own = |step| Noise { step, sequence: noise.sequence + n as u64, ..noise };
                let mut stream = model.stream(1).unwrap();
                stream.set_noise(own(noise.step));
                stream.set_teacher_forcing(0.6).unwrap();
                let mut streamed = vec![0.0; expected.len()];
                let (first, rest) = streamed.split_at_mut(OUTPUTS);
                stream.step(&x[..WIDTH], first).unwrap();
                stream.forward(&x[WIDTH..], rest).unwrap();
                assert_bits("a stream", &streamed, &expected);
                let (mut parts, mut state) = (Vec::new(), model.state(1).unwrap());
                for (nth, x) in x.chunks(7 * WIDTH).enumerate() {
                    let mut part = workspace(&mut model, Schedule::dense(x.len() / WIDTH, 1));
                    part.set_noise(own(noise.step + 7 * nth as u64));
                    part.set_teacher_forcing(0.6).unwrap();
                    part.set_state(&state).unwrap();
                    parts.extend_from_slice(model.forward(&mut part, x).unwrap());
                    state = part.last_state().unwrap();
                }
                assert_bits("alone and in parts", &parts, &expected);
            }
        }
    }
}

/// As many rows read what the caller gives as the probability says.
#[test]
fn the_coin_is_fair() {
    let network = fed(blocks()[0].clone());
    let mut model = model_of(&network, Runtime::best().unwrap(), &parameters(&network));
    let (steps, batch) = (200, 10);
    let x = uniform(2, steps * batch * WIDTH, 1.0);
    let mut own = workspace(&mut model, Schedule::dense(steps, batch));
    for probability in [0.25, 0.8] {
        own.set_teacher_forcing(probability).unwrap();
        model.forward(&mut own, &x).unwrap();
        let read = own.activations("0.read").unwrap().chunks(WIDTH).zip(x.chunks(WIDTH));
        let given = read.skip(batch).filter(|(read, given)| read == given).count() as f64;
        let (count, p) = (((steps - 1) * batch) as f64, f64::from(probability));
        assert!((given - count * p).abs() < 4.0 * (count * p * (1.0 - p)).sqrt(), "{given}");
    }
}

/// A language model that reads the tokens that it has said.
#[test]
fn tokens_are_chosen_from_the_outputs() {
    let tokens = 6;
    let block = Stack::new(Embedding::new(tokens, 4).unwrap())
        .then(Lstm::new(4, 8).unwrap())
        .then(Dense::new(8, tokens).unwrap());
    let plain = Network::new(block.clone());
    let values = uniform(5, plain.manifest().unwrap().len(), 1.5);
    let plain = model_of(&plain, Runtime::best().unwrap(), &values);
    let given: Vec<u32> = (0..STEPS * BATCH).map(|n| n as u32 % 6).collect();
    let of = |choice: Choice| {
        let network =
            Network::new(OutputRecurrent::new(block.clone()).unwrap().with_choice(choice));
        let mut model = model_of(&network, Runtime::best().unwrap(), &values);
        let mut own = model.training_workspace(Schedule::dense(STEPS, BATCH)).unwrap();
        own.set_noise(Noise { seed: 3, ..Noise::default() });
        own.set_teacher_forcing(0.0).unwrap();
        let y = model.forward(&mut own, Tokens(&given)).unwrap().to_vec();
        let read: &[f32] = own.activations("0.read").unwrap();
        let read: Vec<u32> = read.iter().map(|token| token.to_bits()).collect();
        // A stream of the block over what was read has its outputs.
        let mut stream = plain.stream(BATCH).unwrap();
        let mut again = vec![0.0; y.len()];
        stream.forward(Tokens(&read), &mut again).unwrap();
        assert_bits("y", &y, &again);
        assert_eq!(read[..BATCH], given[..BATCH], "the first step");
        let dy = uniform(6, y.len(), 1.0);
        model.backward(&mut own, Tokens(&given), &Given(&dy), Accumulate::No).unwrap();
        let gradients = own.gradients().as_slice().to_vec();
        assert!(gradients.iter().all(|g| g.is_finite()) && gradients.iter().any(|g| *g != 0.0));
        let mut streamed = vec![0.0; y.len()];
        let mut stream = model.stream(BATCH).unwrap();
        stream.set_noise(Noise { seed: 3, ..Noise::default() });
        stream.set_teacher_forcing(0.0).unwrap();
        stream.forward(Input::Tokens(&given), &mut streamed).unwrap();
        assert_bits("a stream", &streamed, &y);
        (read, y)
    };
    let (read, y) = of(Choice::Largest);
    for (row, token) in read.iter().enumerate().skip(BATCH) {
        let before = &y[(row - BATCH) * tokens..][..tokens];
        let largest = before.iter().fold(f32::NEG_INFINITY, |most, o| most.max(*o));
        assert_eq!(before[*token as usize], largest);
    }
    assert_ne!(of(Choice::Sample).0, read);
}

#[test]
fn what_does_not_fit_is_refused() {
    let dense = |inputs, outputs| Dense::new(inputs, outputs).unwrap();
    let refused = |block: Stack, text: &str| {
        let error = OutputRecurrent::new(block).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(Stack::new(dense(2, 3)), "made for 2 features");
    refused(Stack::new(Embedding::new(5, 4).unwrap()), "made for 5 tokens");
    refused(Stack::new(Reversed::new(dense(3, 3))), "expected steps that depend on no later step");
    let network = fed(blocks()[0].clone());
    let mut model = model_of(&network, Runtime::best().unwrap(), &parameters(&network));
    let mut own = workspace(&mut model, Schedule::dense(1, 1));
    for probability in [-0.1, 1.1, f32::NAN] {
        let error = own.set_teacher_forcing(probability).unwrap_err();
        assert!(matches!(error, Error::Value { what: "teacher_forcing", .. }), "{error}");
        assert!(model.stream(1).unwrap().set_teacher_forcing(probability).is_err());
    }
}
