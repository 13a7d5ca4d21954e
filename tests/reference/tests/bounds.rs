//! The derived bounds: correct single-precision passes keep them, faulty ones do not.

use bptt_reference::bounds::{self, Bounded};
use bptt_reference::lstm::{Gradients, Trace};
use bptt_reference::{Activation, Lstm, Number, sample};
use std::ops::{Add, Mul, Sub};

/// Everything a pass over one shape needs.
struct Case {
    lstm: Lstm,
    params: Vec<f32>,
    x: Vec<f32>,
    h0: Vec<f32>,
    s0: Vec<f32>,
    dy: Vec<f32>,
    dh_last: Vec<f32>,
    ds_last: Vec<f32>,
}

impl Case {
    fn new(seed: u64, lstm: Lstm, steps: usize, batch: usize) -> Self {
        let state = batch * lstm.hidden_size;
        let scale = 1.0 / (lstm.hidden_size as f32).sqrt(); // the usual initialisation
        let draw =
            |salt: u64, len: usize, limit: f32| sample::uniform(seed * 100 + salt, len, limit);
        Case {
            lstm,
            params: draw(0, lstm.params_len(), scale),
            x: draw(1, steps * batch * lstm.input_size, 1.0),
            h0: draw(2, state, 1.0),
            s0: draw(3, state, 1.0),
            dy: draw(4, steps * state, 1.0),
            dh_last: draw(5, state, 1.0),
            ds_last: draw(6, state, 1.0),
        }
    }

    fn run<N: Number>(&self) -> (Trace<N>, Gradients<N>) {
        let [params, x, h0, s0, dy, dh_last, ds_last] =
            [&self.params, &self.x, &self.h0, &self.s0, &self.dy, &self.dh_last, &self.ds_last]
                .map(|v| v.iter().map(|&value| N::exact(f64::from(value))).collect::<Vec<N>>());
        let trace = self.lstm.forward(&params, &x, &h0, &s0);
        let gradients = self.lstm.backward(&params, &x, &h0, &s0, &trace, &dy, &dh_last, &ds_last);
        (trace, gradients)
    }
}

/// The results of both passes, with their names.
fn named<N: Number>((trace, gradients): (Trace<N>, Gradients<N>)) -> Vec<(&'static str, Vec<N>)> {
    vec![
        ("i", trace.i),
        ("f", trace.f),
        ("g", trace.g),
        ("o", trace.o),
        ("s", trace.s),
        ("h", trace.h),
        ("dz", gradients.dz),
        ("params", gradients.params),
        ("dx", gradients.dx),
        ("dh0", gradients.dh0),
        ("ds0", gradients.ds0),
    ]
}

/// A single-precision number whose dot products are summed as a kernel would: fused, in eight lanes.
#[derive(Clone, Copy, Debug)]
struct Lanes(f32);

impl Add for Lanes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Lanes(self.0 + other.0)
    }
}

impl Sub for Lanes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Lanes(self.0 - other.0)
    }
}

impl Mul for Lanes {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Lanes(self.0 * other.0)
    }
}

impl Number for Lanes {
    fn exact(value: f64) -> Self {
        Lanes(value as f32)
    }
    fn dot(pairs: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let mut lanes = [0f32; 8];
        for (k, (a, b)) in pairs.into_iter().enumerate() {
            lanes[k % 8] = a.0.mul_add(b.0, lanes[k % 8]);
        }
        Lanes(lanes.iter().rev().sum())
    }
    fn logistic(self) -> Self {
        Lanes(0.5f32.mul_add((0.5 * self.0).tanh(), 0.5))
    }
    fn tanh(self) -> Self {
        Lanes(self.0.tanh())
    }
    fn relu(self) -> Self {
        Lanes(self.0.max(0.0))
    }
    fn logistic_slope(self) -> Self {
        Lanes((-self.0).mul_add(self.0, self.0)) // y − y²
    }
    fn tanh_slope(self) -> Self {
        Lanes((1.0 - self.0) * (1.0 + self.0))
    }
    fn relu_slope(self) -> Self {
        Lanes(self.0.relu_slope())
    }
}

fn shapes() -> Vec<(Lstm, usize, usize)> {
    let lstm = |inputs, hidden, candidate| Lstm::new(inputs, hidden, candidate);
    let identity = Lstm {
        gate: Activation::Identity,
        cell: Activation::Identity,
        ..lstm(3, 5, Activation::Identity)
    };
    vec![
        (lstm(1, 1, Activation::Tanh), 1, 1),
        (lstm(3, 4, Activation::Tanh), 5, 2),
        (lstm(3, 4, Activation::Logistic), 5, 2),
        (identity, 2, 3),
        (lstm(7, 17, Activation::Tanh), 10, 3),
        (lstm(16, 32, Activation::Tanh), 20, 2),
        (lstm(16, 64, Activation::Tanh), 30, 1),
    ]
}

#[test]
fn correct_passes_are_within_their_bounds() {
    for (lstm, steps, batch) in shapes() {
        println!(
            "I {}, H {}, T {steps}, B {batch}, {:?}",
            lstm.input_size, lstm.hidden_size, lstm.candidate
        );
        let mut worst = [[0.0f64; 2]; 11];
        let mut relative = [0.0f64; 11];
        for seed in 0..4 {
            let case = Case::new(seed, lstm, steps, batch);
            let expected = named(case.run::<Bounded>());
            let plain = named(case.run::<f32>());
            let lanes = named(case.run::<Lanes>());
            for (k, (name, expected)) in expected.iter().enumerate() {
                let lanes: Vec<f32> = lanes[k].1.iter().map(|lane| lane.0).collect();
                bounds::assert_within(name, &plain[k].1, expected);
                bounds::assert_within(name, &lanes, expected);
                worst[k][0] = worst[k][0].max(bounds::worst_ratio(&plain[k].1, expected));
                worst[k][1] = worst[k][1].max(bounds::worst_ratio(&lanes, expected));
                let largest = |f: fn(&Bounded) -> f64| expected.iter().map(f).fold(0.0, f64::max);
                relative[k] = relative[k].max(largest(|e| e.bound) / largest(|e| e.value.abs()));
            }
        }
        for (k, (name, _)) in named(Case::new(0, lstm, 1, 1).run::<f32>()).iter().enumerate() {
            let [plain, lanes] = worst[k];
            println!(
                "  {name:6} error / bound: {plain:.4} plain, {lanes:.4} lanes; bound / value: {:.1e}",
                relative[k]
            );
        }
    }
}

#[test]
fn bounded_values_are_the_reference_values() {
    for (lstm, steps, batch) in shapes() {
        let case = Case::new(9, lstm, steps, batch);
        for ((name, bounded), (_, reference)) in
            named(case.run::<Bounded>()).into_iter().zip(named(case.run::<f64>()))
        {
            assert_eq!(bounds::values(&bounded), reference, "{name}");
        }
    }
}

/// The worst ratio of each result of a pass that is wrong in the way `fault` makes it.
fn ratios_with(fault: impl Fn(&mut Case)) -> Vec<(&'static str, f64)> {
    let lstm = Lstm::new(7, 17, Activation::Tanh);
    let expected = named(Case::new(3, lstm, 10, 3).run::<Bounded>());
    let mut wrong = Case::new(3, lstm, 10, 3);
    fault(&mut wrong);
    let actual = named(wrong.run::<f32>());
    actual
        .iter()
        .zip(&expected)
        .map(|((name, actual), (_, expected))| (*name, bounds::worst_ratio(actual, expected)))
        .collect()
}

#[test]
fn a_faulty_pass_is_outside_its_bounds() {
    let blocks = |case: &Case| {
        let (inputs, hidden) = (case.lstm.input_size, case.lstm.hidden_size);
        // (start of the block, length of one gate in it) for U, W and b.
        [
            (0, hidden * inputs),
            (4 * hidden * inputs, hidden * hidden),
            (4 * hidden * (inputs + hidden), hidden),
        ]
    };
    let one_weight_of = |block: usize| {
        move |case: &mut Case| {
            let (start, len) = blocks(case)[block];
            case.params[start + len / 2] = 0.0;
        }
    };
    let swap_gates = |a: usize, b: usize| {
        move |case: &mut Case| {
            for (start, len) in blocks(case) {
                for k in 0..len {
                    case.params.swap(start + a * len + k, start + b * len + k);
                }
            }
        }
    };
    for (name, ratios) in [
        ("one weight of U dropped", ratios_with(one_weight_of(0))),
        ("one weight of W dropped", ratios_with(one_weight_of(1))),
        ("one bias dropped", ratios_with(one_weight_of(2))),
        ("input and forget gate swapped", ratios_with(swap_gates(0, 1))),
        ("forget and output gate swapped", ratios_with(swap_gates(1, 3))),
    ] {
        println!("{name}: {ratios:.1?}");
        for (result, ratio) in ratios {
            assert!(ratio > 1.0, "{name}: {result} is within its bound, {ratio}");
        }
    }
    let (result, ratio) = ratios_with(|case| case.params[5] *= 1.001)[0];
    assert!(
        ratio > 1.0,
        "a relative error of 10⁻³ in one weight: {result} is within its bound, {ratio}"
    );
}

#[test]
fn a_faulty_backward_pass_is_outside_its_bounds() {
    for (name, ratios) in [
        ("dh_last dropped", ratios_with(|case| case.dh_last.fill(0.0))),
        ("ds_last dropped", ratios_with(|case| case.ds_last.fill(0.0))),
        ("dy of the first step dropped", ratios_with(|case| case.dy[..3 * 17].fill(0.0))),
    ] {
        println!("{name}: {ratios:.1?}");
        for (result, ratio) in ratios {
            let backward = ["dz", "params", "dx", "dh0", "ds0"].contains(&result);
            assert_eq!(ratio > 1.0, backward, "{name}: {result}, {ratio}");
        }
    }
}

#[test]
fn a_result_that_may_overflow_has_no_bound() {
    let large = Bounded::exact(3e38);
    let product = large * large;
    assert_eq!((large + large).bound, f64::INFINITY);
    assert_eq!(product.bound, f64::INFINITY);
    assert_eq!(product.tanh().bound, f64::INFINITY);
    assert_eq!((product * Bounded::zero()).bound, f64::INFINITY);
    assert_eq!(Bounded::dot([(large, large), (Bounded::exact(-3e38), large)]).bound, f64::INFINITY);
}

#[test]
#[should_panic(expected = "h[1]")]
fn a_nan_is_outside_every_bound() {
    bounds::assert_within("h", &[1.0, f32::NAN], &bounds::exact(&[1.0, 1.0]));
}

#[test]
#[should_panic(expected = "no bound")]
fn an_infinite_bound_is_refused() {
    bounds::assert_within("h", &[1.0], &[Bounded { value: 1.0, bound: f64::INFINITY }]);
}

#[test]
fn the_slope_of_relu_is_uncertain_only_around_zero() {
    let near = |value: f64| Bounded { value, bound: 0.25 }.relu();
    assert_eq!(near(1.0).relu_slope(), Bounded { value: 1.0, bound: 0.0 });
    assert_eq!(near(-1.0).relu_slope(), Bounded { value: 0.0, bound: 0.0 });
    assert_eq!(near(0.125).relu_slope(), Bounded { value: 1.0, bound: 1.0 });
    assert_eq!(near(-0.125).relu_slope(), Bounded { value: 0.0, bound: 1.0 });
}
