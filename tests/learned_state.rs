//! The state before the first step as a parameter: passes and streams begin from it, and its gradient
//! is the sum of those of all sequences that do.

mod common;

use bptt::{
    Accumulate, Adam, Dense, Error, Gru, Lstm, Model, Network, Reset, Runtime, Schedule,
    SquaredError, State, Truncated, Workspace,
};
use bptt_reference::sample::uniform;
use common::{Kind, Subject, assert_bits, drawn_model, drawn_state, features_of, isas};

const INPUTS: usize = 3;

/// The parameters of the blocks, and those of the learned state.
fn split<'a>(network: &Network, values: &'a [f32]) -> (&'a [f32], &'a [f32]) {
    values.split_at(values.len() - network.state(1).unwrap().as_slice().len())
}

/// A model whose state is not learned, with the same blocks and parameters, and the learned state.
fn without(model: &Model, network: &Network) -> (Model, State) {
    let (of_blocks, state) = split(network, model.parameters().as_slice());
    let mut parameters = network.parameters().unwrap();
    parameters.as_mut_slice().copy_from_slice(of_blocks);
    let mut one = network.state(1).unwrap();
    one.as_mut_slice().copy_from_slice(state);
    (network.model(parameters, model.runtime()).unwrap(), one)
}

/// The sum of states of one sequence, in this order.
fn sum<'a>(states: impl Iterator<Item = &'a State>, len: usize) -> Vec<f32> {
    states.fold(vec![0.0; len], |mut sum, state| {
        sum.iter_mut().zip(state.as_slice()).for_each(|(sum, value)| *sum += value);
        sum
    })
}

/// The inputs and targets of a pass.
fn data(model: &Model, schedule: &Schedule) -> (Vec<f32>, Vec<f32>) {
    let rows = schedule.given_rows();
    (uniform(2, rows * features_of(model), 1.0), uniform(3, rows * model.output_size(), 1.0))
}

/// Computes the gradients of a pass over drawn data, and returns the loss.
fn gradients(model: &Model, workspace: &mut Workspace, accumulate: Accumulate) -> f64 {
    let (x, targets) = data(model, workspace.schedule());
    model.gradients(workspace, &x, &SquaredError::sum(&targets), accumulate).unwrap()
}

/// A pass from the learned state has the bits of one from the same state given, and its gradient is
/// the sum of the gradients by the states of the sequences.
fn check(network: &Network, schedule: &Schedule, runtime: Runtime, budget: bool, what: &str) {
    let learned = network.clone().with_learned_state();
    let mut model = drawn_model(&learned, runtime);
    let (mut given, one) = without(&model, network);
    assert_eq!(model.state(1).unwrap(), one, "{what}");

    let training = model.training(schedule);
    let mut begins = match training.bytes().unwrap() {
        bytes if budget => training.with_budget(bytes - 1).workspace().unwrap(),
        _ => training.workspace().unwrap(),
    };
    let mut set = given.training(schedule).with_state_gradients().workspace().unwrap();
    set.set_state(&one.broadcast(schedule.sequences()).unwrap()).unwrap();
    set.set_reset_state(&one).unwrap();

    let expected = gradients(&given, &mut set, Accumulate::No);
    let loss = gradients(&model, &mut begins, Accumulate::No);
    assert_eq!(loss.to_bits(), expected.to_bits(), "{what}");
    let all = begins.gradients().as_slice().to_vec();
    let (of_blocks, of_state) = split(network, &all);
    assert_bits(what, of_blocks, set.gradients().as_slice());
    let dstate = set.state_gradients().unwrap();
    if schedule.sequences() == schedule.batch() {
        // The rows of a pass are the sequences, from the longest to the shortest.
        let rows = (0..schedule.batch()).rev();
        let states: Vec<_> =
            rows.map(|row| dstate.sequence(schedule.sequence(row)).unwrap()).collect();
        let once = sum(states.iter(), of_state.len());
        assert_bits(what, of_state, &once);
        // Gradients of a second pass are added, term by term.
        gradients(&model, &mut begins, Accumulate::Yes);
        let mut all = model.network().state(1).unwrap();
        all.as_mut_slice().copy_from_slice(&once);
        let twice = sum([&all].into_iter().chain(&states), once.len());
        assert_bits(what, split(network, begins.gradients().as_slice()).1, &twice);
    } else {
        // The sums over resets and over the other sequences are each given alone, so the order of the
        // terms differs. Both orders round a sum of at most n · largest up to n times.
        let mut states = vec![set.reset_state_gradients().unwrap()];
        let set_ones = (0..schedule.sequences()).filter(|&n| set.sequence_state(n).is_ok());
        states.extend(set_ones.map(|n| dstate.sequence(n).unwrap()));
        let all = sum(states.iter(), of_state.len());
        let terms = schedule.batch() as f32;
        let largest = states.iter().flat_map(|s| s.as_slice()).fold(0.0f32, |m, s| m.max(s.abs()));
        for (given, expected) in of_state.iter().zip(&all) {
            assert!((given - expected).abs() <= terms * terms * f32::EPSILON * largest, "{what}");
        }
    }
    assert!(of_state.iter().any(|value| *value != 0.0), "{what}");
    begins.reset_state();
    let (x, targets) = data(&model, schedule);
    let loss = model.evaluate(&mut begins, &x, &SquaredError::sum(&targets)).unwrap();
    // Stretches add up the loss from the first row to the last, a pass from the last to the first.
    let rounding = if budget { schedule.rows() as f64 * f64::EPSILON * expected } else { 0.0 };
    assert!((loss - expected).abs() <= rounding, "{what}: {loss}, {expected}");
}

#[test]
fn all_cells_begin_from_the_learned_state() {
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: INPUTS, hidden: 5 + 7 * (nth % 3) };
        let dense = Schedule::dense(7, 3);
        let ragged = Schedule::packed(&[4, 0, 9, 4, 1]).unwrap();
        let anew = Schedule::dense(9, 2).with_resets(&[(0, 4), (1, 2), (1, 0), (0, 8)]);
        let mut schedules = vec![dense, ragged];
        if !matches!(kind, Kind::Clockwork(..)) {
            schedules.push(anew.unwrap());
        }
        for &isa in isas() {
            for schedule in &schedules {
                for (threads, budget) in [(1, false), (2, false), (1, true)] {
                    let runtime = Runtime::new(isa).threads(threads);
                    let what = format!("{kind:?}, {isa}, {threads} threads, budget: {budget}");
                    check(&subject.network(), schedule, runtime, budget, &what);
                }
            }
        }
    }
}

fn network() -> Network {
    let layers = Network::new(Lstm::new(INPUTS, 5).unwrap());
    layers.then(Gru::new(5, 4, Reset::Before).unwrap()).then(Dense::new(4, 2).unwrap())
}

/// The gradient is that of the loss by finite differences: the error of a difference over 2δ is of
/// the order δ², and that of the loss in f32 is divided by δ.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let network = network().with_learned_state();
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let schedule = Schedule::packed(&[3, 5, 0, 2]).unwrap();
    let mut workspace = model.training_workspace(&schedule).unwrap();
    gradients(&model, &mut workspace, Accumulate::No);
    let slopes = workspace.gradients().as_slice().to_vec();
    let delta = 1.0f32 / 64.0;
    let first = slopes.len() - network.state(1).unwrap().as_slice().len();
    for at in first..slopes.len() {
        let mut loss_at = |to: f32| {
            let change = |p: &mut bptt::Parameters| {
                p.as_mut_slice()[at] += to;
                Ok::<(), Error>(())
            };
            model.change(change).unwrap();
            let loss = gradients(&model, &mut workspace, Accumulate::No);
            model
                .change(|p| {
                    p.as_mut_slice()[at] -= to;
                    Ok::<(), Error>(())
                })
                .unwrap();
            loss
        };
        let difference = (loss_at(delta) - loss_at(-delta)) / f64::from(2.0 * delta);
        let error = (difference - f64::from(slopes[at])).abs();
        assert!(error <= 4.0 * f64::from(delta).powi(2), "{at}: {difference}, {}", slopes[at]);
    }
}

/// A sequence whose state was set, or carried on, does not begin from the learned state and does not
/// teach it; one that was reset does again.
#[test]
fn only_sequences_that_begin_from_it_teach_it() {
    let plain = network();
    let learned = plain.clone().with_learned_state();
    for budget in [false, true] {
        let mut model = drawn_model(&learned, Runtime::best().unwrap());
        let training = model.training(Schedule::dense(6, 3));
        let mut workspace = match training.bytes().unwrap() {
            bytes if budget => training.with_budget(bytes - 1).workspace().unwrap(),
            _ => training.workspace().unwrap(),
        };
        let other = drawn_state(&model, 3, 8);
        // Which sequences begin from the learned state, after each change.
        let mut expect = |begins: [bool; 3], change: &dyn Fn(&mut Workspace)| {
            change(&mut workspace);
            for (n, begins) in begins.into_iter().enumerate() {
                let given = workspace.sequence_state(n);
                assert_eq!(matches!(given, Err(Error::Order { .. })), begins, "{n}");
            }
            gradients(&model, &mut workspace, Accumulate::No);
            let dstate = workspace.state_gradients().unwrap();
            let rows = (0..3).rev().filter(|&n| begins[n]);
            let states: Vec<_> = rows.map(|n| dstate.sequence(n).unwrap()).collect();
            let (_, given) = split(&plain, workspace.gradients().as_slice());
            assert_bits("gradient", given, &sum(states.iter(), given.len()));
        };
        expect([true; 3], &|_| ());
        expect([true, false, true], &|w| {
            w.set_sequence_state(1, &other.sequence(1).unwrap()).unwrap();
        });
        expect([false, true, true], &|w| w.reorder_state(&[1, 0, 2]).unwrap());
        expect([false, true, false], &|w| w.reorder_state(&[0, 1, 0]).unwrap());
        expect([true, true, false], &|w| w.reset_sequence(0).unwrap());
        expect([false; 3], &|w| w.carry_state().unwrap());
        expect([true; 3], &Workspace::reset_state);
        expect([false; 3], &|w| w.set_state(&other).unwrap());
        expect([true; 3], &|w| w.replan(Schedule::dense(5, 3)).unwrap());
    }
}

#[test]
fn streams_begin_from_it() {
    let plain = network();
    let learned = plain.clone().with_learned_state();
    for &isa in isas() {
        for batch in [1, 3] {
            let model = drawn_model(&learned, Runtime::new(isa));
            let (given, one) = without(&model, &plain);
            let (x, mut y) = (uniform(2, 5 * batch * INPUTS, 1.0), vec![0.0; 5 * batch * 2]);
            let mut expected = y.clone();
            let mut set = given.stream(batch).unwrap();
            set.set_state(&one.broadcast(batch).unwrap()).unwrap();
            set.forward(&x, &mut expected).unwrap();
            let mut stream = model.stream(batch).unwrap();
            for _ in 0..2 {
                stream.forward(&x, &mut y).unwrap();
                assert_bits("y", &y, &expected);
                stream.reset();
            }
            stream.forward(&x, &mut y).unwrap();
            stream.reset_sequence(batch - 1).unwrap();
            let given = stream.sequence_state(batch - 1).unwrap();
            assert_bits("state", given.as_slice(), one.as_slice());
        }
    }
}

/// The first window teaches the learned state, and later ones, which do not go back to it, do not.
#[test]
fn truncated_passes_teach_it_while_they_go_back_to_it() {
    let plain = network();
    let mut model = drawn_model(&plain.clone().with_learned_state(), Runtime::best().unwrap());
    let (x, targets) = (uniform(2, 12 * INPUTS, 1.0), uniform(3, 12 * 2, 1.0));
    let mut truncated = Truncated::new(&mut model, 2, 4, 1).unwrap();
    for _ in 0..2 {
        truncated.reset();
        let begins = x.chunks(2 * INPUTS).zip(targets.chunks(2 * 2)).map(|(x, targets)| {
            truncated.gradients(&model, x, &SquaredError::sum(targets)).unwrap();
            let (_, of_state) = split(&plain, truncated.workspace().gradients().as_slice());
            of_state.iter().any(|value| *value != 0.0)
        });
        assert_eq!(begins.collect::<Vec<_>>(), [true, true, false, false, false, false]);
    }
    // A window over all steps is the pass over all steps.
    let mut whole = model.training_workspace(Schedule::dense(12, 1)).unwrap();
    let loss = SquaredError::sum(&targets);
    model.gradients(&mut whole, &x, &loss, Accumulate::No).unwrap();
    let mut truncated = Truncated::new(&mut model, 12, 12, 1).unwrap();
    truncated.gradients(&model, &x, &loss).unwrap();
    let given = truncated.workspace().gradients().as_slice();
    assert_bits("gradients", given, whole.gradients().as_slice());
}

/// What all sequences begin with can be learned: without inputs the first output depends on the
/// state alone.
#[test]
fn it_learns() {
    let layer = || Network::new(Lstm::new(1, 4).unwrap()).then(Dense::new(4, 1).unwrap());
    let mut model = drawn_model(&layer().with_learned_state(), Runtime::best().unwrap());
    let mut workspace = model.training_workspace(Schedule::dense(3, 2)).unwrap();
    // A pulse at the first step, and none at the others.
    let (x, targets) = ([0.0; 6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let mut adam = Adam::new(0.02);
    let mut loss = f64::INFINITY;
    for _ in 0..500 {
        loss = model.train(&mut workspace, &x, &SquaredError::mean(&targets), &mut adam).unwrap();
    }
    assert!(loss < 1e-3, "{loss}");
}

#[test]
fn files_keep_it() {
    let model = drawn_model(&network().with_learned_state(), Runtime::best().unwrap());
    let bytes = model.to_safetensors().unwrap();
    let again = Model::of_safetensors(&bytes, Runtime::best().unwrap()).unwrap();
    assert!(again.network().has_learned_state());
    assert_bits("parameters", again.parameters().as_slice(), model.parameters().as_slice());
    assert_eq!(again.state(2).unwrap(), model.state(2).unwrap());

    let text = String::from_utf8_lossy(&bytes).into_owned();
    let start = text.find("\"learned\"").unwrap();
    let mut wrong = bytes.clone();
    wrong[start + 1..start + 8].copy_from_slice(b"guessed");
    let error = Model::of_safetensors(&wrong, Runtime::best().unwrap()).unwrap_err();
    let expected = "the initial state: guessed, expected learned or not given";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn refusals() {
    let mut plain = drawn_model(&network(), Runtime::best().unwrap());
    let mut learned = drawn_model(&network().with_learned_state(), Runtime::best().unwrap());
    let mut workspace = plain.training_workspace(Schedule::dense(2, 1)).unwrap();
    let error = learned.forward(&mut workspace, &[0.0; 2 * INPUTS]).unwrap_err();
    assert!(error.to_string().contains("a learned state"), "{error}");
    let workspace = learned.training_workspace(Schedule::dense(2, 1)).unwrap();
    let error = workspace.sequence_state(0).unwrap_err().to_string();
    assert!(error.contains("a sequence that begins from the learned state"), "{error}");
}
