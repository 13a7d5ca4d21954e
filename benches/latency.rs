//! Times single steps, as real-time audio takes them: an LSTM with one input and a dense layer with
//! one output, one sequence, one thread. Prints the median step and the tail, since a thread with a
//! deadline depends on its slowest step.
//!
//! ```text
//! cargo bench --bench latency
//! ```
//!
//! Reading the clock takes a good part of a short step, so the first columns are measured over a
//! thousand steps at a time. The tail includes delays from anything else that the machine does.

use bptt::{Dense, Error, Format, Isa, Lstm, Network, Runtime};
use rand::{SeedableRng, rngs::StdRng};
use std::hint::black_box;
use std::time::Instant;

const HIDDEN: [usize; 5] = [8, 16, 32, 64, 128];
const BATCHES: usize = 1000;
const BATCH: usize = 1000;

fn main() -> Result<(), Error> {
    println!("ns per step          at a time: 1000       1                               ");
    println!("   H  format  isa       median    best  median   99.9 %  99.99 %      worst");
    for isa in [Isa::best()?] {
        for hidden in HIDDEN {
            for format in [Format::F32, Format::Bf16, Format::Int8] {
                row(isa, hidden, format)?;
            }
        }
    }
    Ok(())
}

fn row(isa: Isa, hidden: usize, format: Format) -> Result<(), Error> {
    let network = Network::new(Lstm::new(1, hidden)?).then(Dense::new(hidden, 1)?);
    let model = network.init(&mut StdRng::seed_from_u64(1), Runtime::new(isa))?;
    let mut stream = model.quantised(format)?.stream(1)?;
    let mut y = [0.0];
    let mut sample = 0.0f32;
    let mut step = || -> Result<(), Error> {
        sample = if sample > 1.0 { -1.0 } else { sample + 0.01 };
        stream.step(black_box(&[sample]), &mut y)?;
        black_box(y);
        Ok(())
    };
    let mut timed = |count: usize| -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..count {
            step()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / count as f64)
    };
    let mut spells = (0..BATCHES).map(|_| timed(BATCH)).collect::<Result<Vec<_>, _>>()?;
    let mut single = (0..BATCHES * BATCH).map(|_| timed(1)).collect::<Result<Vec<_>, _>>()?;
    spells.sort_by(f64::total_cmp);
    single.sort_by(f64::total_cmp);
    let of = |sorted: &[f64], share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    println!(
        "{hidden:4}  {:6}  {:8} {:7.1} {:7.1} {:7.0} {:8.0} {:8.0} {:10.0}",
        format!("{format:?}").to_lowercase(),
        isa.name(),
        of(&spells, 0.5),
        spells[0],
        of(&single, 0.5),
        of(&single, 0.999),
        of(&single, 0.9999),
        of(&single, 1.0),
    );
    Ok(())
}
