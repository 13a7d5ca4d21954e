//! A dependency over thousands of steps: training in full, in a small part of the memory, and by
//! truncated back-propagation through time.
//!
//! ```text
//! cargo run --release --example long_context
//! cargo run --release --example long_context -- --lag 20000 --budget 1
//! ```
//!
//! A symbol is shown at the first step. Thousands of steps of noise follow, and at the last step the
//! network has to name the symbol: see `task`. The network is trained three times
//! from the same initial values and on the same sequences, as `train` describes:
//!
//! - in full: the workspace keeps the activations of all steps;
//! - within a budget, which by default is 5 % of that memory: parts of the pass are computed again,
//!   and all losses and weights are the same to the bit, or the run ends with an error;
//! - truncated: gradients go back over a tenth of the lag. They never reach the symbol, so the loss
//!   stays at that of guessing, ln 4 = 1.386. Over a lag of some ten steps the noise is too weak to
//!   hide the symbol even from a network that was not taught to keep it, and the loss falls a little.
//!
//! The default run takes about a minute on two cores of an AMD Zen 3 with AVX2. With each of the seeds
//! 1 to 10, training in full ends below a loss of 0.01 and names all symbols of unseen sequences.
//!
//! Progress goes to stderr, the table goes to stdout, and the plots, `losses.svg` and `losses.png`, go
//! to the folder `--out`. Any error ends the run with one line on stderr and exit code 2.

pub(crate) mod args;
#[path = "../common/figure.rs"]
mod figure;
pub(crate) mod plot;
#[path = "../char_lm/progress.rs"]
mod progress;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod train;

use args::Options;
use clap::Parser;
use progress::Progress;
use train::{Outcome, Way};

/// Any error that ends the run; its text is shown to the user.
type Failure = Box<dyn std::error::Error>;

fn main() {
    if let Err(error) = run(&Options::parse()) {
        eprintln!("long_context: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Makes the folder before the work, so that an error here does not lose it.
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: {error}", options.out.display()))?;
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let (name, mut shown) = (way.name(options), Progress::new(options.quiet)?);
        outcomes.push(train::train(way, options, |update, loss| {
            shown.show(update as f64 / options.updates as f64, || {
                format!("{name}: update {update}, loss {loss:.4}")
            });
        })?);
    }
    println!("{}", table::table(options, &outcomes));
    plot::save(&options.out, options, &outcomes)?;
    if !options.quiet {
        eprintln!("plots saved to {}", options.out.display());
    }
    let [full, small] = [0, 1].map(|nth| &outcomes[nth]);
    if !are_same(full, small) {
        return Err("the losses within the budget differ from those in full".into());
    }
    let share = small.again.bytes as f64 / full.again.bytes as f64;
    println!(
        "In {:.1} % of the memory, all losses and weights are the same to the bit.",
        share * 100.0
    );
    Ok(())
}

/// Whether all losses and the parameters after them are the same to the bit.
pub(crate) fn are_same(a: &Outcome, b: &Outcome) -> bool {
    let losses = |of: &Outcome| of.losses.iter().map(|loss| loss.to_bits()).collect::<Vec<_>>();
    let weights = |of: &Outcome| of.parameters.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
    losses(a) == losses(b) && weights(a) == weights(b)
}
