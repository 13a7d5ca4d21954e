//! What a pass costs in time and bytes with a large vocabulary, whose outputs are held for all rows
//! or for chunks of them.
//!
//! ```text
//! cargo bench --bench chunks -- [threads] [vocabulary] [steps] [batch]
//! ```

use bptt::{
    Accumulate, Dense, Embedding, Lstm, Network, Runtime, Schedule, SoftmaxCrossEntropy, Tokens,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Instant;

const HIDDEN: usize = 512;
/// Rows of a chunk; 0 stands for a pass that is not in chunks.
const CHUNKS: [usize; 6] = [0, 64, 128, 256, 512, 1024];
const PASSES: usize = 3;

fn main() -> Result<(), bptt::Error> {
    let given: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let of = |nth: usize, default| given.get(nth).copied().unwrap_or(default);
    let (threads, vocabulary, steps, batch) = (of(0, 1), of(1, 50_000), of(2, 100), of(3, 32));
    let rows = steps * batch;
    let network = Network::new(Embedding::new(vocabulary, HIDDEN)?)
        .then(Lstm::new(HIDDEN, HIDDEN)?)
        .then(Dense::new(HIDDEN, vocabulary)?);
    let mut rng = StdRng::seed_from_u64(1);
    let mut model = network.init(&mut rng, Runtime::best()?.threads(threads))?;
    let mut draw = || (0..rows).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    let (tokens, classes): (Vec<u32>, Vec<u32>) = (draw(), draw());
    let loss = SoftmaxCrossEntropy::mean(&classes);
    println!(
        "vocabulary {vocabulary}, {HIDDEN} units, {steps} steps, batch {batch}, {threads} threads"
    );
    let mut first = None;
    for chunk in CHUNKS {
        let training = model.training(Schedule::dense(steps, batch));
        let training = if chunk > 0 { training.with_chunked_outputs(chunk) } else { training };
        let mut workspace = training.workspace()?;
        let mut least = f64::INFINITY;
        let mut value = 0.0;
        // The first pass touches the memory for the first time.
        for _ in 0..=PASSES {
            let start = Instant::now();
            value = model.gradients(&mut workspace, Tokens(&tokens), &loss, Accumulate::No)?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        let megabytes = workspace.bytes() as f64 / 1e6;
        println!("chunk {chunk:5}: {megabytes:8.1} MB, {least:7.3} s");
        assert_eq!(*first.get_or_insert(value), value, "the loss has other bits");
    }
    Ok(())
}
