//! GEMM and sums of outer products against `f64`: each element is within the error that any order
//! of its sum may have, γₙ Σ|a||b|.

mod common;

use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::gemm::{self, Gemm, Start, gemm};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, PackedMatrix};
use bptt_reference::sample::uniform;
use bptt_reference::{Bounded, Number, bounds};
use common::{assert_bits, by_columns, by_rows, check, dense, filled, isas};
use proptest::prelude::*;

/// The start of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Onto {
    Zero,
    Accumulate,
    Bias,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    gates: usize,
    units: usize,
    depth: usize,
    onto: Onto,
    seed: u64,
}

fn depths() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..=40usize, 1 => 250..=262usize, 1 => 510..=520usize]
}

fn cases() -> impl Strategy<Value = Case> {
    let rows = prop_oneof![1..=20usize, 21..=150usize];
    let onto = prop_oneof![Just(Onto::Zero), Just(Onto::Accumulate), Just(Onto::Bias)];
    (rows, 1..=4usize, 1..=70usize, depths(), onto, any::<u64>()).prop_map(
        |(rows, gates, units, depth, onto, seed)| Case { rows, gates, units, depth, onto, seed },
    )
}

/// The sum of a[k] b[k], from `start` on.
fn sum(start: f32, terms: impl Iterator<Item = (f32, f32)>) -> Bounded {
    let exact = |value: f32| Bounded::exact(value.into());
    let start = (start != 0.0).then_some((1.0, start));
    Bounded::dot(start.into_iter().chain(terms).map(|(a, b)| (exact(a), exact(b))))
}

/// The product of all rows of `a`, written to a `c` of NaN if it overwrites.
fn product(
    isa: Isa,
    (a, packed, bias): (&[f32], &PackedMatrix, &[f32]),
    onto: Onto,
    c: &[f32],
) -> Vec<f32> {
    let (start, mut c) = match onto {
        Onto::Zero => (Start::Zero, filled(c.len())),
        Onto::Accumulate => (Start::Accumulate, c.to_vec()),
        Onto::Bias => (Start::Bias(bias), filled(c.len())),
    };
    let rows = a.len() / packed.depth();
    let mut scratch = filled(gemm::scratch_len(rows, packed.depth()).unwrap());
    gemm(isa, rows, a, packed, start, &mut c, &mut scratch).unwrap();
    c
}

#[test]
fn gemm_is_within_its_bounds() {
    check(160, cases(), |case| {
        let Case { rows, gates, units, depth, onto, seed } = case;
        let outputs = gates * units;
        let draw = |k: u64, len| uniform(seed.wrapping_add(k << 32), len, 1.0);
        let (a, weights) = (draw(1, rows * depth), draw(2, outputs * depth));
        let (bias, c) = (draw(3, outputs), draw(4, rows * outputs));
        let expected: Vec<Bounded> = (0..rows * outputs)
            .map(|at| {
                let (row, column) = (at / outputs, at % outputs);
                let start = match onto {
                    Onto::Zero => 0.0,
                    Onto::Accumulate => c[at],
                    Onto::Bias => bias[column],
                };
                let left = a[row * depth..][..depth].iter();
                let right = &weights[column * depth..][..depth];
                sum(start, left.zip(right).map(|(&a, &b)| (a, b)))
            })
            .collect();
        let transposed: Vec<f32> =
            (0..depth * outputs).map(|k| weights[k % outputs * depth + k / outputs]).collect();
        for &isa in isas() {
            let rows_packed = by_rows(isa, gates, depth, &weights);
            let given = product(isa, (&a, &rows_packed, &bias), onto, &c);
            bounds::assert_within("c", &given, &expected);
            // The order of a sum is that of the depth, however the weights are packed.
            let columns_packed = by_columns(isa, depth, &transposed);
            let by_columns = product(isa, (&a, &columns_packed, &bias), onto, &c);
            assert_bits("c, packed by columns", &by_columns, &given);
            // Rows with a stride; the floats between them stay as they were.
            let stride = outputs + 1 + seed as usize % 20;
            let mut apart = filled(rows * stride);
            for (row, c) in apart.chunks_mut(stride).zip(c.chunks(outputs)) {
                row[..outputs].copy_from_slice(c);
            }
            let untouched = apart.clone();
            let start = match onto {
                Onto::Zero => Start::Zero,
                Onto::Accumulate => Start::Accumulate,
                Onto::Bias => Start::Bias(&bias),
            };
            let mut scratch = filled(gemm::scratch_len(rows, depth).unwrap());
            let (weights, c_out, scratch) = (&rows_packed, &mut apart, &mut scratch);
            Gemm { rows, a: &a, weights, start, c: c_out, stride, scratch }
                .run(isa, &mut Pass::serial())
                .unwrap();
            for (row, before) in apart.chunks_mut(stride).zip(untouched.chunks(stride)) {
                assert_bits("between rows", &row[outputs..], &before[outputs..]);
            }
            let apart: Vec<f32> =
                apart.chunks(stride).flat_map(|row| &row[..outputs]).copied().collect();
            assert_bits("c, rows apart", &apart, &given);
            let row = seed as usize % rows;
            let (a, c) = (&a[row * depth..][..depth], &c[row * outputs..][..outputs]);
            let alone = product(isa, (a, &rows_packed, &bias), onto, c);
            assert_bits("a row alone", &alone, &given[row * outputs..][..outputs]);
        }
    });
}

#[test]
fn dense_layers_are_within_their_bounds() {
    let sizes = (1..=150usize, 1..=20usize, depths(), any::<u64>());
    check(160, sizes, |(rows, outputs, depth, seed)| {
        let draw = |k: u64, len| uniform(seed.wrapping_add(k << 32), len, 1.0);
        let (a, weights, bias) =
            (draw(1, rows * depth), draw(2, outputs * depth), draw(3, outputs));
        let expected: Vec<Bounded> = (0..rows * outputs)
            .map(|at| {
                let (row, column) = (at / outputs, at % outputs);
                let right = &weights[column * depth..][..depth];
                let left = &a[row * depth..][..depth];
                sum(bias[column], left.iter().zip(right).map(|(&a, &b)| (a, b)))
            })
            .collect();
        for &isa in isas() {
            let layer = dense(isa, depth, &weights, &bias);
            let run = |rows: usize, a: &[f32], stride: usize| {
                let mut c = filled(rows * stride);
                let mut scratch = filled(gemm::scratch_len(rows, depth).unwrap());
                layer.run(rows, a, &mut c, stride, &mut scratch, &mut Pass::serial()).unwrap();
                c
            };
            let c = run(rows, &a, outputs);
            bounds::assert_within("c", &c, &expected);
            // Rows with a stride; the floats between them stay as they were.
            let stride = outputs + 1 + seed as usize % 20;
            let apart = run(rows, &a, stride);
            for (apart, c) in apart.chunks(stride).zip(c.chunks(outputs)) {
                assert_bits("c, rows apart", &apart[..outputs], c);
                assert_bits("between", &apart[outputs..], &filled(stride - outputs));
            }
            let row = seed as usize % rows;
            let alone = run(1, &a[row * depth..][..depth], outputs);
            assert_bits("a row alone", &alone, &c[row * outputs..][..outputs]);
        }
    });
}

/// Sums of outer products of the rows of `a` and `b`, and the sums of the rows of `a`, which
/// overwrite or accumulate.
fn outer(
    isa: Isa,
    (rows, columns): (usize, usize),
    (a, b): (&[f32], &[f32]),
    (c, sums): (&mut [f32], &mut [f32]),
    add: bool,
) {
    let depth = a.len() / rows;
    let mut scratch = filled(scratch_len(isa, 1, depth, &[columns]).unwrap());
    let products = [Rhs::new(b, c, columns)];
    WeightGradients {
        depth,
        a,
        stride: rows,
        rows,
        products,
        sums: Some(sums),
        accumulate: add,
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial())
    .unwrap();
}

#[test]
fn sums_of_outer_products_are_within_their_bounds() {
    let sizes = prop_oneof![1..=40usize, 90..=110usize];
    let case = (sizes.clone(), sizes, depths(), any::<bool>(), any::<u64>());
    check(160, case, |(rows, columns, depth, add, seed)| {
        let draw = |k: u64, len| uniform(seed.wrapping_add(k << 32), len, 1.0);
        let (a, b) = (draw(1, depth * rows), draw(2, depth * columns));
        let start = if add { draw(3, rows * columns) } else { filled(rows * columns) };
        let expected: Vec<Bounded> = (0..rows * columns)
            .map(|at| {
                let (row, column) = (at / columns, at % columns);
                let terms = (0..depth).map(|k| (a[k * rows + row], b[k * columns + column]));
                sum(if add { start[at] } else { 0.0 }, terms)
            })
            .collect();
        let ones = if add { draw(4, rows) } else { filled(rows) };
        let expected_sums: Vec<Bounded> = (0..rows)
            .map(|row| {
                let terms = (0..depth).map(|k| (a[k * rows + row], 1.0));
                sum(if add { ones[row] } else { 0.0 }, terms)
            })
            .collect();
        let cut = seed as usize % (depth + 1);
        for &isa in isas() {
            let (mut c, mut sums) = (start.clone(), ones.clone());
            outer(isa, (rows, columns), (&a, &b), (&mut c, &mut sums), add);
            bounds::assert_within("c", &c, &expected);
            bounds::assert_within("sums", &sums, &expected_sums);
            // The last rows first, then the others accumulated.
            let (a, b) = (a.split_at(cut * rows), b.split_at(cut * columns));
            let (mut parts, mut part_sums) = (start.clone(), ones.clone());
            let to = (&mut parts[..], &mut part_sums[..]);
            outer(isa, (rows, columns), (a.1, b.1), to, add);
            let to = (&mut parts[..], &mut part_sums[..]);
            outer(isa, (rows, columns), (a.0, b.0), to, true);
            assert_bits("c in two calls", &parts, &c);
            assert_bits("sums in two calls", &part_sums, &sums);
        }
    });
}

/// When a matrix is packed again, its old values are gone and its padding stays zero.
#[test]
fn packing_anew() {
    check(32, cases(), |case| {
        let Case { gates, units, depth, seed, .. } = case;
        let weights = uniform(seed, gates * units * depth, 1.0);
        let (ones, nan) = (vec![1.0; depth], vec![f32::NAN; weights.len()]);
        let mut expected = filled(gates * units);
        let mut given = expected.clone();
        let mut scratch = filled(gemm::scratch_len(1, depth).unwrap());
        for &isa in isas() {
            let mut packed = by_rows(isa, gates, depth, &weights);
            gemm(isa, 1, &ones, &packed, Start::Zero, &mut expected, &mut scratch).unwrap();
            packed.pack_rows(&nan, &mut Pass::serial()).unwrap();
            packed.pack_rows(&weights, &mut Pass::serial()).unwrap();
            gemm(isa, 1, &ones, &packed, Start::Zero, &mut given, &mut scratch).unwrap();
            assert_bits("c", &given, &expected);
        }
    });
}
