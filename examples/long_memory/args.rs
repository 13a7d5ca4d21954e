//! The command line.

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::path::PathBuf;

/// Trains recurrent cells on two tasks that ask for memory over a lag, prints which cell
/// learns which lag, and plots how gradients shrink and grow on their way back.
#[derive(Debug, Parser)]
#[command(name = "long_memory")]
pub struct Options {
    /// The lags of the adding task: the lengths of its sequences.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100, 200], value_parser = from(2))]
    pub adding: Vec<usize>,
    /// The lags of the copying task: the steps between the symbols and their repetition.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 20, 50, 100], value_parser = from(2))]
    pub copying: Vec<usize>,
    /// The most updates of a cell at a lag.
    #[arg(long, default_value_t = 4000, value_parser = from(1))]
    pub updates: usize,
    /// Updates between two evaluations on sequences that are not trained on.
    #[arg(long, default_value_t = 100, value_parser = from(1))]
    pub look: usize,
    /// Hidden units.
    #[arg(long, default_value_t = 32, value_parser = from(1))]
    pub hidden: usize,
    /// Sequences per update.
    #[arg(long, default_value_t = 32, value_parser = from(1))]
    pub batch: usize,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 1e-2, value_parser = positive)]
    pub learning_rate: f32,
    /// The norm to which gradients are clipped.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f32,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, each of which trains one cell at a time; 0 means one for each core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// The folder for the plots.
    #[arg(long, value_name = "FOLDER", default_value = "target/long_memory")]
    pub out: PathBuf,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

fn from(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=1 << 16)
}

fn positive(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|number: &f32| *number > 0.0 && number.is_finite());
    number.ok_or("expected a finite number above 0")
}
