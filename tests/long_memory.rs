//! The example `long_memory`: its tasks, its norms, and that a small entry of its table is
//! learned.

use bptt::{Accumulate, Gradients, Isa, Layer, OutputGradients, Parameters, Parts, Purpose, State};
use rand::{SeedableRng, rngs::StdRng};
use std::path::Path;

#[allow(dead_code)]
#[path = "../examples/long_memory/main.rs"]
mod example;

use example::cells::{Kind, Visit};
use example::model::Settings;
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
    let Answers::Sums(sums) = &drawn.targets else { panic!("no sums") };
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
    let Answers::Symbols(symbols) = &drawn.targets else { panic!("no symbols") };
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
const SIZES: (usize, usize) = (2, 5);

/// Compares what stretches of one step give with whole passes over the steps after t.
struct Tails;

impl Visit for Tails {
    type Output = ();

    fn visit<C: Layer>(self, layer: C, parameters: Parameters<C>) -> Result<(), bptt::Error> {
        let isa = Isa::best()?;
        let x = Task::Adding.draw(STEPS, BATCH, &mut rng()).x;
        let v: Vec<f32> = (0..SIZES.1).map(|unit| 0.3 - 0.1 * unit as f32).collect();
        let last = v.repeat(BATCH);
        let gradients = walk(&parameters, &x, BATCH, &last)?;
        let norms = norms(&parameters, &x, BATCH, &v)?;
        assert_eq!((gradients.len(), norms.h.len()), (STEPS + 1, STEPS + 1));
        let norm = |of: &[f32]| of.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();

        let weights = layer.pack(&parameters, Purpose::Training, isa)?;
        let (row, len) = (BATCH * SIZES.0, BATCH * SIZES.1);
        for tail in 1..=STEPS {
            let from = STEPS - tail;
            // The state that the tail begins from.
            let (mut h, mut c) = (vec![0.0; len], vec![0.0; len]);
            if from > 0 {
                let plan = layer.plan(from, BATCH, isa)?;
                let mut arena = plan.allocate()?;
                plan.forward(&weights, &x[..from * row], None, &mut arena)?;
                let Parts { h: h_last, c: c_last, .. } = arena.last()?.into_parts();
                h.copy_from_slice(h_last);
                c_last.into_iter().for_each(|last| c.copy_from_slice(last));
            }
            let plan = layer.plan(tail, BATCH, isa)?;
            let mut arena = plan.allocate()?;
            let x = &x[from * row..];
            plan.forward(
                &weights,
                x,
                Some(State::from_parts(&h[..], &c[..], &[][..])),
                &mut arena,
            )?;
            let zeros = vec![0.0; len];
            let outputs = OutputGradients {
                dy: None,
                last: Some(State::from_parts(&last[..], &zeros[..], &[][..])),
            };
            let (mut dh, mut dc) = (vec![0.0; len], vec![0.0; len]);
            let mut unused = layer.parameters()?;
            let to = Gradients {
                initial: Some(State::from_parts(&mut dh[..], &mut dc[..], &mut [][..])),
                ..Gradients::of(&mut unused, Accumulate::No)
            };
            plan.backward(&weights, x, outputs, &mut arena, to)?;
            assert_eq!(gradients[tail].0, dh);
            assert!((norms.h[from] - norm(&dh) / norm(&last)).abs() < 1e-12 * norms.h[from]);
            if !norms.c.is_empty() {
                assert_eq!(gradients[tail].1, dc);
            }
        }
        Ok(())
    }
}

#[test]
fn gradients_of_stretches_are_those_of_whole_tails() {
    for kind in Kind::ALL {
        kind.visit(SIZES, &mut rng(), Tails).unwrap();
    }
}

/// Compares ∂L/∂h and ∂L/∂c of the initial state with finite differences.
struct Slopes;

impl Visit for Slopes {
    type Output = ();

    fn visit<C: Layer>(self, layer: C, parameters: Parameters<C>) -> Result<(), bptt::Error> {
        let isa = Isa::best()?;
        let x = Task::Adding.draw(STEPS, 1, &mut rng()).x;
        let v: Vec<f32> = (0..SIZES.1).map(|_| 1.0).collect();
        let (dh, dc) = walk(&parameters, &x, 1, &v)?.pop().unwrap();
        let weights = layer.pack(&parameters, Purpose::Inference, isa)?;
        let loss = |h: &[f32], c: &[f32]| -> Result<f64, bptt::Error> {
            let plan = layer.plan(STEPS, 1, isa)?;
            let mut arena = plan.allocate()?;
            plan.forward(&weights, &x, Some(State::from_parts(h, c, &[][..])), &mut arena)?;
            let h = arena.last()?.into_parts().h;
            Ok(h.iter().map(|&h| f64::from(h)).sum())
        };
        let zeros = vec![0.0; SIZES.1];
        for unit in 0..SIZES.1 {
            let moved = |by: f32| {
                let mut state = zeros.clone();
                state[unit] += by;
                state
            };
            let compare = |of_h: bool, gradient: f32| -> Result<(), bptt::Error> {
                let at = |by: f32| match of_h {
                    true => loss(&moved(by), &zeros),
                    false => loss(&zeros, &moved(by)),
                };
                let slope = (at(1e-2)? - at(-1e-2)?) / 2e-2;
                assert!((slope - f64::from(gradient)).abs() < 1e-3, "{slope} {gradient}");
                Ok(())
            };
            compare(true, dh[unit])?;
            dc.get(unit).map_or(Ok(()), |&dc| compare(false, dc))?;
        }
        Ok(())
    }
}

#[test]
fn gradients_are_the_slopes_of_the_output() {
    // A rectified unit at its corner has none.
    for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::Relu) {
        kind.visit(SIZES, &mut rng(), Slopes).unwrap();
    }
}

fn run(kind: Kind, task: Task, lag: usize, updates: usize) -> Outcome {
    let settings = Settings { hidden: 16, batch: 16, learning_rate: 1e-2, clip: 1.0 };
    let with_norms = task == Task::Adding;
    let job = Job { kind, task, lag, settings, updates, look: 100, seed: 1, with_norms };
    job.run(|_| {}).unwrap()
}

#[test]
fn an_lstm_learns_short_lags() {
    for (task, lag) in [(Task::Adding, 8), (Task::Copying, 3)] {
        let outcome = run(Kind::Lstm, task, lag, 2000);
        assert!(outcome.learned.is_some(), "{outcome:?}");
        assert!(outcome.error < LEARNED_BELOW);
    }
}

#[test]
fn a_run_repeats_to_the_bit() {
    for kind in Kind::ALL {
        let [first, second] = [0; 2].map(|_| run(kind, Task::Adding, 6, 100));
        assert_eq!(first, second);
        assert!(first.error.is_finite() && first.norms.is_some());
    }
}

#[test]
fn plots_are_written_and_tables_have_all_cells() {
    let outcomes = Kind::ALL.map(|kind| run(kind, Task::Adding, 6, 1));
    let table = example::table::table(Task::Adding, &[6], &outcomes);
    assert_eq!(table.lines().count(), 2 + Kind::ALL.len(), "{table}");
    assert!(table.lines().all(|line| line.matches('|').count() == 3), "{table}");

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("long_memory");
    std::fs::create_dir_all(&folder).unwrap();
    example::plot::save(&folder, &outcomes).unwrap();
    let svg = std::fs::read_to_string(folder.join("gradients.svg")).unwrap();
    let png = std::fs::read(folder.join("gradients.png")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(Kind::ALL.iter().all(|kind| svg.contains(kind.name())), "{svg}");
    let mut pixels = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; pixels.output_buffer_size().unwrap()];
    pixels.next_frame(&mut bytes).unwrap();
    assert!(bytes.contains(&0) && bytes.contains(&255));
}
