//! The fused steps, with identities for activations, so that a difference from the reference is a
//! fault of a product or of the cell and not of an approximation. Also compares the variants of a
//! forward pass with each other.

mod common;

use bptt_kernels::cells::Activations;
use bptt_kernels::{gemm, team::Pass};
use bptt_reference::cells::{Cell, Hard, Inputs, Layer, Outcome};
use bptt_reference::noise::Masks;
use bptt_reference::sample::uniform;
use bptt_reference::{Activation, Bounded, bounds};
use common::{Case, Functions, Kept, Variant, Which, assert_bits, check, dense, filled, isas};
use proptest::prelude::*;

/// The reference's layer, with identities for gates too.
fn reference(case: &Case) -> Layer {
    let phi = Activation::Identity;
    let cell = match case.which {
        Which::Vanilla => Cell::Vanilla(phi),
        // The caller gives the kernel its α, even if α is learned.
        Which::Leaky { .. } => Cell::Leaky(phi, case.vectors.clone()),
        Which::GruAfter => Cell::GruAfter(phi),
        Which::GruBefore => Cell::GruBefore(phi),
        Which::Lstm { peepholes, coupled, projected } => {
            Cell::Lstm { candidate: phi, peepholes, coupled, projected }
        }
    };
    let (inputs, dims) = (case.inputs, case.dims);
    let (hidden, outputs, masks) = (dims.hidden, dims.outputs, Masks::default());
    let hard = Hard::default();
    Layer { inputs, hidden, outputs, cell, late: false, linear: true, masks, hard, norm: None }
}

/// Compares every step with what follows from the pass's own results for the step before or, with
/// `from_end_to_end`, from the inputs alone.
fn compare(case: &Case, from_end_to_end: bool) {
    let layer = reference(case);
    let own = if case.which == (Which::Leaky { learned: true }) { &[][..] } else { &case.vectors };
    let own = if case.which == (Which::Leaky { learned: false }) { &[][..] } else { own };
    let params = [&case.u[..], &case.w, &case.b, own, &case.p].concat();
    let none = Vec::new();
    let inputs = Inputs {
        params: &params,
        x: &case.x,
        h0: &case.h0,
        c0: &case.c0,
        dy: &case.dy,
        dh_last: &case.dh,
        dc_last: &case.dc,
        x0: &none,
        dx_last: &none,
    };
    let inputs: Inputs<Vec<Bounded>> = inputs.map(|values| bounds::exact(values));
    for &isa in isas() {
        let make = |values: &[f32]| values.to_vec();
        let kept = case.forward(isa, Activations::Identity, Variant::Keep, make);
        let [dz, _, dh0, dc0, _] = case.backward(isa, Activations::Identity, &kept, make);
        let Kept { gates, h, c, .. } = kept;
        let gates = if layer.cell.shown() > 0 { gates } else { Vec::new() };
        let none = Vec::new;
        let given = Outcome { gates, h, c, dz, params: none(), dx: none(), dh0, dc0, dx0: none() };
        let own: Outcome<Vec<Bounded>> = given.map(|values| bounds::exact(values));
        let expected = layer.run(&inputs, (!from_end_to_end).then_some(&own));
        for ((name, actual), (_, expected)) in given.parts().into_iter().zip(expected.parts()) {
            if !["params", "dx"].contains(&name) {
                bounds::assert_within(name, actual, expected);
            }
        }
    }
}

fn cases(inputs: usize, hidden: usize, batch: usize, steps: usize) -> impl Strategy<Value = Case> {
    let which = proptest::sample::select(Which::all());
    (which, 1..=inputs, 1..=hidden, 1..=batch, 1..=steps, any::<u64>()).prop_map(
        |(which, inputs, hidden, batch, steps, seed)| {
            Case::draw(which, inputs, which.dims(steps, batch, hidden), seed, 0.3)
        },
    )
}

#[test]
fn identities_from_end_to_end() {
    check(160, cases(12, 24, 8, 2), |case| compare(&case, true));
}

#[test]
fn identities_step_by_step() {
    check(160, cases(40, 40, 20, 4), |case| compare(&case, false));
    // Each cell runs with one of the large shapes, and each shape with some cells.
    let large = [(3, 300, 3, 2), (300, 17, 70, 2), (2, 64, 64, 2)];
    for (which, (inputs, hidden, batch, steps)) in
        Which::all().into_iter().zip(large.into_iter().cycle())
    {
        let dims = which.dims(steps, batch, hidden);
        compare(&Case::draw(which, inputs, dims, 1, 1.0 / hidden as f32), false);
    }
}

/// All sorts of functions.
fn functions() -> impl Iterator<Item = Functions> {
    let usual = [Activations::Tanh, Activations::Logistic, Activations::Relu];
    usual.map(Functions::Usual).into_iter().chain([Functions::LIMITED])
}

/// A pass that does not store its values has the bits of one that does, whatever the functions.
#[test]
fn the_variants_agree() {
    check(320, cases(40, 40, 80, 4), |case| {
        for functions in functions() {
            for &isa in isas() {
                let run = |variant| case.forward(isa, functions, variant, |v| v.to_vec());
                let kept = run(Variant::Keep);
                for &variant in &Variant::of(case.which)[1..] {
                    let other = run(variant);
                    assert_bits("h", &other.h, &kept.h);
                    assert_bits("c", &other.c, &kept.c[kept.c.len() - other.c.len()..]);
                }
            }
        }
    });
}

/// Strides between rows of h and dy, and a pass in two stretches, change no bit.
#[test]
fn strides_and_stretches() {
    let of_passes = (cases(9, 40, 30, 5), any::<[bool; 2]>(), 1..=5usize, 0..=4usize);
    check(160, of_passes, |(drawn, [noisy, hard], gap, cut)| {
        let case = Case { noisy, ..drawn };
        let apart = Case { gap, cut: cut.min(case.dims.steps()), ..case.clone() };
        let make = |values: &[f32]| values.to_vec();
        let functions = if hard { Functions::LIMITED } else { Activations::Tanh.into() };
        for &isa in isas() {
            for &variant in Variant::of(case.which) {
                let [one, other] =
                    [&case, &apart].map(|c| c.forward(isa, functions, variant, make));
                assert_bits("h", &other.h, &one.h);
                assert_bits("c", &other.c, &one.c);
                assert_bits("gates", &other.gates, &one.gates);
                assert_bits("extra", &other.extra, &one.extra);
                assert_bits("seen", &other.seen, &one.seen);
                if variant == Variant::Keep {
                    let back = [&case, &apart].map(|c| c.backward(isa, functions, &one, make));
                    for (other, one) in back[1].iter().zip(&back[0]) {
                        assert_bits("gradients", other, one);
                    }
                }
            }
        }
    });
}

/// One sequence step by step has the bits of a pass, and its outputs are those of the layer's own
/// product over all steps.
#[test]
fn single_steps() {
    let which = proptest::sample::select(Which::all());
    let sizes = (1..=40usize, prop_oneof![1..=70usize, 250..=300usize], 1..=12usize);
    let case = (which, sizes, 1..=4usize, any::<u64>());
    check(320, case, |(which, (inputs, hidden, outputs), steps, seed)| {
        let case = Case::draw(which, inputs, which.dims(steps, 1, hidden), seed, 0.3);
        let features = case.dims.outputs;
        let weights = uniform(seed ^ 1, outputs * features, 0.3);
        let bias = uniform(seed ^ 2, outputs, 0.3);
        for functions in functions() {
            for &isa in isas() {
                let dense = dense(isa, features, &weights, &bias);
                let make = |values: &[f32]| values.to_vec();
                let Kept { h, c, .. } = case.forward(isa, functions, Variant::Keep, make);
                let mut o = filled(steps * outputs);
                let mut scratch = filled(gemm::scratch_len(steps, features).unwrap());
                let pass = &mut Pass::serial();
                dense.run(steps, &h, &mut o, outputs, &mut scratch, pass).unwrap();
                let [own_h, last, own_o] = case.singly(isa, functions, &dense, outputs, make);
                assert_bits("h", &own_h, &h);
                assert_bits("c", &last, &c[c.len() - last.len()..]);
                assert_bits("o", &own_o, &o);
            }
        }
    });
}
