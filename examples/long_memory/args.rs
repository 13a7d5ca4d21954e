//! The command line.

use super::model::Settings;
use clap::Parser;
use std::path::PathBuf;

/// Trains recurrent cells on two tasks that ask for memory over a lag, prints which cell
/// learns which lag, and plots how gradients shrink and grow on their way back.
#[derive(Debug, Parser)]
#[command(name = "long_memory")]
pub struct Options {
    /// The lags of the adding task: the lengths of its sequences.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100, 200], value_parser = lag)]
    pub adding: Vec<usize>,
    /// The lags of the copying task: the steps between the symbols and their repetition.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 20, 50, 100], value_parser = lag)]
    pub copying: Vec<usize>,
    /// The most updates of a cell at a lag.
    #[arg(long, default_value_t = 4000, value_parser = size)]
    pub updates: usize,
    /// Updates between two looks at sequences that are not trained on.
    #[arg(long, default_value_t = 100, value_parser = size)]
    pub look: usize,
    /// Hidden units.
    #[arg(long, default_value_t = 32, value_parser = size)]
    pub hidden: usize,
    /// Sequences of an update.
    #[arg(long, default_value_t = 32, value_parser = size)]
    pub batch: usize,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 1e-2, value_parser = positive)]
    pub learning_rate: f64,
    /// The norm that gradients are clipped to.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f64,
    /// Where all randomness starts from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, each with a cell of its own at a time; 0 is one for each core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// The folder of the plots.
    #[arg(long, value_name = "FOLDER", default_value = "target/long_memory")]
    pub out: PathBuf,
    /// No progress.
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// What a model needs to know of them.
    pub fn settings(&self) -> Settings {
        let Self { hidden, batch, learning_rate, clip, .. } = *self;
        Settings { hidden, batch, learning_rate, clip }
    }
}

/// A size that is at least 1 and at most 65536.
fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().map_err(|_| "expected a whole number")?;
    if (1..=1 << 16).contains(&size) { Ok(size) } else { Err("expected 1 to 65536".into()) }
}

/// A lag: two halves with a step each at least.
fn lag(text: &str) -> Result<usize, String> {
    let lag = size(text)?;
    if lag >= 2 { Ok(lag) } else { Err("expected 2 to 65536".into()) }
}

/// A finite number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number")?;
    if number > 0.0 && number <= f64::from(f32::MAX) {
        Ok(number)
    } else {
        Err("expected a finite number above 0".into())
    }
}
