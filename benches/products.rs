//! Compares the crate's products with matrixmultiply's at equal shapes: the input's product (with
//! weights packed beforehand, as in a pass) and the sums of outer products for the weight
//! gradients. The result decides which of the two libraries a pass uses.

use bptt_kernels::baseline::{Operand::*, Sizes, sgemm};
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::gemm::{self, Start, gemm};
use bptt_kernels::team::Pass;
use bptt_kernels::{AlignedBuffer, Isa, PackedMatrix};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// H = I, and the τB rows of a pass.
const SHAPES: [(usize, usize); 7] =
    [(16, 100), (64, 3200), (256, 150), (256, 2400), (512, 25), (512, 800), (1024, 1600)];

fn random(len: usize, rng: &mut StdRng) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::try_new(len).expect("memory for a bench");
    buffer.iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
    buffer
}

fn products(c: &mut Criterion) {
    let isa = Isa::best().expect("BPTT_ISA names an instruction set of this CPU");
    let mut rng = StdRng::seed_from_u64(1);
    for (h, rows) in SHAPES {
        let x = random(rows * h, &mut rng);
        let u = random(4 * h * h, &mut rng);
        let mut z = random(rows * 4 * h, &mut rng);
        let mut packed = PackedMatrix::zeros(isa, 4, h, h).expect("memory for a bench");
        packed.pack_rows(&u, &mut Pass::serial()).expect("U is [4H, I]");
        let mut room = random(gemm::scratch_len(rows, h).expect("small"), &mut rng);
        let flops = (2 * rows * 4 * h * h) as u64;

        let mut group = c.benchmark_group(format!("input product H {h} rows {rows}"));
        group.throughput(Throughput::Elements(flops));
        group.bench_function("bptt", |b| {
            b.iter(|| {
                gemm(isa, rows, &x, &packed, Start::Zero, &mut z, &mut room).expect("shapes fit")
            });
        });
        group.bench_function("matrixmultiply", |b| {
            b.iter(|| {
                sgemm(
                    Sizes { rows, depth: h, columns: 4 * h },
                    Plain(&x),
                    Transposed(&u),
                    0.0,
                    &mut z,
                )
                .expect("shapes fit")
            });
        });
        group.finish();

        let mut dw = random(4 * h * h, &mut rng);
        let mut db = random(4 * h, &mut rng);
        let mut scratch = random(scratch_len(isa, 1, rows, &[h]).expect("small"), &mut rng);
        let mut group = c.benchmark_group(format!("weight gradient H {h} rows {rows}"));
        group.throughput(Throughput::Elements(flops));
        group.bench_function("bptt", |b| {
            b.iter(|| {
                let outer = WeightGradients {
                    depth: rows,
                    a: &z,
                    stride: 4 * h,
                    rows: 4 * h,
                    products: [Rhs::new(&x, &mut dw, h)],
                    sums: Some(&mut db),
                    accumulate: false,
                    scratch: &mut scratch,
                };
                outer.run(isa, &mut Pass::serial()).expect("shapes fit");
            });
        });
        group.bench_function("matrixmultiply", |b| {
            b.iter(|| {
                sgemm(
                    Sizes { rows: 4 * h, depth: rows, columns: h },
                    Transposed(&z),
                    Plain(&x),
                    0.0,
                    &mut dw,
                )
                .expect("shapes fit")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
