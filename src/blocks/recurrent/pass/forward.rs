//! The forward pass: for each stretch of time the product with the input, then the steps.

use super::RecurrentPass;
use super::regions::Regions;
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::recurrent::inputs::Inputs;
use crate::blocks::recurrent::state::last_rows;
use crate::blocks::recurrent::{RecurrentPacked, Sizes, StateParts};
use bptt_kernels::gemm::Gemm;
use bptt_kernels::recurrence::{self, CellStates, Dropout, Gates, Norm, Zoneout};
use bptt_kernels::tuning::CHUNK_ROWS;

impl RecurrentPass {
    /// Runs all steps over `x` `[τ, B, I]` from `state`, and keeps every gate and state.
    pub(super) fn run_forward(
        &self,
        packed: &RecurrentPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, last, noise, mode, threads, .. } = forward;
        let (Sizes { input, hidden, output }, schedule) = (self.layer.sizes, &self.schedule);
        let x = x.features(self.rows(), input)?;
        let (geometry, regularisation) = (self.layer.geometry(), self.layer.regularisation);
        let (dropout, lens) = (regularisation.has_dropout(), self.state_lens());
        let StateParts { h: h0, c: c0, x: waiting } = lens.split(state);
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, c, seen_before, seen, mask, keys, .. } = granted;
        let Regions { normal, normal_extra, inverse, read, scratch, .. } = granted;
        if dropout {
            match mode.training {
                true => noise.draw_masks(regularisation.dropout(), schedule, mask),
                false => mask.fill(1.0),
            }
            for (h, seen) in h0.chunks(mask.len()).zip(seen_before.chunks_mut(mask.len())) {
                seen.iter_mut().zip(h).zip(&*mask).for_each(|((seen, h), m)| *seen = h * m);
            }
        }
        if mode.training {
            noise.derive_keys(schedule, bytemuck::cast_slice_mut(keys));
        }
        let (mask, keys): (&[f32], &[u32]) = (mask, bytemuck::cast_slice(keys));
        let keys = mode.training.then_some(keys);
        let zoneout = regularisation.rates().map(|rates| Zoneout { rates, keys });
        let gate_row = geometry.gates * hidden;
        let mut inputs = Inputs::new(waiting, x);
        if !read.is_empty() {
            self.read_late(waiting, x, read);
            inputs = Inputs::new(&[], read);
        }
        for stretch in schedule.stretches(CHUNK_ROWS) {
            let rows = schedule.start(stretch.start)..schedule.start(stretch.end);
            let mut to = &mut gates[rows.start * gate_row..rows.end * gate_row];
            for a in inputs.next(rows.len() * input) {
                let (rows, start) = (a.len() / input, packed.start());
                let (now, rest) = to.split_at_mut(rows * gate_row);
                let weights = &packed.input;
                Gemm { rows, a, weights, start, c: now, stride: gate_row, scratch }
                    .run(self.isa, threads)?;
                to = rest;
            }
            recurrence::Forward {
                dims: self.dims(),
                stretch,
                cell: self.layer.cell(&packed.vectors),
                recurrent: packed.forward(),
                gates: Gates::Keep(gates),
                extra,
                h0,
                h: y,
                h_stride: y_stride,
                cells: match geometry.cells {
                    true => CellStates::Keep { c0, c },
                    false => CellStates::None,
                },
                zoneout,
                dropout: dropout.then_some(Dropout { mask, before: seen_before, seen }),
                norm: packed.norm().map(|(epsilon, gain)| Norm {
                    epsilon,
                    gain,
                    bias: &packed.bias,
                    normal,
                    normal_extra,
                    inverse,
                }),
                scratch,
            }
            .run(self.isa, threads)?;
        }
        let StateParts { h: h_last, c: c_last, x: x_last } = lens.split_mut(last);
        last_rows(schedule, h0, y, y_stride, output, h_last);
        last_rows(schedule, c0, c, hidden, hidden, c_last);
        last_rows(schedule, waiting, x, input, input, x_last);
        Ok(())
    }

    /// Copies to `read` the input that each row reads, which is that of the step before or, at the
    /// first step, the one that was waiting.
    pub(super) fn read_late(&self, waiting: &[f32], x: &[f32], read: &mut [f32]) {
        let width = self.layer.sizes.input;
        for step in 0..self.schedule.steps() {
            let (first, end) =
                (self.schedule.start(step) * width, self.schedule.start(step + 1) * width);
            let from = match step.checked_sub(1) {
                None => waiting,
                Some(before) => &x[self.schedule.start(before) * width..],
            };
            read[first..end].copy_from_slice(&from[..end - first]);
        }
    }
}
