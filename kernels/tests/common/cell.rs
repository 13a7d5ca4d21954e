//! Drawn LSTM cells, and passes over them in buffers of the caller's making.

use super::{by_columns, by_rows, filled};
use bptt_kernels::gemm::{self, Start, gemm};
use bptt_kernels::lstm::{
    Activations, Backward, Cells, Dims, Forward, GATES, Gates, Single, backward_scratch_len,
    forward_scratch_len,
};
use bptt_kernels::team::Pass;
use bptt_kernels::{Dense, Isa};
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

/// All that the passes over a cell are given.
#[derive(Clone, Debug)]
pub struct Cell {
    pub dims: Dims,
    pub inputs: usize,
    /// U, W and b, flat.
    pub params: Vec<f32>,
    pub x: Vec<f32>,
    pub h0: Vec<f32>,
    pub s0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh: Vec<f32>,
    pub ds: Vec<f32>,
}

/// How a forward pass is given the input's part, and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Keep,
    Discard,
    Fused,
}

impl Variant {
    pub const ALL: [Self; 3] = [Self::Keep, Self::Discard, Self::Fused];
}

impl Cell {
    /// Drawn evenly, parameters up to ±`weights`, the rest up to ±1.
    pub fn draw(inputs: usize, dims: Dims, seed: u64, weights: f32) -> Self {
        let draw = |k: u64, len, limit| uniform(seed.wrapping_add(k << 32), len, limit);
        let state = dims.batch * dims.hidden;
        Self {
            dims,
            inputs,
            params: draw(1, GATES * dims.hidden * (inputs + dims.hidden + 1), weights),
            x: draw(2, dims.steps * dims.batch * inputs, 1.0),
            h0: draw(3, state, 1.0),
            s0: draw(4, state, 1.0),
            dy: draw(5, dims.steps * state, 1.0),
            dh: draw(6, state, 1.0),
            ds: draw(7, state, 1.0),
        }
    }

    pub fn u(&self) -> &[f32] {
        &self.params[..GATES * self.dims.hidden * self.inputs]
    }

    pub fn w(&self) -> &[f32] {
        &self.params[self.u().len()..][..GATES * self.dims.hidden * self.dims.hidden]
    }

    pub fn b(&self) -> &[f32] {
        &self.params[self.u().len() + self.w().len()..]
    }

    /// `b + U x`, `[τ, B, 4, H]`.
    pub fn input_part(&self, isa: Isa) -> Vec<f32> {
        let rows = self.dims.steps * self.dims.batch;
        let mut z = filled(rows * GATES * self.dims.hidden);
        let input = by_rows(isa, GATES, self.inputs, self.u());
        let mut scratch = filled(gemm::scratch_len(rows, self.inputs).unwrap());
        let start = Start::Bias(self.b());
        gemm(isa, rows, &self.x, &input, start, &mut z, &mut scratch).unwrap();
        z
    }

    /// The gates (none where they are not kept), `h`, and all states or the last, of
    /// a forward pass on buffers that `make` makes.
    pub fn forward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        variant: Variant,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 3] {
        let keep = variant == Variant::Keep;
        let mut z = make(&self.input_part(isa));
        let stride = GATES * self.dims.hidden + 3;
        let spread: Vec<f32> = z
            .chunks(GATES * self.dims.hidden)
            .flat_map(|row| row.iter().copied().chain([f32::NAN; 3]))
            .collect();
        let spread = make(&spread);
        let (x, bias, h0, s0) = (make(&self.x), make(self.b()), make(&self.h0), make(&self.s0));
        let (mut h, mut states) = (make(&filled(self.dy.len())), make(&filled(self.dy.len())));
        let mut state = make(&self.s0);
        let input = by_rows(isa, GATES, self.inputs, self.u());
        let recurrent = by_rows(isa, GATES, self.dims.hidden, self.w());
        let gates = match variant {
            Variant::Keep => Gates::Keep(&mut z),
            Variant::Discard => Gates::Discard { z: &spread, stride },
            Variant::Fused => Gates::Fused { x: &x, input: &input, bias: &bias },
        };
        let cells = match keep {
            true => Cells::Keep { s0: &s0, s: &mut states },
            false => Cells::InPlace(&mut state),
        };
        let (dims, recurrent) = (self.dims, &recurrent);
        let inputs = if variant == Variant::Fused { self.inputs } else { 0 };
        let mut scratch =
            make(&filled(forward_scratch_len(dims.batch, dims.hidden, inputs).unwrap()));
        let (h0, h_out, scratch) = (&h0, &mut h, &mut scratch);
        Forward { dims, activations, recurrent, gates, h0, h: h_out, cells, scratch }
            .run(isa, &mut Pass::serial())
            .unwrap();
        let s = if keep { states } else { state };
        [if keep { z.to_vec() } else { Vec::new() }, h.to_vec(), s.to_vec()]
    }

    /// `h`, the last state and the outputs of a dense layer after each step, of a batch of
    /// one that goes step by step, on buffers that `make` makes.
    pub fn singly<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        dense: &Dense,
        outputs: usize,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 3] {
        let hidden = self.dims.hidden;
        assert_eq!(self.dims.batch, 1);
        let input = by_rows(isa, GATES, self.inputs, self.u());
        let recurrent = by_rows(isa, GATES, hidden, self.w());
        let (mut h, mut s) = (make(&self.h0), make(&self.s0));
        let (mut next, bias) = (make(&filled(hidden)), make(self.b()));
        let (mut states, mut all) = (Vec::new(), Vec::new());
        for (t, x) in self.x.chunks(self.inputs).enumerate() {
            let (x, mut o) = (make(x), make(&filled(outputs)));
            Single {
                activations,
                input: &input,
                recurrent: &recurrent,
                bias: &bias,
                x: &x,
                h: &mut h,
                s: &mut s,
                next: &mut next,
                backwards: t % 2 == 1,
                output: Some(dense),
                o: &mut o,
            }
            .run(isa)
            .unwrap();
            states.extend_from_slice(&h);
            all.extend_from_slice(&o);
        }
        [states, s.to_vec(), all]
    }

    /// dz, ∂L/∂h₀ and ∂L/∂s₀ of a backward pass on buffers that `make` makes,
    /// over the gates and states that a forward pass kept.
    pub fn backward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        (gates, s): (&[f32], &[f32]),
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 3] {
        let recurrent = by_columns(isa, GATES * self.dims.hidden, self.w());
        let (mut gates, s) = (make(gates), make(&[&self.s0, s].concat()));
        let (dy, mut dh, mut ds) = (make(&self.dy), make(&self.dh), make(&self.ds));
        let Dims { batch, hidden, .. } = self.dims;
        let mut scratch = make(&filled(backward_scratch_len(batch, hidden).unwrap()));
        Backward {
            dims: self.dims,
            activations,
            recurrent: &recurrent,
            gates: &mut gates,
            s: &s,
            dy: Some(&dy),
            dh: &mut dh,
            ds: &mut ds,
            scratch: &mut scratch,
        }
        .run(isa, &mut Pass::serial())
        .unwrap();
        [gates, dh, ds].map(|buffer| buffer.to_vec())
    }
}
