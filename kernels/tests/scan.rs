//! Scans: each step against the `f64` reference, the same bits in any parts, on any number of
//! threads and for each sequence alone, and what the entries refuse.

mod common;

use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::StepRows;
use bptt_kernels::scan::{Pooling, Scan, ScanBackward, ScanForward};
use bptt_kernels::team::{Pass, set_cores};
use bptt_kernels::{Isa, KernelError};
use bptt_reference::cells::{Cell, Hard, Inputs, Layer, Outcome};
use bptt_reference::noise::Masks;
use bptt_reference::sample::uniform;
use bptt_reference::{Activation, Bounded, bounds};
use common::{ScanCase, Scanned, assert_bits, check, filled, isas, scans};
use proptest::prelude::*;

fn plain(values: &[f32]) -> Vec<f32> {
    values.to_vec()
}

/// The reference's cell.
fn equations(cell: Scan) -> Cell {
    let candidate =
        |positive: bool| if positive { Activation::Positive } else { Activation::Identity };
    match cell {
        Scan::MinGru { positive } => Cell::MinGru(candidate(positive)),
        Scan::MinLstm { positive } => Cell::MinLstm(candidate(positive)),
        Scan::Sru { fourth } => Cell::Sru { fourth },
        Scan::Qrnn(pooling) => Cell::Qrnn {
            output: pooling != Pooling::Forget,
            input: pooling == Pooling::ForgetInputOutput,
        },
        Scan::IndRnn(phi) if phi == Activations::Tanh.into() => Cell::IndRnn(Activation::Tanh),
        Scan::IndRnn(_) => Cell::IndRnn(Activation::Relu),
        Scan::RgLru => Cell::RgLru,
    }
}

/// The rate −8 softplus(Λ) and its derivative.
fn rate(lambda: f32) -> [f32; 2] {
    let lambda = f64::from(lambda);
    let softplus = lambda.max(0.0) + (-lambda.abs()).exp().ln_1p();
    [(-8.0 * softplus) as f32, (-8.0 / (1.0 + (-lambda).exp())) as f32]
}

/// Compares a scan, whose pre-activations are inputs with exact factors, with the reference: U has
/// one power of two in each row.
fn as_the_reference(cell: Scan, (hidden, batch, steps): (usize, usize, usize), seed: u64) {
    let mut case = ScanCase::draw(cell, StepRows::dense(steps, batch), hidden, seed, 1.0);
    let geometry = cell.geometry();
    let (rows, gates) = (steps * batch, geometry.gates);
    let x = uniform(seed, rows * hidden, 2.0);
    let factors = [1.0f32, -2.0, 0.5, -0.25];
    let mut u = vec![0.0; gates * hidden * hidden];
    for (row, u) in u.chunks_mut(hidden).enumerate() {
        u[row % hidden] = factors[(row + row / hidden) % 4];
    }
    for (row, z) in case.z.chunks_mut(gates * hidden).enumerate() {
        for (k, z) in z.iter_mut().enumerate() {
            *z = x[row * hidden + k % hidden] * factors[(k + k / hidden) % 4];
        }
    }
    if geometry.input {
        case.x = x.clone();
    }
    let mut own = case.vectors.clone();
    if cell == Scan::RgLru {
        own = uniform(seed + 1, hidden, 3.0);
        let rates: Vec<[f32; 2]> = own.iter().map(|&lambda| rate(lambda)).collect();
        case.vectors = [0, 1].iter().flat_map(|&k| rates.iter().map(move |r| r[k])).collect();
    }
    case.dvectors.fill(0.0);
    let (none, bias) = (Vec::new(), vec![0.0; gates * hidden]);
    let carries_h = equations(cell).history() > 0;
    let of = |values: &Vec<f32>, yes: bool| if yes { values.clone() } else { Vec::new() };
    let inputs = Inputs {
        params: [&u[..], &bias, &own].concat(),
        x,
        h0: of(&case.state, carries_h),
        c0: of(&case.state, !carries_h),
        x0: none.clone(),
        dy: case.dy.clone(),
        dh_last: of(&case.dstate, carries_h),
        dc_last: of(&case.dstate, !carries_h),
        dx_last: none.clone(),
    };
    let inputs: Inputs<Vec<Bounded>> = inputs.map(|values| bounds::exact(values));
    let layer = Layer {
        inputs: hidden,
        hidden,
        outputs: hidden,
        cell: equations(cell),
        late: false,
        linear: false,
        masks: Masks::default(),
        norm: None,
        hard: Hard::default(),
    };
    for &isa in isas() {
        let kept = case.forward(isa, true, plain);
        let [dz, dstate, _, dvectors] = case.backward(isa, &kept, plain);
        let none = Vec::new;
        let given = Outcome {
            gates: none(),
            h: kept.h,
            c: kept.c,
            dz,
            params: none(),
            dx: none(),
            dh0: of(&dstate, carries_h),
            dc0: of(&dstate, !carries_h),
            dx0: none(),
        };
        let pass: Outcome<Vec<Bounded>> = given.map(|values| bounds::exact(values));
        let expected = layer.run(&inputs, Some(&pass));
        for ((name, actual), (_, expected)) in given.parts().into_iter().zip(expected.parts()) {
            if !["params", "dx"].contains(&name) {
                bounds::assert_within(&format!("{name} of {cell:?} on {isa}"), actual, expected);
            }
        }
        let first = expected.params.len() - dvectors.len();
        let name = format!("the gradient of the vectors of {cell:?} on {isa}");
        bounds::assert_within(&name, &dvectors, &expected.params[first..]);
    }
}

#[test]
fn steps_are_those_of_the_reference() {
    let sizes = (1..=40usize, 1..=5usize, 1..=6usize);
    check(320, (proptest::sample::select(scans()), sizes, any::<u32>()), |(cell, sizes, seed)| {
        as_the_reference(cell, sizes, u64::from(seed));
    });
}

fn assert_same(what: &str, given: &Scanned, expected: &Scanned) {
    let parts = |scanned: &Scanned| {
        let Scanned { gates, state, c, h } = scanned.clone();
        [("gates", gates), ("state", state), ("c", c), ("h", h)]
    };
    for ((name, given), (_, expected)) in parts(given).iter().zip(parts(expected)) {
        assert_bits(&format!("{name}, {what}"), given, &expected);
    }
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..=9usize, 1..=9).prop_filter("a row", |l| l.iter().any(|&n| n > 0))
}

/// Threads, stretches and gaps between rows change no bit, and neither does it if nothing is kept.
#[test]
fn parts_have_the_bits_of_the_whole() {
    set_cores(8);
    let cell = proptest::sample::select(scans());
    let case = (cell, lengths(), 1..=300usize, (1..=8usize, 0..=3usize, 0..=9usize), any::<u64>());
    check(320, case, |(cell, lengths, hidden, (threads, gap, cut), seed)| {
        let case = ScanCase::draw(cell, ScanCase::schedule(lengths), hidden, seed, 3.0);
        let apart = ScanCase { threads, gap, cut, ..case.clone() };
        for &isa in isas() {
            let what = format!("{cell:?} on {isa}");
            let kept = case.forward(isa, true, plain);
            assert_same(&what, &apart.forward(isa, true, plain), &kept);
            let streamed = apart.forward(isa, false, plain);
            assert_bits(&format!("h, {what}"), &streamed.h, &kept.h);
            assert_bits(&format!("state, {what}"), &streamed.state, &kept.state);
            let (given, expected) =
                (apart.backward(isa, &kept, plain), case.backward(isa, &kept, plain));
            for (given, expected) in given.iter().zip(&expected) {
                assert_bits(&format!("gradients, {what}"), given, expected);
            }
        }
    });
}

/// A unit has the bits that it has alone, whatever its place in a vector, and so has a sequence.
#[test]
fn units_and_sequences_have_the_bits_that_they_have_alone() {
    let case = (proptest::sample::select(scans()), lengths(), 1..=40usize, any::<u64>());
    check(160, case, |(cell, mut lengths, hidden, seed)| {
        lengths.sort_by(|a, b| b.cmp(a));
        let schedule = ScanCase::schedule(lengths.clone());
        let mut case = ScanCase::draw(cell, schedule, hidden, seed, 3.0);
        case.dvectors.fill(0.0);
        let (n, unit) = (seed as usize % lengths.len(), seed as usize / 16 % hidden);
        let rows: Vec<usize> = (0..lengths[n]).map(|step| schedule.start(step) + n).collect();
        let of_rows = |all: &[f32], blocks: usize| -> Vec<f32> {
            if all.is_empty() {
                return Vec::new();
            }
            let at = |row: usize, block: usize| all[(row * blocks + block) * hidden + unit];
            rows.iter().flat_map(|&row| (0..blocks).map(move |block| at(row, block))).collect()
        };
        let of_blocks = |all: &[f32]| all.iter().skip(unit).step_by(hidden).copied().collect();
        let gates = cell.geometry().gates;
        let alone = ScanCase {
            schedule: StepRows::dense(lengths[n], 1),
            hidden: 1,
            z: of_rows(&case.z, gates),
            x: of_rows(&case.x, 1),
            vectors: of_blocks(&case.vectors),
            state: vec![case.state[n * hidden + unit]],
            dy: of_rows(&case.dy, 1),
            dstate: vec![case.dstate[n * hidden + unit]],
            dvectors: of_blocks(&case.dvectors),
            ..case.clone()
        };
        for &isa in isas() {
            let what = format!("{cell:?} on {isa}");
            let (all, own) = (case.forward(isa, true, plain), alone.forward(isa, true, plain));
            assert_bits(&format!("gates, {what}"), &of_rows(&all.gates, gates), &own.gates);
            assert_bits(&format!("h, {what}"), &of_rows(&all.h, 1), &own.h);
            assert_bits(&format!("c, {what}"), &of_rows(&all.c, 1), &own.c);
            assert_bits(&format!("state, {what}"), &[all.state[n * hidden + unit]], &own.state);
            let [dz, dstate, dx, dvectors] = case.backward(isa, &all, plain);
            let [own_dz, own_dstate, own_dx, own_dvectors] = alone.backward(isa, &own, plain);
            assert_bits(&format!("dz, {what}"), &of_rows(&dz, gates), &own_dz);
            assert_bits(&format!("dx, {what}"), &of_rows(&dx, 1), &own_dx);
            assert_bits(&format!("dstate, {what}"), &[dstate[n * hidden + unit]], &own_dstate);
            // The sums are over all sequences.
            if lengths.len() == 1 {
                let dvectors: Vec<f32> = of_blocks(&dvectors);
                assert_bits(&format!("vectors, {what}"), &dvectors, &own_dvectors);
            }
        }
    });
}

/// The minimal LSTM's shares add up to 1 and the RG-LRU's step is that of its equations where f32
/// has no room for what their equations name.
#[test]
fn gates_at_their_ends() {
    let one = |cell: Scan, z: &[f32], x: f32, vectors: Vec<f32>, h: f32, isa: Isa| -> f32 {
        let mut case = ScanCase::draw(cell, StepRows::dense(1, 1), 1, 1, 1.0);
        case.z.copy_from_slice(z);
        case.x.fill(x);
        (case.vectors, case.state) = (vectors, vec![h]);
        case.forward(isa, true, plain).h[0]
    };
    for &isa in isas() {
        // f and i are both below the smallest f32, and e times as far apart.
        for away in [0.0, 50.0, 90.0, 200.0, 3000.0] {
            let z = [-away, -away - 1.0, 0.0];
            let h = one(Scan::MinLstm { positive: false }, &z, 0.0, vec![], 1.0, isa);
            let (f, i) = (1.0 + f64::from(away).exp(), 1.0 + f64::from(away + 1.0).exp());
            let expected = if away > 300.0 { 1.0 / (1.0 + (-1.0f64).exp()) } else { i / (f + i) };
            assert!((f64::from(h) - expected).abs() < 1e-6, "{h}, {expected}, {away} on {isa}");
        }
        // a = 1 − 2⁻³⁰ or nearer, whose square is 1 in f32: the root of 1 − a² is not 0.
        for exponent in [30, 40, 60, 100] {
            let rate = -(2f32.powi(-exponent));
            let z = [f32::INFINITY, f32::INFINITY];
            let h = one(Scan::RgLru, &z, 1.0, vec![rate, rate], 0.0, isa);
            let expected = (2.0f64 * 2f64.powi(-exponent)).sqrt();
            assert!((f64::from(h) / expected - 1.0).abs() < 1e-6, "{h}, {expected} on {isa}");
        }
    }
}

/// Each slice that is too long or too short is refused, and nothing is written.
#[test]
fn what_does_not_fit_is_refused() {
    for cell in scans() {
        let geometry = cell.geometry();
        let (hidden, rows, batch, row) = (5, 6, 2, geometry.gates * 5);
        let blocks = |has: bool| if has { rows * hidden } else { 0 };
        let right = [
            ("vectors", geometry.vectors * hidden),
            ("gates", rows * row),
            ("x", blocks(geometry.input)),
            ("state", batch * hidden),
            ("c", blocks(geometry.cells)),
            ("h", rows * hidden),
        ];
        let forward = |lens: [usize; 6], stretch: std::ops::Range<usize>, isa| {
            let [vectors, mut gates, x, mut state, mut c, mut h] = lens.map(filled);
            let schedule = StepRows::dense(3, 2);
            let result = ScanForward {
                schedule,
                stretch,
                hidden,
                cell,
                vectors: &vectors,
                gates: &mut gates,
                gates_stride: row,
                keep: true,
                x: &x,
                state: &mut state,
                c: &mut c,
                h: &mut h,
                h_stride: hidden,
            }
            .run(isa, &mut Pass::serial());
            if result.is_err() {
                for written in [&gates, &state, &c, &h] {
                    assert_bits("nothing is written", written, &filled(written.len()));
                }
            }
            result
        };
        for &isa in isas() {
            let lens = right.map(|(_, len)| len);
            assert_eq!(forward(lens, 0..3, isa), Ok(()));
            let error = forward(lens, 2..4, isa).unwrap_err();
            assert!(matches!(error, KernelError::Dimension { given: 4, .. }), "{error}");
            for (k, (what, expected)) in right.into_iter().enumerate() {
                for given in [expected.wrapping_sub(1), expected + 1] {
                    // A cell state may be left out, and so may one that there is not.
                    if given > 2 * rows * row || what == "c" && given == 0 {
                        continue;
                    }
                    let mut lens = lens;
                    lens[k] = given;
                    let error = KernelError::Length { what, given, expected };
                    assert_eq!(forward(lens, 0..3, isa), Err(error), "{cell:?}");
                }
            }
        }
    }
}

/// The same of a backward scan.
#[test]
fn what_does_not_fit_backward_is_refused() {
    for cell in scans() {
        let geometry = cell.geometry();
        let (hidden, rows, batch, row) = (5, 6, 2, geometry.gates * 5);
        let input = if geometry.input { rows * hidden } else { 0 };
        let right = [
            ("vectors", geometry.vectors * hidden),
            ("gates", rows * row),
            ("x", input),
            ("state", batch * hidden),
            ("states", rows * hidden),
            ("dy", rows * hidden),
            ("dstate", batch * hidden),
            ("dx", input),
            ("dvectors", geometry.learned * hidden),
        ];
        let backward = |lens: [usize; 9], isa| {
            let [vectors, mut gates, x, state, states, dy, mut dstate, mut dx, mut dvectors] =
                lens.map(filled);
            let result = ScanBackward {
                schedule: StepRows::dense(3, 2),
                stretch: 0..3,
                hidden,
                cell,
                vectors: &vectors,
                gates: &mut gates,
                x: &x,
                state: &state,
                states: &states,
                states_stride: hidden,
                dy: &dy,
                dy_stride: hidden,
                dstate: &mut dstate,
                dx: &mut dx,
                dvectors: &mut dvectors,
            }
            .run(isa, &mut Pass::serial());
            if result.is_err() {
                for written in [&gates, &dstate, &dx, &dvectors] {
                    assert_bits("nothing is written", written, &filled(written.len()));
                }
            }
            result
        };
        for &isa in isas() {
            let lens = right.map(|(_, len)| len);
            assert_eq!(backward(lens, isa), Ok(()));
            for (k, (what, expected)) in right.into_iter().enumerate() {
                for given in [expected.wrapping_sub(1), expected + 1] {
                    let optional = ["dx", "dvectors"].contains(&what);
                    if given > 2 * rows * row || optional && given == 0 {
                        continue;
                    }
                    let mut lens = lens;
                    lens[k] = given;
                    let error = KernelError::Length { what, given, expected };
                    assert_eq!(backward(lens, isa), Err(error), "{cell:?}");
                }
            }
        }
    }
}
