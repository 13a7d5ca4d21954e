//! The example `long_memory`: its tasks and its norms, and that a cell learns a small entry of its
//! table.

use bptt::{Accumulate, Loss, Model, Runtime, Schedule};
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use std::path::Path;

#[allow(dead_code)]
#[path = "../examples/long_memory/main.rs"]
mod example;

use example::args::Options;
use example::cells::{self, KINDS, Kind, RELU};
use example::norms::{norms, walk};
use example::tasks::{Answers, LENGTH, SYMBOLS, Task};
use example::train::{Job, LEARNED_BELOW, Outcome};

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

#[test]
fn sums_are_those_of_a_marked_value_in_each_half() {
    let (steps, batch) = (9, 50);
    let drawn = Task::Adding.draw(steps, batch, &mut rng());
    let Answers::Sums(sums) = &drawn.answers else { panic!("no sums") };
    for (sequence, &sum) in sums.iter().enumerate() {
        let rows: Vec<[f32; 2]> = (0..steps)
            .map(|step| [0, 1].map(|feature| drawn.x[(step * batch + sequence) * 2 + feature]))
            .collect();
        assert!(rows.iter().all(|x| (0.0..1.0).contains(&x[0]) && [0.0, 1.0].contains(&x[1])));
        for half in [&rows[..steps / 2], &rows[steps / 2..]] {
            assert_eq!(half.iter().map(|x| x[1]).sum::<f32>(), 1.0);
        }
        assert_eq!(rows.iter().map(|x| x[0] * x[1]).sum::<f32>(), sum);
    }
}

#[test]
fn symbols_are_asked_for_in_their_order_after_the_lag() {
    let (lag, batch, features) = (6, 20, SYMBOLS + 2);
    let drawn = Task::Copying.draw(lag, batch, &mut rng());
    let Answers::Symbols(symbols) = &drawn.answers else { panic!("no symbols") };
    let given: Vec<usize> = drawn
        .x
        .chunks(features)
        .map(|x| {
            assert_eq!(x.iter().sum::<f32>(), 1.0);
            x.iter().position(|&x| x == 1.0).unwrap()
        })
        .collect();
    let (first, rest) = given.split_at(LENGTH * batch);
    assert!(
        first.iter().eq(symbols.iter().map(|&symbol| symbol as usize).collect::<Vec<_>>().iter())
    );
    let (silent, asked) = rest.split_at(lag * batch);
    assert!(silent.iter().all(|&feature| feature == SYMBOLS));
    assert!(asked[..batch].iter().all(|&feature| feature == SYMBOLS + 1));
    assert!(asked[batch..].iter().all(|&feature| feature == SYMBOLS));
    assert_eq!(given.len(), Task::Copying.steps(lag) * batch);
}

#[test]
fn the_same_seed_draws_the_same() {
    for task in [Task::Adding, Task::Copying] {
        assert_eq!(task.draw(12, 4, &mut rng()), task.draw(12, 4, &mut rng()));
        let other = &mut StdRng::seed_from_u64(8);
        assert_ne!(task.draw(12, 4, &mut rng()), task.draw(12, 4, other));
    }
}

const STEPS: usize = 7;
const BATCH: usize = 3;
const INPUT: usize = 2;
const HIDDEN: usize = 5;

fn model(kind: Kind) -> Model {
    cells::model(kind, [INPUT, HIDDEN, 1], &mut rng()).unwrap()
}

/// A loss that does not depend on the outputs.
fn nothing(y: &mut [f32]) -> f64 {
    y.fill(0.0);
    0.0
}

/// Compares gradients from stretches of one step with those of whole passes over the steps after t.
#[test]
fn gradients_of_stretches_are_those_of_whole_tails() {
    for kind in KINDS {
        let mut model = model(kind);
        let x = Task::Adding.draw(STEPS, BATCH, &mut rng()).x;
        let last = model.parameters().tensor("1.weight").unwrap().repeat(BATCH);
        let gradients = walk(&mut model, &x, BATCH, &last).unwrap();
        let norms = norms(&mut model, &x, BATCH).unwrap();
        assert_eq!((gradients.len(), norms.h.len()), (STEPS + 1, STEPS + 1));
        assert_eq!(norms.c.len(), if kind.0.starts_with("LSTM") { STEPS + 1 } else { 0 });
        let norm = |of: &[f32]| of.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();

        for tail in 1..=STEPS {
            let from = STEPS - tail;
            let (before, x) = x.split_at(from * BATCH * INPUT);
            // The state from which the tail begins.
            let mut state = model.state(BATCH).unwrap();
            if from > 0 {
                let mut head = model.training_workspace(Schedule::dense(from, BATCH)).unwrap();
                model.forward(&mut head, before).unwrap();
                state = head.last_state().unwrap();
            }
            let training = model.training(Schedule::dense(tail, BATCH)).with_state_gradients();
            let mut workspace = training.workspace().unwrap();
            workspace.set_state(&state).unwrap();
            workspace.set_last_gradient(Some(&gradients[0])).unwrap();
            model.gradients(&mut workspace, x, &nothing, Accumulate::No).unwrap();
            let whole = workspace.state_gradients().unwrap();
            assert_eq!(gradients[tail].as_slice(), whole.as_slice(), "{}", kind.0);
            let over = |name: &str| norm(whole.tensor(name).unwrap()) / norm(&last);
            assert!((norms.h[from] - over("0.h")).abs() < 1e-12 * norms.h[from]);
            if let Some(c) = norms.c.get(from) {
                assert!((c - over("0.c")).abs() < 1e-12 * c);
            }
        }
    }
}

/// Compares ∂L/∂h and ∂L/∂c of the initial state with finite differences.
#[test]
fn gradients_are_the_slopes_of_the_output() {
    // A rectified unit has no derivative at its corner.
    for kind in KINDS.into_iter().filter(|kind| kind.0 != RELU) {
        let mut model = model(kind);
        let x = Task::Adding.draw(STEPS, 1, &mut rng()).x;
        let gradient = walk(&mut model, &x, 1, &[1.0; HIDDEN]).unwrap().pop().unwrap();
        let mut workspace = model.training_workspace(Schedule::dense(STEPS, 1)).unwrap();
        let mut loss = |unit: usize, by: f32| {
            let mut state = model.state(1).unwrap();
            state.as_mut_slice()[unit] += by;
            workspace.set_state(&state).unwrap();
            model.forward(&mut workspace, &x).unwrap();
            let last = workspace.last_state().unwrap();
            last.tensor("0.h").unwrap().iter().map(|&h| f64::from(h)).sum::<f64>()
        };
        for (unit, &gradient) in gradient.as_slice().iter().enumerate() {
            let slope = (loss(unit, 1e-2) - loss(unit, -1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient)).abs() < 1e-3, "{slope} {gradient}");
        }
    }
}

fn run(kind: Kind, task: Task, lag: usize, updates: usize) -> Outcome {
    let updates = updates.to_string();
    let sizes = ["--hidden", "16", "--batch", "16", "--updates", &updates];
    let options = Options::parse_from(["long_memory"].into_iter().chain(sizes));
    let with_norms = task == Task::Adding;
    Job { kind, task, lag, with_norms, options: &options }.run(|_| {}).unwrap()
}

#[test]
fn an_lstm_learns_short_lags() {
    let lstm = KINDS.into_iter().find(|kind| kind.0 == "LSTM").unwrap();
    for (task, lag) in [(Task::Adding, 8), (Task::Copying, 3)] {
        let outcome = run(lstm, task, lag, 2000);
        assert!(outcome.learned.is_some(), "{outcome:?}");
        assert!(outcome.error < LEARNED_BELOW);
    }
}

#[test]
fn a_run_repeats_to_the_bit() {
    for kind in KINDS {
        let [first, second] = [0; 2].map(|_| run(kind, Task::Adding, 6, 100));
        assert_eq!(first, second);
        assert!(first.error.is_finite() && first.norms.is_some());
    }
}

#[test]
fn the_loss_is_of_the_last_rows_and_its_gradient_is_its_slope() {
    for (task, asked) in [(Task::Adding, 1), (Task::Copying, LENGTH)] {
        let (batch, outputs) = (4, task.sizes().1);
        let drawn = task.draw(5, batch, &mut rng());
        let rows = task.steps(5) * batch;
        let y: Vec<f32> = (0..rows * outputs).map(|at| (at % 7) as f32 * 0.25).collect();
        let runtime = Runtime::best().unwrap();
        let mut gradient = y.clone();
        drawn.gradient(runtime, bptt::Outputs::new(&mut gradient, outputs)).unwrap();
        for (at, &gradient) in gradient.iter().enumerate() {
            let loss = |by: f32| {
                let mut y = y.clone();
                y[at] += by;
                drawn.value(runtime, bptt::Outputs::new(&mut y, outputs)).unwrap()
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient)).abs() < 1e-3, "{slope} {gradient}");
            assert_eq!(gradient != 0.0, at / outputs >= rows - asked * batch);
        }
    }
}

#[test]
fn plots_are_written_and_tables_have_all_cells() {
    let outcomes: Vec<Outcome> =
        KINDS.into_iter().map(|kind| run(kind, Task::Adding, 6, 1)).collect();
    let table = example::table::table(Task::Adding, &[6], &outcomes);
    assert_eq!(table.lines().count(), 2 + KINDS.len(), "{table}");
    assert!(table.lines().all(|line| line.matches('|').count() == 3), "{table}");

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("long_memory");
    std::fs::create_dir_all(&folder).unwrap();
    example::plot::save(&folder, &outcomes).unwrap();
    let svg = std::fs::read_to_string(folder.join("gradients.svg")).unwrap();
    let png = std::fs::read(folder.join("gradients.png")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(KINDS.iter().all(|kind| svg.contains(kind.0)), "{svg}");
    let mut pixels = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; pixels.output_buffer_size().unwrap()];
    pixels.next_frame(&mut bytes).unwrap();
    assert!(bytes.contains(&0) && bytes.contains(&255));
}
