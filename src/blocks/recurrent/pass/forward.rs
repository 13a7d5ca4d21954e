//! The forward pass: for each stretch of time the product with the input, then the steps.

use super::RecurrentPass;
use super::regions::Regions;
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::recurrent::inputs::Inputs;
use crate::blocks::recurrent::{RecurrentPacked, Sizes, StateParts, remember};
use bptt_kernels::gemm::Gemm;
use bptt_kernels::recurrence::{self, CellStates, Dropout, Gates, Norm, Zoneout};

impl RecurrentPass {
    /// Runs all steps over `x` `[τ, B, I]` from `state`, and keeps every gate and state.
    pub(super) fn run_forward(
        &self,
        packed: &RecurrentPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, last, noise, threads, .. } = forward;
        let (Sizes { input, hidden, output }, schedule) = (self.layer.sizes, self.schedule);
        let x = x.features(self.rows(), input)?;
        let (geometry, regularisation) = (self.layer.geometry(), self.layer.regularisation);
        let (dropout, lens) = (regularisation.has_dropout(), self.state_lens());
        let StateParts { h: h0, c: c0, x: waiting } = lens.split(state);
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, c, seen_before, seen, mask, keys, .. } = granted;
        let Regions { normal, normal_extra, inverse, scratch, .. } = granted;
        if dropout {
            noise.draw_masks(regularisation.dropout(), schedule.batch(), mask);
            for (h, seen) in h0.chunks(mask.len()).zip(seen_before.chunks_mut(mask.len())) {
                seen.iter_mut().zip(h).zip(&*mask).for_each(|((seen, h), m)| *seen = h * m);
            }
        }
        noise.derive_keys(schedule.batch(), bytemuck::cast_slice_mut(keys));
        let (mask, keys): (&[f32], &[u32]) = (mask, bytemuck::cast_slice(keys));
        let zoneout = regularisation.rates().map(|rates| Zoneout { rates, keys: Some(keys) });
        let gate_row = geometry.gates * hidden;
        let mut inputs = Inputs::new(waiting, x);
        for first in (0..schedule.steps()).step_by(self.stretch()) {
            let stretch = first..schedule.steps().min(first + self.stretch());
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
        h_last.copy_from_slice(h0);
        remember(h_last, y, y_stride, output);
        c_last.copy_from_slice(&c[c.len() - lens.c..]);
        x_last.copy_from_slice(&x[x.len() - lens.x..]);
        Ok(())
    }
}
