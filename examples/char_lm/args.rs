//! The command line.

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use std::path::PathBuf;

/// Trains a byte-level LSTM language model on this repository's own text, compares
/// it with an order-3 n-gram model on held-out text, saves it and prints a sample.
#[derive(Debug, Parser)]
#[command(name = "char_lm", allow_negative_numbers = true)]
pub struct Options {
    /// Train on this file instead of the repository's text.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Train for this many seconds.
    #[arg(long, default_value_t = 50.0, value_parser = positive)]
    pub seconds: f32,
    /// Train for this many updates, however long they take; the same seed then gives the same
    /// result.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    pub updates: Option<u64>,
    /// Hidden units [default: 256, or the loaded model's].
    #[arg(long, value_parser = up_to(1 << 16))]
    pub hidden: Option<usize>,
    /// Features of a byte's embedding [default: 64, or the loaded model's].
    #[arg(long, value_parser = up_to(1 << 16))]
    pub embedding: Option<usize>,
    /// Streams that read the text side by side.
    #[arg(long, default_value_t = 16, value_parser = up_to(1 << 16))]
    pub batch: usize,
    /// Steps that gradients go back through. Few are best: in a short run the number of updates
    /// decides, and the state is handed on over all steps.
    #[arg(long, default_value_t = 16, value_parser = up_to(1 << 16))]
    pub steps: usize,
    /// Threads; the result does not depend on them.
    #[arg(long, default_value_t = 2, value_parser = up_to(256))]
    pub threads: usize,
    /// Adam's highest learning rate.
    #[arg(long, default_value_t = 6e-3, value_parser = positive)]
    pub learning_rate: f32,
    /// The norm to which gradients are clipped.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f32,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Go on from these weights.
    #[arg(long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Save the weights here [default: char_lm.safetensors beside the program].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Do not train; draw this many bytes of text from the loaded weights.
    #[arg(long, value_name = "BYTES", requires = "load")]
    #[arg(conflicts_with_all = ["text", "seconds", "updates", "out"])]
    pub generate: Option<usize>,
    /// The text that the drawn text continues.
    #[arg(long, value_name = "TEXT", default_value = "\n", hide_default_value = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub prompt: String,
    /// Below 1 the drawn text is more usual, above 1 less usual; 0 always takes the likeliest byte.
    #[arg(long, default_value_t = 0.7, value_parser = temperature)]
    pub temperature: f32,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

fn positive(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|number: &f32| *number > 0.0 && number.is_finite());
    number.ok_or("expected a finite number above 0")
}

fn temperature(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|number: &f32| *number >= 0.0 && number.is_finite());
    number.ok_or("expected a finite number, 0 or more")
}
