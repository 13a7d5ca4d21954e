//! exp, logistic and tanh against f64, on every instruction set of this machine.

use bptt_kernels::vmath::{Function, map, map_in_place};
use bptt_kernels::{Isa, KernelError};
use std::iter::zip;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

const FUNCTIONS: [Function; 3] = [Function::Exp, Function::Logistic, Function::Tanh];

/// The bound that the documentation promises.
const MAX_ULP: f64 = 2.0;

/// All instruction sets of this machine. Prints which ones of the whole table those are, so that a
/// log shows what was not tested.
fn isas() -> &'static [Isa] {
    for name in ["avx512", "avx2", "neon", "portable"] {
        let verb = if Isa::named(name).is_ok() { "running on" } else { "NOT running on (absent)" };
        println!("{verb} {name}");
    }
    Isa::available()
}

fn reference(function: Function, x: f64) -> f64 {
    match function {
        Function::Exp => x.exp(),
        Function::Logistic if x < 0.0 => x.exp() / (1.0 + x.exp()),
        Function::Logistic => 1.0 / (1.0 + (-x).exp()),
        Function::Tanh => x.tanh(),
    }
}

/// The distance of `given` from `expected` in units of the f32 spacing at `expected`; ∞ stands for
/// 2¹²⁸. The distance is infinite if just one of them is NaN.
fn ulps(given: f32, expected: f64) -> f64 {
    if given.is_nan() || expected.is_nan() {
        return if given.is_nan() && expected.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let limit = 2f64.powi(128);
    let (given, expected) = (f64::from(given).clamp(-limit, limit), expected.clamp(-limit, limit));
    // Clearing the significand leaves the power of two at or below the number.
    let power =
        f64::from_bits(expected.to_bits() & (0x7FF << 52)).clamp(2f64.powi(-126), 2f64.powi(127));
    (given - expected).abs() / (power * 2f64.powi(-23))
}

/// The argument with the largest error on one instruction set.
#[derive(Clone, Copy)]
struct Worst {
    ulps: f64,
    bits: u32,
}

fn larger(a: Worst, b: Worst) -> Worst {
    if b.ulps > a.ulps { b } else { a }
}

/// Every `stride`th bit pattern of `of`.
#[derive(Clone)]
struct Patterns {
    of: Range<u64>,
    stride: u64,
}

/// The largest error of `function` over `patterns`, for each of `isas`.
fn sweep(function: Function, isas: &[Isa], patterns: &Patterns) -> Vec<Worst> {
    const BLOCK: u64 = 4096;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let Patterns { of, stride } = patterns.clone();
    let next = AtomicU64::new(of.start);
    let work = || {
        let mut worst = vec![Worst { ulps: 0.0, bits: 0 }; isas.len()];
        let mut y = [0.0f32; BLOCK as usize];
        loop {
            let start = next.fetch_add(BLOCK * stride, Ordering::Relaxed);
            if start >= of.end {
                return worst;
            }
            let x: Vec<f32> = (start..of.end.min(start + BLOCK * stride))
                .step_by(stride as usize)
                .map(|bits| f32::from_bits(bits as u32))
                .collect();
            let expected: Vec<f64> = x.iter().map(|&x| reference(function, x.into())).collect();
            for (isa, worst) in isas.iter().zip(&mut worst) {
                let y = &mut y[..x.len()];
                map(*isa, function, &x, y).unwrap();
                for ((x, y), expected) in x.iter().zip(y).zip(&expected) {
                    let ulps = ulps(*y, *expected);
                    if ulps > worst.ulps {
                        *worst = Worst { ulps, bits: x.to_bits() };
                    }
                }
            }
        }
    };
    let found: Vec<Vec<Worst>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    (0..isas.len()).map(|i| found.iter().map(|of| of[i]).reduce(larger).unwrap()).collect()
}

fn check(patterns: &[Patterns]) {
    let isas = isas();
    let mut bad = Vec::new();
    for function in FUNCTIONS {
        let sweeps = patterns.iter().map(|patterns| sweep(function, isas, patterns));
        let worst = sweeps.reduce(|a, b| zip(a, b).map(|(a, b)| larger(a, b)).collect());
        for (isa, Worst { ulps, bits }) in zip(isas, worst.unwrap()) {
            let line = format!(
                "{function:?} on {isa}: at most {ulps:.4} ULP, at {:e} ({bits:#010x})",
                f32::from_bits(bits)
            );
            println!("{line}");
            if ulps > MAX_ULP {
                bad.push(line);
            }
        }
    }
    assert!(bad.is_empty(), "past {MAX_ULP} ULP: {bad:#?}");
}

/// Tests every f32, in several minutes. Run it with `cargo test --release -p bptt-kernels --test
/// vmath -- --ignored exhaustive --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn exhaustive() {
    check(&[Patterns { of: 0..1 << 32, stride: 1 }]);
}

/// Tests every 1009th bit pattern (8 thousand of each sign and exponent), and every 17th of 1/16 ≤
/// |x| < 128, where all three functions vary most: there are bands of a few thousand arguments that
/// the wide stride steps over.
#[test]
fn sampled() {
    let (low, high, negative) = (0x3D80_0000, 0x4300_0000, 1 << 31);
    check(&[
        Patterns { of: 0..1 << 32, stride: 1009 },
        Patterns { of: low..high, stride: 17 },
        Patterns { of: negative + low..negative + high, stride: 17 },
    ]);
}

#[test]
fn specials() {
    let denormal = f32::from_bits(1);
    let of = [
        (
            Function::Exp,
            vec![
                (f32::INFINITY, f32::INFINITY),
                (f32::MAX, f32::INFINITY),
                (88.722_85, f32::INFINITY),
                (f32::NEG_INFINITY, 0.0),
                (f32::MIN, 0.0),
                (-104.0, 0.0),
                (0.0, 1.0),
                (-0.0, 1.0),
                (denormal, 1.0),
                (-denormal, 1.0),
            ],
        ),
        (
            Function::Logistic,
            vec![
                (f32::INFINITY, 1.0),
                (f32::MAX, 1.0),
                (f32::NEG_INFINITY, 0.0),
                (f32::MIN, 0.0),
                (0.0, 0.5),
                (-0.0, 0.5),
                (denormal, 0.5),
                (-denormal, 0.5),
            ],
        ),
        (
            Function::Tanh,
            vec![
                (f32::INFINITY, 1.0),
                (f32::MAX, 1.0),
                (f32::NEG_INFINITY, -1.0),
                (f32::MIN, -1.0),
                (0.0, 0.0),
                (-0.0, -0.0),
                (denormal, denormal),
                (-denormal, -denormal),
                (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
                (-f32::MIN_POSITIVE, -f32::MIN_POSITIVE),
            ],
        ),
    ];
    for isa in isas() {
        for (function, pairs) in &of {
            for (x, expected) in pairs {
                let mut y = [f32::NAN];
                map(*isa, *function, &[*x], &mut y).unwrap();
                assert_eq!(y[0].to_bits(), expected.to_bits(), "{function:?} of {x:e} on {isa}");
            }
            for nan in [0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0xFFFF_FFFFu32] {
                // A whole vector around the NaN, which must not reach its neighbours.
                let mut x = [1.0; 17];
                x[3] = f32::from_bits(nan);
                let mut y = [0.0; 17];
                map(*isa, *function, &x, &mut y).unwrap();
                for (i, y) in y.iter().enumerate() {
                    assert_eq!(y.is_nan(), i == 3, "{function:?} on {isa}, lane {i}");
                }
            }
        }
    }
}

/// Results that are denormal keep their bits and do not jump to zero.
#[test]
fn small_results_are_denormal() {
    for isa in isas() {
        for function in [Function::Exp, Function::Logistic] {
            let x: Vec<f32> = (0..1600).map(|i| -87.5 - i as f32 / 100.0).collect();
            let mut y = vec![0.0; x.len()];
            map(*isa, function, &x, &mut y).unwrap();
            for (x, y) in x.iter().zip(y) {
                assert!(y.is_subnormal(), "{function:?} of {x} on {isa} is {y:e}");
                assert!(ulps(y, reference(function, (*x).into())) <= MAX_ULP);
            }
        }
    }
}

#[test]
fn every_tail_and_nothing_beyond_it() {
    const GUARD: f32 = 12_345.678;
    for isa in isas() {
        for function in FUNCTIONS {
            for len in 0..=67 {
                // Boxed at its exact length: a read beyond it is outside the allocation, so memory
                // checkers see it.
                let x: Box<[f32]> = (0..len).map(|i| i as f32 / 7.0 - 4.0).collect();
                let mut out = vec![GUARD; 32 + len];
                map(*isa, function, &x, &mut out[16..16 + len]).unwrap();
                let mut in_place = vec![GUARD; 32 + len];
                in_place[16..16 + len].copy_from_slice(&x);
                map_in_place(*isa, function, &mut in_place[16..16 + len]);
                for (i, (&y, &z)) in out.iter().zip(&in_place).enumerate() {
                    let mut alone = [GUARD];
                    if (16..16 + len).contains(&i) {
                        map(*isa, function, &x[i - 16..i - 15], &mut alone).unwrap();
                    }
                    let at = format!("{function:?} on {isa}, length {len}, at {i} − 16");
                    assert_eq!(y.to_bits(), alone[0].to_bits(), "{at}");
                    assert_eq!(z.to_bits(), alone[0].to_bits(), "{at}, in place");
                }
            }
        }
    }
}

#[test]
fn another_length_is_refused_and_nothing_written() {
    for isa in isas() {
        let mut out = [7.0; 3];
        assert_eq!(
            map(*isa, Function::Exp, &[0.0; 4], &mut out),
            Err(KernelError::Length { what: "out", given: 3, expected: 4 })
        );
        assert_eq!(out, [7.0; 3]);
    }
}
