//! The network and its training: truncated back-propagation through time, Adam, and a learning rate
//! that rises and falls during the run.
//!
//! The training text is treated as a ring. B streams start at equal distances and read on from
//! chunk to chunk, τ bytes each. Their states are handed on over 4096 bytes, so the model learns
//! from more context than its gradients reach back through.

use super::{Failure, args::Options, corpus::Corpus, progress::Progress};
use bptt::{
    Adam, AdamConfig, Dense, Embedding, Error, Loss, Lstm, Model, Network, Outputs, Schedule,
    SoftmaxCrossEntropy, Tokens,
};
use std::f64::consts::{LN_2, PI};
use std::time::Instant;

/// The part of a run in which the learning rate rises; it falls during the rest.
pub const WARM_UP: f64 = 0.03;

/// The last learning rate, as a share of the highest.
pub const LAST_RATE: f64 = 0.02;

/// Bytes after which all states begin at zero again. Otherwise only the very first byte would be
/// read from the zero state, and a model that has never seen it may be lost in every held-out
/// block, which begins there.
pub const BLOCK: usize = 4096;

/// Steps that an evaluation takes at once.
pub const STEPS: usize = 64;

/// A byte, its embedding, an LSTM layer, and scores of the 256 bytes.
pub fn network([size, hidden]: [usize; 2]) -> Result<Network, Error> {
    let embedding = Network::new(Embedding::new(256, size)?);
    Ok(embedding.then(Lstm::new(size, hidden)?).then(Dense::new(hidden, 256)?))
}

/// Bits per byte over blocks of one length, side by side, each from the zero state and without its
/// first byte.
pub fn bits_per_byte(model: &Model, blocks: &[Vec<u8>]) -> Result<f64, Error> {
    let (batch, predictions) = (blocks.len(), blocks[0].len() - 1);
    let (mut stream, mut nats) = (model.stream(batch)?, 0.0);
    for start in (0..predictions).step_by(STEPS) {
        let steps = start..(start + STEPS).min(predictions);
        let rows = |after: usize| -> Vec<u32> {
            steps.clone().flat_map(|at| blocks.iter().map(move |b| b[at + after].into())).collect()
        };
        let mut scores = vec![0.0; steps.len() * batch * 256];
        stream.forward(Tokens(&rows(0)), &mut scores)?;
        nats += SoftmaxCrossEntropy::sum(&rows(1))
            .value(model.runtime(), Outputs::new(&mut scores, 256))?;
    }
    Ok(nats / LN_2 / (predictions * batch) as f64)
}

/// Trains until the time or the updates are used up.
pub fn train(model: &mut Model, corpus: &Corpus, options: &Options) -> Result<(), Failure> {
    let mut workspace = model.training_workspace(Schedule::dense(options.steps, options.batch))?;
    let mut adam = Adam::with_config(AdamConfig { beta2: 0.99, ..AdamConfig::default() })?;
    // A backward pass takes twice the products of the forward one; the embedding has none.
    let weights = model.manifest().len() - model.parameters().tensor("0.weight")?.len();
    let (mut progress, mut held_out, mut looks) = (Progress::new(options.quiet)?, None, 1.0);
    let (start, mut training, mut bits) = (Instant::now(), 0.0, [0.0; 2]);
    loop {
        let (now, updates) = (start.elapsed().as_secs_f64(), adam.updates());
        let fraction = match options.updates {
            Some(all) => updates as f64 / all as f64,
            None => now / f64::from(options.seconds),
        };
        if fraction >= 1.0 {
            return Ok(());
        }
        let [x, classes] = [0, 1].map(|after| chunk(&corpus.train, updates, after, options));
        adam.set_learning_rate(options.learning_rate * rate(fraction) as f32)?;
        let loss = SoftmaxCrossEntropy::mean(&classes);
        let clipped = &mut adam.clip_norm(options.clip);
        let nats = model.train(&mut workspace, Tokens(&x), &loss, clipped);
        let nats = nats.map_err(|error| format!("{error}; try a lower --learning-rate"))?;
        if (updates as usize + 1) * options.steps % BLOCK < options.steps {
            workspace.reset_state();
        } else {
            workspace.carry_state()?;
        }
        // The figure that is shown is an average over some fifty updates.
        bits = [bits[0] * 0.98 + nats / LN_2, bits[1] * 0.98 + 1.0];
        training += start.elapsed().as_secs_f64() - now;
        // Evaluates the held-out text six times during the run; the end of the run does it again.
        if fraction * 7.0 >= looks && !options.quiet {
            looks += 1.0;
            held_out = Some(bits_per_byte(model, &corpus.held_out)?);
        }
        let rate = (updates + 1) as f64 * x.len() as f64 / training;
        progress.show(fraction, || {
            let (kilobytes, gigaflops) = (rate / 1e3, rate / 1e9 * 6.0 * weights as f64);
            let (seen, training) = (updates + 1, bits[0] / bits[1]);
            let held_out = held_out.map_or("-".into(), |bits| format!("{bits:.3}"));
            format!(
                "{seen} updates, {kilobytes:.1} KB/s, {gigaflops:.0} GFLOP/s, \
                 bits/char: training {training:.3}, held-out {held_out}"
            )
        });
    }
}

/// The bytes that each stream reads next after `updates` updates, `[τ, B]`, or the bytes that are
/// `after` places further on.
fn chunk(text: &[u8], updates: u64, after: usize, options: &Options) -> Vec<u32> {
    let Options { batch, steps, .. } = *options;
    let at =
        |row| row % batch * text.len() / batch + updates as usize * steps + row / batch + after;
    (0..steps * batch).map(|row| text[at(row) % text.len()].into()).collect()
}

/// The learning rate at a fraction of the run, as a share of the highest: a short rise, then half a
/// period of the cosine.
pub fn rate(fraction: f64) -> f64 {
    let fall = (1.0 + (PI * fraction.min(1.0)).cos()) / 2.0;
    let rise = (fraction / WARM_UP + 0.01).min(1.0);
    rise * (LAST_RATE + (1.0 - LAST_RATE) * fall)
}
