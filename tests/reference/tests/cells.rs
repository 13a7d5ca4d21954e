//! The cells on the tape: against an LSTM whose gradients are written out, against finite differences, and by hand.

use bptt_reference::cells::{Cell, Hard, Inputs, Layer, Outcome};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::noise::Masks;
use bptt_reference::sample::{uniform, widen};
use bptt_reference::{Activation, Bounded, Lstm, Number};

/// The unit roundoff of `f64` over that of `f32`.
const F64_OVER_F32: f64 = 1.0 / (1u64 << 29) as f64;

const STEP: f64 = 1e-6;

fn layer(cell: Cell) -> Layer {
    let outputs = if matches!(cell, Cell::Lstm { projected: true, .. }) { 2 } else { 3 };
    Layer {
        // What passes by the products has as many inputs as units.
        inputs: if cell == Cell::RgLru { 3 } else { 2 },
        hidden: 3,
        outputs,
        cell,
        late: false,
        linear: false,
        masks: Masks::default(),
        hard: Hard::default(),
        norm: None,
    }
}

/// What a pass of so many steps over two sequences is given.
fn inputs(layer: &Layer, steps: usize) -> Inputs<Vec<f32>> {
    let line = 2 * layer.outputs * layer.cell.history();
    let cells = if layer.cell.has_state() { 2 * layer.hidden } else { 0 };
    let draw = |seed, len| uniform(seed, len, 0.75);
    Inputs {
        params: draw(1, layer.sections().iter().sum()),
        x: draw(2, 2 * steps * layer.inputs),
        h0: draw(3, line),
        c0: draw(4, cells),
        dy: draw(5, 2 * steps * layer.outputs),
        dh_last: draw(6, line),
        dc_last: draw(7, cells),
        x0: draw(8, if layer.late { 2 * layer.inputs } else { 0 }),
        dx_last: draw(9, if layer.late { 2 * layer.inputs } else { 0 }),
    }
}

fn all() -> Vec<Cell> {
    let phis = [Activation::Tanh, Activation::Logistic, Activation::Identity];
    let mut all = Vec::new();
    for phi in phis {
        all.extend([Cell::Vanilla(phi), Cell::GruAfter(phi), Cell::GruBefore(phi)]);
        all.extend([Cell::Leaky(phi, vec![0.25, 0.5, 0.875]), Cell::LeakyLearned(phi)]);
        all.extend([vec![3, 1], vec![5, 2], vec![4]].map(|delays| Cell::Skip(phi, delays)));
        let groups = [vec![(1, 1), (2, 2)], vec![(2, 2), (1, 3)], vec![(1, 1), (1, 2), (1, 4)]];
        all.extend(groups.map(|groups| Cell::Clockwork(phi, groups)));
        for options in 0..8 {
            let [peepholes, coupled, projected] = [1, 2, 4].map(|bit| options & bit != 0);
            all.push(Cell::Lstm { candidate: phi, peepholes, coupled, projected });
        }
        all.extend([Cell::MinGru(phi), Cell::MinLstm(phi), Cell::IndRnn(phi)]);
    }
    all.extend([Cell::Sru { fourth: true }, Cell::RgLru]);
    for (output, input) in [(false, false), (true, false), (true, true)] {
        all.push(Cell::Qrnn { output, input });
    }
    all
}

#[test]
fn gradients_are_difference_quotients() {
    let late = all().into_iter().map(|cell| Layer { late: true, ..layer(cell) });
    for layer in all().into_iter().map(layer).chain(late) {
        let given = inputs(&layer, 4);
        let bounded: Inputs<Vec<Bounded>> =
            given.map(|values| values.iter().map(|&v| Bounded::exact(v.into())).collect());
        let loss_error = F64_OVER_F32 * layer.loss(&bounded).bound;
        let bounds = layer.run(&bounded, None);
        type Input = fn(&mut Inputs<Vec<f64>>) -> &mut Vec<f64>;
        type Gradient = fn(&Outcome<Vec<Bounded>>) -> &Vec<Bounded>;
        let parts: [(&str, Input, Gradient); 5] = [
            ("params", |i| &mut i.params, |o| &o.params),
            ("x", |i| &mut i.x, |o| &o.dx),
            ("h0", |i| &mut i.h0, |o| &o.dh0),
            ("c0", |i| &mut i.c0, |o| &o.dc0),
            ("x0", |i| &mut i.x0, |o| &o.dx0),
        ];
        for (name, input, gradient) in parts {
            let mut moved = given.map(|values| widen(values));
            let at = input(&mut moved).clone();
            let loss = |at: &[f64]| {
                input(&mut moved).copy_from_slice(at);
                layer.loss(&moved)
            };
            let quotients = gradient_with_error(loss, &at, STEP, loss_error);
            for (k, (quotient, actual)) in quotients.iter().zip(gradient(&bounds)).enumerate() {
                let tolerance = quotient.error + F64_OVER_F32 * actual.bound;
                assert!(tolerance < 1e-5, "{layer:?}, {name}: {tolerance:e} finds no fault");
                let error = (actual.value - quotient.value).abs();
                assert!(error <= tolerance, "{layer:?}, {name}[{k}]: {actual:?}, {quotient:?}");
            }
        }
    }
}

/// The LSTM of this crate that is written out, both ways.
#[test]
fn as_what_is_written_out() {
    for (candidate, steps) in [(Activation::Tanh, 5), (Activation::Logistic, 3)] {
        let cell = Cell::Lstm { candidate, peepholes: false, coupled: false, projected: false };
        let layer = layer(cell);
        let given = inputs(&layer, steps).map(|values| widen(values));
        let own = layer.run(&given, None);
        let lstm = Lstm::new(2, 3, candidate);
        let Inputs { params, x, h0, c0, dy, dh_last, dc_last, .. } = &given;
        let trace = lstm.forward(params, x, h0, c0);
        let gradients = lstm.backward(params, x, h0, c0, &trace, dy, dh_last, dc_last);
        for (name, own, other) in [
            ("h", &own.h, &trace.h),
            ("c", &own.c, &trace.c),
            ("dz", &own.dz, &gradients.dz),
            ("params", &own.params, &gradients.params),
            ("dx", &own.dx, &gradients.dx),
            ("dh0", &own.dh0, &gradients.dh0),
            ("dc0", &own.dc0, &gradients.dc0),
        ] {
            assert_eq!(own.len(), other.len(), "{name}");
            for (own, other) in own.iter().zip(other) {
                assert!(
                    (own - other).abs() <= 1e-13 * (1.0 + other.abs()),
                    "{name}: {own} {other}"
                );
            }
        }
    }
}

/// One unit of identities, U = 2, W = 3, b = 1.
fn vanilla() -> (Layer, [f64; 3]) {
    let layer = Layer {
        inputs: 1,
        hidden: 1,
        outputs: 1,
        cell: Cell::Vanilla(Activation::Identity),
        late: false,
        linear: true,
        masks: Masks::default(),
        hard: Hard::default(),
        norm: None,
    };
    (layer, [2.0, 3.0, 1.0])
}

/// A sequence of these inputs from h₀, with ∂L/∂h = 1 at each step and `dh_last` by the last state.
fn sequence(x: &[f64], h0: f64, dh_last: f64) -> Inputs<Vec<f64>> {
    Inputs {
        params: vec![],
        x: x.to_vec(),
        h0: vec![h0],
        c0: vec![],
        dy: vec![1.0; x.len()],
        dh_last: vec![dh_last],
        dc_last: vec![],
        x0: vec![],
        dx_last: vec![],
    }
}

/// x = 1 and 5, h₀ = 4: h = 1 + 2 + 12 = 15 and 1 + 10 + 45 = 56. With ∂L/∂h = 1 at each step, dz = 1 + 3 = 4 and 1.
#[test]
fn vanilla_by_hand() {
    let (layer, params) = vanilla();
    let given = Inputs { params: params.to_vec(), ..sequence(&[1.0, 5.0], 4.0, 0.0) };
    let outcome = layer.run(&given, None);
    assert_eq!(outcome.h, [15.0, 56.0]);
    assert_eq!(outcome.dz, [4.0, 1.0]);
    // ∂L/∂U = 4·1 + 1·5, ∂L/∂W = 4·4 + 1·15, ∂L/∂b = 5.
    assert_eq!(outcome.params, [9.0, 31.0, 5.0]);
    assert_eq!((outcome.dx, outcome.dh0), (vec![8.0, 2.0], vec![12.0]));
}

/// The same sequence in a list, after one without a step and before one with x = 3, h₀ = −1: h = 1 + 6 − 3 = 4 and
/// dz = 1 + 2 = 3, so that ∂L/∂U = 9 + 3·3, ∂L/∂W = 31 + 3·(−1), ∂L/∂b = 5 + 3.
#[test]
fn a_list_by_hand() {
    let (layer, params) = vanilla();
    let list =
        [sequence(&[], 7.0, 5.0), sequence(&[1.0, 5.0], 4.0, 0.0), sequence(&[3.0], -1.0, 2.0)];
    let outcome = layer.run_list(&params, &list);
    assert_eq!(outcome.params, [18.0, 28.0, 8.0]);
    let expected: [(&[f64], f64, &[f64], f64); 3] = [
        (&[], 7.0, &[], 5.0),
        (&[15.0, 56.0], 56.0, &[8.0, 2.0], 12.0),
        (&[4.0], 4.0, &[6.0], 9.0),
    ];
    for ((given, own), (h, last, dx, dh0)) in list.iter().zip(&outcome.sequences).zip(expected) {
        assert_eq!((&own.h[..], &own.dx[..], &own.dh0[..]), (h, dx, &[dh0][..]));
        assert_eq!(layer.last_state(given, own), [vec![last], vec![], vec![]]);
    }
}

/// Two steps of a GRU whose update gate is open (u = 1) keep h₀; and one whose gates are shut follows n.
#[test]
fn gates_that_are_open_and_shut() {
    for cell in [Cell::GruAfter(Activation::Tanh), Cell::GruBefore(Activation::Tanh)] {
        let own = cell.own();
        let layer = Layer {
            inputs: 1,
            hidden: 1,
            outputs: 1,
            cell,
            late: false,
            linear: false,
            masks: Masks::default(),
            hard: Hard::default(),
            norm: None,
        };
        for (update, expected) in [(800.0, 0.5), (-800.0, (0.75f64).tanh())] {
            // U, W and b of r, u, n: n = tanh(0.75 + r ⊙ …), r = 0.
            let mut params = vec![0.0; 6];
            params.extend([-800.0, update, 0.75]);
            params.extend(vec![9.0; own]);
            let given = Inputs {
                params,
                x: vec![1.0, 1.0],
                h0: vec![0.5],
                c0: vec![],
                dy: vec![0.0, 0.0],
                dh_last: vec![0.0],
                dc_last: vec![],
                x0: vec![],
                dx_last: vec![],
            };
            assert_eq!(layer.run(&given, None).h, [expected, expected], "{layer:?}");
        }
    }
}
