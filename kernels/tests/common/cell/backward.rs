//! Backward passes over a drawn cell.

use super::{Case, Functions, Kept, RATES};
use crate::common::{by_columns, filled};
use bptt_kernels::cells::BackwardLhs;
use bptt_kernels::recurrence::{
    Backward, Dims, DropoutBack, NormBack, Recurrent, Zoneout, ZoneoutBack, backward_scratch_len,
};
use bptt_kernels::{Isa, PackedMatrix};
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

impl Case {
    /// ∂L/∂h of each sequence's last D steps, the last one last, in the order of the kernel, which
    /// has step t at index t mod D.
    fn in_turns(&self, dh: &[f32]) -> Vec<f32> {
        let Dims { schedule, outputs, .. } = self.dims;
        let (batch, history) = (schedule.batch(), self.delays[0]);
        let mut turned = vec![f32::NAN; dh.len()];
        for n in 0..batch {
            let steps = (0..schedule.steps()).filter(|&step| schedule.count(step) > n).count();
            for nth in 0..history {
                let row = |index: usize| (index * batch + n) * outputs;
                let to = row((steps + nth) % history);
                turned[to..to + outputs].copy_from_slice(&dh[row(nth)..][..outputs]);
            }
        }
        turned
    }

    /// The recurrent weights of backward passes, for each delay, and the second.
    fn back_weights(&self, isa: Isa) -> (Vec<PackedMatrix>, Option<PackedMatrix>) {
        let (geometry, Dims { hidden, outputs, .. }) = (self.which.geometry(), self.dims);
        let mut rest = &self.w[..];
        let mut weights = Vec::new();
        for _ in self.delays {
            for source in geometry.back.iter().copied().map(BackwardLhs::blocks) {
                let (rows, tail) = rest.split_at(source * hidden * outputs);
                weights.push(by_columns(isa, source * hidden, rows));
                rest = tail;
            }
        }
        let (rest, depth) = if geometry.projects { (&self.p[..], outputs) } else { (rest, hidden) };
        (weights, geometry.is_double().then(|| by_columns(isa, depth, rest)))
    }

    /// dz, the extra block, ∂L/∂h₀, ∂L/∂s₀ and all of ∂L/∂h of a backward pass on buffers that
    /// `make` makes, over what a forward pass kept.
    pub fn backward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        functions: impl Into<Functions>,
        kept: &Kept,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 5] {
        let (geometry, dims) = (self.which.geometry(), self.dims);
        let (weights, second) = self.back_weights(isa);
        let of_delay = geometry.back.len();
        let delays: Vec<_> = self.delays.iter().flat_map(|&delay| vec![delay; of_delay]).collect();
        let recurrent = Recurrent { weights: &weights, delays: &delays, second: second.as_ref() };
        let (mut gates, mut extra) = (make(&kept.gates), make(&kept.extra));
        let (h0, h) = (make(&self.h0), make(&self.spread(&kept.h)));
        let (c0, c) = (make(&self.c0), make(&kept.c));
        let vectors = make(&self.vectors);
        let (mut dh, mut dc) = (make(&self.in_turns(&self.dh)), make(&self.dc));
        let dy = make(&self.spread(&self.dy));
        let all = if geometry.projects { self.dy.len() } else { 0 };
        let mut dh_all = make(&filled(all));
        let mut scratch =
            make(&filled(backward_scratch_len(&geometry, dims, self.delays.len()).unwrap()));
        let [keys, mask, seen0] = self.noise().map(|values| make(&values));
        let seen = make(&kept.seen);
        let noise = |len: usize| make(&filled(if self.noisy { len } else { 0 }));
        let (mut dh_kept, mut dc_kept) = (noise(self.mask.len()), noise(self.dc.len()));
        let mut c_made = noise(kept.c.len());
        let zoneout = Zoneout { rates: RATES, keys: Some(bytemuck::cast_slice(&keys)) };
        let zoneout = ZoneoutBack { zoneout, dh_kept: &mut dh_kept, dc_kept: &mut dc_kept };
        let dropout = DropoutBack { mask: &mask, before: &seen0, seen: &seen };
        let gain = make(&uniform(13, geometry.norms * dims.hidden, 1.0));
        let lens = self.norm_lens(self.rows());
        let [normal, normal_extra, inverse] = &kept.normal;
        let [normal, normal_extra, inverse] =
            [normal, normal_extra, inverse].map(|values| make(values));
        let [mut da, mut da_extra] = [lens[0], lens[1]].map(|len| make(&filled(len)));
        let norm = NormBack {
            gain: &gain,
            normal: &normal,
            normal_extra: &normal_extra,
            inverse: &inverse,
            da: &mut da,
            da_extra: &mut da_extra,
        };
        let backward = Backward {
            dims,
            cell: self.which.cell(functions, &vectors),
            recurrent,
            gates: &mut gates,
            extra: &mut extra,
            h0: &h0,
            h: &h,
            h_stride: dims.outputs + self.gap,
            c0: &c0,
            c: &c,
            dy: Some(&dy),
            dy_stride: dims.outputs + self.gap,
            dh: &mut dh,
            dc: &mut dc,
            dh_all: &mut dh_all,
            zoneout: self.noisy.then_some(zoneout),
            dropout: self.noisy.then_some(dropout),
            norm: self.noisy.then_some(norm),
            c_made: &mut c_made,
            scratch: &mut scratch,
        };
        self.on_threads(|pass| backward.run(isa, pass)).unwrap();
        [gates, extra, dh, dc, dh_all].map(|buffer| buffer.to_vec())
    }
}
