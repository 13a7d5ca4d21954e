//! Sequences so long, and so many, that sizes that are computed or kept wrongly show: the memory of
//! a whole process, and workspaces of more than 2³¹ elements.

mod common;

use bptt::{
    Accumulate, Dense, Isa, Lstm, Model, Network, Runtime, Schedule, Sgd, SquaredError, State,
    Workspace,
};
use bptt_reference::sample::uniform;
use common::{assert_bits, is_slow, say};
use std::process::Command;

const STEPS: usize = 100_000;
const HIDDEN: usize = 128;

/// The environment variable with the budget of the process that trains, in bytes.
const BUDGET: &str = "BPTT_TEST_BUDGET";

/// What a process has beside what it allocates for training: the pages of its program that it has
/// used, the C library, stacks, and what the allocator rounds up. Measured were 5 MB, with and without
/// a budget; the rest is for machines whose pages are larger. The outputs of all steps, which a budget
/// does not keep, would be 51 MB.
const BESIDE: usize = 16 << 20;

fn model(network: &Network) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.1);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::best().unwrap()).unwrap()
}

/// The most memory that this process has had at a time, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap()
}

/// Trains, in the processes that [`train`] starts, and prints what it took.
#[test]
#[ignore = "is run by memory_is_what_is_counted"]
fn child() {
    let network = Network::new(Lstm::new(1, HIDDEN).unwrap()).then(Dense::new(HIDDEN, 1).unwrap());
    let mut model = model(&network);
    let (x, targets) = (uniform(2, STEPS, 1.0), uniform(3, STEPS, 1.0));
    let training = model.training(Schedule::dense(STEPS, 1));
    let budget = std::env::var(BUDGET).ok().map(|bytes| bytes.parse().unwrap());
    let training = match budget {
        Some(bytes) => training.with_budget(bytes),
        None => training,
    };
    let mut workspace = training.workspace().unwrap();
    let loss = SquaredError::mean(&targets);
    let loss = model.train(&mut workspace, &x, &loss, &mut Sgd::new(0.1)).unwrap();
    let peak = peak();
    let parameters = 4 * model.parameters().as_slice().len();
    let counted =
        workspace.bytes() + 2 * parameters + model.packed_bytes() + 4 * (x.len() + targets.len());
    println!("\ntrained: {} {counted} {peak} {:x}", workspace.bytes(), loss.to_bits());
}

/// What a process takes that trains, and its loss.
#[derive(Debug)]
struct Trained {
    workspace: usize,
    /// The bytes of the workspace, of parameters, their gradients, packed weights, inputs and
    /// targets.
    counted: usize,
    peak: usize,
    loss: String,
}

fn train(budget: Option<usize>) -> Trained {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    match budget {
        Some(bytes) => command.env(BUDGET, bytes.to_string()),
        None => command.env_remove(BUDGET),
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("trained: "));
    let words: Vec<&str> = line.unwrap_or_else(|| panic!("{text}")).split(' ').collect();
    let [workspace, counted, peak, loss] = words[..] else { panic!("{text}") };
    let [workspace, counted, peak] = [workspace, counted, peak].map(|n| n.parse().unwrap());
    Trained { workspace, counted, peak, loss: loss.into() }
}

/// An update over 100 000 steps, with all activations and under 1 % of their memory.
#[test]
fn memory_is_what_is_counted() {
    if !cfg!(target_os = "linux") {
        return say("memory of long sequences NOT measured: it is read from Linux's /proc");
    }
    if is_slow() {
        return say("memory of long sequences NOT measured: an emulator has its own needs");
    }
    if Isa::best().unwrap().name() == "portable" {
        return say("memory of long sequences NOT measured: portable code is too slow");
    }
    let whole = train(None);
    let small = train(Some(whole.workspace / 100));
    say(&format!("{whole:?}\n{small:?}"));
    assert!(whole.workspace >= 6 * 4 * HIDDEN * STEPS, "{whole:?}");
    assert!(small.workspace <= whole.workspace / 100, "{small:?}");
    assert_eq!(small.loss, whole.loss);
    for trained in [&whole, &small] {
        assert!(trained.peak <= trained.counted + BESIDE, "{trained:?}");
    }
    // The workspace that is counted is memory that is used.
    assert!(whole.peak >= whole.workspace, "{whole:?}");
}

/// Rows `of` of each step, of `batch` rows.
fn rows_of(all: &[f32], width: usize, batch: usize, of: usize) -> Vec<f32> {
    all.chunks(width).skip(of).step_by(batch).flatten().copied().collect()
}

/// All results of a pass for its last sequence.
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dstate: State,
    last: State,
}

/// A forward and a backward pass, with ½ Σ y² as the loss.
fn run(model: &mut Model, x: &[f32], batch: usize) -> (Results, Workspace) {
    let schedule = Schedule::dense(x.len() / batch, batch);
    let training = model.training(schedule).with_input_gradients().with_state_gradients();
    let mut workspace = training.workspace().unwrap();
    let mut first = model.state(batch).unwrap();
    let mut one = model.state(1).unwrap();
    one.as_mut_slice().copy_from_slice(&uniform(4, 2 * HIDDEN, 1.0));
    first.set_sequence(batch - 1, &one).unwrap();
    workspace.set_state(&first).unwrap();
    let y = model.forward(&mut workspace, x).unwrap();
    let y = rows_of(y, HIDDEN, batch, batch - 1);
    let last = workspace.last_sequence_state(batch - 1).unwrap();
    let loss = |y: &mut [f32]| 0.5 * y.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>();
    model.backward(&mut workspace, x, &loss, Accumulate::No).unwrap();
    let dx = rows_of(workspace.input_gradients().unwrap(), 1, batch, batch - 1);
    let dstate = workspace.state_gradients().unwrap().sequence(batch - 1).unwrap();
    (Results { y, dx, dstate, last }, workspace)
}

/// Run with `cargo test --release --test long -- --ignored beyond --nocapture`.
#[test]
#[ignore = "takes 10 GiB and a minute"]
fn sizes_beyond_2_to_the_31_elements() {
    let (steps, batch) = (600, 4700);
    let network = Network::new(Lstm::new(1, HIDDEN).unwrap());
    let mut model = model(&network);
    let x = uniform(2, steps * batch, 1.0);
    let (all, workspace) = run(&mut model, &x, batch);
    assert!(workspace.bytes() / 4 > 1 << 31);
    drop(workspace);
    let (alone, _) = run(&mut model, &rows_of(&x, 1, batch, batch - 1), 1);
    assert_bits("y", &all.y, &alone.y);
    assert_bits("dx", &all.dx, &alone.dx);
    assert_bits("dstate", all.dstate.as_slice(), alone.dstate.as_slice());
    assert_bits("last state", all.last.as_slice(), alone.last.as_slice());
    assert!(
        alone.dx.iter().all(|&dx| dx != 0.0) && alone.dstate.as_slice().iter().all(|d| *d != 0.0)
    );
    say(&format!("as alone on {}", Isa::best().unwrap()));
}
