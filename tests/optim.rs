//! Optimisers and clipping against their equations, on every instruction set.

use bptt::{Adam, AdamConfig, Error, Isa, Sgd, SgdConfig, clip_elements, clip_global_norm};
use bptt_kernels::optim;
use bptt_reference::bounds::assert_within;
use bptt_reference::compare::{UNIT_ROUNDOFF, gamma};
use bptt_reference::{Bounded, Number, sample};
use proptest::prelude::*;
use proptest::test_runner::Config;

const STEPS: u64 = 5;

/// A constant that the optimiser rounds to f32 once.
fn rounded(value: f64) -> Bounded {
    Bounded { value, bound: UNIT_ROUNDOFF * value.abs() }
}

fn number(value: f32) -> Bounded {
    Bounded::exact(value.into())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The state of an optimiser for `len` parameters: zeros if it has not been allocated yet.
fn kept(values: &[f32], len: usize) -> Vec<f32> {
    if values.is_empty() { vec![0.0; len] } else { values.to_vec() }
}

/// The expected value of `values` after a step from `before`.
fn each(
    before: &[f32],
    gradients: &[f32],
    f: impl Fn(Bounded, Bounded) -> Bounded,
) -> Vec<Bounded> {
    before.iter().zip(gradients).map(|(&x, &g)| f(number(x), number(g))).collect()
}

fn check_sgd(isa: Isa, len: usize, seed: u64, learning_rate: f32, momentum: f32) {
    let mut sgd = Sgd::with_config(SgdConfig { learning_rate, momentum }).unwrap();
    let mut parameters = sample::uniform(seed, len, 1.0);
    for step in 0..STEPS {
        let rate = learning_rate / (step + 1) as f32;
        sgd.set_learning_rate(rate).unwrap();
        let gradients = sample::uniform(seed + 1 + step, len, 10.0);
        let (before, velocity) = (parameters.clone(), kept(sgd.velocity(), len));
        sgd.step(isa, &mut parameters, &gradients).unwrap();
        let expected = each(&velocity, &gradients, |v, g| number(momentum) * v - number(rate) * g);
        assert_within("velocity", sgd.velocity(), &expected);
        let expected = each(&before, sgd.velocity(), |theta, v| theta + v);
        assert_within("parameters", &parameters, &expected);
    }
}

/// θ after a step, computed from the moments that the step has written. The quotient passes through
/// the roundings of α / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ), a root, two products, a sum, and itself:
/// seven roundings, all of factors or of a sum of positive terms.
fn adams_parameter(config: &AdamConfig, t: f64, theta: f32, m: f32, v: f32) -> Bounded {
    let AdamConfig { learning_rate, beta1, beta2, epsilon } = *config;
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(t);
    let m_hat = f64::from(m) / correction(beta1);
    let v_hat = f64::from(v) / correction(beta2);
    let step = f64::from(learning_rate) * m_hat / (v_hat.sqrt() + f64::from(epsilon));
    number(theta) - Bounded { value: step, bound: gamma(7) * step.abs() }
}

fn check_adam(isa: Isa, len: usize, seed: u64, mut config: AdamConfig) {
    let mut adam = Adam::with_config(config).unwrap();
    let mut parameters = sample::uniform(seed, len, 1.0);
    let rest = |beta: f32| rounded(1.0 - f64::from(beta));
    for step in 0..STEPS {
        config.learning_rate /= (step + 1) as f32;
        adam.set_learning_rate(config.learning_rate).unwrap();
        assert_eq!(adam.config(), config);
        let gradients = sample::uniform(seed + 1 + step, len, 10.0);
        let before = parameters.clone();
        let [first, second] =
            [adam.first_moment(), adam.second_moment()].map(|moment| kept(moment, len));
        adam.step(isa, &mut parameters, &gradients).unwrap();
        assert_eq!(adam.updates(), step + 1);

        let expected =
            each(&first, &gradients, |m, g| number(config.beta1) * m + rest(config.beta1) * g);
        assert_within("first moment", adam.first_moment(), &expected);
        let expected =
            each(&second, &gradients, |v, g| number(config.beta2) * v + rest(config.beta2) * g * g);
        assert_within("second moment", adam.second_moment(), &expected);
        let moments = adam.first_moment().iter().zip(adam.second_moment());
        let expected: Vec<_> = before
            .iter()
            .zip(moments)
            .map(|(&theta, (&m, &v))| adams_parameter(&config, adam.updates() as f64, theta, m, v))
            .collect();
        assert_within("parameters", &parameters, &expected);
    }
}

proptest! {
    #![proptest_config(Config { cases: 48, failure_persistence: None, ..Config::default() })]

    #[test]
    fn steps_of_sgd_are_within_their_bounds(
        len in 1usize..150, seed: u64, rate in 0f32..1.0, momentum in 0f32..1.0,
    ) {
        for &isa in Isa::available() {
            check_sgd(isa, len, seed >> 8, rate, momentum);
        }
    }

    #[test]
    fn steps_of_adam_are_within_their_bounds(
        len in 1usize..150, seed: u64, learning_rate in 0f32..1.0,
        beta1 in 0f32..1.0, beta2 in 0f32..1.0, epsilon in 1e-8f32..1.0,
    ) {
        for &isa in Isa::available() {
            let config = AdamConfig { learning_rate, beta1, beta2, epsilon };
            check_adam(isa, len, seed >> 8, config);
        }
    }

    #[test]
    fn a_norm_is_clipped_over_all_parts(
        lens in prop::collection::vec(0usize..100, 0..4), seed: u64, limit in 0.01f32..20.0,
    ) {
        let parts: Vec<Vec<f32>> = lens
            .iter()
            .enumerate()
            .map(|(k, &len)| sample::uniform((seed >> 8) + k as u64, len, 1.0))
            .collect();
        let mut expected = sample::widen(&parts.concat());
        let expected_norm = bptt_reference::optim::clip_norm(&mut expected, limit.into());

        let mut clipped = parts.clone();
        let mut slices: Vec<&mut [f32]> = clipped.iter_mut().map(Vec::as_mut_slice).collect();
        let norm = clip_global_norm(&mut slices, limit).unwrap();
        // The order of the sum differs: a few hundred roundings of f64.
        prop_assert!((norm - expected_norm).abs() <= 1e-12 * expected_norm);
        let expected: Vec<_> = expected
            .iter()
            .map(|&value| Bounded { value, bound: (UNIT_ROUNDOFF + 1e-12) * value.abs() })
            .collect();
        assert_within("clipped", &clipped.concat(), &expected);
        if norm <= limit.into() {
            prop_assert_eq!(clipped, parts);
        }
    }

    #[test]
    fn clipping_does_not_depend_on_the_instruction_set(len in 0usize..300, seed: u64) {
        let x = sample::uniform(seed, len, 2.0);
        let on = |isa: Isa| {
            let (mut scaled, mut clamped) = (x.clone(), x.clone());
            optim::scale(isa, &mut scaled, 1e-3);
            optim::clamp(isa, &mut clamped, 0.5);
            (optim::sum_of_squares(isa, &x).to_bits(), bits(&scaled), bits(&clamped))
        };
        let expected: Vec<f32> = x.iter().map(|x| x.clamp(-0.5, 0.5)).collect();
        for &isa in Isa::available() {
            prop_assert_eq!(on(isa), on(Isa::available()[0]));
            prop_assert_eq!(on(isa).2, bits(&expected));
        }
    }
}

#[test]
fn the_largest_gradients_have_a_norm() {
    let mut gradients = vec![f32::MAX; 1000];
    let norm = clip_global_norm(&mut [&mut gradients], 1.0).unwrap();
    assert!((norm / (f64::from(f32::MAX) * 1000f64.sqrt()) - 1.0).abs() < 1e-12);
    let expected = 1.0 / 1000f64.sqrt();
    assert_within(
        "clipped",
        &gradients,
        &vec![Bounded { value: expected, bound: 2.0 * UNIT_ROUNDOFF * expected }; 1000],
    );
}

#[test]
fn the_smallest_gradients_have_a_norm() {
    let mut gradients = [f32::MIN_POSITIVE; 4];
    let norm = clip_global_norm(&mut [&mut gradients], f32::INFINITY).unwrap();
    assert_eq!(norm, 2.0 * f64::from(f32::MIN_POSITIVE));
}

#[test]
fn elements_are_clipped_and_a_nan_stays() {
    for len in 1..70 {
        let mut gradients = vec![f32::NEG_INFINITY; len];
        gradients[len / 2] = f32::NAN;
        clip_elements(&mut gradients, 2.5).unwrap();
        for (k, g) in gradients.iter().enumerate() {
            assert!(if k == len / 2 { g.is_nan() } else { *g == -2.5 }, "{k} of {len}: {g}");
        }
    }
    clip_elements(&mut [], 1.0).unwrap();
    assert_eq!(clip_global_norm(&mut [], 1.0), Ok(0.0));
}

#[test]
fn a_norm_that_is_not_finite_is_an_error_and_nothing_is_written() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut a, mut b) = (vec![100.0; 50], vec![100.0, value, 100.0]);
        let error = clip_global_norm(&mut [&mut a, &mut b], 1.0).unwrap_err();
        assert!(matches!(error, Error::Value { what: "the gradients' norm", .. }), "{error}");
        assert_eq!((a, bits(&b)), (vec![100.0; 50], bits(&[100.0, value, 100.0])));
    }
}

/// On each instruction set and at any place: a norm is NaN or ∞ if one element is, and finite if
/// all elements are, however large.
#[test]
fn a_norm_is_finite_where_all_elements_are() {
    for &isa in Isa::available() {
        for len in 1..70 {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..len {
                    let mut gradients = vec![1.0; len];
                    gradients[at] = bad;
                    let squares = optim::sum_of_squares(isa, &gradients);
                    assert!(!squares.is_finite(), "{bad} at {at} of {len} on {isa}");
                }
            }
            for large in [3e38, -3e38, f32::MAX] {
                let squares = optim::sum_of_squares(isa, &vec![large; len]);
                let expected = len as f64 * f64::from(large).powi(2);
                assert!((squares / expected - 1.0).abs() < 1e-12, "{squares} of {len} on {isa}");
            }
        }
    }
}

/// Gradients that are all zero stay zero, with no division by their norm (tensorflow#22048).
#[test]
fn zeros_stay_zeros() {
    for zero in [0.0, -0.0] {
        for len in [1, 3, 16, 100] {
            for limit in [f32::MIN_POSITIVE, 1.0, f32::INFINITY] {
                let (mut a, mut b) = (vec![zero; len], vec![zero; 2]);
                assert_eq!(clip_global_norm(&mut [&mut a, &mut b], limit), Ok(0.0));
                clip_elements(&mut a, limit).unwrap();
                assert_eq!((bits(&a), bits(&b)), (bits(&vec![zero; len]), bits(&[zero; 2])));
            }
        }
    }
}

#[test]
fn a_limit_that_is_not_positive_is_an_error_and_nothing_is_written() {
    for limit in [0.0, -0.0, -1.0, f32::NEG_INFINITY, f32::NAN] {
        let mut gradients = [3.0, 4.0];
        let errors = [
            clip_elements(&mut gradients, limit).unwrap_err(),
            clip_global_norm(&mut [&mut gradients], limit).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Value { what: "limit", .. }), "{error}");
        }
        assert_eq!(gradients, [3.0, 4.0]);
    }
}

#[track_caller]
fn assert_value_error<T: std::fmt::Debug>(result: Result<T, Error>, name: &str) {
    match result {
        Err(Error::Value { what, .. }) if what == name => {}
        other => panic!("{other:?} instead of an error about {name}"),
    }
}

#[test]
fn settings_are_checked() {
    let isa = Isa::best().unwrap();
    let config = SgdConfig { learning_rate: 0.1, momentum: 0.9 };
    assert_value_error(Sgd::new(0.1).step(isa, &mut [], &[]), "parameters");
    assert_value_error(Adam::new(0.1).step(isa, &mut [], &[]), "parameters");
    for wrong in [-0.1, f32::NAN, f32::INFINITY] {
        let config = SgdConfig { learning_rate: wrong, ..config };
        assert_value_error(Sgd::with_config(config), "learning_rate");
        let config = AdamConfig { learning_rate: wrong, ..AdamConfig::default() };
        assert_value_error(Adam::with_config(config), "learning_rate");
        let mut sgd = Sgd::new(0.1);
        assert_value_error(sgd.set_learning_rate(wrong), "learning_rate");
        assert_eq!(sgd.config(), SgdConfig { learning_rate: 0.1, momentum: 0.0 });
        let mut adam = Adam::new(1e-3);
        assert_value_error(adam.set_learning_rate(wrong), "learning_rate");
        assert_eq!(adam.config(), AdamConfig::default());
        // An optimiser that is made of a rate alone refuses a bad rate in its first step.
        let (mut sgd, mut adam, mut parameters) = (Sgd::new(wrong), Adam::new(wrong), [1.0; 3]);
        assert_value_error(sgd.step(isa, &mut parameters, &[1.0; 3]), "learning_rate");
        assert_value_error(adam.step(isa, &mut parameters, &[1.0; 3]), "learning_rate");
        assert_eq!((parameters, adam.updates()), ([1.0; 3], 0));
        assert!(sgd.velocity().is_empty() && adam.first_moment().is_empty());
    }
    for wrong in [-0.1, 1.0, f32::NAN] {
        let config = SgdConfig { momentum: wrong, ..config };
        assert_value_error(Sgd::with_config(config), "momentum");
        assert_value_error(Sgd::new(0.1).with_momentum(wrong), "momentum");
        let config = AdamConfig { beta1: wrong, ..AdamConfig::default() };
        assert_value_error(Adam::with_config(config), "beta1");
        let config = AdamConfig { beta2: wrong, ..AdamConfig::default() };
        assert_value_error(Adam::with_config(config), "beta2");
    }
    // A denormal counts as zero in a step.
    let denormal = f32::MIN_POSITIVE.next_down();
    for wrong in [0.0, -1e-8, f32::NAN, f32::INFINITY, denormal, f32::from_bits(1)] {
        let config = AdamConfig { epsilon: wrong, ..AdamConfig::default() };
        assert_value_error(Adam::with_config(config), "epsilon");
    }
}

/// With the largest settings that are accepted, a gradient of 0 never makes a NaN, however many
/// steps it is 0; larger settings are refused.
#[test]
fn the_largest_settings_leave_a_parameter_without_a_gradient_where_it_is() {
    let most = 1.0f32.next_down();
    for &isa in Isa::available() {
        for beta1 in [0.0, 0.5, 0.9, 0.999, most] {
            // The first step multiplies by α / (1 − β₁), which has to be finite in f32.
            let rate = |rate: f32| (f64::from(rate) / (1.0 - f64::from(beta1))) as f32;
            let mut learning_rate = (f64::from(f32::MAX) * (1.0 - f64::from(beta1))) as f32;
            learning_rate = learning_rate.next_up().next_up().min(f32::MAX);
            while rate(learning_rate).is_infinite() {
                learning_rate = learning_rate.next_down();
            }
            for (beta2, epsilon) in
                [(0.0, f32::MIN_POSITIVE), (most, f32::MIN_POSITIVE), (most, 1e30)]
            {
                let config = AdamConfig { learning_rate, beta1, beta2, epsilon };
                let mut adam = Adam::with_config(config).unwrap();
                let mut parameters = [0.5, -1.0, 0.0];
                for _ in 0..50 {
                    adam.step(isa, &mut parameters, &[0.0; 3]).unwrap();
                    assert_eq!(parameters, [0.5, -1.0, 0.0], "{config:?} on {isa}");
                }
                let beyond = learning_rate.next_up();
                if beyond.is_finite() {
                    let config = AdamConfig { learning_rate: beyond, ..config };
                    assert_value_error(Adam::with_config(config), "learning_rate");
                    assert_value_error(adam.set_learning_rate(beyond), "learning_rate");
                    assert_eq!(adam.config().learning_rate, learning_rate);
                }
            }
        }
        let config = AdamConfig { learning_rate: 1e37, beta1: most, ..AdamConfig::default() };
        let error = Adam::with_config(config).unwrap_err().to_string();
        assert!(error.contains("learning_rate") && error.contains("beta1"), "{error}");

        let config = SgdConfig { learning_rate: f32::MAX, momentum: most };
        let mut sgd = Sgd::with_config(config).unwrap();
        let mut parameters = [0.5, -1.0, 0.0];
        for _ in 0..50 {
            sgd.step(isa, &mut parameters, &[0.0; 3]).unwrap();
            assert_eq!(parameters, [0.5, -1.0, 0.0], "{config:?} on {isa}");
        }
    }
}

#[test]
fn nothing_is_allocated_in_a_step_after_the_first() {
    let isa = Isa::best().unwrap();
    let mut sgd = Sgd::new(0.1).with_momentum(0.9).unwrap();
    let mut adam = Adam::new(1e-3);
    let (mut parameters, mut gradients) = (vec![1.0; 99], vec![1.0; 99]);
    let mut steps = || {
        clip_elements(&mut gradients, 0.5).unwrap();
        clip_global_norm(&mut [&mut gradients], 0.1).unwrap();
        sgd.step(isa, &mut parameters, &gradients).unwrap();
        adam.step(isa, &mut parameters, &gradients).unwrap();
    };
    // One buffer for each of v, m and v.
    assert_eq!(allocation_counter::measure(&mut steps).count_total, 3);
    assert_eq!(allocation_counter::measure(&mut steps).count_total, 0);
}

#[test]
fn another_number_of_parameters_is_an_error_and_nothing_is_written() {
    let isa = Isa::best().unwrap();
    let mut sgd = Sgd::new(0.1).with_momentum(0.9).unwrap();
    let mut adam = Adam::new(1e-3);
    // Before the first step the number of parameters is free, but there must be as many gradients.
    let (mut values, short) = ([1.0; 3], [1.0; 2]);
    let expected = Err(Error::Length { what: "gradients", given: 2, expected: 3 });
    assert_eq!(sgd.step(isa, &mut values, &short), expected);
    assert_eq!(adam.step(isa, &mut values, &short), expected);
    assert!(sgd.velocity().is_empty() && adam.first_moment().is_empty());
    sgd.step(isa, &mut values, &[0.0; 3]).unwrap();
    adam.step(isa, &mut values, &[0.0; 3]).unwrap();
    for (parameters, gradients, what) in [(2, 3, "parameters"), (3, 4, "gradients")] {
        let (mut values, gradients) = (vec![1.0; parameters], vec![1.0; gradients]);
        let given = if what == "parameters" { values.len() } else { gradients.len() };
        let expected = Err(Error::Length { what, given, expected: 3 });
        assert_eq!(sgd.step(isa, &mut values, &gradients), expected);
        assert_eq!(adam.step(isa, &mut values, &gradients), expected);
        assert_eq!(values, vec![1.0; parameters]);
    }
    assert_eq!((values, sgd.velocity()), ([1.0; 3], &[0.0; 3][..]));
    assert_eq!((adam.first_moment(), adam.second_moment()), (&[0.0; 3][..], &[0.0; 3][..]));
    assert_eq!(adam.updates(), 1);
}
