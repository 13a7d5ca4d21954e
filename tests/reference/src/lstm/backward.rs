//! Back-propagation through time of the LSTM: the gradients of what [`super`] computes forward.

use super::{Lstm, Trace};
use crate::Number;
use std::iter::once;

/// The gradients of a loss L.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<N> {
    /// ∂L/∂U, ∂L/∂W and ∂L/∂b, flat as the parameters are.
    pub params: Vec<N>,
    /// ∂L/∂x, `[steps, batch, I]`.
    pub dx: Vec<N>,
    /// ∂L/∂h⁽⁰⁾, `[batch, H]`.
    pub dh0: Vec<N>,
    /// ∂L/∂c⁽⁰⁾, `[batch, H]`.
    pub dc0: Vec<N>,
    /// ∂L/∂z, `[steps, batch, 4H]`: the gradients of the pre-activations, gates in the order i, f, g, o.
    pub dz: Vec<N>,
}

impl<N> Gradients<N> {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, &[N]); 5] {
        [
            ("dz", &self.dz),
            ("params", &self.params),
            ("dx", &self.dx),
            ("dh0", &self.dh0),
            ("dc0", &self.dc0),
        ]
    }
}

impl Lstm {
    /// Back-propagation through time: eq. 10.17–10.28 carried over from the plain recurrent network to this cell.
    ///
    /// `dy [steps, batch, H]` is what the loss passes to the output of each step directly, ∂L/∂h⁽ᵗ⁾ without the part
    /// that comes back through later steps; `dh_last` and `dc_last`, both `[batch, H]`, is what comes back to the last
    /// output and the last state from whatever follows. With `∂L/∂h⁽ᵗ⁾ = dy⁽ᵗ⁾ + Wᵀ dz⁽ᵗ⁺¹⁾`:
    ///
    /// ```text
    /// dc⁽ᵗ⁾ = dc⁽ᵗ⁺¹⁾ ⊙ f⁽ᵗ⁺¹⁾ + dh ⊙ o ⊙ tanh′(c⁽ᵗ⁾)
    /// dz_i = dc ⊙ g ⊙ σ′(z_i)          dz_f = dc ⊙ c⁽ᵗ⁻¹⁾ ⊙ σ′(z_f)
    /// dz_g = dc ⊙ i ⊙ φ′(z_g)          dz_o = dh ⊙ tanh(c⁽ᵗ⁾) ⊙ σ′(z_o)
    /// dU = Σ dz xᵀ    dW = Σ dz h⁽ᵗ⁻¹⁾ᵀ    db = Σ dz    dx = Uᵀ dz    dh⁽⁰⁾ = Wᵀ dz⁽¹⁾    dc⁽⁰⁾ = dc⁽¹⁾ ⊙ f⁽¹⁾
    /// ```
    #[expect(clippy::too_many_arguments, reason = "the equations have as many")]
    pub fn backward<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        c0: &[N],
        trace: &Trace<N>,
        dy: &[N],
        dh_last: &[N],
        dc_last: &[N],
    ) -> Gradients<N> {
        self.backward_from(params, x, h0, c0, trace, dy, dh_last, dc_last, None)
    }

    /// Each step of [`Lstm::backward`] on its own: with the dz that `given [steps, batch, 4H]` has, both in Wᵀ dz⁽ᵗ⁺¹⁾
    /// and in the gradients of what dz is a function of. Only dc is carried from step to step, shrinking by f.
    #[expect(clippy::too_many_arguments, reason = "the equations have as many")]
    pub fn backward_steps<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        c0: &[N],
        trace: &Trace<N>,
        dy: &[N],
        dh_last: &[N],
        dc_last: &[N],
        given: &[N],
    ) -> Gradients<N> {
        self.backward_from(params, x, h0, c0, trace, dy, dh_last, dc_last, Some(given))
    }

    #[expect(clippy::too_many_arguments, reason = "the equations have as many")]
    fn backward_from<N: Number>(
        &self,
        params: &[N],
        x: &[N],
        h0: &[N],
        c0: &[N],
        trace: &Trace<N>,
        dy: &[N],
        dh_last: &[N],
        dc_last: &[N],
        given: Option<&[N]>,
    ) -> Gradients<N> {
        let (u, w, _) = self.split_params(params);
        let (steps, batch) = self.steps_and_batch(x, h0, c0);
        let (inputs, hidden) = (self.input_size, self.hidden_size);
        assert_eq!(trace.h.len(), steps * batch * hidden, "trace: [steps, batch, H]");
        assert_eq!(dy.len(), steps * batch * hidden, "dy: [steps, batch, H]");
        assert_eq!(dh_last.len(), batch * hidden, "dh_last: [batch, H]");
        assert_eq!(dc_last.len(), batch * hidden, "ds_last: [batch, H]");

        let h_previous =
            |t: usize, at: usize| if t == 0 { h0[at] } else { trace.h[at - batch * hidden] };
        let c_previous =
            |t: usize, at: usize| if t == 0 { c0[at] } else { trace.c[at - batch * hidden] };
        // The pairs of (Wᵀ dz)_j, with dz of one step and sequence.
        let through_w = |dz: &[N], row: usize, j: usize| -> Vec<(N, N)> {
            (0..4 * hidden).map(|r| (w[r * hidden + j], dz[row * 4 * hidden + r])).collect()
        };

        let mut dz = vec![N::zero(); steps * batch * 4 * hidden];
        let mut ds_next = dc_last.to_vec(); // dc⁽ᵗ⁺¹⁾ ⊙ f⁽ᵗ⁺¹⁾
        for t in (0..steps).rev() {
            for n in 0..batch {
                let row = t * batch + n;
                for j in 0..hidden {
                    let (at, last) = (row * hidden + j, n * hidden + j);
                    let later = if t + 1 == steps {
                        vec![(N::one(), dh_last[last])]
                    } else {
                        through_w(given.unwrap_or(&dz), row + batch, j)
                    };
                    let dh = N::dot(once((N::one(), dy[at])).chain(later));

                    let (i, f, g, o) = (trace.i[at], trace.f[at], trace.g[at], trace.o[at]);
                    let c = self.cell.apply(trace.c[at]);
                    let dc = ds_next[last] + dh * o * self.cell.slope(c);
                    let dz_row = &mut dz[row * 4 * hidden..][..4 * hidden];
                    dz_row[j] = dc * g * self.gate.slope(i);
                    dz_row[hidden + j] = dc * c_previous(t, at) * self.gate.slope(f);
                    dz_row[2 * hidden + j] = dc * i * self.candidate.slope(g);
                    dz_row[3 * hidden + j] = dh * c * self.gate.slope(o);
                    ds_next[last] = dc * f;
                }
            }
        }

        let rows = steps * batch;
        let known_dz = given.unwrap_or(&dz);
        let dz_at = |row: usize, r: usize| known_dz[row * 4 * hidden + r];
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
                    dh0[n * hidden + j] = N::dot(through_w(known_dz, n, j));
                }
            }
        }
        Gradients { params: grad, dx, dh0, dc0: ds_next, dz }
    }
}
