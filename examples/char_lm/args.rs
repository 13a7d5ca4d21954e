//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Hidden units where nothing is said.
pub const HIDDEN: usize = 256;

/// Elements of a byte's embedding where nothing is said.
pub const EMBEDDING: usize = 64;

/// Trains a byte-level LSTM language model on this repository's own text, compares
/// it with an order-3 n-gram model on held-out text, saves it and prints a sample.
#[derive(Debug, Parser)]
#[command(name = "char_lm", allow_negative_numbers = true)]
pub struct Options {
    /// Train on this file instead of the repository's text.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Train for so many seconds.
    #[arg(long, default_value_t = 50.0, value_parser = positive)]
    pub seconds: f64,
    /// Train for so many updates, however long they take: with the same seed and
    /// threads, the same result.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    pub updates: Option<u64>,
    /// Hidden units [default: 256, or the loaded model's].
    #[arg(long, value_parser = size)]
    pub hidden: Option<usize>,
    /// Elements of a byte's embedding [default: 64, or the loaded model's].
    #[arg(long, value_parser = size)]
    pub embedding: Option<usize>,
    /// Streams through the text, side by side.
    #[arg(long, default_value_t = 16, value_parser = size)]
    pub batch: usize,
    /// Steps that gradients go back through. Few, because in a minute the number of
    /// updates decides; the state is handed on over all of them.
    #[arg(long, default_value_t = 16, value_parser = size)]
    pub steps: usize,
    /// Threads; each takes its part of the batch.
    #[arg(long, default_value_t = 2, value_parser = size)]
    pub threads: usize,
    /// Adam's learning rate at its highest.
    #[arg(long, default_value_t = 6e-3, value_parser = positive)]
    pub learning_rate: f64,
    /// The norm that gradients are clipped to.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f64,
    /// Where all randomness starts from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Go on from these weights.
    #[arg(long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Save the weights here [default: char_lm.safetensors beside the program].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Do not train: draw so many bytes of text from the loaded weights.
    #[arg(
        long,
        value_name = "BYTES",
        requires = "load",
        conflicts_with_all = ["text", "seconds", "updates", "out"]
    )]
    pub generate: Option<usize>,
    /// What the drawn text goes on from.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\n",
        hide_default_value = true,
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub prompt: String,
    /// Below 1 the drawn text is more usual, above 1 less; 0 takes the likeliest byte.
    #[arg(long, default_value_t = 0.7, value_parser = temperature)]
    pub temperature: f64,
    /// No progress.
    #[arg(long)]
    pub quiet: bool,
}

/// A size that is at least 1 and at most 65536.
fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().map_err(|_| "expected a whole number")?;
    if (1..=1 << 16).contains(&size) { Ok(size) } else { Err("expected 1 to 65536".into()) }
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

/// A finite number, 0 or more.
fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number == 0.0 => Ok(number),
        _ => positive(text).map_err(|_| "expected a finite number, 0 or more".into()),
    }
}
