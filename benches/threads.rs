//! Times passes on several threads over many starts of the program. A program can be fast in one
//! start and slow in the next, for as long as it runs, so each figure is measured in a process of
//! its own. Prints the distribution of the medians over the starts, on an idle machine and beside a
//! process that keeps one core busy for a part of the time.
//!
//! ```text
//! cargo bench --bench threads                        # 20 starts each, several minutes
//! cargo bench --bench threads -- --starts 5 --case lstm-128 --load 0.5
//! ```
//!
//! The machine has to be idle otherwise. One thread and several threads take turns, start by start,
//! so that other work affects both; the ratio is that of their medians.

use bptt::{Accumulate, Error, Gru, Layer, Lstm, Model, Network, Reset, Runtime, Schedule};
use clap::{Parser, ValueEnum};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Times passes on several threads, over many starts of the program.
#[derive(Parser)]
struct Options {
    /// Starts of the program for each figure.
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Seconds for which a start measures.
    #[arg(long, default_value_t = 0.25)]
    seconds: f64,
    /// Threads of a pass, compared with one thread.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    threads: Vec<usize>,
    /// The cases; all if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    case: Vec<Case>,
    /// Shares of one core that another process takes; 0 for none.
    #[arg(long, value_delimiter = ',', default_value = "0,0.5")]
    load: Vec<f64>,
    /// Where the caller runs; both if none is named.
    #[arg(long, value_enum)]
    caller: Vec<Caller>,
    /// What a start of the program does: `time CASE CALLER THREADS SECONDS`, or `load SHARE`.
    #[arg(long, num_args = 1.., hide = true)]
    start: Vec<String>,
    /// Cargo gives this argument.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Case {
    /// H 128, B 32, T 100, to infer.
    #[value(name = "lstm-128")]
    Lstm128,
    /// H 64, B 32, T 100, to infer.
    #[value(name = "lstm-64")]
    Lstm64,
    /// H 64, B 32, T 100, to train.
    #[value(name = "gru-64-train")]
    Gru64,
    /// H 512, B 32, T 25, to train.
    #[value(name = "lstm-512-train")]
    Lstm512,
    /// H 200, B 16, T 30, to infer.
    #[value(name = "lstm-200")]
    Lstm200,
    /// H 256, B 1, T 100, to infer.
    #[value(name = "lstm-256-one")]
    Lstm256,
}

/// Whether the caller is a thread of the pool that its helpers come from.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Caller {
    Outside,
    Inside,
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("none is hidden").get_name().to_owned()
}

fn main() {
    let options = Options::parse();
    if let Err(error) = run(&options) {
        eprintln!("threads: {error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<&str> = options.start.iter().map(String::as_str).collect();
    match given[..] {
        [] => table(options),
        ["load", share] => load(share.parse()?),
        ["time", case, caller, threads, seconds] => {
            let (case, caller) = (Case::from_str(case, false)?, Caller::from_str(caller, false)?);
            let (threads, seconds) = (threads.parse()?, seconds.parse()?);
            println!("{}", median(case, caller, threads, seconds)?);
            Ok(())
        }
        _ => Err("--start takes `time CASE CALLER THREADS SECONDS` or `load SHARE`".into()),
    }
}

/// Prints all figures, one line each.
fn table(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let cases = if options.case.is_empty() { Case::value_variants() } else { &options.case };
    let callers =
        if options.caller.is_empty() { Caller::value_variants() } else { &options.caller };
    println!("ms a pass, medians of {} starts", options.starts);
    println!(
        "case            load  caller   threads    least     25 %   median     75 %     most   of one thread"
    );
    for &share in &options.load {
        let _load = (share > 0.0).then(|| Load::start(share)).transpose()?;
        for &case in cases {
            for &caller in callers {
                let numbers: Vec<usize> = [1].into_iter().chain(options.threads.clone()).collect();
                let mut times = vec![Vec::new(); numbers.len()];
                for _ in 0..options.starts {
                    for (&threads, times) in numbers.iter().zip(&mut times) {
                        times.push(start(case, caller, threads, options.seconds)?);
                    }
                }
                times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
                let middle = |times: &[f64]| times[times.len() / 2];
                let one = middle(&times[0]);
                for (threads, times) in numbers.iter().zip(&times) {
                    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
                    println!(
                        "{:15} {share:4} {:8} {threads:7} {:8.3} {:8.3} {:8.3} {:8.3} {:8.3} {:8.2} to {:.2}",
                        name(case),
                        name(caller),
                        at(0.0),
                        at(0.25),
                        middle(times),
                        at(0.75),
                        at(1.0),
                        middle(times) / one,
                        at(1.0) / one,
                    );
                }
            }
        }
    }
    Ok(())
}

/// Starts this program again for another task.
fn again(arguments: &[String]) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    Command::new(program).arg("--start").args(arguments).stdout(Stdio::piped()).spawn()
}

/// The milliseconds that one start of the program prints.
fn start(
    case: Case,
    caller: Caller,
    threads: usize,
    seconds: f64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let arguments =
        ["time".into(), name(case), name(caller), threads.to_string(), seconds.to_string()];
    let output = again(&arguments)?.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("a start of the program ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// A process that computes for a share of the time, until this guard is dropped.
struct Load(Child);

impl Load {
    fn start(share: f64) -> std::io::Result<Self> {
        again(&["load".into(), share.to_string()]).map(Self)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Computes for a share of each hundredth of a second, without end.
fn load(share: f64) -> ! {
    let period = Duration::from_millis(10);
    loop {
        let start = Instant::now();
        while start.elapsed() < period.mul_f64(share) {
            std::hint::spin_loop();
        }
        std::thread::sleep(period.saturating_sub(start.elapsed()));
    }
}

/// The median time of a pass, in milliseconds.
fn median(case: Case, caller: Caller, threads: usize, seconds: f64) -> Result<f64, Error> {
    let of = move |steps, batch| Problem { steps, batch, threads, seconds };
    let work = move || match case {
        Case::Lstm128 => infer(Lstm::new(128, 128)?, of(100, 32)),
        Case::Lstm64 => infer(Lstm::new(64, 64)?, of(100, 32)),
        Case::Lstm200 => infer(Lstm::new(200, 200)?, of(30, 16)),
        Case::Lstm256 => infer(Lstm::new(256, 256)?, of(100, 1)),
        Case::Gru64 => train(Gru::new(64, 64, Reset::After)?, of(100, 32)),
        Case::Lstm512 => train(Lstm::new(512, 512)?, of(25, 32)),
    };
    match caller {
        Caller::Outside => work(),
        Caller::Inside => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(cores.max(2)).build();
            pool.expect("a pool of as many threads as cores").install(work)
        }
    }
}

/// The sizes of a pass, its threads, and how long it is timed.
#[derive(Clone, Copy)]
struct Problem {
    steps: usize,
    batch: usize,
    threads: usize,
    seconds: f64,
}

/// A layer's model, and the rows of input of a pass.
fn draw(layer: impl Layer, of: Problem) -> Result<(Model, Vec<f32>), Error> {
    let mut rng = StdRng::seed_from_u64(1);
    let rows = of.steps * of.batch * layer.input_size();
    let runtime = Runtime::best()?.threads(of.threads);
    let model = Network::new(layer.recurrent()).init(&mut rng, runtime)?;
    let x = (0..rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    Ok((model, x))
}

fn infer(layer: impl Layer, of: Problem) -> Result<f64, Error> {
    let (model, x) = draw(layer, of)?;
    let mut h = vec![0.0; of.steps * of.batch * model.output_size()];
    let mut stream = model.stream(of.batch)?;
    timed(of.seconds, || stream.forward(&x, &mut h))
}

fn train(layer: impl Layer, of: Problem) -> Result<f64, Error> {
    let (mut model, x) = draw(layer, of)?;
    let dy = vec![0.01; of.steps * of.batch * model.output_size()];
    let mut workspace = model.training_workspace(Schedule::dense(of.steps, of.batch))?;
    let loss = |y: &mut [f32]| {
        y.copy_from_slice(&dy);
        0.0
    };
    timed(of.seconds, || {
        model.change(|_| Ok::<(), Error>(()))?;
        model.forward(&mut workspace, &x)?;
        model.backward(&mut workspace, &x, &loss, Accumulate::No).map(|_| ())
    })
}

/// The median time of `pass`, in milliseconds, when it is called again and again for `seconds`.
fn timed(seconds: f64, mut pass: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    for _ in 0..3 {
        pass()?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        pass()?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
