//! Compares neighbouring sizes: no number of units, and no number of sequences, may take much
//! longer than the straight line through its neighbours predicts. Prints a table of the time per
//! step of a pass, and the sizes that are too slow.
//!
//! ```text
//! cargo bench --bench sizes -- [vanilla|gru|lstm] [infer|train]
//! ```
//!
//! All sizes are timed in turns, many times over, and the median of each counts, so that other work
//! on the machine slows all of them alike.

use bptt::{
    Accumulate, Activation, Error, Gru, Layer, Lstm, Network, Reset, Runtime, Schedule, Vanilla,
};
use rand::{SeedableRng, rngs::StdRng};
use std::hint::black_box;
use std::time::{Duration, Instant};

const INPUTS: usize = 16;
const STEPS: usize = 20;

/// How often each size is timed, and for how long at least.
const TURNS: usize = 15;
const SPELL: Duration = Duration::from_millis(1);

/// The share by which a size may take longer than the line through its neighbours predicts.
const ALLOWED: f64 = 0.2;

/// The sizes of a sweep in their order, H and B.
fn sweeps() -> Vec<(&'static str, Vec<(usize, usize)>)> {
    vec![
        ("H, B 1", (59..=101).map(|hidden| (hidden, 1)).collect()),
        ("H, B 16", (59..=101).map(|hidden| (hidden, 16)).collect()),
        ("B, H 64", (1..=34).map(|batch| (64, batch)).collect()),
        ("B, H 100", (1..=34).map(|batch| (100, batch)).collect()),
    ]
}

fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let wanted = |name: &str, all: &[&str]| {
        words.iter().all(|word| !all.contains(&word.as_str())) || words.iter().any(|w| w == name)
    };
    let (cells, modes) = (["vanilla", "gru", "lstm"], ["infer", "train"]);
    let mut off = Vec::new();
    for cell in cells.into_iter().filter(|cell| wanted(cell, &cells)) {
        for mode in modes.into_iter().filter(|mode| wanted(mode, &modes)) {
            for (sweep, sizes) in sweeps() {
                let train = mode == "train";
                let passes = sizes.iter().map(|&size| pass(cell, size, train));
                let times = medians(passes.collect::<Result<_, _>>()?);
                println!("{cell}, {mode}, {sweep}: ns per step, and over the neighbours' line");
                for nth in 0..sizes.len() {
                    let (hidden, batch) = sizes[nth];
                    let line = (nth > 0 && nth + 1 < sizes.len())
                        .then(|| times[nth] / ((times[nth - 1] + times[nth + 1]) / 2.0));
                    let over = line.map_or(String::new(), |line| format!("{line:.2}"));
                    println!("  H {hidden:3}  B {batch:2}  {:9.0}  {over}", times[nth]);
                    if line.is_some_and(|line| line > 1.0 + ALLOWED) {
                        off.push(format!("{cell}, {mode}, H {hidden}, B {batch}: {over}"));
                    }
                }
            }
        }
    }
    println!("{} sizes above {:.2}: {off:#?}", off.len(), 1.0 + ALLOWED);
    Ok(())
}

type Passes = Box<dyn FnMut() -> Result<(), Error>>;

/// The median time of a step of each size, in ns.
fn medians(mut passes: Vec<Passes>) -> Vec<f64> {
    let mut times = vec![Vec::new(); passes.len()];
    for turn in 0..=TURNS {
        for (pass, times) in passes.iter_mut().zip(&mut times) {
            let (start, mut count) = (Instant::now(), 0);
            while count < 3 || start.elapsed() < SPELL {
                pass().expect("a pass that ran before");
                count += 1;
            }
            // The first turn brings everything into the caches.
            if turn > 0 {
                times.push(start.elapsed().as_nanos() as f64 / (count * STEPS) as f64);
            }
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

fn pass(cell: &str, (hidden, batch): (usize, usize), train: bool) -> Result<Passes, Error> {
    match cell {
        "vanilla" => of(Vanilla::new(INPUTS, hidden, Activation::Tanh)?, batch, train),
        "gru" => of(Gru::new(INPUTS, hidden, Reset::After)?, batch, train),
        _ => of(Lstm::new(INPUTS, hidden)?, batch, train),
    }
}

/// One pass: a stream's, or forward and backward.
fn of(layer: impl Layer, batch: usize, train: bool) -> Result<Passes, Error> {
    let network = Network::new(layer.recurrent());
    let mut model = network.init(&mut StdRng::seed_from_u64(1), Runtime::best()?)?;
    let x = vec![0.1; STEPS * batch * INPUTS];
    let mut y = vec![0.1; STEPS * batch * model.output_size()];
    if !train {
        let mut stream = model.stream(batch)?;
        return Ok(Box::new(move || stream.forward(black_box(&x), &mut y)));
    }
    let mut workspace = model.training_workspace(Schedule::dense(STEPS, batch))?;
    Ok(Box::new(move || {
        model.forward(&mut workspace, black_box(&x))?;
        let loss = |dy: &mut [f32]| {
            dy.copy_from_slice(&y);
            0.0
        };
        model.backward(&mut workspace, &x, &loss, Accumulate::No).map(|_| ())
    }))
}
