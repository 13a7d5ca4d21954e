//! The equations of an sLSTM in `f64`, with and without its stabiliser. Must not know the crate's passes.

use bptt::{ForgetGate, Network, Slstm};

/// The equations in `f64`, for one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Equations {
    pub input: usize,
    pub hidden: usize,
    pub heads: usize,
    pub forget: ForgetGate,
    /// Whether there is a stabiliser; without it c and n are the sums themselves.
    pub stabilised: bool,
}

/// A state in `f64`: h, c, n and m.
pub type Parts = [Vec<f64>; 4];

fn logistic(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

impl Equations {
    pub fn network(&self) -> Network {
        let layer = Slstm::new(self.input, self.hidden, self.heads).unwrap();
        Network::new(layer.with_forget(self.forget))
    }

    /// The outputs of all steps, and the last state.
    pub fn run(&self, parameters: &[f64], x: &[f64], state: &Parts) -> (Vec<f64>, Parts) {
        let Self { input, hidden, heads, .. } = *self;
        let units = hidden / heads;
        let (u, rest) = parameters.split_at(4 * hidden * input);
        let (r, b) = rest.split_at(4 * hidden * units);
        let [mut h, mut c, mut n, mut m] = state.clone();
        if !self.stabilised {
            for unit in 0..hidden {
                (c[unit], n[unit]) = (c[unit] * m[unit].exp(), n[unit] * m[unit].exp());
                m[unit] = 0.0;
            }
        }
        let mut y = Vec::new();
        for x in x.chunks(input) {
            let before = h.clone();
            for unit in 0..hidden {
                let head = &before[unit / units * units..][..units];
                let sum = |gate: usize| {
                    let row = gate * hidden + unit;
                    let dot =
                        |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
                    b[row]
                        + dot(&u[row * input..][..input], x)
                        + dot(&r[row * units..][..units], head)
                };
                let log_f = match self.forget {
                    ForgetGate::Exponential => sum(1),
                    ForgetGate::Logistic => logistic(sum(1)).ln(),
                };
                let (i, kept) = (sum(0), log_f + m[unit]);
                let holds = n[unit] > 0.0;
                let next = match (self.stabilised, holds) {
                    (false, _) => 0.0,
                    (true, true) => kept.max(i),
                    (true, false) => i,
                };
                let (i, f) = ((i - next).exp(), if holds { (kept - next).exp() } else { 0.0 });
                c[unit] = f * c[unit] + i * sum(2).tanh();
                n[unit] = f * n[unit] + i;
                m[unit] = next;
                h[unit] = logistic(sum(3)) * c[unit] / n[unit];
            }
            y.extend(&h);
        }
        (y, [h, c, n, m])
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// A state of `sequences` sequences, in the order of its manifest, for sequence `n`.
pub fn state_of(state: &[f64], hidden: usize, sequences: usize, n: usize) -> Parts {
    [0, 1, 2, 3].map(|part| state[(part * sequences + n) * hidden..][..hidden].to_vec())
}
