//! Vanishing and exploding gradients, and the cells that were made against them (Goodfellow
//! et al., *Deep Learning*, sections 10.7 to 10.10).
//!
//! ```text
//! cargo run --release --example long_memory
//! cargo run --release --example long_memory -- --adding 400 --copying 200 --updates 20000
//! ```
//!
//! Each cell is trained on two tasks at several lags: `tasks` says which, `cells` how each
//! begins, `train` when a task counts as learned. All have the same units, data, optimiser
//! and number of updates, so that a run repeats to the bit, with any number of threads.
//!
//! Progress goes to stderr, tables to stdout, and two plots, `gradients.svg` and
//! `gradients.png`, to the folder `--out`: `norms` says of what.

mod args;
pub(crate) mod cells;
mod figure;
pub(crate) mod model;
pub(crate) mod norms;
pub(crate) mod plot;
mod progress;
pub(crate) mod table;
pub(crate) mod tasks;
pub(crate) mod train;

use args::Options;
use cells::Kind;
use clap::Parser;
use progress::Progress;
use rayon::iter::{ParallelBridge, ParallelIterator};
use std::cmp::Reverse;
use tasks::Task;
use train::{Job, Outcome};

/// Anything that ends the run; its text is what the user gets to read.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() {
    if let Err(error) = run(&Options::parse()) {
        eprintln!("long_memory: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Before the work, which would be lost with it.
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: {error}", options.out.display()))?;
    let outcomes = train_all(&jobs(options), options)?;
    for (task, lags) in [(Task::Adding, &options.adding), (Task::Copying, &options.copying)] {
        println!("{}", table::table(task, lags, &outcomes));
    }
    plot::save(&options.out, &outcomes)?;
    if !options.quiet {
        eprintln!("plots saved to {}", options.out.display());
    }
    Ok(())
}

/// All that there is to train, what takes longest first.
fn jobs(options: &Options) -> Vec<Job> {
    let longest = options.adding.iter().max();
    let mut jobs = Vec::new();
    for (task, lags) in [(Task::Adding, &options.adding), (Task::Copying, &options.copying)] {
        for (&lag, kind) in lags.iter().flat_map(|lag| Kind::ALL.map(|kind| (lag, kind))) {
            let with_norms = task == Task::Adding && Some(&lag) == longest;
            let Options { updates, look, seed, .. } = *options;
            let settings = options.settings();
            jobs.push(Job { kind, task, lag, settings, updates, look, seed, with_norms });
        }
    }
    jobs.sort_by_key(|job| Reverse(job.task.steps(job.lag)));
    jobs
}

/// Trains them side by side.
fn train_all(jobs: &[Job], options: &Options) -> Result<Vec<Outcome>, Failure> {
    let progress = Progress::new(jobs.len() * options.updates, options.quiet);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let train = |job: &Job| {
        let outcome = job.run(|updates| progress.advance(updates))?;
        progress.advance(outcome.learned.map_or(0, |updates| job.updates - updates));
        progress.done(&outcome);
        Ok(outcome)
    };
    // A bridge hands jobs out in their order, whichever thread is free.
    let outcomes = pool.install(|| jobs.iter().par_bridge().map(train).collect());
    progress.finish();
    outcomes
}
