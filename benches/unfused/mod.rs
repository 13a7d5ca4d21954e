//! An LSTM as one writes it from parts: a GEMM of matrixmultiply per product and
//! scalar activations, one after another. What the fused passes are compared with.

use bptt_kernels::KernelError;
use bptt_kernels::baseline::{Operand::*, Sizes, sgemm};

/// The sizes of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// I.
    pub input: usize,
    /// H.
    pub hidden: usize,
    /// B.
    pub batch: usize,
    /// τ.
    pub steps: usize,
}

/// The memory of a pass, from zero states.
pub struct Unfused {
    shape: Shape,
    /// Gates, then gradients of the pre-activations, `[τ, B, 4, H]`.
    pub gates: Vec<f32>,
    /// Hidden states with the initial one, `[τ + 1, B, H]`.
    pub h: Vec<f32>,
    /// Cell states with the initial one, `[τ + 1, B, H]`.
    pub s: Vec<f32>,
    dh: Vec<f32>,
    ds: Vec<f32>,
    /// ∂L/∂U, ∂L/∂W, ∂L/∂b.
    pub gradients: [Vec<f32>; 3],
    /// ∂L/∂x.
    pub dx: Vec<f32>,
}

fn logistic(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

impl Unfused {
    /// Zeroed memory for passes of this shape.
    pub fn new(shape: Shape) -> Self {
        let Shape { input, hidden, batch, steps } = shape;
        let state = batch * hidden;
        Self {
            shape,
            gates: vec![0.0; steps * 4 * state],
            h: vec![0.0; (steps + 1) * state],
            s: vec![0.0; (steps + 1) * state],
            dh: vec![0.0; state],
            ds: vec![0.0; state],
            gradients: [
                vec![0.0; 4 * hidden * input],
                vec![0.0; 4 * hidden * hidden],
                vec![0.0; 4 * hidden],
            ],
            dx: vec![0.0; steps * batch * input],
        }
    }

    /// All steps; `parameters` is U `[4H, I]`, W `[4H, H]`, b `[4H]`, gates i, f, g, o.
    pub fn forward(&mut self, parameters: &[f32], x: &[f32]) -> Result<(), KernelError> {
        let Shape { input, hidden, batch, steps } = self.shape;
        let (u, rest) = parameters.split_at(4 * hidden * input);
        let (w, b) = rest.split_at(4 * hidden * hidden);
        for row in self.gates.chunks_exact_mut(4 * hidden) {
            row.copy_from_slice(b);
        }
        sgemm(
            Sizes { rows: steps * batch, depth: input, columns: 4 * hidden },
            Plain(x),
            Transposed(u),
            1.0,
            &mut self.gates,
        )?;
        let state = batch * hidden;
        for t in 0..steps {
            let z = &mut self.gates[t * 4 * state..(t + 1) * 4 * state];
            let (h_prev, h) = self.h[t * state..(t + 2) * state].split_at_mut(state);
            let (s_prev, s) = self.s[t * state..(t + 2) * state].split_at_mut(state);
            sgemm(
                Sizes { rows: batch, depth: hidden, columns: 4 * hidden },
                Plain(h_prev),
                Transposed(w),
                1.0,
                z,
            )?;
            for (row, z) in z.chunks_exact_mut(4 * hidden).enumerate() {
                for unit in 0..hidden {
                    let i = logistic(z[unit]);
                    let f = logistic(z[hidden + unit]);
                    let g = z[2 * hidden + unit].tanh();
                    let o = logistic(z[3 * hidden + unit]);
                    let at = row * hidden + unit;
                    s[at] = f * s_prev[at] + i * g;
                    h[at] = o * s[at].tanh();
                    (z[unit], z[hidden + unit]) = (i, f);
                    (z[2 * hidden + unit], z[3 * hidden + unit]) = (g, o);
                }
            }
        }
        Ok(())
    }

    /// All gradients of the last forward pass for `dy`, `[τ, B, H]`.
    pub fn backward(
        &mut self,
        parameters: &[f32],
        x: &[f32],
        dy: &[f32],
    ) -> Result<(), KernelError> {
        let Shape { input, hidden, batch, steps } = self.shape;
        let (u, rest) = parameters.split_at(4 * hidden * input);
        let w = &rest[..4 * hidden * hidden];
        let state = batch * hidden;
        self.dh.fill(0.0);
        self.ds.fill(0.0);
        for t in (0..steps).rev() {
            let z = &mut self.gates[t * 4 * state..(t + 1) * 4 * state];
            for (row, z) in z.chunks_exact_mut(4 * hidden).enumerate() {
                for unit in 0..hidden {
                    let at = row * hidden + unit;
                    let [i, f, g, o] = std::array::from_fn(|gate| z[gate * hidden + unit]);
                    let y = self.s[(t + 1) * state + at].tanh();
                    let dh = self.dh[at] + dy[t * state + at];
                    let ds = self.ds[at] + dh * o * (1.0 - y * y);
                    z[unit] = ds * g * i * (1.0 - i);
                    z[hidden + unit] = ds * self.s[t * state + at] * f * (1.0 - f);
                    z[2 * hidden + unit] = ds * i * (1.0 - g * g);
                    z[3 * hidden + unit] = dh * y * o * (1.0 - o);
                    self.ds[at] = ds * f;
                }
            }
            sgemm(
                Sizes { rows: batch, depth: 4 * hidden, columns: hidden },
                Plain(z),
                Plain(w),
                0.0,
                &mut self.dh,
            )?;
        }
        let rows = steps * batch;
        let [du, dw, db] = &mut self.gradients;
        let dz = &self.gates;
        sgemm(
            Sizes { rows: 4 * hidden, depth: rows, columns: input },
            Transposed(dz),
            Plain(x),
            0.0,
            du,
        )?;
        sgemm(
            Sizes { rows: 4 * hidden, depth: rows, columns: hidden },
            Transposed(dz),
            Plain(&self.h[..rows * hidden]),
            0.0,
            dw,
        )?;
        db.fill(0.0);
        for row in dz.chunks_exact(4 * hidden) {
            db.iter_mut().zip(row).for_each(|(db, dz)| *db += dz);
        }
        sgemm(
            Sizes { rows, depth: 4 * hidden, columns: input },
            Plain(dz),
            Plain(u),
            0.0,
            &mut self.dx,
        )
    }
}
