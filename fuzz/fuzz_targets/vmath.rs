//! exp, logistic and tanh of any bit patterns: within 2 ULP on every instruction
//! set, NaN for NaN alone, and the same bits wherever the element stands.
#![no_main]

use bptt_fuzz::assert_same;
use bptt_kernels::Isa;
use bptt_kernels::vmath::{Function, map, map_in_place};
use libfuzzer_sys::fuzz_target;

const MAX_ULP: f64 = 2.0;

fuzz_target!(|input: &[u8]| {
    let x: Vec<f32> =
        input.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    for function in [Function::Exp, Function::Logistic, Function::Tanh] {
        for &isa in Isa::available() {
            // Boxed at its exact length: a write beyond is one beyond the allocation.
            let mut y = vec![0.0; x.len()].into_boxed_slice();
            map(isa, function, &x, &mut y).unwrap();
            for (&x, &y) in x.iter().zip(&y) {
                let ulps = ulps(y, reference(function, x.into()));
                assert!(ulps <= MAX_ULP, "{function:?} of {x:e} on {isa} is {y:e}: {ulps} ULP off");
            }
            let mut reversed: Box<[f32]> = x.iter().rev().copied().collect();
            map_in_place(isa, function, &mut reversed);
            reversed.reverse();
            assert_same("in place, reversed", isa, &reversed, &y);
        }
    }
});

fn reference(function: Function, x: f64) -> f64 {
    match function {
        Function::Exp => x.exp(),
        Function::Logistic if x < 0.0 => x.exp() / (1.0 + x.exp()),
        Function::Logistic => 1.0 / (1.0 + (-x).exp()),
        Function::Tanh => x.tanh(),
    }
}

/// In units of the f32 spacing at `expected`; ∞ stands for 2¹²⁸, as the
/// documentation of [`map`] has it.
fn ulps(given: f32, expected: f64) -> f64 {
    if given.is_nan() || expected.is_nan() {
        return if given.is_nan() && expected.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let limit = 2f64.powi(128);
    let (given, expected) = (f64::from(given).clamp(-limit, limit), expected.clamp(-limit, limit));
    let within = expected.abs().min(f32::MAX.into());
    (given - expected).abs() / bptt_reference::compare::ulp(within)
}
