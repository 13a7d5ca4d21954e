//! The readout against the equations, on every instruction set.
//!
//! Each stage is compared on its own, from what the stage before has given: bounds
//! stay as narrow as the stage is accurate.

mod case;
mod errors;

use bptt::{Accumulate, Error, Init, Isa, Readout, ReadoutGradients, Reduction, Targets};
use bptt_kernels::softmax::{CrossEntropy, softmax};
use bptt_reference::bounds::{assert_within, worst_ratio};
use bptt_reference::{Bounded, readout as reference, sample};
use case::{Case, expected_loss};
use proptest::prelude::*;
use proptest::test_runner::Config;

proptest! {
    #![proptest_config(Config { cases: 32, failure_persistence: None, ..Config::default() })]

    #[test]
    fn passes_are_within_their_bounds(
        shape in (1usize..40, 1usize..70, 1usize..70), seed: u64,
    ) {
        for &isa in Isa::available() {
            Case::new(isa, shape, seed >> 8).check();
        }
    }

    #[test]
    fn a_softmax_is_within_its_bounds(
        rows in 1usize..4, classes in 1usize..150, limit in 0.1f32..80.0, seed: u64,
    ) {
        let o = sample::uniform(seed, rows * classes, limit);
        // The gradient of a sum but for the target's one, so with the same bounds.
        let expected: Vec<Bounded> = o
            .chunks(classes)
            .flat_map(|o| {
                let row = |y: u32| {
                    let targets =
                        Targets { classes: &[y], mask: None, reduction: Reduction::Sum };
                    expected_loss(o, classes, targets).d_o
                };
                let (first, last) = (row(0), row(classes as u32 - 1));
                let y_hat = reference::softmax(&sample::widen(o));
                (0..classes).map(move |k| Bounded {
                    value: y_hat[k],
                    bound: first[k].bound.min(last[k].bound),
                }).collect::<Vec<_>>()
            })
            .collect();
        for &isa in Isa::available() {
            let mut y = o.clone();
            softmax(isa, classes, &mut y).unwrap();
            if classes > 1 {
                assert_within("softmax", &y, &expected);
            } else {
                assert_eq!(y, vec![1.0; rows]);
            }
        }
    }
}

/// Shapes beyond the blocks of rows, columns and depth.
#[test]
fn large_passes_are_within_their_bounds() {
    for &isa in Isa::available() {
        for shape in [(1, 1, 1), (193, 33, 130), (200, 300, 5), (600, 17, 20), (3, 5, 300)] {
            Case::new(isa, shape, 1).check();
        }
    }
}

#[test]
fn evaluation_gives_the_loss_and_no_gradient() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (250, 20, 33), 3);
        for masked in [false, true] {
            for reduction in [Reduction::Sum, Reduction::Mean] {
                let (loss, _) = case.loss(masked, reduction);
                let Case { plan, weights, h, classes, mask, arena, .. } = &mut case;
                let targets = Targets { classes, mask: masked.then_some(mask), reduction };
                assert_eq!(plan.evaluate(weights, h, targets, arena), Ok(loss));
                assert!(matches!(arena.output_gradients(), Err(Error::Order { .. })));
            }
        }
    }
}

/// The last rows first, the first rows added: the bits of one pass.
#[test]
fn stretches_add_up_to_one_pass_bit_for_bit() {
    let (rows, first_rows, inputs, outputs) = (310, 170, 19, 21);
    for &isa in Isa::available() {
        let mut whole = Case::new(isa, (rows, inputs, outputs), 5);
        let mut expected = whole.readout.parameters().unwrap();
        whole.loss(false, Reduction::Sum);
        let expected_dh = whole.backward(&mut expected, Accumulate::No);

        let mut gradients = whole.readout.parameters().unwrap();
        let mut stretch = |range: std::ops::Range<usize>, accumulate| {
            let plan = whole.readout.plan(range.len(), isa).unwrap();
            let mut arena = plan.allocate().unwrap();
            let h = &whole.h[range.start * inputs..range.end * inputs];
            let classes = &whole.classes[range];
            let targets = Targets { classes, mask: None, reduction: Reduction::Sum };
            plan.loss(&whole.weights, h, targets, &mut arena).unwrap();
            let mut dh = vec![0.0; h.len()];
            let to = ReadoutGradients { parameters: &mut gradients, accumulate, dh: Some(&mut dh) };
            plan.backward(&whole.weights, h, &mut arena, to).unwrap();
            dh
        };
        let last = stretch(first_rows..rows, Accumulate::No);
        let first = stretch(0..first_rows, Accumulate::Yes);
        assert_eq!([first, last].concat(), expected_dh);
        assert_eq!(gradients.as_slice(), expected.as_slice());
    }
}

#[test]
fn where_no_row_counts_the_loss_and_the_gradients_are_zero() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (7, 5, 6), 1);
        case.mask.fill(false);
        case.classes.fill(u32::MAX);
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let (loss, d_o) = case.loss(true, reduction);
            assert_eq!((loss, d_o), (0.0, vec![0.0; 7 * 6]));
            let mut gradients = case.readout.parameters().unwrap();
            let dh = case.backward(&mut gradients, Accumulate::No);
            assert!(dh.iter().chain(gradients.as_slice()).all(|&g| g == 0.0));
        }
    }
}

/// A pass that leaves NaN wherever it may leaves none to the next, whose gradients overwrite.
#[test]
fn nothing_is_left_over() {
    for &isa in Isa::available() {
        for shape in [(1, 16, 1), (1, 3, 20), (13, 20, 33), (250, 300, 5)] {
            let pass = |case: &mut Case| {
                let o = case.outputs();
                let (loss, d_o) = case.loss(true, Reduction::Mean);
                let mut gradients = case.readout.parameters().unwrap();
                gradients.as_mut_slice().fill(f32::NAN);
                let dh = case.backward(&mut gradients, Accumulate::No);
                (o, loss, d_o, dh, gradients.as_slice().to_vec())
            };
            let new = || Case::new(isa, shape, 5);
            let expected = pass(&mut new());
            let mut case = new();
            case.h.fill(f32::NAN);
            assert!(pass(&mut case).0.iter().all(|o| o.is_nan()));
            case.h = new().h;
            assert_eq!(pass(&mut case), expected, "{shape:?} on {isa}");
        }
    }
}

/// A row that is at fault is at fault alone; its part of the sums over all rows is not looked at.
#[test]
fn the_other_rows_keep_their_bits() {
    for &isa in Isa::available() {
        for (rows, inputs, outputs) in [(13, 3, 5), (13, 20, 33), (250, 16, 1), (250, 40, 20)] {
            let pass = |case: &mut Case| {
                let (o, (_, d_o)) = (case.outputs(), case.loss(false, Reduction::Sum));
                let mut gradients = case.readout.parameters().unwrap();
                (o, d_o, case.backward(&mut gradients, Accumulate::No))
            };
            let mut case = Case::new(isa, (rows, inputs, outputs), 5);
            let clean = pass(&mut case);
            let faults = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            for (row, fault) in [0, rows / 2, rows - 1].into_iter().zip(faults) {
                let h = case.h.clone();
                case.h[row * inputs + inputs / 2] = fault;
                let faulty = pass(&mut case);
                case.h = h;
                let parts = [(&faulty.0, &clean.0), (&faulty.1, &clean.1), (&faulty.2, &clean.2)];
                for ((given, expected), width) in parts.into_iter().zip([outputs, outputs, inputs])
                {
                    let (own, after) = (row * width, (row + 1) * width);
                    assert_eq!(given[..own], expected[..own], "row {row} on {isa}");
                    assert_eq!(given[after..], expected[after..], "row {row} on {isa}");
                    assert!(given[own..after].iter().all(|x| !x.is_finite()) || width != outputs);
                }
            }
        }
    }
}

#[test]
fn weights_follow_their_parameters() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (7, 5, 6), 1);
        let mut other = Case::new(isa, (7, 5, 6), 9);
        case.weights.update(&other.parameters).unwrap();
        case.h = other.h.clone();
        assert_eq!(case.outputs(), other.outputs());
    }
}

#[test]
fn initial_weights_are_drawn_and_biases_zero() {
    use rand::{SeedableRng, rngs::StdRng};
    let readout = Readout::new(30, 20).unwrap();
    let draw = |seed| readout.init(Init::Glorot, &mut StdRng::seed_from_u64(seed)).unwrap();
    let parameters = draw(1);
    let limit = (6.0f32 / 50.0).sqrt();
    assert!(parameters.weights().iter().all(|v| v.abs() <= limit && *v != 0.0));
    assert_eq!(parameters.bias(), [0.0; 20]);
    assert_eq!(parameters.as_bytes(), draw(1).as_bytes());
    assert_ne!(parameters.as_bytes(), draw(2).as_bytes());
    let init = Init::Uniform { limit: f32::NAN };
    let error = readout.init(init, &mut StdRng::seed_from_u64(1)).unwrap_err();
    assert!(matches!(error, Error::Value { what: "limit", .. }), "{error}");
}

#[test]
fn nothing_is_allocated_in_a_pass() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (250, 300, 33), 1);
        let mut gradients = case.readout.parameters().unwrap();
        let (mut o, mut dh) = (vec![0.0; 250 * 33], vec![0.0; 250 * 300]);
        let Case { plan, parameters, weights, h, classes, mask, arena, .. } = &mut case;
        let allocated = allocation_counter::measure(|| {
            let targets = Targets { classes, mask: Some(mask), reduction: Reduction::Mean };
            plan.forward(weights, h, &mut o, arena).unwrap();
            plan.evaluate(weights, h, targets, arena).unwrap();
            plan.loss(weights, h, targets, arena).unwrap();
            let (accumulate, dh) = (Accumulate::Yes, Some(&mut dh[..]));
            let to = ReadoutGradients { parameters: &mut gradients, accumulate, dh };
            plan.backward(weights, h, arena, to).unwrap();
            weights.update(parameters).unwrap();
        });
        assert_eq!(allocated.count_total, 0);
        let mut made = None;
        let allocated = allocation_counter::measure(|| made = Some(plan.allocate().unwrap()));
        let bytes = plan.arena_bytes() as u64;
        assert_eq!((allocated.count_total, allocated.bytes_total), (1, bytes));
    }
}

#[test]
fn the_arena_has_the_size_that_is_documented() {
    for &isa in Isa::available() {
        let plan = Readout::new(33, 10).unwrap().plan(13, isa).unwrap();
        let columns = 33usize.next_multiple_of(2 * isa.lanes());
        let floats = (13usize * 10).next_multiple_of(16) + (256 * columns + 24_576).max(13 * 33);
        assert_eq!(plan.arena_bytes(), 4 * floats);
    }
}

/// Rows of logits at the edges of f32, each length as part of a vector and more.
#[test]
fn extreme_logits() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for &isa in Isa::available() {
        for classes in 2..40 {
            let row = |first: f32, second: f32, rest: f32, y: u32| {
                let mut o = vec![rest; classes];
                (o[0], o[classes - 1]) = (first, second);
                let target = [y];
                let entropy = CrossEntropy::new(classes, &target, None).unwrap();
                let loss = entropy.loss(isa, &o).unwrap();
                let with_gradient = entropy.gradient(isa, 1.0, &mut o).unwrap();
                // Which NaN it is, is not said: Rust leaves the sign open.
                let both_nan = loss.is_nan() && with_gradient.is_nan();
                assert!(both_nan || loss.to_bits() == with_gradient.to_bits());
                (loss, o)
            };
            let last = classes as u32 - 1;
            let gap = f64::from(f32::MAX);
            let (loss, d_o) = row(f32::MAX, -f32::MAX, -f32::MAX, last);
            assert_eq!((loss, d_o[0], d_o[classes - 1]), (2.0 * gap, 1.0, -1.0));
            let (loss, d_o) = row(-3e38, -3e38, -f32::MAX, 0);
            assert_eq!((loss, d_o[0], d_o[classes - 1]), (2f64.ln(), -0.5, 0.5));
            let (loss, d_o) = row(-inf, 0.0, -inf, 0);
            assert_eq!((loss, d_o[0], d_o[classes - 1]), (f64::INFINITY, -1.0, 1.0));
            for (first, second, rest) in [
                (nan, 1.0, 0.0),
                (1.0, nan, 0.0),
                (-inf, nan, -inf),
                (nan, nan, nan),
                (inf, 1.0, 0.0),
                (0.0, inf, 0.0),
                (inf, inf, inf),
                (-inf, -inf, -inf),
            ] {
                let (loss, d_o) = row(first, second, rest, last);
                assert!(loss.is_nan() && d_o.iter().all(|d| d.is_nan()), "{loss} {d_o:?}");
            }
        }
    }
}

/// One fault in the outputs must not pass for rounding.
#[test]
fn the_bounds_find_a_fault() {
    let mut case = Case::new(Isa::best().unwrap(), (10, 20, 30), 1);
    let (loss, mut d_o) = case.loss(false, Reduction::Mean);
    let expected = expected_loss(&case.outputs(), 30, case.targets(false, Reduction::Mean));
    assert!(expected.loss.bound < 1e-5 * loss);
    d_o[77] *= 1.0 + 3e-5;
    assert!(worst_ratio(&d_o, &expected.d_o) > 1.0);
}
