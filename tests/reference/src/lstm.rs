//! The LSTM cell, eq. 10.40–10.44, forward and back-propagation through time.
//!
//! With the gates named i (input; the book's external input gate g), f (forget), g (candidate) and o (output; the
//! book's q):
//!
//! ```text
//! z    = b + U x⁽ᵗ⁾ + W h⁽ᵗ⁻¹⁾      four blocks of H rows: z_i, z_f, z_g, z_o
//! f    = σ(z_f)                     (10.40)
//! c⁽ᵗ⁾ = f ⊙ c⁽ᵗ⁻¹⁾ + i ⊙ g         (10.41), with g = φ(z_g)
//! i    = σ(z_i)                     (10.42)
//! h⁽ᵗ⁾ = o ⊙ tanh(c⁽ᵗ⁾)             (10.43)
//! o    = σ(z_o)                     (10.44)
//! ```
//!
//! φ is tanh, as is usual, or σ, as in eq. 10.41. No peepholes, projection or coupled gates here.
//!
//! # Bounds of long sequences
//!
//! With [`crate::Bounded`] numbers a pass is bounded from end to end, and the bound of a worst case grows
//! exponentially with the steps where the errors of a pass do not: it says nothing of a backward pass of twenty steps
//! and 32 units. [`Lstm::forward_steps`] and [`Lstm::backward_steps`] ask less of one bound and more of the pass: does
//! each step follow from the state that the pass *itself* gave for the step before? Their bounds are those of one
//! step, whatever the length, and a pass that keeps them in every step is a correct one.

mod backward;

pub use backward::Gradients;

use crate::{Activation, Number};
use std::iter::once;

/// An LSTM layer: its sizes and its element-wise functions.
///
/// Its parameters are one flat slice: `U [4H, I]`, then `W [4H, H]`, then `b [4H]`, with the gates in the order i, f,
/// g, o in each.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// The state c.
    pub c: Vec<N>,
    /// The output h.
    pub h: Vec<N>,
}

impl<N: Copy> Trace<N> {
    /// The same trace in other numbers.
    pub fn map<M>(&self, to: impl Fn(N) -> M) -> Trace<M> {
        let all = |from: &[N]| from.iter().map(|&value| to(value)).collect();
        Trace {
            i: all(&self.i),
            f: all(&self.f),
            g: all(&self.g),
            o: all(&self.o),
            c: all(&self.c),
            h: all(&self.h),
        }
    }

    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, &[N]); 6] {
        [
            ("i", &self.i),
            ("f", &self.f),
            ("g", &self.g),
            ("o", &self.o),
            ("c", &self.c),
            ("h", &self.h),
        ]
    }
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
    pub fn forward<N: Number>(&self, params: &[N], x: &[N], h0: &[N], c0: &[N]) -> Trace<N> {
        self.forward_from(params, x, h0, c0, None)
    }

    /// Each step of [`Lstm::forward`] on its own: from the h and c that `given` has for the step before.
    pub fn forward_steps<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        c0: &[N],
        given: &Trace<N>,
    ) -> Trace<N> {
        self.forward_from(params, x, h0, c0, Some(given))
    }

    fn forward_from<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        c0: &[N],
        given: Option<&Trace<N>>,
    ) -> Trace<N> {
        let (u, w, bias) = self.split_params(params);
        let (steps, batch) = self.steps_and_batch(x, h0, c0);
        let (inputs, hidden) = (self.input_size, self.hidden_size);

        let zeros = || vec![N::zero(); steps * batch * hidden];
        let mut trace =
            Trace { i: zeros(), f: zeros(), g: zeros(), o: zeros(), c: zeros(), h: zeros() };
        for t in 0..steps {
            for n in 0..batch {
                let row = t * batch + n;
                let x_row = &x[row * inputs..][..inputs];
                let previous = |initial: &[N], all: &[N]| match t {
                    0 => initial[n * hidden..][..hidden].to_vec(),
                    _ => all[(row - batch) * hidden..][..hidden].to_vec(),
                };
                let states = given.unwrap_or(&trace);
                let h_previous = previous(h0, &states.h);
                let c_previous = previous(c0, &states.c);
                // z = b + U x + W h₋, for one row of U, W and b.
                let z = |r: usize| {
                    let input =
                        u[r * inputs..][..inputs].iter().copied().zip(x_row.iter().copied());
                    let recurrent =
                        w[r * hidden..][..hidden].iter().copied().zip(h_previous.iter().copied());
                    N::dot(once((N::one(), bias[r])).chain(input).chain(recurrent))
                };
                for (j, &c_previous) in c_previous.iter().enumerate() {
                    let i = self.gate.apply(z(j));
                    let f = self.gate.apply(z(hidden + j));
                    let g = self.candidate.apply(z(2 * hidden + j));
                    let o = self.gate.apply(z(3 * hidden + j));
                    let c = f * c_previous + i * g;
                    let h = o * self.cell.apply(c);

                    let at = row * hidden + j;
                    trace.i[at] = i;
                    trace.f[at] = f;
                    trace.g[at] = g;
                    trace.o[at] = o;
                    trace.c[at] = c;
                    trace.h[at] = h;
                }
            }
        }
        trace
    }

    /// The sizes that the slices imply, checked against each other.
    fn steps_and_batch<N>(&self, x: &[N], h0: &[N], c0: &[N]) -> (usize, usize) {
        assert!(self.input_size > 0 && self.hidden_size > 0, "sizes are at least one");
        let batch = h0.len() / self.hidden_size;
        assert!(batch > 0, "h0: [batch, H] with at least one sequence");
        assert_eq!(h0.len(), batch * self.hidden_size, "h0: [batch, H]");
        assert_eq!(c0.len(), h0.len(), "s0: [batch, H]");
        let steps = x.len() / (batch * self.input_size);
        assert_eq!(x.len(), steps * batch * self.input_size, "x: [steps, batch, I]");
        (steps, batch)
    }
}
