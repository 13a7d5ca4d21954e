//! Gates that are driven to their limits have exactly these values, and slopes of exactly 0: no
//! step and no gradient is NaN unless the equations say ∞ − ∞ or 0 · ∞ (dynet#1525,
//! ComputeLibrary#779). The scanned cells, whose candidates have no limits, are in `saturation`.

use crate::common::{Data, Kind, Pass, Rig, Subject, assert_bits, fewer, filled, isas};
use crate::with_layer;
use bptt::{Accumulate, Activation, Candidate, Format, Isa};
use bptt_reference::cells::Cell as Equations;
use bptt_reference::sample::widen;

/// From this argument on the logistic function and tanh are 1 in f32; below its negative tanh is
/// −1.
const SATURATED: [f32; 7] = [40.0, 88.0, 89.0, 104.0, 710.0, 3e38, f32::INFINITY];

/// Below this negative argument the logistic function is 0 in f32.
const VANISHED: f32 = 104.0;

/// H and B: single rows and several, with units that fill a vector and units that do not. With one
/// input and U = 1 each sum is x plus the part from h.
const SHAPES: [(usize, usize); 6] = [(3, 1), (16, 1), (40, 1), (3, 13), (20, 13), (72, 2)];

const STEPS: usize = 2;

/// Whether the cell's non-linearity has no bound, so that the products with an infinite h may be
/// NaN.
fn is_unbounded(kind: Kind) -> bool {
    matches!(
        kind.plain(),
        Kind::Vanilla(phi) | Kind::Leaky(phi, _) | Kind::Skip(phi, _) | Kind::Clockwork(phi, _)
            if matches!(phi, Activation::Relu | Activation::Identity)
    )
}

/// Whether the candidate of a cell with gates has no bound, so that its equations say 0 · ∞ where a gate
/// is shut.
fn is_shut_out(kind: Kind) -> bool {
    match kind.plain() {
        Kind::Gru(_, phi) | Kind::HardGru(_, phi, _) | Kind::LateGru(_, phi) => {
            phi == Candidate::Relu
        }
        Kind::Lstm(options) | Kind::LateLstm(options) => options.candidate == Candidate::Relu,
        _ => false,
    }
}

/// Fills the parameters whose names begin with `name`, except a GRU's b_hn.
fn fill(data: &mut Data, name: &str, value: f32) {
    let parameters = data.parameters();
    for tensor in parameters.manifest().tensors() {
        if tensor.name().starts_with(name) && tensor.name() != "0.bias_hn" {
            data.inputs.params[tensor.range()].fill(value);
        }
    }
}

/// Inputs that are all `x`; W, the cell's own parameters and P are drawn up to ±`weights`.
fn data(layer: Subject, batch: usize, steps: usize, x: f32, weights: f32) -> Data {
    let mut data = Data::draw(layer, batch, steps, 1, weights);
    fill(&mut data, "0.weight_ih", 1.0);
    fill(&mut data, "0.bias", 0.0);
    // A late layer has an input that it has not seen yet; that one is zero.
    data.inputs.dx_last.fill(0.0);
    data.inputs.x.fill(x);
    data.inputs.x0.fill(x);
    data
}

/// Asserts that values are as expected except for rounding, and NaN nowhere else.
#[track_caller]
fn assert_near(name: &str, given: &[f32], expected: &[f64], of: &str) {
    assert_eq!(given.len(), expected.len(), "length of {name}");
    for (k, (&given, &expected)) in given.iter().zip(expected).enumerate() {
        let near = (f64::from(given) - expected).abs() <= 1e-6 * (1.0 + expected.abs());
        assert!(near || given == expected as f32, "{name}[{k}] is {given}, not {expected}: {of}");
    }
}

/// Asserts that each gate is 0, 1 or −1, as its non-linearity says, at all steps.
fn assert_gates(data: &Data, x: f32, pass: &Pass, of: &str) {
    let (candidate, at) = match data.layer.equations() {
        Equations::GruAfter(phi) | Equations::GruBefore(phi) => (phi, 2),
        Equations::Lstm { candidate, coupled, .. } => (candidate, 2 - usize::from(coupled)),
        _ => return,
    };
    let (gates, hidden) = (data.layer.equations().gates(), data.layer.hidden_size());
    let logistic = if x > 0.0 { 1.0 } else { 0.0 };
    for (nth, row) in pass.gates.chunks(hidden).enumerate() {
        let tanh = nth % gates == at && candidate == bptt_reference::Activation::Tanh;
        let limit = if tanh { x.signum() } else { logistic };
        assert!(row.iter().all(|&y| y == limit), "a gate of {row:?}, not {limit}: {of}");
    }
}

/// Passes and streams whose gates are at their limits, or so near that it makes no difference.
fn bounded(data: &Data, x: f32) {
    let expected = data.reference().run::<f64>(&data.inputs.map(|part| widen(part)), None);
    let exact = x >= SATURATED[0] || x <= -VANISHED;
    for &isa in isas() {
        let of = format!("{:?}, B {}, x {x} on {isa}", data.layer, data.batch);
        let mut rig = Rig::new(isa, data);
        let forward = rig.forward(data);
        if exact {
            assert_gates(data, x, &forward, &of);
        }
        let mut parameters = filled(data.inputs.params.len());
        let pass = rig.backward(data, &mut parameters, Accumulate::No, forward);
        for (name, given, expected) in [
            ("h", &pass.h, &expected.h),
            ("c", &pass.c, &expected.c),
            ("dz", &pass.dz, &expected.dz),
            ("dx", &pass.dx, &expected.dx),
            ("dh0", &pass.dh0, &expected.dh0),
            ("dc0", &pass.dc0, &expected.dc0),
            ("dx0", &pass.dx0, &expected.dx0),
        ] {
            assert_near(name, given, expected, &of);
        }
        if exact {
            let enters = [&pass.dz, &pass.dx, &pass.dx0].into_iter().flatten();
            assert!(enters.into_iter().all(|&d| d == 0.0), "a slope that is not 0: {of}");
        }
        if x.is_finite() {
            assert!(pass.params.iter().all(|d| d.is_finite()), "{of}");
            let gradients = rig.workspace.gradients();
            for tensor in gradients.manifest().tensors() {
                let name = tensor.name();
                let is_of_products = ["0.weight_ih", "0.weight_hh", "0.bias"];
                if exact && is_of_products.iter().any(|of| name.starts_with(of)) {
                    let gradient = gradients.tensor(name).unwrap();
                    assert!(gradient.iter().all(|&d| d == 0.0), "{name}: {of}");
                }
            }
        }
        streams(data, isa, &pass.h, exact, &of);
    }
}

/// A stream over all steps at once and step by step, and weights in fewer bits where the weights do
/// not matter.
fn streams(data: &Data, isa: Isa, h: &[f32], exact: bool, of: &str) {
    let layer = &data.layer;
    let (model, projected) = (data.model(isa, 1), layer.output_size() != layer.hidden_size());
    for format in [Format::F32, Format::Bf16, Format::Int8] {
        let mut stream = model.quantised(format).unwrap().stream(data.batch).unwrap();
        let (mut at_once, mut stepped) = (filled(h.len()), filled(h.len()));
        stream.set_state(&data.initial()).unwrap();
        stream.forward(&data.inputs.x, &mut at_once).unwrap();
        stream.set_state(&data.initial()).unwrap();
        let steps = data.inputs.x.chunks(data.input()).zip(stepped.chunks_mut(data.state()));
        steps.for_each(|(x, y)| stream.step(x, y).unwrap());
        assert_bits(of, &stepped, &at_once);
        assert!(stepped.iter().all(|y| !y.is_nan()), "{of}");
        if format == Format::F32 || (exact && !projected) {
            assert_bits(of, &stepped, h);
        }
    }
}

#[test]
fn gates_have_their_limits() {
    let kinds = Kind::all().into_iter().filter(|&kind| kind == kind.plain() && !kind.is_scan());
    for kind in kinds.filter(|&kind| !is_unbounded(kind) && !is_shut_out(kind)) {
        for &(hidden, batch) in fewer(&SHAPES, 2) {
            for x in SATURATED.into_iter().flat_map(|x| [x, -x]) {
                with_layer!(kind, (1, hidden), |layer| {
                    bounded(&data(layer, batch, STEPS, x, 0.25), x);
                });
            }
        }
    }
}

/// One step of units without a bound, which does not depend on the state before.
#[test]
fn what_has_no_limit_is_infinite_and_not_nan() {
    let kinds = Kind::all().into_iter().filter(|&kind| kind == kind.plain() && !kind.is_scan());
    for kind in kinds.filter(|&kind| is_unbounded(kind)) {
        for &(hidden, batch) in fewer(&SHAPES, 2) {
            for x in SATURATED.into_iter().flat_map(|x| [x, -x]) {
                with_layer!(kind, (1, hidden), |layer| {
                    let mut data = data(layer, batch, 1, x, 0.5);
                    fill(&mut data, "0.weight_hh", 0.0);
                    let wide = data.inputs.map(|part| widen(part));
                    let expected = data.reference().run::<f64>(&wide, None);
                    for &isa in isas() {
                        let of = format!("{:?}, B {batch}, x {x} on {isa}", data.layer);
                        let pass = Rig::new(isa, &data).run(&data);
                        assert_near("h", &pass.h, &expected.h, &of);
                        assert_near("dz", &pass.dz, &expected.dz, &of);
                        assert_near("dx", &pass.dx, &expected.dx, &of);
                        assert_near("dh0", &pass.dh0, &expected.dh0, &of);
                        streams(&data, isa, &pass.h, true, &of);
                    }
                });
            }
        }
    }
}
