//! Steps of the sLSTM: against the equations in `f64` on every instruction set, with derived bounds; the
//! same bits on any number of threads; finite whatever the sums are; and what the entries refuse.

mod common;

use bptt_kernels::slstm::{SlstmForget, SlstmSizes};
use bptt_kernels::team::{Pass, Team, set_cores};
use bptt_kernels::{Isa, KernelError};
use bptt_reference::compare::UNIT_ROUNDOFF;
use bptt_reference::{Bounded, Number};
use common::{
    SENTINEL, SLSTM_GAP as GAP, SlstmBack as Back, SlstmCase as Case, assert_bits, check, isas,
};
use proptest::prelude::*;

fn exact(x: f32) -> Bounded {
    Bounded::exact(f64::from(x))
}

/// a / b of a b that is positive: the errors that it passes on, and a rounding.
fn quotient(a: Bounded, b: Bounded) -> Bounded {
    let (value, least) = (a.value / b.value, b.value - b.bound);
    assert!(least > 0.0);
    let passed_on = (a.bound + value.abs() * b.bound) / least;
    let error = passed_on + UNIT_ROUNDOFF * (value.abs() + passed_on);
    Bounded { value, bound: error + f64::from(f32::MIN_POSITIVE) }
}

/// log f. An exponential of 2 ULP and a logarithm of 2 ULP more are 4, and 2 are counted already; the sum
/// is rounded.
fn log_forget(forget: SlstmForget, a: Bounded) -> Bounded {
    match forget {
        SlstmForget::Exponential => a,
        SlstmForget::Logistic => {
            let positive = (Bounded::zero() - a).softplus();
            let more = 3.0 * 2.0 * UNIT_ROUNDOFF * positive.value;
            Bounded { value: -positive.value, bound: positive.bound + more }
        }
    }
}

fn larger(a: Bounded, b: Bounded) -> Bounded {
    Bounded { value: a.value.max(b.value), bound: a.bound.max(b.bound) }
}

#[track_caller]
fn within(what: &str, given: f32, expected: Bounded) {
    assert!(expected.ratio(given) <= 1.0, "{what} is {given:e}, expected {expected:?}");
}

/// Compares a forward and a backward step with the equations, each unit from what the kernel was given.
fn as_the_equations(isa: Isa, before: &Case, seed: u64) {
    let SlstmSizes { batch, rows, heads, units } = before.sizes;
    let hidden = before.hidden();
    let (mut after, serial) = (before.clone(), &mut Pass::serial());
    after.forward(isa, true, serial).unwrap();
    let given = after.back(seed);
    let mut back = given.clone();
    after.backward(isa, before, &mut back, serial).unwrap();
    for (row, head) in (0..batch).flat_map(|row| (0..heads).map(move |head| (row, head))) {
        for unit in 0..units {
            let (column, of_head) = (head * units + unit, head * batch + row);
            let at = row * hidden + column;
            if row >= rows {
                // A sequence that has ended keeps its state.
                for (given, expected) in after.state.iter().zip(&before.state) {
                    assert_eq!(given[at].to_bits(), expected[at].to_bits());
                }
                assert_eq!(after.h[of_head * units + unit].to_bits(), SENTINEL.to_bits());
                continue;
            }
            let of_gate = |gate: usize| row * (4 * hidden + GAP) + gate * hidden + column;
            let sum = |gate: usize| {
                let recurrent = of_head * (4 * units + GAP) + gate * units + unit;
                exact(before.gates[of_gate(gate)]) + exact(before.recurrent[recurrent])
            };
            let [c0, n0, m0] = [0, 1, 2].map(|part| exact(before.state[part][at]));
            let (input, kept) = (sum(0), log_forget(before.forget, sum(1)) + m0);
            let empty = n0.value == 0.0;
            let m = if empty { input } else { larger(kept, input) };
            let i = (input - m).exp();
            let f = if empty { Bounded::zero() } else { (kept - m).exp() };
            let (z, o) = (sum(2).tanh(), sum(3).logistic());
            for (gate, expected) in [i, f, z, o].into_iter().enumerate() {
                within(&format!("gate {gate} on {isa}"), after.gates[of_gate(gate)], expected);
            }
            // The rest follows from the gates as they are.
            let [i, f, z, o] = [0, 1, 2, 3].map(|gate| exact(after.gates[of_gate(gate)]));
            let [c, n] = [0, 1].map(|part| exact(after.state[part][at]));
            within("c", after.state[0][at], f * c0 + i * z);
            within("n", after.state[1][at], f * n0 + i);
            within("m", after.state[2][at], m);
            let h = after.y[row * (hidden + GAP) + column];
            within("h", h, o * quotient(c, n));
            for (copy, value) in [
                (after.h[of_head * units + unit], h),
                (after.kept[0][at], after.state[0][at]),
                (after.kept[1][at], after.state[1][at]),
            ] {
                assert_eq!(copy.to_bits(), value.to_bits());
            }

            let h = exact(h);
            let dh = exact(given.dh[of_head * units + unit])
                + exact(given.dy[row * (hidden + GAP) + column]);
            let (by_h, share) = (dh * h, quotient(dh, n));
            let [dc, dn] = [0, 1].map(|part| exact(given.d_state[part][at]));
            let (dc, dn) = (dc + share * o, dn - share * h);
            let slope = match before.forget {
                SlstmForget::Exponential => Bounded::one(),
                SlstmForget::Logistic => {
                    within("the slope", after.kept[2][at], (Bounded::zero() - sum(1)).logistic());
                    exact(after.kept[2][at])
                }
            };
            let expected = [
                i * (dc * z + dn),
                f * (dc * c0 + dn * n0) * slope,
                (dc * i) - (dc * i) * z * z,
                by_h - by_h * o,
            ];
            for (gate, expected) in expected.into_iter().enumerate() {
                let of_row = back.gates[(row * 4 + gate) * hidden + column];
                within(&format!("∂L/∂z of gate {gate} on {isa}"), of_row, expected);
                let of_head = back.dz[(of_head * 4 + gate) * units + unit];
                assert_eq!(of_head.to_bits(), of_row.to_bits());
            }
            within("∂L/∂c", back.d_state[0][at], f * dc);
            within("∂L/∂n", back.d_state[1][at], f * dn);
        }
    }
    let between = |all: &[f32], width: usize| {
        let mut rows = all.chunks(width + GAP);
        rows.all(|row| row[width..].iter().all(|v| v.to_bits() == SENTINEL.to_bits()))
    };
    assert!(between(&after.y, hidden) && between(&after.gates, 4 * hidden));
}

fn any_forget() -> impl Strategy<Value = SlstmForget> {
    proptest::sample::select(vec![SlstmForget::Exponential, SlstmForget::Logistic])
}

#[test]
fn steps_are_those_of_the_equations() {
    let sizes = (1..=5usize, 1..=4usize, 1..=40usize);
    check(120, (sizes, any_forget(), 0.1..8.0f32, any::<u32>()), |(sizes, forget, scale, seed)| {
        let (batch, heads, units) = sizes;
        let rows = 1 + seed as usize % batch;
        let sizes = SlstmSizes { batch, rows, heads, units };
        let case = Case::draw(sizes, forget, u64::from(seed), scale);
        isas().iter().for_each(|&isa| as_the_equations(isa, &case, u64::from(seed) + 90));
    });
}

/// The bits of all results.
fn bits(case: &Case, back: &Back) -> Vec<u32> {
    [case.results(), back.results()].concat().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_and_what_is_kept_change_no_bit() {
    set_cores(8);
    for forget in [SlstmForget::Exponential, SlstmForget::Logistic] {
        let sizes = SlstmSizes { batch: 9, rows: 7, heads: 3, units: 700 };
        let before = Case::draw(sizes, forget, 5, 2.0);
        for &isa in isas() {
            let of = |threads| {
                let mut team = Team::new(threads).unwrap();
                team.pass(usize::MAX, |pass| {
                    let mut after = before.clone();
                    after.forward(isa, true, pass).unwrap();
                    let mut back = after.back(6);
                    after.backward(isa, &before, &mut back, pass).unwrap();
                    (bits(&after, &back), after)
                })
            };
            let (one, kept) = of(1);
            assert!(of(2).0 == one && of(3).0 == one, "{isa}");
            let mut alone = before.clone();
            alone.forward(isa, false, &mut Pass::serial()).unwrap();
            for (alone, kept) in [
                (&alone.state.concat(), &kept.state.concat()),
                (&alone.h, &kept.h),
                (&alone.y, &kept.y),
                (&alone.gates, &before.gates),
            ] {
                assert_bits(&format!("without what is kept on {isa}"), alone, kept);
            }
        }
    }
}

/// Sums of ±1e3, ±1e30, the largest floats and ∞ in all combinations, for several steps: all results are
/// finite, and |h| is at most about 1. A NaN comes from a NaN only.
#[test]
fn results_are_finite() {
    let extremes = [0.0, 1e3, -1e3, 1e30, -1e30, f32::MAX, f32::MIN, f32::INFINITY, -f32::INFINITY];
    let sizes = SlstmSizes { batch: 1, rows: 1, heads: 1, units: 9 * 9 };
    for forget in [SlstmForget::Exponential, SlstmForget::Logistic] {
        for &isa in isas() {
            let mut case = Case::draw(sizes, forget, 1, 1.0);
            case.state.iter_mut().for_each(|of| of.fill(0.0));
            for step in 0..12 {
                case.recurrent.fill(0.0);
                for unit in 0..81 {
                    let of = |shift: usize| extremes[(unit / [1, 9][shift % 2] + step * shift) % 9];
                    [of(0), of(1), of(2), of(3)].iter().enumerate().for_each(|(gate, &z)| {
                        case.gates[gate * 81 + unit] = z;
                    });
                }
                let before = case.clone();
                case.forward(isa, true, &mut Pass::serial()).unwrap();
                let mut back = case.back(7);
                case.backward(isa, &before, &mut back, &mut Pass::serial()).unwrap();
                let finite = |all: &[f32]| all.iter().all(|x| x.is_finite());
                assert!(case.state.iter().chain(&case.kept).all(|of| finite(of)), "{isa}");
                assert!(finite(&back.gates) && back.d_state.iter().all(|of| finite(of)), "{isa}");
                assert!(case.h.iter().all(|h| h.abs() <= 1.000_001), "{isa}");
                assert!(case.state[1].iter().all(|&n| n >= 1.0), "{isa}");
            }
            case.gates.fill(1.0);
            case.gates[81 + 5] = f32::NAN;
            case.forward(isa, false, &mut Pass::serial()).unwrap();
            let nans: Vec<_> = (0..81).filter(|&unit| case.h[unit].is_nan()).collect();
            assert_eq!(nans, [5], "{isa}");
        }
    }
}

/// The name of what was refused.
fn refused(result: Result<(), KernelError>) -> &'static str {
    match result.unwrap_err() {
        KernelError::Short { what, .. } | KernelError::Length { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let isa = Isa::available()[0];
    let sizes = SlstmSizes { batch: 3, rows: 2, heads: 2, units: 5 };
    let case = Case::draw(sizes, SlstmForget::Logistic, 1, 1.0);
    type Change = fn(&mut Case);
    let changes: [(&str, Change); 10] = [
        ("batch", |case| case.sizes.rows = 4),
        ("gates", |case| case.gates.truncate(43 + 39)),
        ("recurrent", |case| case.recurrent.truncate(1)),
        ("c", |case| case.state[0].truncate(29)),
        ("n", |case| case.state[1].push(0.0)),
        ("m", |case| case.state[2].truncate(20)),
        ("y", |case| case.y.truncate(13 + 9)),
        ("h", |case| case.h.truncate(29)),
        ("kept n", |case| case.kept[1].truncate(19)),
        ("slopes", |case| case.kept[2].clear()),
    ];
    for (what, change) in changes {
        let mut wrong = case.clone();
        change(&mut wrong);
        let before = bits(&wrong, &case.back(2));
        assert_eq!(refused(wrong.forward(isa, true, &mut Pass::serial())), what);
        assert_eq!(bits(&wrong, &case.back(2)), before, "nothing is written");
    }
    let mut after = case.clone();
    after.forward(isa, true, &mut Pass::serial()).unwrap();
    type Changed = fn(&mut Case, &mut Case, &mut Back);
    let changes: [(&str, Changed); 11] = [
        ("gates", |_, _, back| back.gates.truncate(79)),
        ("slopes", |after, _, _| after.forget = SlstmForget::Exponential),
        ("c before", |_, before, _| before.state[0].truncate(19)),
        ("n before", |_, before, _| before.state[1].truncate(19)),
        ("n", |after, _, _| after.kept[1].truncate(19)),
        ("y", |after, _, _| after.y.truncate(22)),
        ("dy", |_, _, back| back.dy.truncate(22)),
        ("dh", |_, _, back| back.dh.truncate(29)),
        ("dc", |_, _, back| back.d_state[0].truncate(29)),
        ("dn", |_, _, back| back.d_state[1].truncate(29)),
        ("dz", |_, _, back| back.dz.truncate(119)),
    ];
    for (what, change) in changes {
        let (mut after, mut before, mut back) = (after.clone(), case.clone(), after.back(2));
        change(&mut after, &mut before, &mut back);
        let bits_before = bits(&after, &back);
        let result = after.backward(isa, &before, &mut back, &mut Pass::serial());
        assert_eq!(refused(result), what);
        assert_eq!(bits(&after, &back), bits_before, "nothing is written");
    }
}
