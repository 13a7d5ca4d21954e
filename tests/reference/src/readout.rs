//! From hidden units to a loss: the affine readout, eq. 10.10, and softmax cross-entropy, eq. 10.11–10.14.

use crate::Number;
use std::iter::once;

/// o = c + V h (10.10), for any number of rows.
///
/// Its parameters are one flat slice: `V [O, H]`, then `c [O]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readout {
    /// Hidden units, H.
    pub hidden_size: usize,
    /// Outputs, O.
    pub output_size: usize,
}

/// The gradients of a loss L with respect to what a [`Readout`] reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<N> {
    /// ∂L/∂V and ∂L/∂c, flat as the parameters are.
    pub params: Vec<N>,
    /// ∂L/∂h, `[rows, H]`.
    pub dh: Vec<N>,
}

impl Readout {
    /// The length of the flat parameters.
    pub fn params_len(&self) -> usize {
        self.output_size * (self.hidden_size + 1)
    }

    /// o `[rows, O]` of `h [rows, H]`.
    pub fn forward<N: Number>(&self, params: &[N], h: &[N]) -> Vec<N> {
        let (v, c) = self.split_params(params);
        let mut o = Vec::with_capacity(self.rows(h) * self.output_size);
        for h_row in h.chunks_exact(self.hidden_size) {
            for (v_row, &c_k) in v.chunks_exact(self.hidden_size).zip(c) {
                let products = v_row.iter().copied().zip(h_row.iter().copied());
                o.push(N::dot(once((N::one(), c_k)).chain(products)));
            }
        }
        o
    }

    /// From `d_o [rows, O]`, ∂L/∂o: dh = Vᵀ do (10.19), dc = Σ do (10.22), dV = Σ do hᵀ (10.24).
    pub fn backward<N: Number>(&self, params: &[N], h: &[N], d_o: &[N]) -> Gradients<N> {
        let (v, _) = self.split_params(params);
        let (rows, hidden, outputs) = (self.rows(h), self.hidden_size, self.output_size);
        assert_eq!(d_o.len(), rows * outputs, "d_o: [rows, O]");

        let mut dh = Vec::with_capacity(rows * hidden);
        for row in 0..rows {
            for j in 0..hidden {
                dh.push(N::dot((0..outputs).map(|k| (v[k * hidden + j], d_o[row * outputs + k]))));
            }
        }
        let mut params = Vec::with_capacity(self.params_len());
        for k in 0..outputs {
            for j in 0..hidden {
                params.push(N::dot(
                    (0..rows).map(|row| (d_o[row * outputs + k], h[row * hidden + j])),
                ));
            }
        }
        for k in 0..outputs {
            params.push(N::dot((0..rows).map(|row| (d_o[row * outputs + k], N::one()))));
        }
        Gradients { params, dh }
    }

    fn split_params<'a, N>(&self, params: &'a [N]) -> (&'a [N], &'a [N]) {
        assert_eq!(params.len(), self.params_len(), "params: V [O, H], c [O]");
        params.split_at(self.output_size * self.hidden_size)
    }

    fn rows<N>(&self, h: &[N]) -> usize {
        assert!(h.len().is_multiple_of(self.hidden_size), "h: [rows, H]");
        h.len() / self.hidden_size
    }
}

/// How the losses of the rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum over the rows that count.
    Sum,
    /// The sum divided by the number of rows that count; zero where none does.
    Mean,
}

/// A loss, and its gradient with respect to the outputs o.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The loss in nats, reduced.
    pub value: f64,
    /// ∂L/∂o, `[rows, O]`; zero in rows that do not count.
    pub d_o: Vec<f64>,
}

/// ŷ = softmax(o), ŷₖ = exp(oₖ) / Σ exp(o) (10.11), of one row, shifted by its maximum so that nothing overflows.
pub fn softmax(o: &[f64]) -> Vec<f64> {
    let log_sum = log_sum_exp(o);
    o.iter().map(|o_k| (o_k - log_sum).exp()).collect()
}

/// log Σ exp(o) of one row.
fn log_sum_exp(o: &[f64]) -> f64 {
    let max = o.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + o.iter().map(|o_k| (o_k - max).exp()).sum::<f64>().ln()
}

/// −log ŷ_y of each row with target y (10.14), reduced, and its gradient ŷₖ − 1 at k = y, ŷₖ elsewhere (10.18).
///
/// `o` is `[rows, O]`; `targets` holds an index below O for each row. A row counts where `mask` is true, and every row
/// counts without a mask; the target of a row that does not count is not looked at.
pub fn softmax_cross_entropy(
    o: &[f64],
    targets: &[usize],
    mask: Option<&[bool]>,
    reduction: Reduction,
) -> Loss {
    let rows = targets.len();
    assert!(rows > 0 && o.len().is_multiple_of(rows), "o: [rows, O], targets: [rows]");
    let outputs = o.len() / rows;
    let counts = |row: usize| mask.is_none_or(|mask| mask[row]);
    if let Some(mask) = mask {
        assert_eq!(mask.len(), rows, "mask: [rows]");
    }

    let counted = (0..rows).filter(|&row| counts(row)).count();
    let scale = match reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / counted.max(1) as f64,
    };
    let mut loss = Loss { value: 0.0, d_o: vec![0.0; o.len()] };
    for row in (0..rows).filter(|&row| counts(row)) {
        let (o_row, target) = (&o[row * outputs..][..outputs], targets[row]);
        assert!(target < outputs, "targets[{row}] is {target}, of {outputs} outputs");
        loss.value += scale * (log_sum_exp(o_row) - o_row[target]);
        for (k, y_hat) in softmax(o_row).into_iter().enumerate() {
            let is_target = if k == target { 1.0 } else { 0.0 };
            loss.d_o[row * outputs + k] = scale * (y_hat - is_target);
        }
    }
    loss
}
