//! The LSTM's outputs, states and gradients against the `f64` reference, within
//! bounds that are derived from each case and not tuned.

mod common;

use bptt::{LstmGradients, LstmParameters, OutputGradients, Write};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::lstm::{Gradients, Trace};
use bptt_reference::sample::uniform;
use bptt_reference::{Activation, Bounded, Lstm, Number, bounds};
use common::{Data, Pass, Rig, Shape, assert_bits, check, isas, shapes};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::iter::once;

/// The data in the reference's numbers.
struct Exact<N> {
    lstm: Lstm,
    params: Vec<N>,
    x: Vec<N>,
    h0: Vec<N>,
    s0: Vec<N>,
    dy: Vec<N>,
    dh_last: Vec<N>,
    ds_last: Vec<N>,
}

fn lift<N: Number>(values: &[f32]) -> Vec<N> {
    values.iter().map(|&value| N::exact(value.into())).collect()
}

impl<N: Number> Exact<N> {
    fn of(data: &Data) -> Self {
        let candidate = match data.shape.candidate {
            bptt::Candidate::Tanh => Activation::Tanh,
            bptt::Candidate::Logistic => Activation::Logistic,
        };
        Self {
            lstm: Lstm::new(data.shape.inputs, data.shape.hidden, candidate),
            params: lift(&data.params),
            x: lift(&data.x),
            h0: lift(&data.h0),
            s0: lift(&data.s0),
            dy: lift(&data.dy),
            dh_last: lift(&data.dh_last),
            ds_last: lift(&data.ds_last),
        }
    }

    /// The passes from end to end, or each step from what `given` has for the one
    /// before.
    fn passes(&self, given: Option<&Pass>) -> (Trace<N>, Gradients<N>) {
        let Self { lstm, params, x, h0, s0, dy, dh_last, ds_last } = self;
        match given {
            None => {
                let trace = lstm.forward(params, x, h0, s0);
                let gradients = lstm.backward(params, x, h0, s0, &trace, dy, dh_last, ds_last);
                (trace, gradients)
            }
            Some(given) => {
                let trace = given.trace.map(|value| N::exact(value.into()));
                let dz = lift(&given.gradients.dz);
                let gradients =
                    lstm.backward_steps(params, x, h0, s0, &trace, dy, dh_last, ds_last, &dz);
                (lstm.forward_steps(params, x, h0, s0, &trace), gradients)
            }
        }
    }

    /// Σ dy⊙h + Σ dh_last⊙h⁽τ⁾ + Σ ds_last⊙s⁽τ⁾, whose gradients are those of a pass.
    fn loss(&self) -> N {
        let Self { lstm, params, x, h0, s0, dy, dh_last, ds_last } = self;
        let Trace { h, s, .. } = lstm.forward(params, x, h0, s0);
        let last = h.len() - h0.len();
        let weights = [&dy[..], dh_last, ds_last].concat();
        N::dot(weights.into_iter().zip([&h[..], &h[last..], &s[last..]].concat()))
    }
}

/// The worst share of its bound that each result came to, for the log.
#[derive(Default)]
struct Worst(RefCell<BTreeMap<&'static str, f64>>);

impl Worst {
    fn assert_within(&self, name: &'static str, actual: &[f32], expected: &[Bounded]) {
        bounds::assert_within(name, actual, expected);
        let ratio = bounds::worst_ratio(actual, expected);
        let mut all = self.0.borrow_mut();
        let worst = all.entry(name).or_default();
        *worst = worst.max(ratio);
    }

    fn compare(&self, pass: &Pass, (trace, gradients): &(Trace<Bounded>, Gradients<Bounded>)) {
        for ((name, actual), (_, expected)) in pass.trace.parts().into_iter().zip(trace.parts()) {
            self.assert_within(name, actual, expected);
        }
        let parts = pass.gradients.parts().into_iter().zip(gradients.parts());
        for ((name, actual), (_, expected)) in parts {
            self.assert_within(name, actual, expected);
        }
    }

    fn print(&self, what: &str) {
        println!("{what}, worst shares of the bounds: {:.3?}", self.0.borrow());
    }
}

fn data(
    shape: impl Strategy<Value = Shape>,
    weights: &'static [f32],
) -> impl Strategy<Value = Data> {
    (shape, any::<u64>(), proptest::sample::select(weights))
        .prop_map(|(shape, seed, weights)| Data::draw(shape, seed, weights))
}

/// Short passes, whose bounds from end to end are small still.
#[test]
fn short_sequences_from_end_to_end() {
    let (worst, loosest) = (Worst::default(), Cell::new(0.0f64));
    check(96, data(shapes(24, 16, 6, 4), &[0.1, 0.3]), |data| {
        let expected = Exact::of(&data).passes(None);
        for &isa in isas() {
            worst.compare(&Rig::new(isa, &data).run(&data), &expected);
        }
        for (_, part) in expected.1.parts() {
            let bound = part.iter().map(|b| b.bound).fold(0.0, f64::max);
            loosest.set(loosest.get().max(bound));
        }
    });
    worst.print("end to end");
    println!("loosest bound: {:.1e}", loosest.get());
    assert!(loosest.get() < 1e-2, "a bound of {} finds no fault", loosest.get());
}

/// Each step, and each gradient, as it follows from the pass's own results before
/// it: a bound of one step, however long the sequence.
fn step_by_step(worst: &Worst, data: &Data) {
    let exact = Exact::of(data);
    for &isa in isas() {
        let pass = Rig::new(isa, data).run(data);
        worst.compare(&pass, &exact.passes(Some(&pass)));
    }
}

#[test]
fn drawn_shapes_step_by_step() {
    let worst = Worst::default();
    check(96, data(shapes(48, 40, 20, 8), &[0.1, 0.5, 3.0]), |data| step_by_step(&worst, &data));
    worst.print("step by step");
}

/// Batches beyond the rows that are handled at a time, sums beyond the depth that
/// is, inputs beyond the rows of a chunk, and long sequences.
#[test]
fn large_shapes_step_by_step() {
    let worst = Worst::default();
    for (inputs, hidden, batch, steps) in [
        (300, 70, 70, 2),
        (5, 300, 3, 3),
        (16, 64, 64, 2),
        (1, 17, 150, 3),
        (257, 1, 97, 3),
        (3, 5, 193, 2),
        (2, 9, 50, 9),
        (4, 33, 1, 300),
    ] {
        let shape = Shape::new(inputs, hidden, batch, steps);
        step_by_step(&worst, &Data::draw(shape, 1, 0.2));
    }
    worst.print("large shapes");
}

/// The chain rule alone could be wrong in the kernels and in the reference alike.
#[test]
fn gradients_are_difference_quotients_of_the_loss() {
    const STEP: f64 = 1e-6;
    /// The unit roundoff of `f64` over that of `f32`, and so of their bounds.
    const F64_OVER_F32: f64 = 1.0 / (1u64 << 29) as f64;
    check(12, data(shapes(3, 4, 2, 3), &[0.5]), |data| {
        let bounded = Exact::<Bounded>::of(&data);
        let loss_error = F64_OVER_F32 * bounded.loss().bound;
        let (_, expected) = bounded.passes(None);
        let passes: Vec<Pass> = isas().iter().map(|&isa| Rig::new(isa, &data).run(&data)).collect();
        type Part<'a, N> = &'a dyn Fn(&Gradients<N>) -> Vec<N>;
        type Input<'a> = &'a dyn Fn(&mut Exact<f64>) -> &mut Vec<f64>;
        let parts: [(&str, Input<'_>, Part<'_, f32>, Part<'_, Bounded>); 4] = [
            ("params", &|e| &mut e.params, &|g| g.params.clone(), &|g| g.params.clone()),
            ("dx", &|e| &mut e.x, &|g| g.dx.clone(), &|g| g.dx.clone()),
            ("dh0", &|e| &mut e.h0, &|g| g.dh0.clone(), &|g| g.dh0.clone()),
            ("ds0", &|e| &mut e.s0, &|g| g.ds0.clone(), &|g| g.ds0.clone()),
        ];
        for (name, input, actual, bound) in parts {
            let mut moved = Exact::<f64>::of(&data);
            let at = input(&mut moved).clone();
            let loss = |at: &[f64]| {
                input(&mut moved).copy_from_slice(at);
                moved.loss()
            };
            let quotients: Vec<Bounded> = gradient_with_error(loss, &at, STEP, loss_error)
                .into_iter()
                .zip(bound(&expected))
                .map(|(d, b)| Bounded { value: d.value, bound: d.error + b.bound })
                .collect();
            assert!(quotients.iter().all(|q| q.bound < 1e-3), "{name}: {quotients:?}");
            for pass in &passes {
                bounds::assert_within(name, &actual(&pass.gradients), &quotients);
            }
        }
    });
}

/// What is not given is zero, and what is not wanted changes nothing.
#[test]
fn optional_arguments() {
    check(48, data(shapes(9, 20, 9, 4), &[0.5]), |data| {
        let zeros = |values: &[f32]| vec![0.0; values.len()];
        let zero = Data {
            h0: zeros(&data.h0),
            s0: zeros(&data.s0),
            dy: zeros(&data.dy),
            dh_last: zeros(&data.dh_last),
            ..data.clone()
        };
        for &isa in isas() {
            let mut rig = Rig::new(isa, &zero);
            let expected = rig.run(&zero);
            let mut parameters = zero.shape.lstm().parameters().unwrap();
            let Rig { plan, weights, arena } = &mut rig;
            plan.forward(weights, &zero.x, None, arena).unwrap();
            assert_bits("h", arena.hidden().unwrap(), &expected.trace.h);
            assert_bits("s", arena.cells().unwrap(), &expected.trace.s);
            let outputs =
                OutputGradients { ds_last: Some(&zero.ds_last), ..OutputGradients::default() };
            let gradients = LstmGradients::of(&mut parameters, Write::Overwrite);
            plan.backward(weights, &zero.x, outputs, arena, gradients).unwrap();
            assert_bits("params", parameters.as_slice(), &expected.gradients.params);
            let dz = arena.preactivation_gradients().unwrap();
            assert_bits("dz", dz, &expected.gradients.dz);

            // Neither ∂L/∂h nor ∂L/∂s from outside: all gradients are zero.
            plan.forward(weights, &zero.x, None, arena).unwrap();
            let gradients = LstmGradients::of(&mut parameters, Write::Overwrite);
            plan.backward(weights, &zero.x, OutputGradients::default(), arena, gradients).unwrap();
            assert!(parameters.as_slice().iter().all(|&x| x == 0.0));
        }
    });
}

/// The parameters' gradients as sums that start from `prior`, over the dz and the
/// states that the pass gave.
fn accumulated(data: &Data, pass: &Pass, prior: &[f32]) -> Vec<Bounded> {
    let Shape { inputs, hidden, batch, steps, .. } = data.shape;
    let dz: Vec<Bounded> = lift(&pass.gradients.dz);
    let h: Vec<Bounded> = lift(&[&data.h0[..], &pass.trace.h].concat());
    let (x, ones) = (lift(&data.x), vec![Bounded::exact(1.0); steps * batch]);
    let mut sums = Vec::with_capacity(prior.len());
    for (right, width) in [(&x, inputs), (&h, hidden), (&ones, 1)] {
        for r in 0..4 * hidden {
            for k in 0..width {
                let start = (Bounded::one(), Bounded::exact(prior[sums.len()].into()));
                let terms = (0..steps * batch)
                    .map(|row| (dz[row * 4 * hidden + r], right[row * width + k]));
                sums.push(Bounded::dot(once(start).chain(terms)));
            }
        }
    }
    sums
}

#[test]
fn accumulating_adds_to_what_is_there() {
    let worst = Worst::default();
    check(48, data(shapes(20, 20, 9, 4), &[0.5]), |data| {
        let prior = uniform(8, data.params.len(), 3.0);
        for &isa in isas() {
            let mut rig = Rig::new(isa, &data);
            let trace = rig.forward(&data);
            let mut parameters: LstmParameters = data.shape.lstm().parameters().unwrap();
            parameters.as_mut_slice().copy_from_slice(&prior);
            let gradients = rig.backward(&data, &mut parameters, Write::Accumulate);
            let pass = Pass { trace, gradients };
            let expected = accumulated(&data, &pass, &prior);
            worst.assert_within("params", &pass.gradients.params, &expected);
        }
    });
    worst.print("accumulated");
}
