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
    c0: Vec<f32>,
    dy: Vec<f32>,
    dh_last: Vec<f32>,
    dc_last: Vec<f32>,
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
            c0: draw(3, state, 1.0),
            dy: draw(4, steps * state, 1.0),
            dh_last: draw(5, state, 1.0),
            dc_last: draw(6, state, 1.0),
        }
    }

    fn run<N: Number>(&self) -> (Trace<N>, Gradients<N>) {
        let [params, x, h0, c0, dy, dh_last, dc_last] = self.inputs();
        let trace = self.lstm.forward(&params, &x, &h0, &c0);
        let gradients = self.lstm.backward(&params, &x, &h0, &c0, &trace, &dy, &dh_last, &dc_last);
        (trace, gradients)
    }

    /// What each step of a pass should have been, from the states and dz that it gave itself.
    fn run_steps(&self, (trace, gradients): &Pass) -> (Trace<Bounded>, Gradients<Bounded>) {
        let [params, x, h0, c0, dy, dh_last, dc_last] = self.inputs();
        let trace = trace.map(|value| Bounded::exact(f64::from(value)));
        let dz = bounds::exact(&gradients.dz);
        let steps = self.lstm.forward_steps(&params, &x, &h0, &c0, &trace);
        let gradients =
            self.lstm.backward_steps(&params, &x, &h0, &c0, &trace, &dy, &dh_last, &dc_last, &dz);
        (steps, gradients)
    }

    fn inputs<N: Number>(&self) -> [Vec<N>; 7] {
        [&self.params, &self.x, &self.h0, &self.c0, &self.dy, &self.dh_last, &self.dc_last]
            .map(|v| v.iter().map(|&value| N::exact(f64::from(value))).collect())
    }
}

/// The results of both passes, with their names.
fn named<N: Number>((trace, gradients): &(Trace<N>, Gradients<N>)) -> Vec<(&'static str, &[N])> {
    trace.parts().into_iter().chain(gradients.parts()).collect()
}

/// A pass of eight lanes as one of plain numbers.
fn unlane((trace, gradients): (Trace<Lanes>, Gradients<Lanes>)) -> Pass {
    let all = |lanes: Vec<Lanes>| lanes.into_iter().map(|lane| lane.0).collect::<Vec<f32>>();
    let Gradients { params, dx, dh0, dc0, dz } = gradients;
    let gradients =
        Gradients { params: all(params), dx: all(dx), dh0: all(dh0), dc0: all(dc0), dz: all(dz) };
    (trace.map(|lane| lane.0), gradients)
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
        let e = (-self.0.abs()).exp();
        Lanes(if self.0 < 0.0 { e } else { 1.0 } / (1.0 + e))
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
    fn nearest(value: f64) -> Self {
        Lanes(value as f32)
    }
    fn clamped(self, low: f64, high: f64) -> Self {
        Lanes(self.0.min(high as f32).max(low as f32))
    }
    fn inside(self, low: f64, high: f64) -> Self {
        Lanes(self.0.inside(low, high))
    }
    fn inverse_root(self, _least: f64) -> Self {
        Lanes(1.0 / self.0.sqrt())
    }
    fn positive(self) -> Self {
        Lanes(Number::positive(self.0))
    }
    fn exp(self) -> Self {
        Lanes(Number::exp(self.0))
    }
    fn softplus(self) -> Self {
        Lanes(Number::softplus(self.0))
    }
    fn share(self) -> Self {
        Lanes(Number::share(self.0))
    }
    fn complement(self) -> Self {
        Lanes(Number::complement(self.0))
    }
    fn positive_slope(self) -> Self {
        Lanes(Number::positive_slope(self.0))
    }
    fn softplus_slope(self) -> Self {
        Lanes(Number::softplus_slope(self.0))
    }
    fn share_slope(self) -> Self {
        Lanes(Number::share_slope(self.0))
    }
    fn complement_slope(self) -> Self {
        Lanes(Number::complement_slope(self.0))
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

/// A pass in single precision, forward and backward.
type Pass = (Trace<f32>, Gradients<f32>);

/// For each result: its name, the worst error over its bound, and the largest bound over the largest value.
type Figures = Vec<(&'static str, f64, f64)>;

fn assert_all_within(actual: &Pass, expected: &(Trace<Bounded>, Gradients<Bounded>)) -> Figures {
    let largest = |all: &[Bounded], of: fn(&Bounded) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let results = named(actual).into_iter().zip(named(expected));
    results
        .map(|((name, actual), (_, expected))| {
            bounds::assert_within(name, actual, expected);
            let looseness = largest(expected, |e| e.bound) / largest(expected, |e| e.value.abs());
            (name, bounds::worst_ratio(actual, expected), looseness)
        })
        .collect()
}

fn print(title: &str, figures: &Figures) {
    println!("  {title}");
    for (name, ratio, looseness) in figures {
        println!("    {name:6} error / bound {ratio:.4}, bound / value {looseness:.1e}");
    }
}

#[test]
fn correct_passes_are_within_their_bounds() {
    for (lstm, steps, batch) in shapes() {
        println!(
            "I {}, H {}, T {steps}, B {batch}, {:?}",
            lstm.input_size, lstm.hidden_size, lstm.candidate
        );
        for seed in 0..4 {
            let case = Case::new(seed, lstm, steps, batch);
            let expected = case.run::<Bounded>();
            let plain = assert_all_within(&case.run(), &expected);
            let lanes = assert_all_within(&unlane(case.run()), &expected);
            if seed == 0 {
                print("plain", &plain);
                print("lanes", &lanes);
            }
        }
    }
}

/// Gates that saturate, and values around the smallest that are normal.
#[test]
fn correct_passes_over_extreme_inputs_are_within_their_bounds() {
    for scale in [30.0, 1e-4, 1e-19, 1e-38] {
        for seed in 0..4 {
            let mut case = Case::new(seed, Lstm::new(3, 4, Activation::Tanh), 5, 2);
            let Case { params, x, h0, c0, dy, dh_last, dc_last, .. } = &mut case;
            for value in [params, x, h0, c0, dy, dh_last, dc_last].into_iter().flatten() {
                *value *= scale;
            }
            let expected = case.run::<Bounded>();
            assert_all_within(&case.run(), &expected);
            assert_all_within(&unlane(case.run()), &expected);
        }
    }
}

#[test]
fn correct_steps_of_long_passes_are_within_their_bounds() {
    for (hidden_size, steps) in [(4, 5), (17, 50), (64, 100)] {
        let lstm = Lstm::new(16, hidden_size, Activation::Tanh);
        let case = Case::new(1, lstm, steps, 2);
        println!("I 16, H {hidden_size}, T {steps}, B 2, step by step");
        let passes = [("plain", case.run()), ("lanes", unlane(case.run()))];
        for (title, pass) in passes {
            let figures = assert_all_within(&pass, &case.run_steps(&pass));
            print(title, &figures);
            for (name, _, looseness) in figures {
                assert!(
                    looseness < 1e-3,
                    "{name}: a bound of {looseness:e} of the value finds no fault"
                );
            }
        }
    }
}

/// In a long sequence, where a bound from end to end has grown too wide, each step still tells.
#[test]
fn a_fault_in_one_step_of_a_long_pass_is_outside_its_bounds() {
    let lstm = Lstm::new(16, 64, Activation::Tanh);
    let case = Case::new(1, lstm, 60, 1);
    let pass = case.run::<f32>();
    let ratios = |pass: &Pass| {
        let expected = case.run_steps(pass);
        let results = named(pass).into_iter().zip(named(&expected));
        results
            .map(|((name, actual), (_, expected))| (name, bounds::worst_ratio(actual, expected)))
            .collect::<Vec<_>>()
    };
    assert!(ratios(&pass).iter().all(|(_, ratio)| *ratio <= 1.0));

    let outside = |fault: &dyn Fn(&mut Pass)| {
        let mut wrong = pass.clone();
        fault(&mut wrong);
        let all = ratios(&wrong);
        println!("{all:.2?}");
        all.into_iter().filter(|(_, ratio)| *ratio > 1.0).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let wrong_h = outside(&|(trace, _)| trace.h[40 * 64 + 3] *= 1.001);
    assert!(wrong_h.contains(&"h"), "{wrong_h:?}");
    let wrong_c = outside(&|(trace, _)| trace.c[40 * 64 + 3] *= 1.001);
    assert!(wrong_c.contains(&"c") && wrong_c.contains(&"h"), "{wrong_c:?}");
    let wrong_dz = outside(&|(_, gradients)| gradients.dz[40 * 256 + 3] *= 1.01);
    assert!(wrong_dz.contains(&"dz"), "{wrong_dz:?}");
    let wrong_params = outside(&|(_, gradients)| gradients.params[100] *= 1.001);
    assert_eq!(wrong_params, ["params"]);
}

#[test]
fn bounded_values_are_the_reference_values() {
    for (lstm, steps, batch) in shapes() {
        let case = Case::new(9, lstm, steps, batch);
        for ((name, bounded), (_, reference)) in
            named(&case.run::<Bounded>()).into_iter().zip(named(&case.run::<f64>()))
        {
            assert_eq!(bounds::values(bounded), reference, "{name}");
        }
    }
}

/// The worst ratio of each result of a pass that is wrong in the way `fault` makes it.
fn ratios_with(fault: impl Fn(&mut Case)) -> Vec<(&'static str, f64)> {
    let lstm = Lstm::new(7, 17, Activation::Tanh);
    let expected = Case::new(3, lstm, 10, 3).run::<Bounded>();
    let mut wrong = Case::new(3, lstm, 10, 3);
    fault(&mut wrong);
    let actual = wrong.run::<f32>();
    let results = named(&actual).into_iter().zip(named(&expected));
    results
        .map(|((name, actual), (_, expected))| (name, bounds::worst_ratio(actual, expected)))
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
        ("ds_last dropped", ratios_with(|case| case.dc_last.fill(0.0))),
        ("dy of the first step dropped", ratios_with(|case| case.dy[..3 * 17].fill(0.0))),
    ] {
        println!("{name}: {ratios:.1?}");
        for (result, ratio) in ratios {
            let backward = ["dz", "params", "dx", "dh0", "dc0"].contains(&result);
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
