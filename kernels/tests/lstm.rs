//! The fused steps with identities for activations, so that what differs from the
//! reference is a fault of a product or of the cell, not of an approximation.

mod common;

use bptt_kernels::lstm::{Activations, Dims, GATES};
use bptt_kernels::{gemm, team::Pass};
use bptt_reference::lstm::Trace;
use bptt_reference::sample::uniform;
use bptt_reference::{Activation, Bounded, Lstm, bounds};
use common::{Cell, Variant, assert_bits, check, dense, filled, isas};
use proptest::prelude::*;

fn reference(cell: &Cell) -> Lstm {
    let identity = Activation::Identity;
    Lstm { gate: identity, cell: identity, ..Lstm::new(cell.inputs, cell.dims.hidden, identity) }
}

/// Gate by gate, from `[τ, B, 4, H]`.
fn trace(gates: &[f32], h: Vec<f32>, s: Vec<f32>, hidden: usize) -> Trace<f32> {
    let gate = |which: usize| -> Vec<f32> {
        gates.chunks(hidden).skip(which).step_by(GATES).flatten().copied().collect()
    };
    Trace { i: gate(0), f: gate(1), g: gate(2), o: gate(3), s, h }
}

/// Every step as it follows from the pass's own results for the one before, or,
/// `from_end_to_end`, from the inputs alone.
fn compare(cell: &Cell, from_end_to_end: bool) {
    let lstm = reference(cell);
    let Cell { params, x, h0, s0, dy, dh, ds, .. } = cell;
    let [params, x, h0, s0, dy, dh, ds] =
        [params, x, h0, s0, dy, dh, ds].map(|values| bounds::exact(values));
    let exact = |value: f32| Bounded { value: value.into(), bound: 0.0 };
    for &isa in isas() {
        let make = |values: &[f32]| values.to_vec();
        let [gates, h, s] = cell.forward(isa, Activations::Identity, Variant::Keep, make);
        let [dz, dh0, ds0] = cell.backward(isa, Activations::Identity, (&gates, &s), make);
        let given = trace(&gates, h, s, cell.dims.hidden);
        let (expected, gradients) = if from_end_to_end {
            let trace = lstm.forward(&params, &x, &h0, &s0);
            let gradients = lstm.backward(&params, &x, &h0, &s0, &trace, &dy, &dh, &ds);
            (trace, gradients)
        } else {
            let (own, own_dz) = (given.map(exact), bounds::exact(&dz));
            let gradients =
                lstm.backward_steps(&params, &x, &h0, &s0, &own, &dy, &dh, &ds, &own_dz);
            (lstm.forward_steps(&params, &x, &h0, &s0, &own), gradients)
        };
        for ((name, actual), (_, expected)) in given.parts().into_iter().zip(expected.parts()) {
            bounds::assert_within(name, actual, expected);
        }
        bounds::assert_within("dz", &dz, &gradients.dz);
        bounds::assert_within("dh0", &dh0, &gradients.dh0);
        bounds::assert_within("ds0", &ds0, &gradients.ds0);
    }
}

fn cells(inputs: usize, hidden: usize, batch: usize, steps: usize) -> impl Strategy<Value = Cell> {
    (1..=inputs, 1..=hidden, 1..=batch, 1..=steps, any::<u64>()).prop_map(
        |(inputs, hidden, batch, steps, seed)| {
            Cell::draw(inputs, Dims { steps, batch, hidden }, seed, 0.3)
        },
    )
}

#[test]
fn identities_from_end_to_end() {
    check(64, cells(12, 24, 8, 2), |cell| compare(&cell, true));
}

#[test]
fn identities_step_by_step() {
    check(64, cells(40, 40, 20, 4), |cell| compare(&cell, false));
    for (inputs, hidden, batch, steps) in [(3, 300, 3, 2), (300, 17, 70, 2), (2, 64, 64, 2)] {
        let dims = Dims { steps, batch, hidden };
        compare(&Cell::draw(inputs, dims, 1, 1.0 / hidden as f32), false);
    }
}

/// What is not stored has the bits of what is, whatever the activations.
#[test]
fn the_three_variants_agree() {
    check(64, cells(40, 40, 80, 4), |cell| {
        for activations in [Activations::Tanh, Activations::Logistic, Activations::Identity] {
            for &isa in isas() {
                let run = |variant| cell.forward(isa, activations, variant, |v| v.to_vec());
                let [_, h, s] = run(Variant::Keep);
                for variant in [Variant::Discard, Variant::Fused] {
                    let [_, other_h, last] = run(variant);
                    assert_bits("h", &other_h, &h);
                    assert_bits("s", &last, &s[s.len() - last.len()..]);
                }
            }
        }
    });
}

/// One sequence step by step has the bits of a pass, and its outputs those of the layer's
/// own product over all of it.
#[test]
fn single_steps() {
    let sizes = (1..=40usize, prop_oneof![1..=70usize, 250..=300usize], 1..=12usize);
    check(64, (sizes, 1..=4usize, any::<u64>()), |((inputs, hidden, outputs), steps, seed)| {
        let cell = Cell::draw(inputs, Dims { steps, batch: 1, hidden }, seed, 0.3);
        let weights = uniform(seed ^ 1, outputs * hidden, 0.3);
        let bias = uniform(seed ^ 2, outputs, 0.3);
        for activations in [Activations::Tanh, Activations::Logistic, Activations::Identity] {
            for &isa in isas() {
                let dense = dense(isa, hidden, &weights, &bias);
                let make = |values: &[f32]| values.to_vec();
                let [_, h, s] = cell.forward(isa, activations, Variant::Keep, make);
                let mut o = filled(steps * outputs);
                let mut scratch = filled(gemm::scratch_len(steps, hidden).unwrap());
                dense.run(isa, steps, &h, &mut o, &mut scratch, &mut Pass::serial()).unwrap();
                let [own_h, last, own_o] = cell.singly(isa, activations, &dense, outputs, make);
                assert_bits("h", &own_h, &h);
                assert_bits("s", &last, &s[s.len() - hidden..]);
                assert_bits("o", &own_o, &o);
            }
        }
    });
}
