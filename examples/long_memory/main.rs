//! Vanishing and exploding gradients, and the cells that were invented against them (Goodfellow et
//! al., *Deep Learning*, sections 10.7 to 10.10).
//!
//! ```text
//! cargo run --release --example long_memory
//! cargo run --release --example long_memory -- --adding 400 --copying 200 --updates 20000
//! ```
//!
//! Each cell is trained on two tasks at several lags: `tasks` describes the tasks, `cells` how each
//! cell begins, `train` when a task counts as learned. All cells have the same number of units,
//! data, optimiser and number of updates. A run repeats to the bit, with any number of threads.
//!
//! Progress goes to stderr, tables go to stdout, and two plots, `gradients.svg` and
//! `gradients.png`, go to the folder `--out`; `norms` says what they show.

pub(crate) mod args;
pub(crate) mod cells;
#[path = "../common/figure.rs"]
mod figure;
pub(crate) mod norms;
pub(crate) mod plot;
pub(crate) mod table;
pub(crate) mod tasks;
pub(crate) mod train;

use args::Options;
use cells::KINDS;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::iter::{ParallelBridge, ParallelIterator};
use std::cmp::Reverse;
use tasks::Task;
use train::{Job, Outcome};

/// Any error that ends the run; its text is shown to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() {
    if let Err(error) = run(&Options::parse()) {
        eprintln!("long_memory: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Makes the folder before the work, so that an error here does not lose it.
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: {error}", options.out.display()))?;
    let tasks = [(Task::Adding, &options.adding), (Task::Copying, &options.copying)];
    let longest = options.adding.iter().max();
    let mut jobs = Vec::new();
    for (task, lags) in tasks {
        for (&lag, kind) in lags.iter().flat_map(|lag| KINDS.map(|kind| (lag, kind))) {
            let with_norms = task == Task::Adding && Some(&lag) == longest;
            jobs.push(Job { kind, task, lag, with_norms, options });
        }
    }
    // The longest jobs come first.
    jobs.sort_by_key(|job| Reverse(job.task.steps(job.lag)));
    let outcomes = train_all(&jobs, options)?;
    for (task, lags) in tasks {
        println!("{}", table::table(task, lags, &outcomes));
    }
    plot::save(&options.out, &outcomes)?;
    if !options.quiet {
        eprintln!("plots saved to {}", options.out.display());
    }
    Ok(())
}

/// Trains all cells side by side. Shows a bar on a terminal, and a line for each job that is done.
fn train_all(jobs: &[Job<'_>], options: &Options) -> Result<Vec<Outcome>, Failure> {
    let all = (jobs.len() * options.updates) as u64;
    let bar = if options.quiet { ProgressBar::hidden() } else { ProgressBar::new(all) };
    let style = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}%")?;
    bar.set_style(style.progress_chars("=> "));
    let train = |job: &Job<'_>| {
        let outcome = job.run(|updates| bar.inc(updates as u64))?;
        bar.inc(outcome.learned.map_or(0, |updates| options.updates - updates) as u64);
        if !options.quiet {
            let Outcome { kind, task, lag, learned, error, .. } = &outcome;
            let how = learned.map_or(format!("not learned, error {error:.3}"), |updates| {
                format!("learned in {updates} updates")
            });
            bar.suspend(|| eprintln!("{} {lag}, {kind}: {how}", task.name()));
        }
        Ok(outcome)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    // `par_bridge` hands out the jobs in their order, to whichever thread is free.
    let outcomes = pool.install(|| jobs.iter().par_bridge().map(train).collect());
    bar.finish_and_clear();
    outcomes
}
