//! The LSTM cell, eq. 10.40–10.44, forward and back-propagation through time.
//!
//! With the gates named i (input; the book's external input gate g), f (forget), g (candidate) and o (output; the
//! book's q):
//!
//! ```text
//! z    = b + U x⁽ᵗ⁾ + W h⁽ᵗ⁻¹⁾      four blocks of H rows: z_i, z_f, z_g, z_o
//! f    = σ(z_f)                     (10.40)
//! s⁽ᵗ⁾ = f ⊙ s⁽ᵗ⁻¹⁾ + i ⊙ g         (10.41), with g = φ(z_g)
//! i    = σ(z_i)                     (10.42)
//! h⁽ᵗ⁾ = o ⊙ tanh(s⁽ᵗ⁾)             (10.43)
//! o    = σ(z_o)                     (10.44)
//! ```
//!
//! φ is tanh, as is usual, or σ, as in eq. 10.41. No peepholes, projection or coupled gates here.

use crate::{Activation, Number};
use std::iter::once;

/// An LSTM layer: its sizes and its element-wise functions.
///
/// Its parameters are one flat slice: `U [4H, I]`, then `W [4H, H]`, then `b [4H]`, with the gates in the order i, f,
/// g, o in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lstm {
    /// Features of an input, I.
    pub input_size: usize,
    /// Hidden units, H.
    pub hidden_size: usize,
    /// φ of the candidate g.
    pub candidate: Activation,
    /// σ of the gates i, f and o.
    pub gate: Activation,
    /// tanh of eq. 10.43.
    pub cell: Activation,
}

/// What a forward pass leaves behind: the gates, states and outputs of every step, each `[steps, batch, H]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace<N> {
    /// The input gate.
    pub i: Vec<N>,
    /// The forget gate.
    pub f: Vec<N>,
    /// The candidate.
    pub g: Vec<N>,
    /// The output gate.
    pub o: Vec<N>,
    /// The state s.
    pub s: Vec<N>,
    /// The output h.
    pub h: Vec<N>,
}

/// The gradients of a loss L.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<N> {
    /// ∂L/∂U, ∂L/∂W and ∂L/∂b, flat as the parameters are.
    pub params: Vec<N>,
    /// ∂L/∂x, `[steps, batch, I]`.
    pub dx: Vec<N>,
    /// ∂L/∂h⁽⁰⁾, `[batch, H]`.
    pub dh0: Vec<N>,
    /// ∂L/∂s⁽⁰⁾, `[batch, H]`.
    pub ds0: Vec<N>,
    /// ∂L/∂z, `[steps, batch, 4H]`: the gradients of the pre-activations, gates in the order i, f, g, o.
    pub dz: Vec<N>,
}

impl Lstm {
    /// The usual LSTM: logistic gates, tanh of the state, and `candidate` as φ.
    pub fn new(input_size: usize, hidden_size: usize, candidate: Activation) -> Self {
        Lstm {
            input_size,
            hidden_size,
            candidate,
            gate: Activation::Logistic,
            cell: Activation::Tanh,
        }
    }

    /// The length of the flat parameters.
    pub fn params_len(&self) -> usize {
        4 * self.hidden_size * (self.input_size + self.hidden_size + 1)
    }

    /// U, W and b out of the flat parameters.
    pub fn split_params<'a, N>(&self, params: &'a [N]) -> (&'a [N], &'a [N], &'a [N]) {
        assert_eq!(params.len(), self.params_len(), "params: U [4H, I], W [4H, H], b [4H]");
        let (u, rest) = params.split_at(4 * self.hidden_size * self.input_size);
        let (w, b) = rest.split_at(4 * self.hidden_size * self.hidden_size);
        (u, w, b)
    }

    /// The pass over `x [steps, batch, I]` from `h0` and `s0`, both `[batch, H]`.
    pub fn forward<N: Number>(&self, params: &[N], x: &[N], h0: &[N], s0: &[N]) -> Trace<N> {
        let (u, w, bias) = self.split_params(params);
        let (steps, batch) = self.steps_and_batch(x, h0, s0);
        let (inputs, hidden) = (self.input_size, self.hidden_size);

        let zeros = || vec![N::zero(); steps * batch * hidden];
        let mut trace =
            Trace { i: zeros(), f: zeros(), g: zeros(), o: zeros(), s: zeros(), h: zeros() };
        for t in 0..steps {
            for n in 0..batch {
                let row = t * batch + n;
                let x_row = &x[row * inputs..][..inputs];
                let previous = |initial: &[N], all: &[N]| match t {
                    0 => initial[n * hidden..][..hidden].to_vec(),
                    _ => all[(row - batch) * hidden..][..hidden].to_vec(),
                };
                let h_previous = previous(h0, &trace.h);
                let s_previous = previous(s0, &trace.s);
                // z = b + U x + W h₋, for one row of U, W and b.
                let z = |r: usize| {
                    let input =
                        u[r * inputs..][..inputs].iter().copied().zip(x_row.iter().copied());
                    let recurrent =
                        w[r * hidden..][..hidden].iter().copied().zip(h_previous.iter().copied());
                    N::dot(once((N::one(), bias[r])).chain(input).chain(recurrent))
                };
                for (j, &s_previous) in s_previous.iter().enumerate() {
                    let i = self.gate.apply(z(j));
                    let f = self.gate.apply(z(hidden + j));
                    let g = self.candidate.apply(z(2 * hidden + j));
                    let o = self.gate.apply(z(3 * hidden + j));
                    let s = f * s_previous + i * g;
                    let h = o * self.cell.apply(s);

                    let at = row * hidden + j;
                    trace.i[at] = i;
                    trace.f[at] = f;
                    trace.g[at] = g;
                    trace.o[at] = o;
                    trace.s[at] = s;
                    trace.h[at] = h;
                }
            }
        }
        trace
    }

    /// Back-propagation through time: eq. 10.17–10.28 carried over from the plain recurrent network to this cell.
    ///
    /// `dy [steps, batch, H]` is what the loss passes to the output of each step directly, ∂L/∂h⁽ᵗ⁾ without the part
    /// that comes back through later steps; `dh_last` and `ds_last`, both `[batch, H]`, is what comes back to the last
    /// output and the last state from whatever follows. With `∂L/∂h⁽ᵗ⁾ = dy⁽ᵗ⁾ + Wᵀ dz⁽ᵗ⁺¹⁾`:
    ///
    /// ```text
    /// ds⁽ᵗ⁾ = ds⁽ᵗ⁺¹⁾ ⊙ f⁽ᵗ⁺¹⁾ + dh ⊙ o ⊙ tanh′(s⁽ᵗ⁾)
    /// dz_i = ds ⊙ g ⊙ σ′(z_i)          dz_f = ds ⊙ s⁽ᵗ⁻¹⁾ ⊙ σ′(z_f)
    /// dz_g = ds ⊙ i ⊙ φ′(z_g)          dz_o = dh ⊙ tanh(s⁽ᵗ⁾) ⊙ σ′(z_o)
    /// dU = Σ dz xᵀ    dW = Σ dz h⁽ᵗ⁻¹⁾ᵀ    db = Σ dz    dx = Uᵀ dz    dh⁽⁰⁾ = Wᵀ dz⁽¹⁾    ds⁽⁰⁾ = ds⁽¹⁾ ⊙ f⁽¹⁾
    /// ```
    #[expect(clippy::too_many_arguments, reason = "the equations have as many")]
    pub fn backward<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        s0: &[N],
        trace: &Trace<N>,
        dy: &[N],
        dh_last: &[N],
        ds_last: &[N],
    ) -> Gradients<N> {
        let (u, w, _) = self.split_params(params);
        let (steps, batch) = self.steps_and_batch(x, h0, s0);
        let (inputs, hidden) = (self.input_size, self.hidden_size);
        assert_eq!(trace.h.len(), steps * batch * hidden, "trace: [steps, batch, H]");
        assert_eq!(dy.len(), steps * batch * hidden, "dy: [steps, batch, H]");
        assert_eq!(dh_last.len(), batch * hidden, "dh_last: [batch, H]");
        assert_eq!(ds_last.len(), batch * hidden, "ds_last: [batch, H]");

        let h_previous =
            |t: usize, at: usize| if t == 0 { h0[at] } else { trace.h[at - batch * hidden] };
        let s_previous =
            |t: usize, at: usize| if t == 0 { s0[at] } else { trace.s[at - batch * hidden] };
        // The pairs of (Wᵀ dz)_j, with dz of one step and sequence.
        let through_w = |dz: &[N], row: usize, j: usize| -> Vec<(N, N)> {
            (0..4 * hidden).map(|r| (w[r * hidden + j], dz[row * 4 * hidden + r])).collect()
        };

        let mut dz = vec![N::zero(); steps * batch * 4 * hidden];
        let mut ds_next = ds_last.to_vec(); // ds⁽ᵗ⁺¹⁾ ⊙ f⁽ᵗ⁺¹⁾
        for t in (0..steps).rev() {
            for n in 0..batch {
                let row = t * batch + n;
                for j in 0..hidden {
                    let (at, last) = (row * hidden + j, n * hidden + j);
                    let later = if t + 1 == steps {
                        vec![(N::one(), dh_last[last])]
                    } else {
                        through_w(&dz, row + batch, j)
                    };
                    let dh = N::dot(once((N::one(), dy[at])).chain(later));

                    let (i, f, g, o) = (trace.i[at], trace.f[at], trace.g[at], trace.o[at]);
                    let c = self.cell.apply(trace.s[at]);
                    let ds = ds_next[last] + dh * o * self.cell.slope(c);
                    let dz_row = &mut dz[row * 4 * hidden..][..4 * hidden];
                    dz_row[j] = ds * g * self.gate.slope(i);
                    dz_row[hidden + j] = ds * s_previous(t, at) * self.gate.slope(f);
                    dz_row[2 * hidden + j] = ds * i * self.candidate.slope(g);
                    dz_row[3 * hidden + j] = dh * c * self.gate.slope(o);
                    ds_next[last] = ds * f;
                }
            }
        }

        let rows = steps * batch;
        let dz_at = |row: usize, r: usize| dz[row * 4 * hidden + r];
        let mut grad = Vec::with_capacity(self.params_len());
        for r in 0..4 * hidden {
            for k in 0..inputs {
                grad.push(N::dot((0..rows).map(|row| (dz_at(row, r), x[row * inputs + k]))));
            }
        }
        for r in 0..4 * hidden {
            for k in 0..hidden {
                let h_k = |row: usize| h_previous(row / batch, row * hidden + k);
                grad.push(N::dot((0..rows).map(|row| (dz_at(row, r), h_k(row)))));
            }
        }
        for r in 0..4 * hidden {
            grad.push(N::dot((0..rows).map(|row| (dz_at(row, r), N::one()))));
        }

        let mut dx = Vec::with_capacity(rows * inputs);
        for row in 0..rows {
            for k in 0..inputs {
                dx.push(N::dot((0..4 * hidden).map(|r| (u[r * inputs + k], dz_at(row, r)))));
            }
        }
        let mut dh0 = dh_last.to_vec();
        if steps > 0 {
            for n in 0..batch {
                for j in 0..hidden {
                    dh0[n * hidden + j] = N::dot(through_w(&dz, n, j));
                }
            }
        }
        Gradients { params: grad, dx, dh0, ds0: ds_next, dz }
    }

    fn steps_and_batch<N>(&self, x: &[N], h0: &[N], s0: &[N]) -> (usize, usize) {
        assert!(self.input_size > 0 && self.hidden_size > 0, "sizes are at least one");
        let batch = h0.len() / self.hidden_size;
        assert!(batch > 0, "h0: [batch, H] with at least one sequence");
        assert_eq!(h0.len(), batch * self.hidden_size, "h0: [batch, H]");
        assert_eq!(s0.len(), h0.len(), "s0: [batch, H]");
        let steps = x.len() / (batch * self.input_size);
        assert_eq!(x.len(), steps * batch * self.input_size, "x: [steps, batch, I]");
        (steps, batch)
    }
}
