//! Compares exp, logistic and tanh with a copy loop and with the standard library's functions.

use bptt_kernels::vmath::{Function, map};
use bptt_kernels::{AlignedBuffer, Isa};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// Elements: input and output fit the first-level cache.
const LEN: usize = 2048;

fn vector_math(c: &mut Criterion) {
    let mut x = AlignedBuffer::try_new(LEN).expect("8 KiB");
    let mut y = AlignedBuffer::try_new(LEN).expect("8 KiB");
    for (i, x) in x.iter_mut().enumerate() {
        *x = (i as f32 - 1024.0) / 128.0;
    }
    for function in [Function::Exp, Function::Logistic, Function::Tanh] {
        let scalar: fn(f32) -> f32 = match function {
            Function::Exp => f32::exp,
            Function::Logistic => |x| 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => f32::tanh,
        };
        let mut group = c.benchmark_group(format!("{function:?}").to_lowercase());
        group.throughput(Throughput::Elements(LEN as u64));
        for &isa in Isa::available() {
            group.bench_function(isa.name(), |b| {
                b.iter(|| {
                    map(isa, function, black_box(&x), black_box(&mut y)).expect("same length")
                });
            });
        }
        group.bench_function("std", |b| {
            b.iter(|| {
                black_box(&mut y)
                    .iter_mut()
                    .zip(black_box(&x[..]))
                    .for_each(|(y, x)| *y = scalar(*x))
            });
        });
        group.bench_function("copy", |b| {
            b.iter(|| black_box(&mut y).copy_from_slice(black_box(&x)))
        });
        group.finish();
    }
}

criterion_group!(benches, vector_math);
criterion_main!(benches);
