//! The forward pass: for each stretch of time the product with the input, then the steps. A pass for
//! inference has memory for the gates of one stretch only.

use super::RecurrentPass;
use super::regions::Regions;
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::recurrent::inputs::Inputs;
use crate::blocks::recurrent::state::last_rows;
use crate::blocks::recurrent::{RecurrentPacked, Sizes, StateParts};
use crate::regularisation::Noise;
use bptt_kernels::gemm::{self, Gemm};
use bptt_kernels::recurrence::{self, CellStates, Dropout, Gates, Norm, Zoneout};
use bptt_kernels::tuning::CHUNK_ROWS;

impl RecurrentPass {
    /// Runs all steps over `x` `[τ, B, I]` from `state`. For a backward pass it keeps all gates and
    /// states.
    pub(super) fn run_forward(
        &self,
        packed: &RecurrentPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, last, noise, mode, threads, .. } = forward;
        let (Sizes { input, hidden, output }, schedule) = (self.layer.sizes, &self.schedule);
        let x = x.features(self.rows(), input)?;
        let (geometry, regularisation) = (self.layer.geometry(), self.layer.regularisation);
        let (keeps, lens) = (self.wanted.any(), self.state_lens());
        let (dropout, training) = (keeps && regularisation.has_dropout(), keeps && mode.training);
        let StateParts { h: h0, c: c0, x: waiting } = lens.split(state);
        let StateParts { h: h_last, c: c_last, x: x_last } = lens.split_mut(last);
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, c, seen_before, seen, mask, keys, .. } = granted;
        let Regions { normal, normal_extra, inverse, read, scratch, .. } = granted;
        if dropout {
            self.draw_masks(noise, training, h0, [mask, seen_before]);
        }
        if training {
            noise.derive_keys(schedule, bytemuck::cast_slice_mut(keys));
        }
        let (mask, keys): (&[f32], &[u32]) = (mask, bytemuck::cast_slice(keys));
        let keys = training.then_some(keys);
        let zoneout = regularisation.rates().map(|rates| Zoneout { rates, keys });
        let keeps_cells = self.keeps_cells();
        if !keeps_cells {
            // The steps carry it on in place.
            c_last.copy_from_slice(c0);
        }
        let gate_row = geometry.gates * hidden;
        let stride = if keeps { gate_row } else { gemm::spread(gate_row) };
        let mut inputs = Inputs::new(waiting, x);
        if !read.is_empty() {
            self.read_late(waiting, x, read);
            inputs = Inputs::new(&[], read);
        }
        for stretch in schedule.stretches(CHUNK_ROWS) {
            let rows = schedule.start(stretch.start)..schedule.start(stretch.end);
            let of_stretch = if keeps { rows.start } else { 0 } * stride;
            let of_stretch = of_stretch..of_stretch + rows.len() * stride;
            let mut to = &mut gates[of_stretch.clone()];
            for a in inputs.next(rows.len() * input) {
                let (rows, start) = (a.len() / input, packed.start());
                let (now, rest) = to.split_at_mut(rows * stride);
                let weights = &packed.input;
                Gemm { rows, a, weights, start, c: now, stride, scratch }.run(self.isa, threads)?;
                to = rest;
            }
            recurrence::Forward {
                dims: self.dims(),
                stretch,
                cell: self.layer.cell(&packed.vectors),
                recurrent: packed.forward(),
                gates: match keeps {
                    true => Gates::Keep(gates),
                    false => Gates::Discard { z: &gates[of_stretch], stride },
                },
                extra,
                h0,
                h: y,
                h_stride: y_stride,
                cells: match (geometry.cells, keeps_cells) {
                    (false, _) => CellStates::None,
                    (true, true) => CellStates::Keep { c0, c },
                    (true, false) => CellStates::InPlace(c_last),
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
        last_rows(schedule, h0, y, y_stride, output, h_last);
        if keeps_cells {
            last_rows(schedule, c0, c, hidden, hidden, c_last);
        }
        last_rows(schedule, waiting, x, input, input, x_last);
        Ok(())
    }

    /// Draws the `mask` of dropout, `[B, R]`, which is 1 if the pass does not train, and computes the
    /// states from before the pass as the products see them, `[D, B, R]`.
    fn draw_masks(
        &self,
        noise: Noise,
        training: bool,
        h0: &[f32],
        [mask, seen_before]: [&mut [f32]; 2],
    ) {
        match training {
            true => noise.draw_masks(self.layer.regularisation.dropout(), &self.schedule, mask),
            false => mask.fill(1.0),
        }
        for (h, seen) in h0.chunks(mask.len()).zip(seen_before.chunks_mut(mask.len())) {
            seen.iter_mut().zip(h).zip(&*mask).for_each(|((seen, h), m)| *seen = h * m);
        }
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
