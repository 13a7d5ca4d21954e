//! The dense layer and its cross-entropy, in a network, against the equations, on every instruction
//! set.
//!
//! Each stage is compared on its own, from the results of the stage before: bounds stay as narrow
//! as the stage is accurate.

#[path = "../common/mod.rs"]
mod common;

mod case;
mod errors;
mod memory;
mod threads;

use bptt::{Accumulate, Dense, Error, Init, Isa, Model, Network, Runtime, Schedule};
use bptt_kernels::softmax::{CrossEntropy, softmax};
use bptt_reference::bounds::{assert_within, worst_ratio};
use bptt_reference::readout::Reduction;
use bptt_reference::{Bounded, readout as reference, sample};
use case::{Case, Pass, Targets, expected_loss};
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
        // A probability is the gradient of a summed loss, apart from the 1 that is subtracted at
        // the target, so the gradient's bounds hold for it.
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
                let Pass { loss, gradients, .. } = case.pass(masked, reduction);
                let Case { model, workspace, x, classes, mask, .. } = &mut case;
                let targets = Targets { classes, mask: masked.then_some(&**mask), reduction };
                assert_eq!(model.evaluate(workspace, &*x, &targets.loss()), Ok(loss));
                assert!(matches!(workspace.outputs(), Err(Error::Order { .. })));
                assert!(matches!(workspace.input_gradients(), Err(Error::Order { .. })));
                assert_eq!(workspace.gradients().as_slice(), gradients);
            }
        }
    }
}

/// A forward pass and then a backward pass have the bits of one call that does both.
#[test]
fn passes_by_themselves() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (250, 20, 33), 3);
        let expected = case.pass(true, Reduction::Mean);
        case.outputs();
        let Case { model, workspace, x, classes, mask, .. } = &mut case;
        let targets = Targets { classes, mask: Some(mask), reduction: Reduction::Mean };
        workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
        let loss = model.backward(workspace, &*x, &targets.loss(), Accumulate::No).unwrap();
        assert_eq!(loss, expected.loss);
        assert_eq!(workspace.input_gradients().unwrap(), expected.dx);
        assert_eq!(workspace.gradients().as_slice(), expected.gradients);
    }
}

/// The last rows first, then the first rows added: the bits of one pass.
#[test]
fn stretches_add_up_to_one_pass_bit_for_bit() {
    let (rows, first_rows, inputs, outputs) = (310, 170, 19, 21);
    for &isa in Isa::available() {
        let mut whole = Case::new(isa, (rows, inputs, outputs), 5);
        let expected = whole.pass(false, Reduction::Sum);

        let mut gradients = vec![f32::NAN; expected.gradients.len()];
        let Case { model, x, classes, .. } = &mut whole;
        let mut stretch = |range: std::ops::Range<usize>, accumulate| {
            let training = model.training(Schedule::dense(range.len(), 1));
            let mut workspace = training.with_input_gradients().workspace().unwrap();
            let x = &x[range.start * inputs..range.end * inputs];
            let targets =
                Targets { classes: &classes[range], mask: None, reduction: Reduction::Sum };
            workspace.gradients_mut().as_mut_slice().copy_from_slice(&gradients);
            model.gradients(&mut workspace, x, &targets.loss(), accumulate).unwrap();
            gradients.copy_from_slice(workspace.gradients().as_slice());
            workspace.input_gradients().unwrap().to_vec()
        };
        let last = stretch(first_rows..rows, Accumulate::No);
        let first = stretch(0..first_rows, Accumulate::Yes);
        assert_eq!([first, last].concat(), expected.dx);
        assert_eq!(gradients, expected.gradients);
    }
}

#[test]
fn where_no_row_counts_the_loss_and_the_gradients_are_zero() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (7, 5, 6), 1);
        case.mask.fill(false);
        case.classes.fill(u32::MAX);
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let Pass { loss, d_o, dx, gradients } = case.pass(true, reduction);
            assert_eq!((loss, d_o), (0.0, vec![0.0; 7 * 6]));
            assert!(dx.iter().chain(&gradients).all(|&g| g == 0.0));
        }
    }
}

/// A pass that leaves NaN wherever it may leaves none to the next pass, whose gradients overwrite.
#[test]
fn nothing_is_left_over() {
    for &isa in Isa::available() {
        for shape in [(1, 16, 1), (1, 3, 20), (13, 20, 33), (250, 300, 5)] {
            let pass = |case: &mut Case| (case.outputs(), case.pass(true, Reduction::Mean));
            let new = || Case::new(isa, shape, 5);
            let expected = pass(&mut new());
            let mut case = new();
            case.x.fill(f32::NAN);
            assert!(pass(&mut case).0.iter().all(|o| o.is_nan()));
            case.x = new().x;
            assert_eq!(pass(&mut case), expected, "{shape:?} on {isa}");
        }
    }
}

/// A faulty row affects no other row; its part of the sums over all rows is not checked.
#[test]
fn the_other_rows_keep_their_bits() {
    for &isa in Isa::available() {
        for (rows, inputs, outputs) in [(13, 3, 5), (13, 20, 33), (250, 16, 1), (250, 40, 20)] {
            let pass = |case: &mut Case| {
                let (o, Pass { d_o, dx, .. }) = (case.outputs(), case.pass(false, Reduction::Sum));
                (o, d_o, dx)
            };
            let mut case = Case::new(isa, (rows, inputs, outputs), 5);
            let clean = pass(&mut case);
            let faults = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            for (row, fault) in [0, rows / 2, rows - 1].into_iter().zip(faults) {
                let x = case.x.clone();
                case.x[row * inputs + inputs / 2] = fault;
                let faulty = pass(&mut case);
                case.x = x;
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
fn passes_follow_their_parameters() {
    for &isa in Isa::available() {
        let mut case = Case::new(isa, (7, 5, 6), 1);
        let mut other = Case::new(isa, (7, 5, 6), 9);
        let change = |parameters: &mut bptt::Parameters| {
            parameters.as_mut_slice().copy_from_slice(other.model.parameters().as_slice());
            Ok::<(), Error>(())
        };
        case.model.change(change).unwrap();
        (case.x, case.classes, case.mask) =
            (other.x.clone(), other.classes.clone(), other.mask.clone());
        assert_eq!(case.outputs(), other.outputs());
        assert_eq!(case.pass(true, Reduction::Sum), other.pass(true, Reduction::Sum));
    }
}

/// A model of a network of dense layers, with parameters of its own for each.
fn stacked(isa: Isa, sizes: &[usize]) -> Model {
    let dense = |n: usize| Dense::new(sizes[n], sizes[n + 1]).unwrap();
    let rest = 1..sizes.len() - 1;
    let network = rest.fold(Network::new(dense(0)), |network, n| network.then(dense(n)));
    let mut parameters = network.parameters().unwrap();
    let values = sample::uniform(1, parameters.as_slice().len(), 0.5);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa)).unwrap()
}

/// Several layers in a network have the bits of each layer alone, given the outputs of the layer
/// before and the gradients of the layer after.
#[test]
fn layers_in_a_network_have_their_own_bits() {
    const SIZES: [usize; 5] = [7, 20, 3, 33, 5];
    for &isa in Isa::available() {
        for layers in 2..SIZES.len() {
            let (rows, sizes) = (70, &SIZES[..=layers]);
            let schedule = Schedule::dense(rows, 1);
            let mut model = stacked(isa, sizes);
            let mut workspace =
                model.training(&schedule).with_input_gradients().workspace().unwrap();
            let x = sample::uniform(2, rows * sizes[0], 1.0);
            let dy = sample::uniform(3, rows * sizes[layers], 1.0);
            let o = model.forward(&mut workspace, &x).unwrap().to_vec();
            let given = |dy: Vec<f32>| {
                move |y: &mut [f32]| {
                    y.copy_from_slice(&dy);
                    0.0
                }
            };
            let all = given(dy.clone());
            model.backward(&mut workspace, &x, &all, Accumulate::No).unwrap();

            let mut alone = Vec::new();
            let mut now = x.clone();
            for n in 0..layers {
                let network = Network::new(Dense::new(sizes[n], sizes[n + 1]).unwrap());
                let mut parameters = network.parameters().unwrap();
                for name in ["weight", "bias"] {
                    let own = model.parameters().tensor(&format!("{n}.{name}")).unwrap();
                    parameters.tensor_mut(&format!("0.{name}")).unwrap().copy_from_slice(own);
                }
                let mut model = network.model(parameters, Runtime::new(isa)).unwrap();
                let training = model.training(&schedule).with_input_gradients();
                let mut workspace = training.workspace().unwrap();
                let next = model.forward(&mut workspace, &now).unwrap().to_vec();
                alone.push((model, workspace, std::mem::replace(&mut now, next)));
            }
            assert_eq!(o, now, "{layers} layers on {isa}");
            let mut d = dy;
            for (n, (model, own, x)) in alone.iter_mut().enumerate().rev() {
                model.backward(own, &*x, &given(d), Accumulate::No).unwrap();
                for name in ["weight", "bias"] {
                    let all = workspace.gradients().tensor(&format!("{n}.{name}"));
                    let own = own.gradients().tensor(&format!("0.{name}"));
                    assert_eq!(all, own, "{name} of layer {n} of {layers} on {isa}");
                }
                d = own.input_gradients().unwrap().to_vec();
            }
            assert_eq!(workspace.input_gradients().unwrap(), d, "{layers} layers on {isa}");
        }
    }
}

/// Rows step by step, or several sequences at once, have the bits of a pass.
#[test]
fn streams_have_the_bits_of_a_pass() {
    for &isa in Isa::available() {
        for (rows, inputs, outputs) in [(12, 5, 1), (12, 20, 33), (240, 30, 17)] {
            let mut case = Case::new(isa, (rows, inputs, outputs), 5);
            let expected = case.outputs();
            for batch in [1, 4, 12] {
                let mut stream = case.model.stream(batch).unwrap();
                let mut o = vec![f32::NAN; expected.len()];
                let (x, width) = (case.x.chunks(batch * inputs), batch * outputs);
                for (x, o) in x.zip(o.chunks_mut(width)) {
                    stream.step(x, o).unwrap();
                }
                assert_eq!(o, expected, "batches of {batch} on {isa}");
                o.fill(f32::NAN);
                stream.forward(&case.x, &mut o).unwrap();
                assert_eq!(o, expected, "batches of {batch} on {isa}");
            }
        }
    }
}

#[test]
fn initial_weights_are_drawn_and_biases_zero() {
    use rand::{SeedableRng, rngs::StdRng};
    let network = Network::new(Dense::new(30, 20).unwrap());
    let runtime = Runtime::best().unwrap();
    let draw = |seed| network.init(&mut StdRng::seed_from_u64(seed), runtime).unwrap();
    let model = draw(1);
    let limit = (6.0f32 / 50.0).sqrt();
    let weights = model.parameters().tensor("0.weight").unwrap();
    assert!(weights.iter().all(|v| v.abs() <= limit && *v != 0.0));
    assert_eq!(model.parameters().tensor("0.bias").unwrap(), [0.0; 20]);
    assert_eq!(model.parameters().as_bytes(), draw(1).parameters().as_bytes());
    assert_ne!(model.parameters().as_bytes(), draw(2).parameters().as_bytes());
    let init = Init::Uniform { limit: f32::NAN };
    let error = network.init_with(init, &mut StdRng::seed_from_u64(1), runtime).unwrap_err();
    assert!(matches!(error, Error::Value { what: "limit", .. }), "{error}");
}

/// Rows of logits at the limits of f32; each length is tested as a part of a vector and as more
/// than a vector.
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
                // Any NaN is accepted: Rust does not define its sign.
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

/// A single fault in the outputs must not pass for rounding.
#[test]
fn the_bounds_find_a_fault() {
    let mut case = Case::new(Isa::best().unwrap(), (10, 20, 30), 1);
    let Pass { loss, mut d_o, .. } = case.pass(false, Reduction::Mean);
    let expected = expected_loss(&case.outputs(), 30, case.targets(false, Reduction::Mean));
    assert!(expected.loss.bound < 1e-5 * loss);
    d_o[77] *= 1.0 + 3e-5;
    assert!(worst_ratio(&d_o, &expected.d_o) > 1.0);
}
