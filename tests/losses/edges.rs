//! No row that counts, no row at all, and outputs that are extreme: a loss makes no NaN of them.

use crate::common::{Layout, isas};
use crate::kind::Kind;
use crate::placed::Placed;
use bptt::loss::Reduction::{Mean, MeanOverSequences, Sum};
use bptt::{Outputs, Runtime};

#[test]
fn where_no_row_counts_loss_and_gradient_are_zero() {
    let lengths = [3, 0, 4];
    for kind in Kind::ALL {
        let mut owns: Vec<_> = lengths.iter().map(|&len| kind.draw(1, len)).collect();
        owns.iter_mut().for_each(|own| own.mask.fill(false));
        // Outputs that are not read may be anything.
        let y: Vec<_> = lengths.iter().map(|&len| vec![f32::NAN; len * kind.outputs()]).collect();
        for reduction in [Sum, Mean, MeanOverSequences] {
            for placed in Placed::all(&lengths) {
                let targets = placed.targets(kind, &owns, true);
                let runtime = Runtime::best().unwrap();
                let (value, dy) = placed.gradient(runtime, (kind, reduction), &y, &targets);
                assert_eq!(value, 1.0, "{kind:?}, {reduction:?}, {}", placed.name);
                assert!(dy.concat().iter().all(|dy| *dy == 0.0), "{kind:?}, {reduction:?}");
            }
        }
    }
}

#[test]
fn without_a_step_the_loss_is_zero() {
    for kind in Kind::ALL {
        let placed = Placed::new(Layout::Packed, &[0, 0], &[]);
        let targets = placed.targets(kind, &[kind.draw(1, 0), kind.draw(2, 0)], false);
        for reduction in [Sum, Mean, MeanOverSequences] {
            let runtime = Runtime::best().unwrap();
            let (value, _) =
                placed.gradient(runtime, (kind, reduction), &[vec![], vec![]], &targets);
            assert_eq!(value, 1.0, "{kind:?}, {reduction:?}");
        }
    }
}

#[test]
fn extreme_outputs_make_no_nan() {
    let extremes = [1e30, -1e30, f32::NEG_INFINITY, 0.0, f32::MAX, f32::MIN, -1e-40, 88.0];
    for kind in Kind::ALL {
        for first in 0..extremes.len() {
            let steps = 8;
            let owns = [kind.draw(3, steps)];
            let len = steps * kind.outputs();
            let mut y: Vec<f32> =
                (0..len).map(|at| extremes[(first + at * (1 + first % 3)) % 8]).collect();
            // The softmax of nothing but −∞ is none.
            for row in y.chunks_mut(kind.outputs()) {
                if row.iter().all(|y| *y == f32::NEG_INFINITY) {
                    row[0] = 0.0;
                }
            }
            for &isa in isas() {
                let placed = Placed::new(Layout::Packed, &[steps], &[]);
                let targets = placed.targets(kind, &owns, false);
                for reduction in [Sum, Mean] {
                    let given = &[y.clone()];
                    let (value, dy) =
                        placed.gradient(Runtime::new(isa), (kind, reduction), given, &targets);
                    let what = format!("{kind:?} on {isa}, {y:?}");
                    assert!(!value.is_nan(), "{what}");
                    // The probability 0 of a target costs ∞.
                    let may_be_infinite = matches!(kind, Kind::Softmax | Kind::Smoothed);
                    assert!(value.is_finite() || may_be_infinite, "{value}, {what}");
                    assert!(dy.concat().iter().all(|dy| dy.is_finite()), "{dy:?}, {what}");
                }
            }
        }
    }
}

/// What is NaN stays NaN, in its own row alone where a loss looks at each row alone.
#[test]
fn a_nan_is_not_hidden() {
    for kind in Kind::ALL {
        for at in 0..kind.outputs() {
            let (owns, size) = ([kind.draw(5, 3)], kind.outputs());
            let placed = Placed::new(Layout::Packed, &[3], &[]);
            let targets = placed.targets(kind, &owns, false);
            let mut y = kind.draw_outputs(6, 3);
            y[size + at] = f32::NAN;
            for &isa in isas() {
                let what = format!("{kind:?}, output {at}, {isa}");
                let given = &[y.clone()];
                let (value, dy) = placed.gradient(Runtime::new(isa), (kind, Sum), given, &targets);
                assert!(value.is_nan(), "{what}");
                let dy = &dy[0];
                assert!(dy[size..2 * size].iter().any(|dy| dy.is_nan()), "{what}");
                if kind.is_of_rows() {
                    assert!(dy[..size].iter().chain(&dy[2 * size..]).all(|dy| dy.is_finite()));
                }
            }
        }
    }
}

/// The losses so far go in, as they do where outputs come in parts.
#[test]
fn a_value_goes_on_from_the_loss_so_far() {
    let placed = Placed::new(Layout::Packed, &[3], &[]);
    for kind in Kind::ALL {
        let targets = placed.targets(kind, &[kind.draw(1, 3)], false);
        let loss = kind.loss(&targets, Sum);
        let of = |loss_so_far: f64| {
            let mut y = kind.draw_outputs(2, 3);
            let outputs = Outputs::new(&mut y, kind.outputs());
            let outputs = Outputs { loss_so_far, ..outputs };
            loss.value(Runtime::best().unwrap(), outputs).unwrap()
        };
        assert!((of(1e3) - of(0.0) - 1e3).abs() < 1e-9, "{kind:?}");
    }
}
