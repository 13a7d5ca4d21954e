//! Forward passes over a drawn cell: batched, and of one sequence step by step.

use super::{Case, Functions, Kept, RATES, Variant};
use crate::common::{by_rows, filled};
use bptt_kernels::gemm::{self, Start, gemm};
use bptt_kernels::recurrence::{
    CellStates, Dims, Dropout, Forward, Gates, Norm, Recurrent, Single, Zoneout,
    forward_scratch_len, single_room,
};
use bptt_kernels::{Dense, Isa, PackedMatrix};
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

impl Case {
    /// `b + U x`, `[τ, B, G, H]`.
    pub fn input_part(&self, isa: Isa) -> Vec<f32> {
        let (rows, gates) = (self.rows(), self.which.geometry().gates);
        let mut z = filled(rows * self.b.len());
        let input = by_rows(isa, gates, self.inputs, &self.u);
        let mut scratch = filled(gemm::scratch_len(rows, self.inputs).unwrap());
        gemm(isa, rows, &self.x, &input, Start::Bias(&self.b), &mut z, &mut scratch).unwrap();
        z
    }

    /// The recurrent weights of forward passes, one for each delay, and the second.
    fn forward_weights(&self, isa: Isa) -> (Vec<PackedMatrix>, Option<PackedMatrix>) {
        let (geometry, Dims { hidden, outputs, .. }) = (self.which.geometry(), self.dims);
        let of_delay = geometry.sums * hidden * outputs;
        let (first, rest) = self.w.split_at(self.delays.len() * of_delay);
        let rest = if geometry.projects { &self.p[..] } else { rest };
        let second = geometry.is_double().then(|| by_rows(isa, 1, hidden, rest));
        let first = first.chunks(of_delay).map(|w| by_rows(isa, geometry.sums, outputs, w));
        (first.collect(), second)
    }

    /// Rows of outputs without the gap between them.
    fn joined(&self, spread: &[f32]) -> Vec<f32> {
        let width = self.dims.outputs;
        spread.chunks(width + self.gap).flat_map(|row| &row[..width]).copied().collect()
    }

    /// What a forward pass has left on buffers that `make` makes: without `Keep` no gates,
    /// and the last of the cell states.
    pub fn forward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        functions: impl Into<Functions>,
        variant: Variant,
        make: impl Fn(&[f32]) -> B,
    ) -> Kept {
        let (keep, dims, geometry) = (variant == Variant::Keep, self.dims, self.which.geometry());
        let mut z = make(&self.input_part(isa));
        let (row, stride) = (self.b.len(), self.b.len() + 3);
        let spread: Vec<f32> =
            z.chunks(row).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
        let spread = make(&spread);
        let (x, bias, h0, c0) = (make(&self.x), make(&self.b), make(&self.h0), make(&self.c0));
        let vectors = make(&self.vectors);
        let rows = self.rows();
        let mut h = make(&self.spread(&filled(self.dy.len())));
        let cells = if geometry.cells { rows * dims.hidden } else { 0 };
        let mut states = make(&filled(cells));
        let mut state = make(&self.c0);
        let mut other = make(&self.c0);
        let extra = match (keep, geometry.is_double()) {
            (true, _) => rows,
            (false, true) => dims.batch(),
            (false, false) => 0,
        };
        let mut extra = make(&filled(extra * geometry.extra * dims.hidden));
        let input = by_rows(isa, geometry.gates, self.inputs, &self.u);
        let (recurrent, second) = self.forward_weights(isa);
        let (weights, second) = (&recurrent[..], second.as_ref());
        let recurrent = Recurrent { weights, delays: self.delays, second };
        let delays = self.delays.len();
        let inputs = if variant == Variant::Fused { self.inputs } else { 0 };
        let mut scratch =
            make(&filled(forward_scratch_len(&geometry, dims, delays, inputs).unwrap()));
        let cell = self.which.cell(functions, &vectors);
        let [keys, mask, seen0] = self.noise().map(|values| make(&values));
        let mut seen = make(&filled(if self.noisy { self.dy.len() } else { 0 }));
        let keys = Some(bytemuck::cast_slice(&keys));
        let zoneout = self.noisy.then_some(Zoneout { rates: RATES, keys });
        let at_once = if keep { rows } else { dims.batch() };
        let [gain, norm_bias] = [geometry.norms, geometry.gates]
            .map(|blocks| make(&uniform(13, blocks * dims.hidden, 1.0)));
        let [mut normal, mut normal_extra, mut inverse] =
            self.norm_lens(at_once).map(|len| make(&filled(len)));
        let stretches = [0..self.cut, self.cut..dims.steps()];
        for stretch in stretches.into_iter().filter(|stretch| !stretch.is_empty()) {
            let norm = Norm {
                epsilon: 1e-2,
                gain: &gain,
                bias: &norm_bias,
                normal: &mut normal,
                normal_extra: &mut normal_extra,
                inverse: &mut inverse,
            };
            let dropout = Dropout { mask: &mask, before: &seen0, seen: &mut seen };
            let [first, end] = [stretch.start, stretch.end].map(|step| dims.schedule.start(step));
            let forward = Forward {
                dims,
                stretch,
                cell,
                recurrent,
                gates: match variant {
                    Variant::Keep => Gates::Keep(&mut z),
                    Variant::Discard => {
                        Gates::Discard { z: &spread[first * stride..end * stride], stride }
                    }
                    Variant::Fused => Gates::Fused { x: &x, input: &input, bias: &bias },
                },
                extra: &mut extra,
                h0: &h0,
                h: &mut h,
                h_stride: dims.outputs + self.gap,
                cells: match (geometry.cells, keep) {
                    (false, _) => CellStates::None,
                    (true, true) => CellStates::Keep { c0: &c0, c: &mut states },
                    (true, false) if self.noisy => {
                        CellStates::InTurns { c: &mut state, other: &mut other }
                    }
                    (true, false) => CellStates::InPlace(&mut state),
                },
                zoneout,
                dropout: self.noisy.then_some(dropout),
                norm: self.noisy.then_some(norm),
                scratch: &mut scratch,
            };
            self.on_threads(|pass| forward.run(isa, pass)).unwrap();
        }
        Kept {
            gates: if keep { z.to_vec() } else { Vec::new() },
            extra: if keep { extra.to_vec() } else { Vec::new() },
            h: self.joined(&h),
            c: match keep {
                true => states.to_vec(),
                false if self.noisy && dims.steps() % 2 == 1 => other.to_vec(),
                false => state.to_vec(),
            },
            seen: seen.to_vec(),
            normal: [normal, normal_extra, inverse].map(|kept| kept.to_vec()),
        }
    }

    /// `h`, the last cell state and the outputs of a dense layer after each step, of a batch
    /// of one that goes step by step, on buffers that `make` makes.
    pub fn singly<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        functions: impl Into<Functions>,
        dense: &Dense,
        outputs: usize,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 3] {
        let (geometry, hidden) = (self.which.geometry(), self.dims.hidden);
        assert_eq!(self.dims.batch(), 1);
        let input = by_rows(isa, geometry.gates, self.inputs, &self.u);
        let (recurrent, second) = self.forward_weights(isa);
        let recurrent = Recurrent { second: second.as_ref(), ..Recurrent::of(&recurrent[0]) };
        let (mut h, mut c) = (make(&self.h0), make(&self.c0));
        let (mut next, bias) = (make(&filled(self.dims.outputs)), make(&self.b));
        let [mut z, mut extra] = single_room(&geometry, hidden).map(|len| make(&filled(len)));
        let vectors = make(&self.vectors);
        let cell = self.which.cell(functions, &vectors);
        let (mut states, mut all) = (Vec::new(), Vec::new());
        for (t, x) in self.x.chunks(self.inputs).enumerate() {
            let (x, mut o) = (make(x), make(&filled(outputs)));
            Single {
                hidden,
                cell: &cell,
                input: &input,
                recurrent,
                bias: &bias,
                x: &x,
                h: &mut h,
                c: &mut c,
                next: &mut next,
                z: &mut z,
                extra: &mut extra,
                backwards: t % 2 == 1,
                output: Some(dense),
                o: &mut o,
            }
            .run(isa)
            .unwrap();
            states.extend_from_slice(&h);
            all.extend_from_slice(&o);
        }
        [states, c.to_vec(), all]
    }
}
