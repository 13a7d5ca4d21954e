//! What the machine can do at best: multiply-adds, and reading.

use crate::problem::Fallible;
use bptt_kernels::{AlignedBuffer, Isa};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// GFLOP/s of multiply-adds in registers, on so many threads at once.
pub fn peak(seconds: f64, threads: usize) -> Fallible<f64> {
    let isa = Isa::best()?;
    Ok(rate(seconds, threads, || (), |()| bptt_kernels::peak::fma_chains(isa, 10_000)))
}

/// GB/s of reading a buffer of so many bytes again and again, each thread a share, to
/// and fro: the end of one sweep is in the cache when the next begins there.
pub fn bandwidth(bytes: usize, seconds: f64, threads: usize) -> Fallible<f64> {
    let share = (bytes / 4 / threads).next_multiple_of(LANES);
    // A small share is read many times between two looks at the clock: a MB at least.
    let times = (1_usize << 18).div_ceil(share);
    // Written to, or all of its pages would be one and the same page of zeros.
    let mut values = AlignedBuffer::try_new(share)?;
    values.fill(1.0);
    Ok(rate(
        seconds,
        threads,
        || values.clone(),
        |values| {
            black_box(pulp::Arch::new().dispatch(|| sums(values, times)));
            (2 * 4 * share * times) as f64
        },
    ))
}

/// Accumulators enough for the latency of additions in vectors of any width.
const LANES: usize = 128;

/// In `LANES` parts, of `values` read to and fro `times` times. The closure that it is inlined in
/// is compiled for the vectors that there are.
#[inline(always)]
fn sums(values: &[f32], times: usize) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for _ in 0..times {
        let chunks = black_box(values).as_chunks::<LANES>().0;
        for chunk in chunks {
            add(&mut sums, chunk);
        }
        for chunk in chunks.iter().rev() {
            add(&mut sums, chunk);
        }
    }
    sums
}

#[inline(always)]
fn add(sums: &mut [f32; LANES], values: &[f32; LANES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// Billions a second of what `work` counts, summed over threads that start together.
fn rate<S>(
    seconds: f64,
    threads: usize,
    prepare: impl Fn() -> S + Sync,
    work: impl Fn(&S) -> f64 + Sync,
) -> f64 {
    let together = Barrier::new(threads);
    let one = || {
        let state = prepare();
        work(&state);
        together.wait();
        let start = Instant::now();
        let mut done = 0.0;
        while start.elapsed().as_secs_f64() < seconds {
            done += work(&state);
        }
        done / start.elapsed().as_secs_f64()
    };
    let total: f64 = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mine = one();
        others.into_iter().map(|other| other.join().expect("a loop of sums")).sum::<f64>() + mine
    });
    total / 1e9
}
