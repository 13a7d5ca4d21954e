//! The kernels of losses on each instruction set, with every length of a last vector.

use crate::common::isas;
use crate::{U, assert_near};
use bptt_kernels::KernelError;
use bptt_kernels::logistic::Logistic;
use bptt_kernels::softmax::{CrossEntropy, log_sum_exp};
use bptt_reference::sample::{uniform, widen};

/// Logits of all sizes, from those whose probability rounds to ½ to those whose loss is linear.
fn logits(seed: u64, len: usize) -> Vec<f32> {
    let sizes = [1e-6, 0.1, 1.0, 5.0, 20.0, 100.0];
    let drawn = uniform(seed, len, 1.0);
    drawn.iter().zip(sizes.iter().cycle()).map(|(o, size)| o * size).collect()
}

#[test]
fn logistic_cross_entropy() {
    for &isa in isas() {
        for len in (0..70).chain([1000]) {
            let (o, t) = (logits(len as u64, len), uniform(7, len, 0.5));
            let t = t.iter().enumerate().map(|(k, t)| match k % 3 {
                0 => 0.0,
                1 => 1.0,
                _ => t + 0.5,
            });
            let t: Vec<f32> = t.collect();
            for weight in [1.0, 0.0, 3.5] {
                let (kernel, scale) = (Logistic { positive_weight: weight }, 0.75f32);
                let (mut sum, w) = (0.0, f64::from(weight));
                let mut given = o.clone();
                let value = kernel.gradient(isa, scale, &mut given, &t).unwrap();
                for (k, (&o, &t)) in o.iter().zip(&t).enumerate() {
                    let (o, t) = (f64::from(o), f64::from(t));
                    // Stable, unlike the definition, and still another formula than the kernel's.
                    let softplus = |x: f64| if x > 30.0 { x } else { x.exp().ln_1p() };
                    sum += w * t * softplus(-o) + (1.0 - t) * softplus(o);
                    let sigma = |o: f64| 1.0 / (1.0 + (-o).exp());
                    let (p, q) = ((1.0 - t) * sigma(o), w * t * sigma(-o));
                    let expected = f64::from(scale) * (p - q);
                    let what = format!("gradient {k} of {len}, weight {weight}, {isa}");
                    // An exponential of 2 ULP and some six operations, of each of the two terms; what
                    // is denormal is 0.
                    let bound = 12.0 * U * (p + q) + f64::from(f32::MIN_POSITIVE);
                    assert_near(&what, given[k].into(), expected, bound);
                }
                let what = format!("{len} logits, weight {weight}, {isa}");
                // The exponential, the logarithm's quotient, polynomial and product, and the sum.
                assert_near(&what, value, sum, 16.0 * U * sum + 1e-37);
                assert_eq!(kernel.loss(isa, &o, &t).unwrap().to_bits(), value.to_bits());
            }
        }
    }
}

#[test]
fn logistic_cross_entropy_refuses_other_lengths() {
    let mut o = [1.0, 2.0];
    for &isa in isas() {
        let expected = KernelError::Length { what: "targets", given: 1, expected: 2 };
        assert_eq!(Logistic::default().loss(isa, &o, &[1.0]), Err(expected.clone()));
        assert_eq!(Logistic::default().gradient(isa, 1.0, &mut o, &[1.0]), Err(expected));
        assert_eq!(o, [1.0, 2.0]);
    }
}

#[test]
fn logarithms_of_sums() {
    for &isa in isas() {
        for len in 1..70 {
            let o = logits(len as u64, len);
            let most = o.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = o.iter().map(|o| f64::from(o - most).exp()).sum();
            let expected = f64::from(most) + sum.ln();
            let bound = (len as f64 + 8.0) * U;
            assert_near(&format!("{len}, {isa}"), log_sum_exp(isa, &o), expected, bound);
        }
    }
}

/// Smoothing and weights, of all numbers of classes.
#[test]
fn smoothed_and_weighted_cross_entropy() {
    for &isa in isas() {
        for classes in (1..70).chain([500]) {
            let (o, rows) = (uniform(classes as u64, 2 * classes, 4.0), 2);
            let weights: Vec<f32> =
                uniform(3, classes, 1.0).iter().map(|w| (w + 0.5).max(0.0)).collect();
            let targets = [0, classes as u32 - 1];
            let smoothing = 0.125f32;
            let entropy = CrossEntropy::new(classes, &targets, None)
                .unwrap()
                .with_smoothing(smoothing)
                .with_weights(&weights)
                .unwrap();
            let (mut given, scale) = (o.clone(), 0.5f32);
            let value = entropy.gradient(isa, scale, &mut given).unwrap();
            let (wide, w, e) = (widen(&o), widen(&weights), f64::from(smoothing));
            let mut sum = 0.0;
            for row in 0..rows {
                let (o, target) = (&wide[row * classes..][..classes], targets[row] as usize);
                let total: f64 = o.iter().map(|o| o.exp()).sum();
                let share = |k: usize| {
                    w[k] * (e / classes as f64 + if k == target { 1.0 - e } else { 0.0 })
                };
                let shares: f64 = (0..classes).map(share).sum();
                for k in 0..classes {
                    let p = o[k].exp() / total;
                    sum -= share(k) * p.ln();
                    let expected = f64::from(scale) * (shares * p - share(k));
                    let what = format!("gradient {k} of {classes}, {isa}");
                    let terms = shares * p + share(k);
                    let bound = (classes as f64 + 20.0) * U * terms;
                    assert_near(&what, given[row * classes + k].into(), expected, bound);
                }
            }
            let bound = (classes as f64 + 20.0) * U * (1.0 + sum);
            assert_near(&format!("{classes} classes, {isa}"), value, sum, bound);
            let alone = entropy.loss(isa, &o).unwrap();
            assert_eq!(alone.to_bits(), value.to_bits());
        }
        let expected = KernelError::Length { what: "class weights", given: 1, expected: 2 };
        let entropy = CrossEntropy::new(2, &[0], None).unwrap();
        assert_eq!(entropy.with_weights(&[1.0]).unwrap_err(), expected);
    }
}
