//! Every entry, cell and option at small sizes, in slices of their own, short enough for Miri. Miri
//! finds faults that no guard page does: memory that is read before it is written, and pointers
//! that may no longer be used. `scripts/miri.sh` runs the suite there, where blocks are so small
//! that these sizes have several of each.

mod common;

use bptt_kernels::cells::Activations;
use bptt_kernels::diagonal::Diagonal;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::gemm::{Gemm, Start, team_scratch_len};
use bptt_kernels::logistic::Logistic;
use bptt_kernels::optim::{Adam, Momentum, clamp, scale, sum_of_squares};
use bptt_kernels::slstm::{SlstmForget, SlstmSizes};
use bptt_kernels::softmax::{CrossEntropy, log_sum_exp, softmax};
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::vmath::{Function, map, map_in_place};
use bptt_kernels::{Format, Isa, Joined, PackedMatrix};
use bptt_reference::sample::uniform;
use common::{
    Attended, AttentionCase, Case, Lengths, Scores, SlstmCase, Variant, Which, assert_bits,
    by_columns, dense, filled, isas,
};

/// Every kernel, and an LSTM with and without each of its options.
const CELLS: [Which; 7] = [
    Which::GruAfter,
    Which::Vanilla,
    Which::Lstm { peepholes: true, coupled: false, projected: true },
    Which::Leaky { learned: true },
    Which::Lstm { peepholes: true, coupled: true, projected: false },
    Which::GruBefore,
    Which::LSTM,
];

/// Inputs, steps, batch, units in vectors and extra lanes, and whether there is noise, for the cell
/// at a place in the list: one row with several groups, two blocks of rows or whole vectors, and a
/// part of a vector.
fn shapes(place: usize) -> [([usize; 3], [usize; 2], bool); 3] {
    [
        ([1, 2, 1], [1 + place / 6, 1], false),
        if place.is_multiple_of(2) {
            ([3, 1, 7], [1, 1], false)
        } else {
            ([1, 1, 2], [2, 0], false)
        },
        ([2, 2, 2], [0, 3], true),
    ]
}

const PLAIN: fn(&[f32]) -> Vec<f32> = <[f32]>::to_vec;

/// Forward passes of all kinds, which must agree, single steps, which must agree with them, and a
/// backward pass.
fn passes(isa: Isa, case: &Case) -> [Vec<f32>; 5] {
    let (which, dims) = (case.which, case.dims);
    let act = Activations::Tanh;
    let kept = case.forward(isa, act, Variant::Keep, PLAIN);
    for &variant in &Variant::of(which)[1..] {
        let given = case.forward(isa, act, variant, PLAIN);
        // Sums that are normalised in the step's own product leave out the bias.
        if case.noisy && variant == Variant::Fused {
            continue;
        }
        assert_bits("h", &given.h, &kept.h);
        let last = kept.c.len() - given.c.len();
        assert_bits("c", &given.c, &kept.c[last..]);
    }
    if dims.batch() == 1 && !case.noisy {
        let outputs = dims.hidden + 1;
        let weights = uniform(2, outputs * dims.outputs, 1.0);
        let dense = dense(isa, dims.outputs, &weights, &filled(outputs));
        let [h, c, _] = case.singly(isa, act, &dense, outputs, PLAIN);
        assert_bits("h of single steps", &h, &kept.h);
        assert_bits("s of single steps", &c, &kept.c[kept.c.len() - c.len()..]);
    }
    case.backward(isa, act, &kept, PLAIN)
}

fn cells(threads: usize, places: &[usize]) {
    for (place, &isa) in places.iter().flat_map(|&p| isas().iter().map(move |isa| (p, isa))) {
        let which = CELLS[place];
        for ([inputs, steps, batch], [vectors, lanes], noisy) in shapes(place) {
            let dims = which.dims(steps, batch, vectors * isa.lanes() + lanes);
            println!("{which:?} on {isa}, {dims:?}, noisy: {noisy}, threads: {threads}");
            let drawn = Case::draw(which, inputs, dims, 1, 0.5);
            let case = Case { noisy, threads, ..drawn };
            let given = passes(isa, &case);
            if threads > 1 {
                let alone = passes(isa, &Case { threads: 1, ..case });
                for (given, alone) in given.iter().zip(&alone) {
                    assert_bits("a part", given, alone);
                }
            }
        }
    }
}

/// Products from each start, of several rows and of one, in each format and both packings, also
/// with a stride between the rows of C.
fn products(threads: usize) {
    for &isa in isas() {
        for (rows, gates, units, depth) in [(1, 4, 3, 5), (2, 3, 9, 1), (7, 1, 9, 33)] {
            let outputs = gates * units;
            let (a, bias) = (uniform(1, rows * depth, 1.0), uniform(2, outputs, 1.0));
            let weights = uniform(3, outputs * depth, 1.0);
            let mut all: Vec<PackedMatrix> = [Format::F32, Format::Bf16, Format::Int8]
                .map(|format| {
                    let packed = PackedMatrix::zeros_as(format, isa, gates, units, depth);
                    let mut packed = packed.unwrap();
                    packed.pack_rows(&weights, &mut Pass::serial()).unwrap();
                    packed
                })
                .into();
            if gates == 1 {
                all.push(by_columns(isa, depth, &weights));
            }
            for weights in &all {
                for start in [Start::Zero, Start::Accumulate, Start::Bias(&bias)] {
                    let stride = outputs + rows % 2;
                    let (a, mut c) = (&a[..], uniform(4, rows * stride, 1.0));
                    let scratch = &mut filled(team_scratch_len(threads, rows, depth).unwrap());
                    let gemm = Gemm { rows, a, weights, start, c: &mut c, stride, scratch };
                    let mut team = Team::new(threads).unwrap();
                    team.pass(usize::MAX, |pass| gemm.run(isa, pass)).unwrap();
                    assert!(c.iter().all(|c| c.is_finite()));
                }
            }
        }
    }
}

fn dense_layers(threads: usize) {
    for &isa in isas() {
        for (rows, outputs, depth) in [(1, 1, 1), (5, 2, 17), (2, 9, 3), (1, 18, 40)] {
            let (a, bias) = (uniform(1, rows * depth, 1.0), uniform(2, outputs, 1.0));
            let layer = dense(isa, depth, &uniform(3, outputs * depth, 1.0), &bias);
            let scratch = &mut filled(team_scratch_len(threads, rows, depth).unwrap());
            let stride = outputs + rows % 2;
            let mut c = filled(rows * stride);
            let mut team = Team::new(threads).unwrap();
            let run = |pass: &mut Pass<'_>| layer.run(rows, &a, &mut c, stride, scratch, pass);
            team.pass(usize::MAX, run).unwrap();
            assert!(c.chunks(stride).flat_map(|row| &row[..outputs]).all(|c| c.is_finite()));
        }
    }
}

fn sums_over_time(threads: usize) {
    for &isa in isas() {
        for (depth, rows, columns) in [(1, 5, 3), (35, 1, 17), (3, 26, 9), (2, 13, 40)] {
            for accumulate in [false, true] {
                let stride = rows + depth % 2;
                let a = uniform(1, (depth - 1) * stride + rows, 1.0);
                let b = [columns, 1].map(|columns| uniform(2, depth * columns, 1.0));
                let mut c = [columns, 1].map(|columns| uniform(3, rows * columns, 1.0));
                let mut sums = uniform(4, rows, 1.0);
                let scratch = &mut filled(scratch_len(isa, threads, depth, &[columns, 1]).unwrap());
                let [c, d] = &mut c;
                let outer = WeightGradients {
                    depth,
                    a: &a,
                    stride,
                    rows,
                    products: [Rhs::new(&b[0], c, columns), Rhs::new(&b[1], d, 1)],
                    sums: accumulate.then_some(&mut sums[..]),
                    accumulate,
                    scratch,
                };
                let mut team = Team::new(threads).unwrap();
                team.pass(usize::MAX, |pass| outer.run(isa, pass)).unwrap();
                assert!(c.iter().chain(&sums).all(|c| c.is_finite()));
                let b = accumulate.then_some(&b[1][..depth]);
                let (a, c) = (&a[..(depth - 1) * stride + 1], &mut d[..1]);
                let b = b.map(|b| Joined::whole(b, 1));
                let diagonal = Diagonal { depth, a, stride, b, c, accumulate };
                diagonal.run(isa, &mut Pass::serial()).unwrap();
            }
        }
    }
}

/// Entries that take slices of any length.
fn elementwise() {
    for &isa in isas() {
        for len in [1, 7, 8, 35] {
            let x = uniform(1, len, 5.0);
            for function in [Function::Exp, Function::Logistic, Function::Tanh] {
                let (mut y, mut out) = (x.clone(), filled(len));
                map(isa, function, &x, &mut out).unwrap();
                map_in_place(isa, function, &mut y);
                assert_bits("y", &y, &out);
            }
            let (mut theta, g) = (x.clone(), uniform(2, len, 1.0));
            let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
            let rule = Momentum { learning_rate: 0.1, momentum: 0.5 };
            rule.step(isa, &mut theta, &mut m, &g).unwrap();
            let (beta1, beta2) = ([0.9, 0.1], [0.99, 0.01]);
            let rule = Adam { beta1, beta2, rate: 0.1, root: 1.0, epsilon: 1e-8 };
            rule.step(isa, &mut theta, &mut m, &mut v, &g).unwrap();
            clamp(isa, &mut theta, 1.0);
            scale(isa, &mut theta, 0.5);
            assert!(sum_of_squares(isa, &theta) <= 0.25 * len as f64);

            let (mut y, targets) = ([&x[..], &x].concat(), [len as u32 - 1, 0]);
            softmax(isa, len, &mut y).unwrap();
            let entropy = CrossEntropy::new(len, &targets, Some(&[true, false])).unwrap();
            let mut o = [&x[..], &x].concat();
            let loss = entropy.loss(isa, &o).unwrap();
            // Miri rounds a logarithm at random.
            assert!((entropy.gradient(isa, 1.0, &mut o).unwrap() - loss).abs() < 1e-9);
            assert!((o[0] - y[0] + f32::from(u8::from(len == 1))).abs() < 1e-6);
            let entropy = entropy.with_smoothing(0.5).with_weights(&x).unwrap();
            let mut o = [&x[..], &x].concat();
            assert!(entropy.gradient(isa, 1.0, &mut o).unwrap().is_finite());
            assert!(log_sum_exp(isa, &x).is_finite());

            let targets = vec![0.5; len];
            let (mut o, logistic) = (x.clone(), Logistic::default());
            let loss = logistic.gradient(isa, 1.0, &mut o, &targets).unwrap();
            assert_eq!(logistic.loss(isa, &x, &targets).unwrap(), loss);
        }
    }
}

/// Attention by both kinds of scores, of sequences with two queries, one and no source.
fn attention(threads: usize) {
    let lengths = [(3, 2), (1, 1), (0, 2)];
    let lengths = lengths.map(|(source, queries)| Lengths { source, queries });
    for &isa in isas() {
        for scores in [Scores::Dot, Scores::Additive] {
            let mut case = AttentionCase::draw(scores, &lengths, 3, 7);
            (case.threads, case.gap) = (threads, 1);
            let [whole, in_two] = [0, 1].map(|cut| {
                case.cut = cut;
                let Attended { weights, contexts, .. } = case.forward(isa, PLAIN);
                let gradients = case.backward(isa, &weights, PLAIN);
                [contexts, gradients.dqueries, gradients.dkeys, gradients.dvalues].concat()
            });
            assert_bits("in two stretches", &in_two, &whole);
        }
    }
}

/// Steps of the sLSTM, one of which some sequences no longer take. What is kept changes no result.
fn slstm(threads: usize) {
    for &isa in isas() {
        for forget in [SlstmForget::Exponential, SlstmForget::Logistic] {
            let sizes = SlstmSizes { batch: 3, rows: 2, heads: 2, units: isa.lanes() + 1 };
            let before = SlstmCase::draw(sizes, forget, 1, 2.0);
            let (mut kept, mut alone) = (before.clone(), before.clone());
            Team::new(threads).unwrap().pass(usize::MAX, |pass| {
                kept.forward(isa, true, pass).unwrap();
                alone.forward(isa, false, pass).unwrap();
                assert_bits("h", &alone.h, &kept.h);
                let mut back = kept.back(2);
                kept.backward(isa, &before, &mut back, pass).unwrap();
                assert!(back.gates.iter().all(|x| x.is_finite()));
            });
        }
    }
}

/// One thread, which never calls rayon.
mod alone {
    #[test]
    fn elementwise() {
        super::elementwise();
    }

    #[test]
    fn cells() {
        super::cells(1, &[0, 1, 3, 4, 5, 6]);
    }

    /// A test of its own, for machines on which one cell is enough.
    #[test]
    fn projected() {
        super::cells(1, &[2]);
    }

    #[test]
    fn products() {
        super::products(1);
    }

    #[test]
    fn dense_layers() {
        super::dense_layers(1);
    }

    #[test]
    fn sums_over_time() {
        super::sums_over_time(1);
    }

    #[test]
    fn attention() {
        super::attention(1);
    }

    #[test]
    fn slstm() {
        super::slstm(1);
    }
}

/// Two threads; rayon's queues use pointers in ways that Miri's stricter rules forbid.
mod threads {
    #[test]
    fn cells() {
        super::cells(2, &[2]);
    }

    #[test]
    fn products() {
        super::products(2);
    }

    #[test]
    fn dense_layers() {
        super::dense_layers(2);
    }

    #[test]
    fn sums_over_time() {
        super::sums_over_time(2);
    }

    #[test]
    fn attention() {
        super::attention(2);
    }

    #[test]
    fn slstm() {
        super::slstm(2);
    }
}
