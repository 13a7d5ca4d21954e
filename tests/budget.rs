//! Passes under a budget of bytes: the loss and all gradients have the bits of a pass that keeps
//! everything, and what is computed again is exactly what was said before.

mod common;

use bptt::blocks::{Backward, Block, Config, Forward, Keeps, Pass, Plan};
use bptt::{
    Accumulate, Dense, Embedding, Error, InputSize, Isa, Lstm, Manifest, Model, Network, Noise,
    Padding, Regularisation, Reversed, Runtime, Schedule, SoftmaxCrossEntropy, SquaredError, State,
    Tokens, Training, Workspace,
};
use bptt_reference::sample::uniform;
use common::{Kind, Subject, assert_bits, drawn_model, drawn_state, isas};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SEED: u64 = 11;

/// All results of a pass.
#[derive(Debug)]
struct Results {
    loss: f64,
    gradients: Vec<f32>,
    dx: Vec<f32>,
    dstate: Vec<f32>,
    last: State,
}

fn assert_same(what: &str, given: &Results, expected: &Results) {
    assert_eq!(given.loss.to_bits(), expected.loss.to_bits(), "loss, {what}");
    assert_bits(&format!("gradients, {what}"), &given.gradients, &expected.gradients);
    assert_bits(&format!("dx, {what}"), &given.dx, &expected.dx);
    assert_bits(&format!("dstate, {what}"), &given.dstate, &expected.dstate);
    assert_bits(&format!("last state, {what}"), given.last.as_slice(), expected.last.as_slice());
    assert_eq!(given.last.step(), expected.last.step());
}

/// A pass that is not the first one in the workspace: the gradients are added to those of another.
fn run(model: &Model, workspace: &mut Workspace, outputs: usize, step: u64) -> Results {
    let (rows, batch) = (workspace.schedule().given_rows(), workspace.schedule().batch());
    let InputSize::Features(inputs) = model.input() else { unreachable!("all read features here") };
    let (x, targets) = (uniform(2, rows * inputs, 1.0), uniform(3, rows * outputs, 1.0));
    let mut first = drawn_state(model, batch, 4);
    first.set_step(step).unwrap();
    workspace.set_state(&first).unwrap();
    workspace.set_last_gradient(Some(&drawn_state(model, batch, 5))).unwrap();
    workspace.set_noise(Noise { seed: SEED, step, sequence: 2 });
    let loss = SquaredError::mean(&targets);
    model.gradients(workspace, &x, &loss, Accumulate::No).unwrap();
    let loss = model.gradients(workspace, &x, &loss, Accumulate::Yes).unwrap();
    Results {
        loss,
        gradients: workspace.gradients().as_slice().to_vec(),
        dx: workspace.input_gradients().unwrap().to_vec(),
        dstate: workspace.state_gradients().unwrap().as_slice().to_vec(),
        last: workspace.last_state().unwrap(),
    }
}

/// The least budget that does, as the error says that one byte less gives.
fn least(training: Training<'_>) -> usize {
    let too_little = |training: &Training<'_>| match training.bytes() {
        Err(Error::Value { what: "budget", expected, .. }) => {
            expected.split(' ').next().unwrap().parse::<usize>().unwrap()
        }
        other => panic!("{other:?}"),
    };
    let training = training.with_budget(1);
    let least = too_little(&training);
    let training = training.with_budget(least - 1);
    assert_eq!(too_little(&training), least);
    assert_eq!(training.with_budget(least).bytes(), Ok(least));
    least
}

/// Runs the network whole and under budgets from the least to nearly all.
fn check(network: &Network, schedule: &Schedule, isa: Isa, what: &str) {
    let outputs = network.output_size();
    for threads in [1, 2] {
        let runtime = Runtime::new(isa).threads(threads);
        let mut model = drawn_model(network, runtime);
        let training = model.training(schedule).with_input_gradients().with_state_gradients();
        let mut whole = training.workspace().unwrap();
        let expected = run(&model, &mut whole, outputs, 3);
        let least = {
            let training = model.training(schedule).with_input_gradients().with_state_gradients();
            let Err(Error::Value { what: "budget", expected, .. }) =
                training.with_budget(1).bytes()
            else {
                panic!("a budget of 1 byte")
            };
            expected.split(' ').next().unwrap().parse::<usize>().unwrap()
        };
        let mut seen = Vec::new();
        for share in 0..5 {
            let budget = least + (whole.bytes() - 1 - least.min(whole.bytes() - 1)) * share / 4;
            let training = model.training(schedule).with_input_gradients().with_state_gradients();
            let training = training.with_budget(budget);
            let predicted = training.recomputation().unwrap();
            let mut workspace = training.workspace().unwrap();
            assert_eq!(workspace.recomputation(), predicted);
            assert!(predicted.bytes <= budget, "{predicted:?} of {budget}");
            if seen.contains(&predicted) {
                continue;
            }
            seen.push(predicted);
            let what = format!("{what}, {threads} threads, {predicted:?} of {}", whole.bytes());
            assert_same(&what, &run(&model, &mut workspace, outputs, 3), &expected);
        }
    }
}

#[test]
fn all_layers_have_the_bits_of_a_whole_pass() {
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
        let mut noises = vec![Regularisation::none()];
        if kind.takes_noise() && nth % 2 == 0 {
            noises.push(Regularisation::none().with_zoneout(0.4, cell).unwrap());
        }
        for noise in noises {
            for &isa in isas() {
                let what = format!("{kind:?}, {noise:?}");
                check(&subject.network_with(noise), &Schedule::dense(61, 2), isa, &what);
            }
        }
    }
}

#[test]
fn sequences_of_different_lengths() {
    let lengths = [3, 0, 16, 3, 1, 10, 5];
    let schedules = [
        Schedule::padded(&lengths, 17).unwrap().with_padding(Padding::LastOutput),
        Schedule::batch_first(&lengths, 16).unwrap(),
        Schedule::packed(&lengths).unwrap(),
    ];
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        for &isa in isas() {
            check(&subject.network(), &schedules[nth % 3], isa, &format!("{kind:?}"));
        }
    }
}

#[test]
fn networks_and_dropout() {
    let noise = Regularisation::none().with_dropout(0.3).unwrap().with_zoneout(0.2, 0.1).unwrap();
    let network = Network::new(Lstm::new(3, 9).unwrap())
        .then(bptt::Regularised::new(Lstm::new(9, 7).unwrap(), noise).unwrap())
        .then(Dense::new(7, 4).unwrap());
    for &isa in isas() {
        check(&network, &Schedule::dense(31, 2), isa, "network");
        check(&network, &Schedule::packed(&[5, 0, 20]).unwrap(), isa, "ragged network");
    }
}

/// Tokens, classes and a mask, in a language model that predicts the next token.
#[test]
fn tokens_and_classes() {
    let network = Network::new(Embedding::new(11, 5).unwrap())
        .then(Lstm::new(5, 8).unwrap())
        .then(Dense::new(8, 11).unwrap());
    for schedule in [Schedule::dense(29, 2), Schedule::batch_first(&[7, 0, 29], 29).unwrap()] {
        let rows = schedule.given_rows();
        let tokens: Vec<u32> = (0..rows as u32).map(|at| at * 7 % 11).collect();
        let classes: Vec<u32> = (0..rows as u32).map(|at| at * 5 % 11).collect();
        let mask: Vec<bool> = (0..rows).map(|at| at % 3 != 0).collect();
        let loss = SoftmaxCrossEntropy::mean(&classes).with_mask(&mask);
        let mut model = drawn_model(&network, Runtime::best().unwrap());
        let mut whole = model.training_workspace(&schedule).unwrap();
        let expected = model.gradients(&mut whole, Tokens(&tokens), &loss, Accumulate::No).unwrap();
        let evaluated = model.evaluate(&mut whole, Tokens(&tokens), &loss).unwrap();
        let least = least(model.training(&schedule));
        for budget in [least, whole.bytes().midpoint(least), whole.bytes() - 1] {
            let mut small = model.training(&schedule).with_budget(budget).workspace().unwrap();
            let given =
                model.gradients(&mut small, Tokens(&tokens), &loss, Accumulate::No).unwrap();
            assert_eq!(given.to_bits(), expected.to_bits());
            assert_bits("gradients", small.gradients().as_slice(), whole.gradients().as_slice());
            // The loss alone adds up the rows from the first stretch on.
            let value = model.evaluate(&mut small, Tokens(&tokens), &loss).unwrap();
            assert!((value - evaluated).abs() <= rows as f64 * f64::EPSILON * evaluated);
            assert_eq!(small.last_state().unwrap(), whole.last_state().unwrap());
        }
    }
}

#[test]
fn refusals() {
    let reversed =
        Network::new(Lstm::new(1, 2).unwrap()).then(Reversed::new(Lstm::new(2, 3).unwrap()));
    let mut model = drawn_model(&reversed, Runtime::best().unwrap());
    // Enough for all is no division.
    let bytes = model.training(Schedule::dense(100, 1)).bytes().unwrap();
    let with = |model: &mut Model, budget| {
        model.training(Schedule::dense(100, 1)).with_budget(budget).workspace().map(|_| ())
    };
    assert_eq!(with(&mut model, bytes), Ok(()));
    let error = with(&mut model, bytes - 1).unwrap_err().to_string();
    assert!(error.starts_with("a budget: made for Reversed"), "{error}");

    let network = Network::new(Lstm::new(1, 2).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let bytes = model.training(Schedule::dense(500, 1)).bytes().unwrap();
    let training = model.training(Schedule::dense(500, 1)).with_budget(bytes - 1);
    let mut workspace = training.workspace().unwrap();
    let x = [0.5; 500];
    // No outputs are kept, so that nothing can be asked of them.
    let refused = model.forward(&mut workspace, &x).unwrap_err();
    assert!(refused.to_string().starts_with("workspace: made for a budget"), "{refused}");
    let all_at_once = |y: &mut [f32]| f64::from(y[0]);
    let refused = model.gradients(&mut workspace, &x, &all_at_once, Accumulate::No).unwrap_err();
    assert!(refused.to_string().contains("a sum over rows"), "{refused}");
    let targets = [0.0; 1000];
    let loss = SquaredError::mean(&targets);
    let refused = model.backward(&mut workspace, &x, &loss, Accumulate::No).unwrap_err();
    assert!(matches!(refused, Error::Order { call: "backward", .. }));
    model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
    assert!(workspace.outputs().is_err() && workspace.activations("0.y").is_err());
    // Steps that no memory could hold.
    let training = model.training(Schedule::dense(usize::MAX / 2, 1)).with_budget(bytes);
    assert_eq!(training.bytes(), Err(Error::TooLarge { what: "the workspace" }));
}

/// The least budget is that of the whole pass if dividing it would take more, and where there is
/// nothing to divide.
#[test]
fn few_steps_or_none_are_not_divided() {
    let subject = Subject { kind: Kind::LSTM, inputs: 2, hidden: 9 };
    for &isa in isas() {
        for schedule in [
            Schedule::dense(1, 2),
            Schedule::packed(&[1, 0, 1]).unwrap(),
            Schedule::packed(&[0; 3]).unwrap(),
            Schedule::batch_first(&[0; 3], 4).unwrap(),
        ] {
            let mut model = drawn_model(&subject.network(), Runtime::new(isa));
            let bytes = model.training(&schedule).bytes().unwrap();
            assert_eq!(least(model.training(&schedule)), bytes, "{schedule:?}");
            let training = model.training(&schedule).with_input_gradients().with_state_gradients();
            let bytes = training.bytes().unwrap();
            assert_eq!(least(training), bytes, "{schedule:?}");
        }
    }
}

/// A workspace is planned anew in its memory, for shorter sequences and more of them.
#[test]
fn the_same_memory_serves_other_schedules() {
    let subject = Subject { kind: Kind::LSTM, inputs: 2, hidden: 9 };
    let network = subject.network();
    for budget in [None, Some(300_000)] {
        let mut model = drawn_model(&network, Runtime::best().unwrap());
        let plan = |model: &mut Model, schedule: &Schedule| {
            let training = model.training(schedule).with_input_gradients().with_state_gradients();
            match budget {
                Some(bytes) => training.with_budget(bytes).workspace().unwrap(),
                None => training.workspace().unwrap(),
            }
        };
        let mut workspace = plan(&mut model, &Schedule::dense(200, 6));
        let room = workspace.bytes();
        for schedule in [
            Schedule::dense(300, 2),
            Schedule::packed(&[7, 0, 150, 30]).unwrap(),
            Schedule::batch_first(&[20; 12], 25).unwrap(),
            Schedule::dense(1, 6),
            Schedule::dense(200, 6),
        ] {
            workspace.replan(&schedule).unwrap();
            assert_eq!(workspace.schedule(), &schedule);
            let given = run(&model, &mut workspace, 9, 0);
            let mut own = plan(&mut model, &schedule);
            assert_same("again", &given, &run(&model, &mut own, 9, 0));
            assert!(workspace.bytes() <= room);
        }
        if budget.is_none() {
            let error = workspace.replan(Schedule::dense(201, 6)).unwrap_err();
            assert!(error.to_string().contains(&format!("at most {room}")), "{error}");
            assert_eq!(workspace.schedule(), &Schedule::dense(200, 6));
        }
    }
}

/// A block that carries a sum from step to step, and counts what it is asked to compute.
#[derive(Clone, Debug)]
struct Counter {
    /// Rows of forward passes, and rows that were computed again from the states.
    rows: Arc<[AtomicUsize; 2]>,
    batch: usize,
}

impl Block for Counter {
    fn config(&self) -> Config {
        Config::new("Counter")
    }
    fn input(&self) -> InputSize {
        InputSize::Features(1)
    }
    fn output_size(&self) -> usize {
        1
    }
    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("sum", &[batch, 1])
    }
    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        // So that a step takes enough memory to be worth dividing.
        plan.layout.book(&[plan.schedule.rows(), 50])?;
        Ok(Box::new(self.clone()))
    }
}

impl Pass for Counter {
    fn forward(&self, f: Forward<'_, '_>) -> Result<(), Error> {
        self.rows[0].fetch_add(f.y.len(), Relaxed);
        let x = f.x.features(f.y.len(), 1)?;
        f.last.copy_from_slice(f.state);
        for (step, y) in f.y.chunks_mut(self.batch).enumerate() {
            let x = &x[step * self.batch..][..self.batch];
            for ((y, x), sum) in y.iter_mut().zip(x).zip(f.last.iter_mut()) {
                *sum += x;
                *y = *sum;
            }
        }
        Ok(())
    }
    fn keeps(&self) -> Option<Keeps> {
        Some(Keeps { regions: Vec::new(), output: true })
    }
    fn recompute(&self, f: Forward<'_, '_>) -> Result<(), Error> {
        self.rows[1].fetch_add(f.y.len(), Relaxed);
        // The outputs are those of the forward pass: sums that begin with the state.
        assert_eq!(f.y[0], f.state[0] + 1.0);
        Ok(())
    }
    fn backward(&self, b: Backward<'_, '_>) -> Result<(), Error> {
        b.dstate.fill(0.0);
        Ok(())
    }
}

/// What is computed more than once is what was said before.
#[test]
fn what_is_computed_again_is_counted() {
    let (steps, batch) = (997, 2);
    let (x, targets) = (vec![1.0; steps * batch], vec![0.0; steps * batch]);
    let rows = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let network = Network::new(Counter { rows: rows.clone(), batch });
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let schedule = Schedule::dense(steps, batch);
    let whole = model.training(&schedule).bytes().unwrap();
    let least = least(model.training(&schedule));
    let (mut again, mut computed) = (0, 0);
    for share in 0..40 {
        let budget = least + (whole - 1 - least) * share * share / (39 * 39);
        let mut workspace = model.training(&schedule).with_budget(budget).workspace().unwrap();
        let said = workspace.recomputation();
        rows.iter().for_each(|count| count.store(0, Relaxed));
        let loss = SquaredError::sum(&targets);
        model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
        // All steps are run once, and their rows are of both sequences.
        assert_eq!(rows[0].load(Relaxed), batch * (steps + said.steps), "{said:?}");
        assert_eq!(rows[1].load(Relaxed), said.rows, "{said:?}");
        assert_eq!(workspace.last_state().unwrap().as_slice(), [steps as f32; 2]);
        (again, computed) = (again.max(said.steps), computed.max(said.rows));
    }
    assert!(again > steps && computed > steps, "{again} steps, {computed} rows");
}
