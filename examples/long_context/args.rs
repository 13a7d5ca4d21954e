//! The command line.

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::path::PathBuf;

/// Trains an LSTM to remember a symbol over thousands of steps: in full, within a small part of the
/// memory, and by truncated back-propagation through time. Prints a table of what each costs and
/// learns, and plots the losses.
#[derive(Debug, Parser)]
#[command(name = "long_context")]
pub struct Options {
    /// The steps from the symbol to the cue.
    #[arg(long, default_value_t = 5000, value_parser = from(10, 1 << 20))]
    pub lag: usize,
    /// Hidden units.
    #[arg(long, default_value_t = 16, value_parser = from(1, 1 << 12))]
    pub hidden: usize,
    /// The updates of each training.
    #[arg(long, default_value_t = 400, value_parser = from(1, 1 << 20))]
    pub updates: usize,
    /// Sequences per update.
    #[arg(long, default_value_t = 16, value_parser = from(1, 1 << 12))]
    pub batch: usize,
    /// The memory of the second training, in per cent of what the first one takes.
    #[arg(long, default_value_t = 5, value_parser = from(1, 99))]
    pub budget: usize,
    /// Threads that a pass may use.
    #[arg(long, default_value_t = 2, value_parser = from(1, 256))]
    pub threads: usize,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The folder for the plots.
    #[arg(long, value_name = "FOLDER", default_value = "target/long_context")]
    pub out: PathBuf,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// The steps that truncated back-propagation goes back, k₁ = k₂: a tenth of the lag.
    pub fn window(&self) -> usize {
        self.lag / 10
    }
}

fn from(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}
