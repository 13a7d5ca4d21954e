//! Every cell's outputs, states and gradients against the `f64` reference, within bounds that are
//! derived for each case and not tuned.

use crate::common::{
    Data, Kind, Pass, Rig, Shape, assert_bits, check, fewer, filled, has_jump, is_slow, isas,
    shapes, shared_out,
};
use crate::with_layer;
use bptt::{Accumulate, Error, Isa};
use bptt_reference::cells::{Inputs, Outcome};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::sample::uniform;
use bptt_reference::{Bounded, Number, bounds};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

fn lift<N: Number>(values: &[f32]) -> Vec<N> {
    values.iter().map(|&value| N::exact(value.into())).collect()
}

fn exact<N: Number>(data: &Data) -> Inputs<Vec<N>> {
    data.inputs.map(|values| lift(values))
}

/// For the log: the largest share of its bound that each result has reached.
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

    fn compare(&self, pass: &Pass, expected: &Outcome<Vec<Bounded>>) {
        for ((name, actual), (_, expected)) in pass.parts().into_iter().zip(expected.parts()) {
            self.assert_within(name, actual, expected);
        }
    }

    fn print(&self, what: &str) {
        println!("{what}, worst shares of the bounds: {:.3?}", self.0.borrow());
    }
}

/// Runs a test on drawn cases of each kind.
fn each_kind(
    cases: u32,
    shapes: impl Fn() -> BoxedStrategy<Shape>,
    test: impl Fn(Kind, Shape, u64),
) {
    for kind in Kind::all() {
        println!("{kind:?}");
        check(cases, (shapes(), any::<u64>()), |(shape, seed)| test(kind, shape, seed));
    }
}

/// Short passes, whose bounds from end to end are still small.
#[test]
fn short_sequences_from_end_to_end() {
    /// How many bounds there are, and how many are so wide that they would find no fault.
    fn run(data: &Data, worst: &Worst) -> [usize; 2] {
        let expected = data.reference().run(&exact(data), None);
        for &isa in isas() {
            worst.compare(&Rig::new(isa, data).run(data), &expected);
        }
        let bounds = || expected.parts().into_iter().flat_map(|(_, part)| part);
        [bounds().count(), bounds().filter(|b| b.bound > 2e-2).count()]
    }
    let (worst, all) = (Worst::default(), Cell::new([0; 2]));
    each_kind(
        12,
        || shapes(24, 16, 6, 4).boxed(),
        |kind, shape, seed| {
            let weights = if seed % 2 == 0 { 0.1 } else { 0.2 };
            let [bounds, loose] = with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                run(&Data::of(layer, shape, seed, weights).noisy(seed), &worst)
            });
            // Where the slope of max(0, a) is not certain, its bound is 1.
            if !has_jump(kind) {
                all.set([all.get()[0] + bounds, all.get()[1] + loose]);
            }
        },
    );
    worst.print("end to end");
    let [bounds, loose] = all.get();
    println!("{loose} of {bounds} bounds above 0.02");
    assert!(loose * 200 < bounds, "{loose} of {bounds} bounds find no fault");
}

/// Compares each step, and each gradient, with what follows from the pass's own results before it:
/// a bound that covers few operations, however long the sequence.
fn step_by_step(worst: &Worst, data: &Data) {
    let (inputs, layer) = (exact::<Bounded>(data), data.reference());
    for &isa in isas() {
        let pass = Rig::new(isa, data).run(data);
        worst.compare(&pass, &layer.run(&inputs, Some(&pass.map(|part| lift(part)))));
    }
}

#[test]
fn drawn_shapes_step_by_step() {
    let worst = Worst::default();
    each_kind(
        12,
        || shapes(48, 40, 20, 8).boxed(),
        |kind, shape, seed| {
            let weights: f32 = [0.1, 0.5, 3.0][(seed % 3) as usize];
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                // A state that grows threefold in a step would overflow.
                let weights =
                    if matches!(kind, Kind::Lstm(_)) { weights } else { weights.min(0.5) };
                step_by_step(&worst, &Data::of(layer, shape, seed, weights).noisy(seed))
            });
        },
    );
    worst.print("step by step");
}

/// Batches with more rows than are handled at a time, sums longer than the depth handled at a time,
/// more inputs than the rows of a chunk, and long sequences.
#[test]
fn large_shapes_step_by_step() {
    let worst = Worst::default();
    let shapes = [
        (1, 17, 150, 3),
        (3, 5, 193, 2),
        (2, 9, 50, 9),
        (4, 33, 1, 300),
        (300, 70, 40, 2),
        (5, 300, 3, 2),
        (16, 64, 64, 2),
        (257, 1, 97, 3),
    ];
    // The reference takes minutes where the CPU is emulated.
    let (shapes, each) = (fewer(&shapes, 4), if is_slow() { 1 } else { 3 });
    let cases = shared_out(shapes, each).into_iter().enumerate();
    for (nth, (kind, (inputs, hidden, batch, steps))) in cases {
        with_layer!(kind, (inputs, hidden), |layer| {
            // All kinds of noise, or none.
            let data = Data::draw(layer, batch, steps, 1, 0.1);
            step_by_step(&worst, &data.noisy(if nth % 2 == 0 { !0 } else { 0 }))
        });
    }
    worst.print("large shapes");
}

/// Compares with finite differences, since the chain rule could be wrong in the kernels and in the
/// reference alike.
#[test]
fn gradients_are_difference_quotients_of_the_loss() {
    const STEP: f64 = 1e-6;
    /// The unit roundoff of `f64` divided by that of `f32`, and so the ratio of their bounds.
    const F64_OVER_F32: f64 = 1.0 / (1u64 << 29) as f64;
    fn run(data: &Data, all: &Cell<[usize; 2]>) {
        let (bounded, layer) = (exact::<Bounded>(data), data.reference());
        let loss_error = F64_OVER_F32 * layer.loss(&bounded).bound;
        let expected = layer.run(&bounded, None);
        let passes: Vec<Pass> = isas().iter().map(|&isa| Rig::new(isa, data).run(data)).collect();
        type Of<T> = fn(&Outcome<T>) -> &T;
        type Input = fn(&mut Inputs<Vec<f64>>) -> &mut Vec<f64>;
        struct Part {
            name: &'static str,
            input: Input,
            actual: Of<Vec<f32>>,
            bound: Of<Vec<Bounded>>,
        }
        let parts = [
            Part {
                name: "params",
                input: |i| &mut i.params,
                actual: |p| &p.params,
                bound: |p| &p.params,
            },
            Part { name: "dx", input: |i| &mut i.x, actual: |p| &p.dx, bound: |p| &p.dx },
            Part { name: "dh0", input: |i| &mut i.h0, actual: |p| &p.dh0, bound: |p| &p.dh0 },
            Part { name: "dx0", input: |i| &mut i.x0, actual: |p| &p.dx0, bound: |p| &p.dx0 },
            Part { name: "dc0", input: |i| &mut i.c0, actual: |p| &p.dc0, bound: |p| &p.dc0 },
        ];
        for Part { name, input, actual, bound } in parts {
            let mut moved = exact::<f64>(data);
            let at = input(&mut moved).clone();
            let loss = |at: &[f64]| {
                input(&mut moved).copy_from_slice(at);
                layer.loss(&moved)
            };
            let quotients: Vec<Bounded> = gradient_with_error(loss, &at, STEP, loss_error)
                .into_iter()
                .zip(bound(&expected))
                .map(|(d, b)| Bounded { value: d.value, bound: d.error + b.bound })
                .collect();
            let loose = quotients.iter().filter(|q| q.bound > 1e-3).count();
            all.set([all.get()[0] + quotients.len(), all.get()[1] + loose]);
            for pass in &passes {
                bounds::assert_within(name, actual(pass), &quotients);
            }
        }
    }
    let all = Cell::new([0; 2]);
    for kind in Kind::all() {
        // Where the derivative jumps, no difference quotient is a gradient.
        if has_jump(kind) {
            continue;
        }
        println!("{kind:?}");
        check(4, (shapes(3, 4, 2, 3), any::<u64>()), |(shape, seed)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                run(&Data::of(layer, shape, seed, 0.5).noisy(seed), &all)
            });
        });
    }
    let [quotients, loose] = all.get();
    println!("{loose} of {quotients} quotients above 0.001");
    // A case whose normalised sums happen to be nearly equal has wide bounds throughout, some 50
    // quotients, in one run of ten; a mistake in the bounds would be in all cases of a kind.
    assert!(loose * 20 < quotients, "{loose} of {quotients} quotients find no fault");
}

/// Anything that is not given counts as zero, and a result that is not asked for changes nothing.
#[test]
fn optional_arguments() {
    fn run(isa: Isa, data: &Data) {
        let zeros = |values: &[f32]| vec![0.0; values.len()];
        let given = data.inputs.clone();
        let inputs = Inputs {
            h0: zeros(&given.h0),
            c0: zeros(&given.c0),
            x0: zeros(&given.x0),
            dy: zeros(&given.dy),
            ..given
        };
        let zero = Data { inputs, ..data.clone() };
        let x = &zero.inputs.x;
        let expected = Rig::new(isa, &zero).run(&zero);
        let none = |y: &mut [f32]| {
            y.fill(0.0);
            0.0
        };
        // Without gradients of inputs and states.
        let mut model = zero.model(isa, 1);
        let mut workspace = model.training_workspace(zero.schedule()).unwrap();
        model.forward(&mut workspace, x).unwrap();
        assert_bits("h", workspace.outputs().unwrap(), &expected.h);
        let c = workspace.activations("0.c").unwrap_or(&[]);
        assert_bits("c", c, &expected.c);
        workspace.set_last_gradient(Some(&zero.last_gradient())).unwrap();
        workspace.gradients_mut().as_mut_slice().copy_from_slice(&filled(expected.params.len()));
        model.backward(&mut workspace, x, &none, Accumulate::No).unwrap();
        assert_bits("params", workspace.gradients().as_slice(), &expected.params);
        let dz = workspace.activations("0.preactivation_gradients").unwrap();
        let dz = zero.layer.all_steps(dz, zero.first, zero.steps, zero.batch);
        assert_bits("dz", &dz, &expected.dz);
        // Gradients that were not planned are absent.
        let without = "a pass without these gradients";
        let refused = |error| matches!(error, Error::Order { given, .. } if given == without);
        assert!(refused(workspace.input_gradients().unwrap_err()));
        assert!(refused(workspace.state_gradients().unwrap_err()));

        // With no gradient from outside all gradients are zero.
        model.forward(&mut workspace, x).unwrap();
        workspace.set_last_gradient(None).unwrap();
        model.backward(&mut workspace, x, &none, Accumulate::No).unwrap();
        assert!(workspace.gradients().as_slice().iter().all(|&x| x == 0.0));
    }
    for kind in Kind::kernels() {
        check(12, (shapes(9, 20, 9, 4), any::<u64>()), |(shape, seed)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                let data = Data::of(layer, shape, seed, 0.5);
                isas().iter().for_each(|&isa| run(isa, &data));
            });
        });
    }
}

/// Gradients that are accumulated are the sums of the pass's gradients and the earlier values, with
/// one more rounding for each term of a sum.
#[test]
fn accumulating_adds_to_what_is_there() {
    fn run(isa: Isa, data: &Data, worst: &Worst) {
        let prior = uniform(8, data.inputs.params.len(), 3.0);
        let mut rig = Rig::new(isa, data);
        let alone = rig.run(data);
        let mut expected =
            data.reference().run::<Bounded>(&exact(data), Some(&alone.map(|part| lift(part))));
        // Every partial sum is larger by the earlier value, at most.
        let terms = (data.steps * data.batch + 1) as f64;
        for (gradient, &prior) in expected.params.iter_mut().zip(&prior) {
            let prior = f64::from(prior);
            gradient.bound += bptt_reference::compare::UNIT_ROUNDOFF
                * terms
                * (prior.abs() + gradient.value.abs() + gradient.bound);
            gradient.value += prior;
        }
        let mut parameters = prior.clone();
        let forward = rig.forward(data);
        let pass = rig.backward(data, &mut parameters, Accumulate::Yes, forward);
        worst.assert_within("params", &pass.params, &expected.params);
    }
    let worst = Worst::default();
    for kind in Kind::kernels() {
        check(12, (shapes(20, 20, 9, 4), any::<u64>()), |(shape, seed)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                let data = Data::of(layer, shape, seed, 0.5).noisy(seed);
                isas().iter().for_each(|&isa| run(isa, &data, &worst));
            });
        });
    }
    worst.print("accumulated");
}
