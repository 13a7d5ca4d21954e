//! Times one recurrent problem and prints one line of JSON.
//!
//! ```text
//! cargo run --release --example rnnbench -- --mode train --input 512 --hidden 512 --batch 32 --steps 25
//! ```
//!
//! A forward pass counts 2·T·B FLOPs for each weight except the biases; a cell of G gates has
//! G·H·(I + H) such weights. A clockwork's weights count only at the steps at which their group
//! moves. Training counts three times as many FLOPs, and a stream's step its share. `peak_gflops`
//! is the speed of independent multiply-adds in registers, sampled between the rounds: the clock
//! slows down under load, so a peak measured before the work would be too high. Both figures are
//! medians.

use bptt::blocks::Block;
use bptt::{
    Accumulate, Activation, Bidirectional, ClockGroup, Clockwork, Dense, Error, ForgetGate, Format,
    Gru, IndRnn, Init, Isa, Layer, LayerNorm, Leak, Leaky, Loss, Lstm, MinGru, MinLstm, Model,
    Network, Outputs, Pooling, Qrnn, Recomputation, Recurrent, Regularisation, Regularised, Reset,
    RgLru, Runtime, Schedule, Skip, Slstm, Sru, Stream, TargetRows, Vanilla, Workspace,
};
use bptt_kernels::PackedMatrix;
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::team::Pass;
use clap::{Parser, ValueEnum};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Times one recurrent problem and prints one line of JSON.
#[derive(Clone, Parser)]
struct Options {
    /// The cell.
    #[arg(long, value_enum, default_value = "lstm")]
    cell: CellName,
    /// The pass to time.
    #[arg(long, value_enum, default_value = "infer")]
    mode: Mode,
    /// Input features, I.
    #[arg(long, default_value_t = 512)]
    input: usize,
    /// Hidden units, H.
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// Sequences in the batch, B.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Layers, one above the other.
    #[arg(long, default_value_t = 1)]
    layers: usize,
    /// Let each layer go through the sequences in both directions; the outputs of both are the input
    /// of the next layer.
    #[arg(long)]
    bidirectional: bool,
    /// Time steps, T.
    #[arg(long, default_value_t = 25)]
    steps: usize,
    /// Give the sequences different lengths, evenly spread below T, that fill this share of the
    /// padded arrays; for training.
    #[arg(long, value_name = "FILL")]
    ragged: Option<f64>,
    /// Give the arrays as [B, T, features] instead of [T, B, features]; for training.
    #[arg(long)]
    batch_first: bool,
    /// Let sequences begin anew at this share of their steps; for training.
    #[arg(long, value_name = "P")]
    resets: Option<f64>,
    /// Print how many floats the cells keep for each step of a sequence, and exit.
    #[arg(long)]
    memory: bool,
    /// The most bytes that the workspace of training may take; what does not fit is computed again.
    #[arg(long, value_name = "BYTES")]
    budget: Option<usize>,
    /// Train without the gradient of the input.
    #[arg(long)]
    parameters_only: bool,
    /// Threads: the calling one and helpers from rayon's pool.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How the weights are stored; training needs f32.
    #[arg(long, value_enum, default_value = "f32")]
    format: Stored,
    /// Dropout of the recurrent input, for training.
    #[arg(long, default_value_t = 0.0)]
    dropout: f32,
    /// Zoneout of the states.
    #[arg(long, default_value_t = 0.0)]
    zoneout: f32,
    /// How long to measure.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Print one line of JSON instead of text for people.
    #[arg(long)]
    json: bool,
    /// List the cells and exit.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum CellName {
    Lstm,
    LstmPeepholes,
    LstmCoupled,
    /// With a projection to half of its units.
    LstmProjected,
    /// Reset gate after the recurrent product.
    Gru,
    /// Reset gate before the recurrent product.
    GruBefore,
    Vanilla,
    VanillaRelu,
    Leaky,
    /// With a learned leak.
    LeakyLearned,
    /// With delays of one step and four.
    Skip,
    /// With normalised gates.
    LstmNorm,
    /// With normalised gates.
    GruNorm,
    /// Four groups of about equally many units, with periods of 1, 2, 4 and 8 steps.
    Clockwork,
    MinGru,
    /// With a positive candidate.
    MinGruPositive,
    MinLstm,
    /// With a fourth product if there are not as many inputs as units.
    Sru,
    /// With f-pooling.
    QrnnF,
    /// With fo-pooling.
    QrnnFo,
    /// With ifo-pooling.
    QrnnIfo,
    /// With ReLU.
    IndRnn,
    /// With as many inputs as units.
    RgLru,
    /// With four heads and a logistic forget gate.
    Slstm,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Stored {
    F32,
    Bf16,
    Int8,
}

impl From<Stored> for Format {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::Bf16 => Self::Bf16,
            Stored::Int8 => Self::Int8,
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// A forward pass; the weights stay packed.
    Infer,
    /// Forward and backward with all gradients; the weights are packed anew each time, as after an
    /// update.
    Train,
    /// One step per call.
    Stream,
}

fn main() {
    let options = Options::parse();
    if options.list {
        for cell in CellName::value_variants() {
            println!("{}", cell.to_possible_value().expect("no cell is hidden").get_name());
        }
    } else if let Err(error) = if options.memory { memory(&options) } else { time(&options) } {
        eprintln!("rnnbench: {error}");
        std::process::exit(2);
    }
}

/// The network: layers of the cell, each in one direction or in both.
fn network(options: &Options) -> Result<Network, Error> {
    let mut network: Option<Network> = None;
    for _ in 0..options.layers.max(1) {
        let input = network.as_ref().map_or(options.input, Network::output_size);
        let one = || block(&Options { input, ..options.clone() });
        let both: Arc<dyn Block> = match options.bidirectional {
            true => Arc::new(Bidirectional::new(one()?, one()?)),
            false => one()?,
        };
        network = Some(match network {
            Some(network) => network.then(both),
            None => Network::new(both),
        });
    }
    Ok(network.expect("there is a layer"))
}

/// The one layer, with noise in its recurrence if there is any.
fn block(options: &Options) -> Result<Arc<dyn Block>, Error> {
    let Options { input, hidden, .. } = *options;
    let none = Regularisation::none();
    let dropout = none.with_dropout(options.dropout)?;
    // Zoneout of the cell state too, if there is one.
    let both = dropout.with_zoneout(options.zoneout, options.zoneout)?;
    let without_noise = match options.cell {
        CellName::Clockwork => {
            let groups = clock_groups(hidden);
            Some(Arc::new(Clockwork::new(input, Activation::Tanh, &groups)?) as Arc<dyn Block>)
        }
        CellName::Slstm => {
            let slstm = Slstm::new(input, hidden, 4)?.with_forget(ForgetGate::Logistic);
            Some(Arc::new(slstm) as Arc<dyn Block>)
        }
        _ => scanned(options)?,
    };
    if let Some(block) = without_noise {
        if both != none {
            let (given, expected) = ("some".into(), "none in this cell".into());
            return Err(Error::Value { what: "noise", given, expected });
        }
        return Ok(block);
    }
    let layer = layer(options)?;
    if both == none {
        return Ok(Arc::new(layer));
    }
    match Regularised::new(layer.clone(), both) {
        Ok(regularised) => Ok(Arc::new(regularised)),
        Err(_) => {
            let of_h = dropout.with_zoneout(options.zoneout, 0.0)?;
            Ok(Arc::new(Regularised::new(layer, of_h)?))
        }
    }
}

/// Prints the floats that each cell keeps for a row, which is a step of a sequence: all
/// activations, or only the states from which the others are computed again. What does not grow
/// with the steps cancels out in the difference of two passes.
fn memory(options: &Options) -> Result<(), Error> {
    let Options { hidden, .. } = *options;
    println!("floats per step and sequence, H {hidden}, outputs included");
    println!("{:<16} {:>9} {:>6} {:>7} {:>5}", "cell", "full", "in H", "states", "in H");
    for &cell in CellName::value_variants() {
        let one = Options { layers: 1, bidirectional: false, ..options.clone() };
        let options = Options { cell, dropout: 0.0, zoneout: 0.0, ..one };
        let network = network(&options)?;
        let mut rng = StdRng::seed_from_u64(1);
        let mut model = network.init(&mut rng, Runtime::best()?)?;
        let mut bytes = |steps| model.training(Schedule::dense(steps, 1)).bytes();
        // The regions are rounded up to 16 floats, which as many steps more do not change; and a
        // layer alone whose backward pass reads its outputs, as it does where they are carried on,
        // needs a region for ∂L/∂y, which is none of its own.
        let output = network.output_size();
        let beside = if network.state(1)?.tensor("0.h").is_ok() { output } else { 0 };
        let full = ((bytes(4800)? - bytes(3200)?) / 4 / 1600) - beside;
        let states = match cell {
            CellName::Clockwork => None,
            _ => {
                let state = network.state(1)?;
                let of = |name: &str| state.tensor(name).map_or(0, <[f32]>::len);
                Some(output + of("0.c"))
            }
        };
        let name = cell.to_possible_value().expect("no cell is hidden");
        let in_h = |floats: usize| floats as f64 / hidden as f64;
        print!("{:<16} {full:>9} {:>6.2}", name.get_name(), in_h(full));
        match states {
            Some(states) => println!(" {states:>7} {:>5.2}", in_h(states)),
            None => println!("  cannot be computed again from its states"),
        }
    }
    Ok(())
}

/// The sequences of a pass.
fn schedule(options: &Options, steps: usize) -> Result<Schedule, Error> {
    let Options { mode, batch, ragged, batch_first, resets, .. } = *options;
    let refused = |what, given: String, expected: &str| {
        Err(Error::Value { what, given, expected: expected.to_owned().into() })
    };
    if mode != Mode::Train && (ragged.is_some() || batch_first || resets.is_some()) {
        return refused("sequences", "not dense".into(), "dense, except in training");
    }
    if let Some(share) = resets {
        if !(0.0..=1.0).contains(&share) || ragged.is_some() || batch_first {
            return refused("resets", share.to_string(), "0 to 1, in dense sequences");
        }
        let mut rng = StdRng::seed_from_u64(2);
        let all = (0..batch).flat_map(|n| (0..steps).map(move |step| (n, step)));
        let drawn: Vec<_> = all.filter(|_| rng.random_bool(share)).collect();
        return Schedule::dense(steps, batch).with_resets(&drawn);
    }
    let layout = if batch_first { Schedule::batch_first } else { Schedule::padded };
    let Some(fill) = ragged else { return layout(&vec![steps; batch], steps) };
    if !(fill > 0.0 && fill <= 1.0) {
        return refused("ragged", fill.to_string(), "above 0, at most 1");
    }
    // Evenly spread about the mean, up to the last step or down to 0, and one sequence of all
    // steps.
    let spread = fill.min(1.0 - fill) * steps as f64;
    let length = |n: usize| match n {
        0 => steps,
        _ => {
            let place = (n * 7919 % batch) as f64 / batch as f64 * 2.0 - 1.0;
            (fill * steps as f64 + place * spread).round() as usize
        }
    };
    layout(&(0..batch).map(length).collect::<Vec<_>>(), steps)
}

/// The network of a cell that is scanned.
fn scanned(options: &Options) -> Result<Option<Arc<dyn Block>>, Error> {
    let Options { input, hidden, .. } = *options;
    let block: Arc<dyn Block> = match options.cell {
        CellName::MinGru => Arc::new(MinGru::new(input, hidden)?),
        CellName::MinGruPositive => Arc::new(MinGru::new(input, hidden)?.with_positive_candidate()),
        CellName::MinLstm => Arc::new(MinLstm::new(input, hidden)?),
        CellName::Sru => Arc::new(Sru::new(input, hidden)?),
        CellName::QrnnF => Arc::new(Qrnn::new(input, hidden, Pooling::Forget)?),
        CellName::QrnnFo => Arc::new(Qrnn::new(input, hidden, Pooling::ForgetOutput)?),
        CellName::QrnnIfo => Arc::new(Qrnn::new(input, hidden, Pooling::ForgetInputOutput)?),
        CellName::IndRnn => Arc::new(IndRnn::new(input, hidden, Activation::Relu)?),
        CellName::RgLru if input != hidden => {
            let (given, expected) = (input.to_string(), format!("as many as units, {hidden}"));
            return Err(Error::Value { what: "inputs", given, expected: expected.into() });
        }
        CellName::RgLru => Arc::new(RgLru::new(hidden)?),
        _ => return Ok(None),
    };
    Ok(Some(block))
}

/// The layer, for any other cell.
fn layer(options: &Options) -> Result<Recurrent, Error> {
    let Options { input, hidden, .. } = *options;
    let lstm = || Lstm::new(input, hidden);
    let gru = |reset| Gru::new(input, hidden, reset);
    let leaky = |leak| Leaky::new(input, hidden, Activation::Tanh, leak);
    Ok(match options.cell {
        CellName::Lstm => lstm()?.recurrent(),
        CellName::LstmPeepholes => lstm()?.with_peepholes()?.recurrent(),
        CellName::LstmCoupled => lstm()?.with_coupled_gates().recurrent(),
        CellName::LstmProjected => lstm()?.with_projection(hidden.div_ceil(2))?.recurrent(),
        CellName::Gru => gru(Reset::After)?.recurrent(),
        CellName::GruBefore => gru(Reset::Before)?.recurrent(),
        CellName::Vanilla => Vanilla::new(input, hidden, Activation::Tanh)?.recurrent(),
        CellName::VanillaRelu => Vanilla::new(input, hidden, Activation::Relu)?.recurrent(),
        CellName::Leaky => leaky(Leak::Layer(0.5))?.recurrent(),
        CellName::LeakyLearned => leaky(Leak::Learned { initial: 0.5 })?.recurrent(),
        CellName::LstmNorm => LayerNorm::new(lstm()?)?.recurrent(),
        CellName::GruNorm => LayerNorm::new(gru(Reset::After)?)?.recurrent(),
        CellName::Skip => Skip::new(input, hidden, Activation::Tanh, &[1, 4])?.recurrent(),
        _ => unreachable!("they are blocks of their own"),
    })
}

fn clock_groups(hidden: usize) -> Vec<ClockGroup> {
    let group =
        |n: usize| ClockGroup { units: hidden * (n + 1) / 4 - hidden * n / 4, period: 1 << n };
    (0..4).map(group).collect()
}

fn time(options: &Options) -> Result<(), Error> {
    let isa = Isa::best()?;
    let Options { cell, mode, input, hidden, batch, steps, .. } = *options;
    let mut problem = Problem::new(options, isa)?;
    let mut product = Product::of(options, &problem, isa)?;
    let (mut samples, mut peaks, mut products) = (Vec::new(), Vec::new(), Vec::new());
    // These calls also bring the memory in.
    let calls = calls_per_sample(&mut problem)?;
    let limit = Duration::from_secs_f64(options.seconds.clamp(0.0, 3600.0));
    let start = Instant::now();
    while start.elapsed() < limit || samples.len() < 3 {
        let round = Instant::now();
        for _ in 0..calls {
            problem.run()?;
        }
        samples.push(round.elapsed().as_secs_f64() / f64::from(calls));
        if let Some(product) = &mut product {
            let round = Instant::now();
            for _ in 0..calls {
                product.run(&problem)?;
            }
            products.push(round.elapsed().as_secs_f64() / f64::from(calls));
        }
        peaks.push(peak(isa, options.threads));
    }
    let (min, median) = min_and_median(&mut samples);
    let (_, peak) = min_and_median(&mut peaks);
    let of_product = product.map(|_| min_and_median(&mut products).1 / median);

    let passes: u32 = if mode == Mode::Train { 3 } else { 1 };
    let timed_steps = if mode == Mode::Stream { 1 } else { steps };
    let weights = match cell {
        CellName::Clockwork => batch as f64 * moving_weights(options, timed_steps),
        _ => (problem.rows * problem.weights()) as f64,
    };
    let flops = 2.0 * f64::from(passes) * weights;
    let gflops = flops / median / 1e9;
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|v| v.get_name().to_owned())
    };
    let line = serde_json::json!({
        "cell": name(&|| cell.to_possible_value()),
        "mode": name(&|| mode.to_possible_value()),
        "input": input,
        "hidden": hidden,
        "layers": options.layers,
        "bidirectional": options.bidirectional,
        "batch": batch,
        "steps": steps,
        "rows": problem.rows,
        "threads": options.threads,
        "isa": isa.name(),
        "format": name(&|| options.format.to_possible_value()),
        "dropout": options.dropout,
        "zoneout": options.zoneout,
        "ms_min": min * 1e3,
        "ms_median": median * 1e3,
        "gflops": gflops,
        "of_product": of_product,
        "peak_gflops": peak / 1e9,
        "arena_bytes": problem.bytes(),
        "steps_again": problem.again().steps,
        "rows_again": problem.again().rows,
    });
    if options.json {
        println!("{line}");
    } else {
        let of_product = of_product.map(|share| format!(", {share:.2} of the product's speed"));
        println!(
            "{:.3} ms (best {:.3}), {gflops:.1} GFLOP/s, {:.2} of the FMA peak ({:.1}){} on {isa}, {} bytes",
            median * 1e3,
            min * 1e3,
            gflops * 1e9 / peak,
            peak / 1e9,
            of_product.unwrap_or_default(),
            problem.bytes(),
        );
    }
    Ok(())
}

/// What a scanned cell cannot be faster than: its products alone. For inference, the product of the
/// inputs with the weights of all gates, in stretches that stay in the cache; for training, a dense
/// layer with as many outputs.
enum Product {
    Infer { isa: Isa, weights: PackedMatrix, bias: Vec<f32>, z: Vec<f32>, scratch: Vec<f32> },
    Train(Box<Problem>),
}

/// Rows of a product that stay in the cache.
const HOT_ROWS: usize = 192;

impl Product {
    /// The product of a scanned cell on one thread.
    fn of(options: &Options, problem: &Problem, isa: Isa) -> Result<Option<Self>, Error> {
        if scanned(options)?.is_none() || options.mode == Mode::Stream || options.threads > 1 {
            return Ok(None);
        }
        let outputs = problem.model.manifest().tensors()[0].shape()[0];
        if options.mode == Mode::Train {
            let dense = Network::new(Dense::new(options.input, outputs)?);
            return Ok(Some(Self::Train(Box::new(Problem::of(dense, options, isa)?))));
        }
        let mut weights = PackedMatrix::zeros(isa, 1, outputs, options.input)?;
        weights.pack_rows(&vec![0.5; outputs * options.input], &mut Pass::serial())?;
        Ok(Some(Self::Infer {
            isa,
            weights,
            bias: vec![0.0; outputs],
            z: vec![0.0; HOT_ROWS * gemm::spread(outputs)],
            scratch: vec![0.0; gemm::scratch_len(HOT_ROWS, options.input)?],
        }))
    }

    fn run(&mut self, problem: &Problem) -> Result<(), Error> {
        match self {
            Self::Train(dense) => dense.run(),
            Self::Infer { isa, weights, bias, z, scratch } => {
                let (depth, stride) = (weights.depth(), gemm::spread(weights.outputs()));
                for a in problem.x.chunks(HOT_ROWS * depth) {
                    let (rows, start) = (a.len() / depth, Start::Bias(bias));
                    let c = &mut z[..rows * stride];
                    let (weights, scratch) = (&*weights, &mut scratch[..]);
                    Gemm { rows, a, weights, start, c, stride, scratch }
                        .run(*isa, &mut Pass::serial())?;
                }
                Ok(())
            }
        }
    }
}

/// The weights of the groups that move in the first `steps` steps. For inference, where the stream
/// goes on from call to call, the average number in `steps` steps.
fn moving_weights(options: &Options, steps: usize) -> f64 {
    let (mut weights, mut read) = (0.0, options.hidden);
    for ClockGroup { units, period } in clock_groups(options.hidden) {
        let moves = match options.mode {
            Mode::Train => steps.div_ceil(period) as f64,
            Mode::Infer | Mode::Stream => steps as f64 / period as f64,
        };
        weights += moves * (units * (options.input + read)) as f64;
        read -= units;
    }
    weights
}

/// Chooses so many calls for a sample that the clock's resolution does not matter.
fn calls_per_sample(problem: &mut Problem) -> Result<u32, Error> {
    let start = Instant::now();
    let mut calls = 0u32;
    while start.elapsed() < Duration::from_millis(5) {
        problem.run()?;
        calls += 1;
    }
    Ok(calls)
}

/// Floating-point operations per second of multiply-adds in registers, on `threads` threads at
/// once.
fn peak(isa: Isa, threads: u16) -> f64 {
    let together = Barrier::new(threads.into());
    let one = || {
        together.wait();
        let start = Instant::now();
        let mut flops = 0.0;
        while start.elapsed() < Duration::from_millis(2) {
            flops += bptt_kernels::peak::fma_chains(isa, 10_000);
        }
        flops / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mine = one();
        others.into_iter().map(|other| other.join().expect("a loop of sums")).sum::<f64>() + mine
    })
}

fn min_and_median(samples: &mut [f64]) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[samples.len() / 2])
}

/// The memory of one problem, and its passes.
struct Problem {
    model: Model,
    x: Vec<f32>,
    kind: Kind,
    /// The steps of all sequences.
    rows: usize,
}

enum Kind {
    Infer {
        stream: Stream,
        y: Vec<f32>,
    },
    /// A forward pass of a network that has no streams.
    Forward {
        workspace: Box<Workspace>,
    },
    Stream {
        stream: Stream,
        y: Vec<f32>,
    },
    Train {
        workspace: Box<Workspace>,
        loss: Slopes,
    },
}

/// A loss with a given gradient, a row for each row of a pass.
struct Slopes(Vec<f32>);

impl Loss for Slopes {
    fn check(&self, _targets: TargetRows<'_>, _size: usize) -> Result<(), Error> {
        Ok(())
    }

    fn value(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        Ok(outputs.loss_so_far)
    }

    fn gradient(&self, _runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        let first = targets.first() * size;
        y.copy_from_slice(&self.0[first..first + y.len()]);
        Ok(loss_so_far)
    }

    fn is_sum_over_rows(&self) -> bool {
        true
    }
}

impl Problem {
    fn new(options: &Options, isa: Isa) -> Result<Self, Error> {
        Self::of(network(options)?, options, isa)
    }

    /// The problem of another network.
    fn of(network: Network, options: &Options, isa: Isa) -> Result<Self, Error> {
        let Options { mode, input, batch, steps, .. } = *options;
        let timed_steps = if mode == Mode::Stream { 1 } else { steps };
        let schedule = schedule(options, timed_steps)?;
        let mut rng = StdRng::seed_from_u64(1);
        let runtime = Runtime::new(isa).threads(options.threads.into());
        let mut model = network.init_with(Init::Glorot, &mut rng, runtime)?;
        // Plans the pass before it makes the inputs, since planning refuses sizes that no memory
        // could hold.
        model.training(&schedule).with_input_gradients().bytes()?;
        model = match (mode, options.format) {
            (_, Stored::F32) => model,
            (Mode::Train, _) => {
                return Err(Error::Value {
                    what: "format",
                    given: "another".into(),
                    expected: "f32 for training".into(),
                });
            }
            (_, format) => model.quantised(format.into())?,
        };
        let mut draw =
            |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let outputs = schedule.rows() * model.output_size();
        let x = draw(schedule.given_rows() * input);
        let kind = match mode {
            Mode::Infer if options.bidirectional => {
                Kind::Forward { workspace: Box::new(model.training_workspace(&schedule)?) }
            }
            Mode::Infer => Kind::Infer { stream: model.stream(batch)?, y: vec![0.0; outputs] },
            Mode::Stream => Kind::Stream { stream: model.stream(batch)?, y: vec![0.0; outputs] },
            Mode::Train => {
                let mut training = model.training(&schedule);
                if !options.parameters_only {
                    training = training.with_input_gradients();
                }
                if let Some(bytes) = options.budget {
                    training = training.with_budget(bytes);
                }
                let workspace = Box::new(training.workspace()?);
                Kind::Train { workspace, loss: Slopes(draw(outputs)) }
            }
        };
        Ok(Self { model, x, kind, rows: schedule.rows() })
    }

    fn run(&mut self) -> Result<(), Error> {
        let Self { model, x, kind, .. } = self;
        let x = &*x;
        match kind {
            Kind::Infer { stream, y } => stream.forward(x, y),
            Kind::Forward { workspace } => model.forward(workspace, x).map(|_| ()),
            Kind::Stream { stream, y } => stream.step(x, y),
            Kind::Train { workspace, loss } => {
                model.change(|_| Ok::<(), Error>(()))?;
                model.gradients(workspace, x, loss, Accumulate::No).map(|_| ())
            }
        }
    }

    /// The number of weights in matrices, which enter products.
    fn weights(&self) -> usize {
        let products = ["weight_ih", "weight_hh", "weight_hr"];
        let tensors = self.model.manifest().tensors().iter();
        let of_products =
            tensors.filter(|tensor| products.iter().any(|name| tensor.name().contains(name)));
        of_products.map(|tensor| tensor.range().len()).sum()
    }

    /// What is computed more than once because of the budget.
    fn again(&self) -> Recomputation {
        match &self.kind {
            Kind::Train { workspace, .. } => workspace.recomputation(),
            _ => Recomputation { steps: 0, rows: 0, bytes: self.bytes() },
        }
    }

    /// The bytes of the workspace or of the stream.
    fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Infer { stream, .. } | Kind::Stream { stream, .. } => stream.bytes(),
            Kind::Forward { workspace } | Kind::Train { workspace, .. } => workspace.bytes(),
        }
    }
}
