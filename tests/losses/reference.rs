//! Each loss against its definition in f64 and, its gradient, against differences of that: in all
//! layouts, with all reductions, with a mask and without.

use crate::common::{assert_bits, isas};
use crate::kind::Kind;
use crate::placed::Placed;
use crate::{U, assert_near};
use bptt::Runtime;
use bptt::loss::Reduction::{Mean, MeanOverSequences, Sum};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::sample::widen;

/// Lengths in no order, with a sequence that has no step; the second list is a dense schedule.
const LENGTHS: [&[usize]; 3] = [&[5, 0, 8, 4, 1], &[4, 4], &[7]];

/// The bound of a value: what f64 rounds, or some 30 roundings of f32 in each term, none of which is
/// much larger than 1 or the sum.
pub fn value_bound(kind: Kind, value: f64) -> f64 {
    if kind.is_in_f64() { 1e-12 * (1.0 + value.abs()) } else { 30.0 * U * (1.0 + value.abs()) }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for (lengths, kind) in LENGTHS.into_iter().flat_map(|l| Kind::ALL.map(|kind| (l, kind))) {
        let owns: Vec<_> = (0..).zip(lengths).map(|(n, &len)| kind.draw(70 + n, len)).collect();
        let y: Vec<_> =
            (0..).zip(lengths).map(|(n, &len)| kind.draw_outputs(90 + n, len)).collect();
        let wide: Vec<_> = y.iter().map(|y| widen(y)).collect();
        for is_masked in [false, true] {
            for reduction in [Sum, Mean, MeanOverSequences] {
                let of = |at: &[f64]| {
                    let (mut rest, mut all) = (at, Vec::new());
                    for own in &wide {
                        let (own, after) = rest.split_at(own.len());
                        (rest, all) = (after, [all, vec![own.to_vec()]].concat());
                    }
                    kind.reference(&all, &owns, is_masked, reduction)
                };
                let at = wide.concat();
                let expected = of(&at);
                let slopes = gradient_with_error(of, &at, 1e-4, 1e-14 * (1.0 + expected.abs()));
                let largest = slopes.iter().fold(0.0f64, |most, slope| most.max(slope.value.abs()));
                for placed in Placed::all(lengths) {
                    let targets = placed.targets(kind, &owns, is_masked);
                    for &isa in isas() {
                        let what = format!(
                            "{kind:?} {reduction:?}, masked {is_masked}, {}, {isa}",
                            placed.name
                        );
                        let runtime = Runtime::new(isa);
                        let (value, gradients) =
                            placed.gradient(runtime, (kind, reduction), &y, &targets);
                        let bound = value_bound(kind, 1.0 + expected);
                        assert_near(&what, value - 1.0, expected, bound);
                        let gradients = gradients.concat();
                        assert_eq!(gradients.len(), slopes.len());
                        for (at, (&given, slope)) in gradients.iter().zip(&slopes).enumerate() {
                            // Some 20 roundings of terms that are not larger than the largest.
                            let bound = 20.0 * U * largest + slope.error;
                            let what = format!("gradient {at}, {what}");
                            assert_near(&what, given.into(), slope.value, bound);
                        }
                    }
                }
            }
        }
    }
}

/// The gradients of a sum are those of each sequence alone, to the bit, and its value is their sum.
#[test]
fn sequences_are_as_alone() {
    let lengths = [5, 0, 9, 4, 1, 9];
    for kind in Kind::ALL {
        for is_masked in [false, true] {
            let owns: Vec<_> = (0..).zip(lengths).map(|(n, len)| kind.draw(7 + n, len)).collect();
            let y: Vec<_> =
                (0..).zip(lengths).map(|(n, len)| kind.draw_outputs(9 + n, len)).collect();
            for &isa in isas() {
                let runtime = Runtime::new(isa);
                let alone: Vec<(f64, Vec<f32>)> = (0..lengths.len())
                    .map(|n| {
                        let placed =
                            Placed::new(crate::common::Layout::Packed, &lengths[n..=n], &[]);
                        let targets = placed.targets(kind, &owns[n..=n], is_masked);
                        let (value, gradients) =
                            placed.gradient(runtime, (kind, Sum), &y[n..=n], &targets);
                        (value - 1.0, gradients.concat())
                    })
                    .collect();
                let sum: f64 = alone.iter().map(|(value, _)| value).sum();
                for placed in Placed::all(&lengths) {
                    let what = format!("{kind:?}, masked {is_masked}, {}, {isa}", placed.name);
                    let targets = placed.targets(kind, &owns, is_masked);
                    let (value, gradients) = placed.gradient(runtime, (kind, Sum), &y, &targets);
                    assert_near(&what, value - 1.0, sum, 1e-12 * (1.0 + sum.abs()));
                    for (given, (_, expected)) in gradients.iter().zip(&alone) {
                        assert_bits(&what, given, expected);
                    }
                }
            }
        }
    }
}

/// The rows of each sequence, as a loss finds them.
#[test]
fn rows_are_found_in_the_order_of_time() {
    for lengths in LENGTHS {
        for placed in Placed::all(lengths) {
            let targets = bptt::TargetRows::of(&placed.schedule);
            assert_eq!(targets.sequences(), lengths.len());
            let rows = targets.in_time().unwrap();
            assert_eq!(rows.count(), lengths.len());
            for n in 0..lengths.len() {
                assert_eq!(rows.of(n), placed.pass[n], "sequence {n}, {}", placed.name);
                let given: Vec<_> = rows.of(n).iter().map(|&row| targets.target(row)).collect();
                assert_eq!(given, placed.given[n], "sequence {n}, {}", placed.name);
            }
        }
    }
}
