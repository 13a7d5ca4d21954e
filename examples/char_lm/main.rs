//! A byte-level language model, trained on this repository's own text while you watch, and compared
//! with an order-3 n-gram model fitted to the same bytes.
//!
//! ```text
//! cargo run --release --example char_lm
//! cargo run --release --example char_lm -- --text book.txt --seconds 600 --out book.safetensors
//! cargo run --release --example char_lm -- --load book.safetensors --generate 2000
//! ```
//!
//! See `train` for the network and the loop, and `corpus` for the held-out text. The held-out text
//! chooses nothing: the weights are those of the last update.
//!
//! Progress goes to stderr. The result, `held-out bits/char: X; order-3 n-gram: Y`, goes to stdout,
//! followed by text drawn from the model. Any error ends the run with one line on stderr and exit
//! code 2, and leaves existing files as they were.

pub(crate) mod args;
pub(crate) mod corpus;
pub(crate) mod generate;
pub(crate) mod ngram;
mod progress;
pub(crate) mod train;

use args::Options;
use bptt::{Model, Network, Runtime};
use clap::Parser;
use corpus::Corpus;
use ngram::NGram;
use rand::{SeedableRng, rngs::StdRng};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// Any error that ends the run; its text is shown to the user.
pub type Failure = Box<dyn std::error::Error>;

fn main() {
    program(std::env::args_os());
}

/// Runs the whole program with these arguments; the first is the program's name.
pub fn program(arguments: impl IntoIterator<Item = OsString>) {
    if let Err(error) = run(&Options::parse_from(arguments)) {
        eprintln!("char_lm: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let runtime = Runtime::best()?.threads(options.threads);
    let mut model = match &options.load {
        Some(file) => load(file, runtime, [options.embedding, options.hidden])?,
        None => {
            let sizes = [options.embedding.unwrap_or(64), options.hidden.unwrap_or(256)];
            train::network(sizes)?.init(&mut rng, runtime)?
        }
    };
    if let Some(bytes) = options.generate {
        return generate::sample(&model, options, bytes, &mut rng);
    }

    let corpus = Corpus::read(options.text.as_deref(), options.batch)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => std::env::current_exe()?.with_file_name("char_lm.safetensors"),
    };
    check_destination(&out, runtime)?;
    let say = |text: String| (!options.quiet).then(|| eprintln!("{text}"));
    say(format!(
        "{}: training on {} bytes, {} held out in {} blocks; {} parameters",
        corpus.name,
        corpus.train.len(),
        corpus.held_out.concat().len(),
        corpus.held_out.len(),
        model.manifest().len(),
    ));
    let ngram = NGram::fit(&corpus.train).bits_per_byte(&corpus.held_out);
    train::train(&mut model, &corpus, options)?;
    let bits = train::bits_per_byte(&model, &corpus.held_out)?;
    model.save(&out)?;
    say(format!("weights saved to {}", out.display()));
    writeln!(std::io::stdout(), "held-out bits/char: {bits:.3}; order-3 n-gram: {ngram:.3}")?;
    generate::sample(&model, options, 600, &mut rng)
}

/// Reads a model that this program saved, with the requested sizes.
fn load(file: &Path, runtime: Runtime, asked: [Option<usize>; 2]) -> Result<Model, Failure> {
    let no = |why: &dyn std::fmt::Display| format!("{}: not a weights file: {why}", file.display());
    let model = Model::load(file, runtime).map_err(|error| no(&error))?;
    let configs = |network: &Network| -> Vec<_> { network.blocks().map(|b| b.config()).collect() };
    let sizes: Vec<usize> = model.network().blocks().map(|block| block.output_size()).collect();
    let ours = train::network([sizes[0], *sizes.get(1).unwrap_or(&1)])?;
    if configs(&ours) != configs(model.network()) {
        Err(no(&"not a model of this program"))?;
    }
    if !model.parameters().as_slice().iter().all(|value| value.is_finite()) {
        Err(no(&"it has values that are not finite"))?;
    }
    for ((name, asked), is) in ["embedding", "hidden"].into_iter().zip(asked).zip(sizes) {
        if let Some(asked) = asked.filter(|&asked| asked != is) {
            Err(format!("--{name} {asked}: the loaded model has {is}"))?;
        }
    }
    Ok(model)
}

/// Returns an error unless weights may be saved here: there is no file yet, or one with weights of
/// this program.
fn check_destination(path: &Path, runtime: Runtime) -> Result<(), Failure> {
    if path.exists() {
        load(path, runtime, [None; 2]).map_err(|error| format!("not overwritten: {error}"))?;
        return Ok(());
    }
    std::fs::File::create_new(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(std::fs::remove_file(path)?)
}
