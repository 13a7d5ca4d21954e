//! The names that each library gives the parts of a cell, and the order of its gates.

use crate::AGREEMENT;
use crate::common::{Data, Subject};
use crate::file::Case;
use bptt_reference::cells::Inputs;
use std::ops::Neg;

/// A library's results, in our order.
#[derive(Debug)]
pub struct Theirs {
    h: Vec<f64>,
    h_last: Vec<f64>,
    c_last: Vec<f64>,
    /// ∂L/∂ of parameters, x, h₀ and s₀, if the library gives gradients.
    gradients: Option<[Vec<f64>; 4]>,
    /// The error that each part may have, if the library does not compute in `f64`.
    pub errors: Option<Vec<Vec<f64>>>,
}

impl Theirs {
    /// h of all steps, h and c of the last, and the gradients.
    pub fn parts(&self) -> [Option<&Vec<f64>>; 7] {
        let gradient = |part: usize| self.gradients.as_ref().map(|all| &all[part]);
        let [params, dx, dh0, dc0] = [0, 1, 2, 3].map(gradient);
        [Some(&self.h), Some(&self.h_last), Some(&self.c_last), params, dx, dh0, dc0]
    }
}

/// How to convert biases: libraries have two vectors, one beside the input's product and one beside
/// that of h₋.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    /// Our biases are the sums of theirs.
    Summed,
    /// The same, except for the last gate, whose second bias is a parameter of our cell.
    LastApart,
}

impl Biases {
    /// Our b, and the cell's own parameter.
    fn joined(self, input: &[f32], recurrent: &[f32], hidden: usize) -> (Vec<f32>, Vec<f32>) {
        let summed = self.summed(input.len(), hidden);
        let sum = |(&a, &b): (&f32, &f32)| {
            let exact = f64::from(a) + f64::from(b);
            assert_eq!(f64::from(a + b), exact, "a sum of biases that f32 does not hold");
            a + b
        };
        let sums = input[..summed].iter().zip(&recurrent[..summed]).map(sum);
        (sums.chain(input[summed..].iter().copied()).collect(), recurrent[summed..].to_vec())
    }

    /// The same for gradients: the gradient of a sum is that of each of its terms, except for the
    /// order in which steps were added up.
    fn gradients(self, input: &[f64], recurrent: &[f64], hidden: usize) -> (Vec<f64>, Vec<f64>) {
        let summed = self.summed(input.len(), hidden);
        for (a, b) in input[..summed].iter().zip(recurrent) {
            assert!((a - b).abs() <= AGREEMENT, "gradients of two summands: {a}, {b}");
        }
        (input.to_vec(), recurrent[summed..].to_vec())
    }

    fn summed(self, len: usize, hidden: usize) -> usize {
        len - if self == Self::LastApart { hidden } else { 0 }
    }
}

/// A case of PyTorch, whose gates have our order.
pub fn pytorch(case: &Case, layer: Subject, biases: Biases) -> (Data, Theirs) {
    let hidden = layer.hidden_size();
    let (steps, batch) = case.steps_and_batch("x");
    let (b, own) = biases.joined(&case.given("bias_ih_l0"), &case.given("bias_hh_l0"), hidden);
    let inputs = Inputs {
        params: [
            case.given("weight_ih_l0"),
            case.given("weight_hh_l0"),
            b,
            own,
            case.option("weight_hr_l0").unwrap_or_default(),
        ]
        .concat(),
        x: case.given("x"),
        h0: case.given("h0"),
        c0: case.option("c0").unwrap_or_default(),
        dy: case.given("dy"),
        dh_last: case.given("dh_last"),
        dc_last: case.option("dc_last").unwrap_or_default(),
        x0: Vec::new(),
        dx_last: Vec::new(),
    };
    let (db_ih, db_hh) = (case.result("grad.bias_ih_l0"), case.result("grad.bias_hh_l0"));
    let (db, down) = biases.gradients(&db_ih, &db_hh, hidden);
    let params = [
        case.result("grad.weight_ih_l0"),
        case.result("grad.weight_hh_l0"),
        db,
        down,
        case.result_option("grad.weight_hr_l0").unwrap_or_default(),
    ]
    .concat();
    let dc0 = case.result_option("grad.c0").unwrap_or_default();
    let theirs = Theirs {
        h: case.result("y"),
        h_last: case.result("h_n"),
        c_last: case.result_option("c_n").unwrap_or_default(),
        gradients: Some([params, case.result("grad.x"), case.result("grad.h0"), dc0]),
        errors: None,
    };
    (Data::with_inputs(layer, batch, steps, inputs), theirs)
}

/// The place of one of our gates in ONNX, and whether its sign is opposite.
type Place = (usize, bool);

/// The places of our gates and peepholes in an operator of ONNX.
#[derive(Debug)]
pub struct Order {
    gates: &'static [Place],
    peepholes: &'static [Place],
}

/// Gates i, f, g, o from i, o, f, c; peepholes i, f, o from i, o, f.
pub const LSTM: Order = Order {
    gates: &[(0, false), (2, false), (3, false), (1, false)],
    peepholes: &[(0, false), (2, false), (1, false)],
};
/// Gates r, u, n from z, r, h.
pub const GRU: Order = Order { gates: &[(1, false), (0, false), (2, false)], peepholes: &[] };
/// Gates f, g, o from i, o, f, c, where f = σ(z) is 1 − σ(−z), which ONNX has as 1 − i.
pub const COUPLED: Order = Order { gates: &[(0, true), (3, false), (1, false)], peepholes: &[] };
/// The same gates, and peepholes f, o from i, o, f.
pub const COUPLED_PEEPHOLES: Order = Order { peepholes: &[(0, true), (1, false)], ..COUPLED };

/// Puts blocks of `len` in another order.
fn ordered<T: Copy + Neg<Output = T>>(values: &[T], len: usize, places: &[Place]) -> Vec<T> {
    let block = |&(place, negated): &Place| {
        let signed = move |&value: &T| if negated { -value } else { value };
        values[place * len..][..len].iter().map(signed)
    };
    places.iter().flat_map(block).collect()
}

/// A case of ONNX, which only has outputs and last states.
pub fn onnx(case: &Case, layer: Subject, order: &Order, biases: Biases) -> (Data, Theirs) {
    let (features, hidden) = (layer.input_size(), layer.hidden_size());
    let (steps, batch) = case.steps_and_batch("X");
    let gates = |name: &str, len: usize| ordered(&case.given(name), len, order.gates);
    let both = case.given("B");
    let [input, recurrent] = [0, 1].map(|which| {
        let half = &both[which * both.len() / 2..][..both.len() / 2];
        ordered(half, hidden, order.gates)
    });
    let (b, own) = biases.joined(&input, &recurrent, hidden);
    let peepholes = case.option("P").unwrap_or_default();
    let peepholes = ordered(&peepholes, hidden, order.peepholes);
    let params =
        [gates("W", hidden * features), gates("R", hidden * hidden), b, own, peepholes].concat();
    let (h0, c0) = (case.given("initial_h"), case.option("initial_c").unwrap_or_default());
    let inputs = Inputs {
        params,
        x: case.given("X"),
        dy: vec![0.0; steps * h0.len()],
        dh_last: vec![0.0; h0.len()],
        dc_last: vec![0.0; c0.len()],
        h0,
        c0,
        x0: Vec::new(),
        dx_last: Vec::new(),
    };
    let theirs = Theirs {
        h: case.result("Y"),
        h_last: case.result("Y_h"),
        c_last: case.result_option("Y_c").unwrap_or_default(),
        gradients: None,
        errors: None,
    };
    (Data::with_inputs(layer, batch, steps, inputs), theirs)
}
