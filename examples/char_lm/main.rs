//! A byte-level language model, trained on this repository's own text while you
//! watch, beside an order-3 n-gram model fitted on the same bytes.
//!
//! ```text
//! cargo run --release --example char_lm
//! cargo run --release --example char_lm -- --text book.txt --seconds 600 --out book.safetensors
//! cargo run --release --example char_lm -- --load book.safetensors --generate 2000
//! ```
//!
//! The network is an embedding, an LSTM layer and a softmax readout over the 256
//! bytes, trained by truncated back-propagation through time: streams side by side
//! through the text, the state handed on from chunk to chunk. See `train` for the
//! loop and `corpus` for what is held out. Nothing is chosen by the held-out text:
//! the weights are those of the last update.
//!
//! Progress goes to stderr. stdout gets the result,
//!
//! ```text
//! held-out bits/char: X; order-3 n-gram: Y
//! ```
//!
//! and text drawn from the model after it. Whatever goes wrong ends the run with
//! one line on stderr and exit code 2, and leaves existing files as they were.

mod args;
mod corpus;
mod generate;
mod model;
mod ngram;
mod progress;
mod shard;
mod train;
mod weights;

use args::Options;
use clap::Parser;
use corpus::Corpus;
use model::Model;
use ngram::NGram;
use progress::{Progress, Status};
use rand::{SeedableRng, rngs::StdRng};
use std::ffi::OsString;
use std::io::Write;
use std::time::Instant;
use train::{Settings, Trainer};

/// Anything that ends the run; its text is what the user gets to read.
type Failure = Box<dyn std::error::Error>;

/// Bytes of text drawn from a model after its training.
const SAMPLE: usize = 600;

/// How often a run looks at the held-out text, beside its end.
const LOOKS: u32 = 6;

fn main() {
    program(std::env::args_os());
}

/// The whole program, with these arguments, of which the first is its name.
pub fn program(arguments: impl IntoIterator<Item = OsString>) {
    if let Err(error) = run(&Options::parse_from(arguments)) {
        eprintln!("char_lm: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let loaded = options.load.as_deref().map(weights::load).transpose()?;
    if let Some(model) = &loaded {
        for (name, asked, is) in [
            ("hidden", options.hidden, model.hidden_size()),
            ("embedding", options.embedding, model.embedding_size()),
        ] {
            if let Some(asked) = asked.filter(|&asked| asked != is) {
                return Err(format!("--{name} {asked}: the loaded model has {is}").into());
            }
        }
    }
    let model = match (loaded, options.generate) {
        (Some(model), Some(bytes)) => return sample(&model, options, bytes, &mut rng),
        (Some(model), None) => model,
        (None, _) => Model::new(
            options.embedding.unwrap_or(args::EMBEDDING),
            options.hidden.unwrap_or(args::HIDDEN),
            &mut rng,
        )?,
    };

    let corpus = Corpus::read(options.text.as_deref(), options.batch)?;
    let out = options.out.clone().map_or_else(weights::default_path, Ok)?;
    weights::check_destination(&out)?;
    if !options.quiet {
        eprintln!(
            "{}: training on {} bytes, {} held out in {} blocks; {} parameters",
            corpus.name,
            corpus.train.len(),
            corpus.held_out.iter().map(Vec::len).sum::<usize>(),
            corpus.held_out.len(),
            model.parameter_count(),
        );
    }
    let ngram = NGram::fit(&corpus.train).bits_per_byte(&corpus.held_out);
    let model = train(model, &corpus, options)?;
    let bits = model.bits_per_byte(&corpus.held_out)?;
    weights::save(&out, &model)?;
    if !options.quiet {
        eprintln!("weights saved to {}", out.display());
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "held-out bits/char: {bits:.3}; order-3 n-gram: {ngram:.3}")?;
    sample(&model, options, SAMPLE, &mut rng)
}

/// Trains until the time or the updates are used up.
fn train(model: Model, corpus: &Corpus, options: &Options) -> Result<Model, Failure> {
    let Options { batch, steps, threads, learning_rate, clip, .. } = *options;
    let settings = Settings { batch, steps, threads, learning_rate, clip };
    let forward = model.forward_flops_per_byte();
    let mut trainer = Trainer::new(model, &corpus.train, settings)?;
    let mut progress = Progress::new(options.quiet);
    let (mut held_out_bits, mut looks) = (None, 0);
    let mut training = 0.0;
    let start = Instant::now();
    loop {
        let now = start.elapsed().as_secs_f64();
        let fraction = match options.updates {
            Some(updates) => trainer.updates() as f64 / updates as f64,
            None => now / options.seconds,
        };
        if fraction >= 1.0 {
            progress.finish();
            return Ok(trainer.into_model());
        }
        trainer.update(fraction)?;
        training += start.elapsed().as_secs_f64() - now;
        if fraction * f64::from(LOOKS + 1) >= f64::from(looks + 1) && !options.quiet {
            looks += 1;
            held_out_bits = Some(trainer.model().bits_per_byte(&corpus.held_out)?);
        }
        let rate = (trainer.updates() * (batch * steps) as u64) as f64 / training;
        progress.show(&Status {
            fraction,
            updates: trainer.updates(),
            bytes_per_second: rate,
            // A backward pass takes twice the products of the forward one.
            flops_per_second: 3.0 * forward * rate,
            training_bits: trainer.recent_bits(),
            held_out_bits,
        });
    }
}

/// Draws text from the model and prints it.
fn sample(model: &Model, options: &Options, bytes: usize, rng: &mut StdRng) -> Result<(), Failure> {
    let prompt = options.prompt.as_bytes();
    let text = generate::generate(model, prompt, bytes, options.temperature, rng)?;
    let mut stdout = std::io::stdout().lock();
    Ok(writeln!(stdout, "{}", generate::printable(&text))?)
}
