//! The last blocks in chunks of rows: the loss and all gradients have the bits of a pass that holds
//! the outputs of all rows, in the bytes that were said before.

mod common;

use bptt::{
    Accumulate, Ctc, Dense, Embedding, Error, Gru, Input, Isa, LogisticCrossEntropy, Loss, Lstm,
    Memory, Model, Network, Reset, Runtime, Schedule, SoftmaxCrossEntropy, State, Tokens, Training,
    Workspace,
};
use bptt_reference::sample::uniform;
use common::{assert_bits, assert_mismatch, drawn_model, drawn_state, isas, value};

const CLASSES: usize = 37;
const INPUTS: usize = 5;

/// All results of a pass.
#[derive(Debug)]
struct Results {
    loss: f64,
    gradients: Vec<f32>,
    dx: Vec<f32>,
    dstate: Vec<f32>,
    last: State,
    evaluated: f64,
}

/// A pass whose gradients are added to those of another one.
fn run(model: &Model, workspace: &mut Workspace, loss: &dyn Loss) -> Results {
    let batch = workspace.schedule().sequences();
    let x = uniform(2, workspace.schedule().given_rows() * INPUTS, 1.0);
    workspace.set_state(&drawn_state(model, batch, 4)).unwrap();
    workspace.set_last_gradient(Some(&drawn_state(model, batch, 5))).unwrap();
    workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
    model.gradients(workspace, &x, loss, Accumulate::No).unwrap();
    let value = model.gradients(workspace, &x, loss, Accumulate::Yes).unwrap();
    let mut results = Results {
        loss: value,
        gradients: workspace.gradients().as_slice().to_vec(),
        dx: workspace.input_gradients().unwrap().to_vec(),
        dstate: workspace.state_gradients().unwrap().as_slice().to_vec(),
        last: workspace.last_state().unwrap(),
        evaluated: 0.0,
    };
    results.evaluated = model.evaluate(workspace, &x, loss).unwrap();
    results
}

fn assert_same(what: &str, given: &Results, expected: &Results) {
    assert_eq!(given.loss.to_bits(), expected.loss.to_bits(), "loss, {what}");
    assert_bits(&format!("gradients, {what}"), &given.gradients, &expected.gradients);
    assert_bits(&format!("dx, {what}"), &given.dx, &expected.dx);
    assert_bits(&format!("dstate, {what}"), &given.dstate, &expected.dstate);
    assert_bits(&format!("last state, {what}"), given.last.as_slice(), expected.last.as_slice());
}

/// Blocks before the tail of one dense layer, of two, and with a dense layer that is not of the tail.
fn networks() -> [Network; 3] {
    let lstm = |inputs| Lstm::new(inputs, 8).unwrap();
    [
        Network::new(lstm(INPUTS)).then(Dense::new(8, CLASSES).unwrap()),
        Network::new(Gru::new(INPUTS, 8, Reset::After).unwrap())
            .with_learned_state()
            .then(Dense::new(8, 19).unwrap())
            .then(Dense::new(19, CLASSES).unwrap()),
        Network::new(Dense::new(INPUTS, 6).unwrap())
            .then(lstm(6))
            .then(Dense::new(8, CLASSES).unwrap()),
    ]
}

fn schedules() -> Vec<Schedule> {
    let lengths = [9, 0, 14, 1, 9];
    vec![
        Schedule::dense(11, 3),
        Schedule::packed(&lengths).unwrap(),
        Schedule::padded(&lengths, 15).unwrap().with_resets(&[(0, 4), (2, 0), (2, 9)]).unwrap(),
        Schedule::batch_first(&[1, 300], 300).unwrap(),
    ]
}

fn training<'a>(model: &'a mut Model, schedule: &Schedule) -> Training<'a> {
    model.training(schedule).with_input_gradients().with_state_gradients()
}

fn chunked<'a>(model: &'a mut Model, schedule: &Schedule, rows: usize) -> Training<'a> {
    training(model, schedule).with_chunked_outputs(rows)
}

/// Calls `check` with each network, schedule and loss, on one thread and on two.
fn each(check: impl Fn(&str, &mut Model, &Schedule, &dyn Loss)) {
    for (nth, network) in networks().iter().enumerate() {
        for schedule in &schedules() {
            let rows = schedule.given_rows();
            let classes: Vec<u32> = (0..rows as u32).map(|row| row * 7 % CLASSES as u32).collect();
            let mask: Vec<bool> = (0..rows).map(|row| row % 5 != 3).collect();
            let targets: Vec<f32> =
                uniform(7, rows * CLASSES, 0.5).iter().map(|t| t + 0.5).collect();
            let weights: Vec<f32> = (0..CLASSES).map(|k| k as f32 / 8.0).collect();
            let smoothed = SoftmaxCrossEntropy::mean(&classes).with_mask(&mask);
            let smoothed = smoothed.with_label_smoothing(0.1).unwrap();
            let losses: [&dyn Loss; 3] = [
                &SoftmaxCrossEntropy::mean(&classes),
                &smoothed.with_class_weights(&weights).unwrap(),
                &LogisticCrossEntropy::mean_over_sequences(&targets).with_mask(&mask),
            ];
            for (&isa, threads) in isas().iter().flat_map(|isa| [(isa, 1), (isa, 2)]) {
                let mut model = drawn_model(network, Runtime::new(isa).threads(threads));
                let what = format!("network {nth}, {schedule:?}, {threads} threads, {isa}");
                check(&what, &mut model, schedule, losses[(nth + threads) % 3]);
                check(&what, &mut model, schedule, losses[nth % 3]);
            }
        }
    }
}

#[test]
fn chunks_have_the_bits_of_the_whole() {
    bptt_kernels::team::set_cores(8);
    each(|what, model, schedule, loss| {
        let mut whole = training(model, schedule).workspace().unwrap();
        let expected = run(model, &mut whole, loss);
        let rows = schedule.rows();
        for chunk in [1, 7, 32, rows - 1, rows, 10 * rows] {
            let what = format!("chunks of {chunk}, {what}");
            let mut small = chunked(model, schedule, chunk).workspace().unwrap();
            let given = run(model, &mut small, loss);
            assert_same(&what, &given, &expected);
            assert_eq!(given.evaluated.to_bits(), expected.evaluated.to_bits(), "{what}");
        }
    });
}

/// Stretches of time, and chunks of rows within each.
#[test]
fn chunks_within_a_budget() {
    each(|what, model, schedule, loss| {
        let mut whole = training(model, schedule).workspace().unwrap();
        let expected = run(model, &mut whole, loss);
        for chunk in [3, 20] {
            let in_chunks = chunked(model, schedule, chunk).bytes().unwrap();
            let budget = in_chunks - in_chunks / 4;
            let training = chunked(model, schedule, chunk).with_budget(budget);
            // A short pass has nothing to gain.
            let Ok(bytes) = training.bytes() else { continue };
            let mut small = training.workspace().unwrap();
            assert!(small.bytes() == bytes && bytes <= budget);
            assert_same(
                &format!("chunks of {chunk}, {what}"),
                &run(model, &mut small, loss),
                &expected,
            );
        }
    });
    // A long one has.
    let mut model = drawn_model(&networks()[0], Runtime::best().unwrap());
    let schedule = Schedule::dense(300, 2);
    let budget = chunked(&mut model, &schedule, 16).bytes().unwrap() / 2;
    let planned = chunked(&mut model, &schedule, 16).with_budget(budget).recomputation().unwrap();
    assert!(planned.steps + planned.rows > 0 && planned.bytes <= budget);
    let classes = [3; 600];
    let loss = SoftmaxCrossEntropy::sum(&classes);
    let mut small = chunked(&mut model, &schedule, 16).with_budget(budget).workspace().unwrap();
    let mut whole = training(&mut model, &schedule).workspace().unwrap();
    let expected = run(&model, &mut whole, &loss);
    assert_same("a long pass", &run(&model, &mut small, &loss), &expected);
}

/// Bytes that begin at a cache line, and of which each f32 is NaN.
struct Bytes {
    all: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    fn new(len: usize) -> Self {
        let all = vec![255; len + 64];
        let start = all.as_ptr().align_offset(64);
        Self { all, start, len }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.all[self.start..][..self.len]
    }
}

impl AsMut<[u8]> for Bytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..][..self.len]
    }
}

/// A pass needs memory for the outputs of a chunk and for the gradient of its input, and finds any
/// content in it.
#[test]
fn bytes_are_those_of_a_chunk() {
    let (hidden, vocabulary, schedule) = (8, 1000, Schedule::dense(100, 8));
    let network = Network::new(Embedding::new(vocabulary, 4).unwrap())
        .then(Lstm::new(4, hidden).unwrap())
        .then(Dense::new(hidden, vocabulary).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let mut bytes = |chunk: usize| {
        let training = model.training(&schedule).with_chunked_outputs(chunk);
        let (said, workspace) = (training.bytes().unwrap(), training.workspace().unwrap());
        assert_eq!(workspace.bytes(), said);
        assert_eq!(workspace.into_memory().bytes(), said);
        said
    };
    // Their scratch is the same, and 16 divides all sizes.
    assert_eq!(bytes(512) - bytes(256), 256 * (vocabulary + hidden) * size_of::<f32>());
    assert_eq!(bytes(800), bytes(10_000));
    let whole = model.training(&schedule).bytes().unwrap();
    let saved = (800 - 256) * vocabulary * size_of::<f32>();
    let small = {
        let training = model.training(&schedule).with_chunked_outputs(256);
        training.bytes().unwrap()
    };
    // What the whole has less is ∂L/∂x of a chunk: it needs no more regions for gradients.
    assert_eq!(whole - small, saved - 256 * hidden * size_of::<f32>());

    let (tokens, classes) = ([3; 800], [5; 800]);
    let loss = SoftmaxCrossEntropy::mean(&classes);
    let of = |training: Training<'_>| {
        let memory = Memory::of(Bytes::new(training.bytes().unwrap())).unwrap();
        training.workspace_in(memory).unwrap()
    };
    let mut dirty = of(model.training(&schedule).with_chunked_outputs(256));
    let mut clean = model.training(&schedule).with_chunked_outputs(256).workspace().unwrap();
    let mut results = Vec::new();
    for workspace in [&mut dirty, &mut clean] {
        let value = model.gradients(workspace, Tokens(&tokens), &loss, Accumulate::No).unwrap();
        results.push((value, workspace.gradients().as_slice().to_vec()));
    }
    assert_eq!(results[0].0, results[1].0);
    assert_bits("in dirty memory", &results[0].1, &results[1].1);
}

/// Other schedules in the same memory, and sequences that have no step.
#[test]
fn planned_anew() {
    let mut model = drawn_model(&networks()[0], Runtime::best().unwrap());
    let mut workspace = chunked(&mut model, &Schedule::dense(20, 4), 9).workspace().unwrap();
    for lengths in [[3, 0, 20], [2, 7, 7], [0, 0, 0]] {
        let schedule = Schedule::packed(&lengths).unwrap();
        let classes = vec![1; schedule.rows()];
        let loss = SoftmaxCrossEntropy::sum(&classes);
        workspace.replan(&schedule).unwrap();
        let mut whole = training(&mut model, &schedule).workspace().unwrap();
        let expected = run(&model, &mut whole, &loss);
        assert_same(&format!("{lengths:?}"), &run(&model, &mut workspace, &loss), &expected);
    }
}

#[test]
fn what_needs_all_outputs_is_refused() {
    let mut model = drawn_model(&networks()[0], Runtime::best().unwrap());
    let schedule = Schedule::dense(6, 2);
    let mut workspace = model.training(&schedule).with_chunked_outputs(4).workspace().unwrap();
    let x = uniform(1, 12 * INPUTS, 1.0);
    let refused = model.forward(&mut workspace, &x).unwrap_err();
    assert_mismatch(refused, "workspace", "outputs in chunks", "no chunks");
    let all_at_once: [&dyn Loss; 2] = [&|_: &mut [f32]| 0.0, &Ctc::sum(&[], &[0, 0])];
    for loss in all_at_once {
        let before = workspace.gradients().as_slice().to_vec();
        let refused = model.gradients(&mut workspace, &x, loss, Accumulate::No).unwrap_err();
        assert_mismatch(refused, "loss", "all outputs at once", "they come in chunks");
        let refused = model.evaluate(&mut workspace, &x, loss).unwrap_err();
        assert_mismatch(refused, "loss", "all outputs at once", "they come in chunks");
        assert_bits("gradients", workspace.gradients().as_slice(), &before);
    }
    let classes = [1; 12];
    let loss = SoftmaxCrossEntropy::sum(&classes);
    model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
    assert!(workspace.activations("0.y").is_ok());
    let refused = workspace.activations("1.y").unwrap_err();
    assert_eq!(refused, value("activations", "1.y", "what a backward pass has left"));
    assert!(matches!(workspace.outputs(), Err(Error::Order { .. })));
    let refused = model.backward(&mut workspace, &x, &loss, Accumulate::No);
    assert!(matches!(refused, Err(Error::Order { .. })), "{refused:?}");
    // Targets are checked before anything is written.
    let wrong = [CLASSES as u32; 12];
    let loss = SoftmaxCrossEntropy::sum(&wrong);
    let before = workspace.gradients().as_slice().to_vec();
    let refused = model.gradients(&mut workspace, Input::Features(&x), &loss, Accumulate::No);
    assert!(matches!(refused, Err(Error::Target { row: 0, .. })), "{refused:?}");
    assert_bits("gradients", workspace.gradients().as_slice(), &before);
}

#[test]
fn networks_without_such_blocks_are_refused() {
    let lstm = || Lstm::new(3, 4).unwrap();
    let dense = || Dense::new(4, 3).unwrap();
    let of = |network: Network, rows| {
        let mut model = drawn_model(&network, Runtime::new(Isa::best().unwrap()));
        model.training(Schedule::dense(4, 2)).with_chunked_outputs(rows).bytes()
    };
    let expected = "a last block that looks at each row alone, after another block";
    let refused = of(Network::new(lstm()), 2).unwrap_err();
    assert_mismatch(refused, "chunks of outputs", "Lstm", expected);
    let refused = of(Network::new(dense()).then(lstm()), 2).unwrap_err();
    assert_mismatch(refused, "chunks of outputs", "Lstm", expected);
    let refused = of(Network::new(dense()), 2).unwrap_err();
    assert_mismatch(refused, "chunks of outputs", "Dense", expected);
    let refused = of(Network::new(lstm()).then(dense()), 0).unwrap_err();
    assert_eq!(refused, value("rows of a chunk", "0", "1 or more"));
    assert!(of(Network::new(dense()).then(Dense::new(3, 2).unwrap()), 2).is_ok());
}
