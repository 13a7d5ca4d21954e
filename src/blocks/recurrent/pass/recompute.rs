//! Computes the gates of a forward pass again from its states: as all states are known, no step
//! waits for another, and many rows are multiplied at once.

use super::RecurrentPass;
use super::regions::Regions;
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::recurrent::{RecurrentPacked, Sizes, StateParts};
use crate::sequence::Schedule;
use bptt_kernels::gemm::Gemm;
use bptt_kernels::recurrence::{self, CellStates, Dims, Gates, Norm, StepRows};
use bptt_kernels::tuning::CHUNK_ROWS;
use std::ops::Range;

/// States before the first step and after each row.
#[derive(Clone, Copy)]
struct States<'a> {
    /// Those before the first step, `[history, B, width]`.
    before: &'a [f32],
    /// Those after each row, which are `stride` floats apart.
    after: &'a [f32],
    stride: usize,
    width: usize,
}

impl States<'_> {
    /// Copies for each of `rows` the state of `delay` steps before it to `to` `[rows, width]`.
    fn copy_ago(&self, schedule: &Schedule, rows: &Range<usize>, delay: usize, to: &mut [f32]) {
        let (width, batch) = (self.width, schedule.batch());
        let history = self.before.len() / (batch * width);
        for step in 0..schedule.steps() {
            let first = schedule.start(step);
            for row in first.max(rows.start)..schedule.start(step + 1).min(rows.end) {
                let n = row - first;
                let from = match step.checked_sub(delay) {
                    Some(step) => &self.after[(schedule.start(step) + n) * self.stride..],
                    None => &self.before[((history + step - delay) * batch + n) * width..],
                };
                to[(row - rows.start) * width..][..width].copy_from_slice(&from[..width]);
            }
        }
    }
}

impl RecurrentPass {
    /// Whether the gates can be computed again from the states: noise would have to be drawn again
    /// for each of them.
    pub(super) fn can_recompute(&self) -> bool {
        let regularisation = self.layer.regularisation;
        !regularisation.has_dropout() && regularisation.rates().is_none()
    }

    /// Computes all that a forward pass leaves in the memory from the outputs `y` and the cell
    /// states, which the memory holds. Each row is a step of its own, of many sequences: its sums
    /// have the terms and the order of the forward pass, and so the same bits.
    pub(super) fn run_recompute(
        &self,
        packed: &RecurrentPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, threads, .. } = forward;
        let (Sizes { input, hidden, output }, schedule) = (self.layer.sizes, &self.schedule);
        let x = x.features(self.rows(), input)?;
        let (geometry, history) = (self.layer.geometry(), self.layer.history());
        let StateParts { h: h0, c: c0, x: waiting } = self.state_lens().split(state);
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, c, normal, normal_extra, inverse, .. } = granted;
        let Regions { read, h_before, c_before, scratch, .. } = granted;
        let (gate_row, most) = (geometry.gates * hidden, CHUNK_ROWS);
        let x = if read.is_empty() {
            x
        } else {
            self.read_late(waiting, x, read);
            read
        };
        for first in (0..self.rows()).step_by(most) {
            let rows = first..(first + most).min(self.rows());
            let count = rows.len();
            let within =
                |floats_of_row: usize| rows.start * floats_of_row..rows.end * floats_of_row;
            let a = &x[within(input)];
            let c_of_gates = &mut gates[within(gate_row)];
            let (weights, start) = (&packed.input, packed.start());
            Gemm { rows: count, a, weights, start, c: c_of_gates, stride: gate_row, scratch }
                .run(self.isa, threads)?;
            let states = States { before: h0, after: y, stride: y_stride, width: output };
            // The cell sees the state of the step before, and the products those of all delays.
            for &delay in [1].iter().chain(self.layer.delays.iter()) {
                let to = &mut h_before[(history - delay) * count * output..][..count * output];
                states.copy_ago(schedule, &rows, delay, to);
            }
            if geometry.cells {
                let states = States { before: c0, after: c, stride: hidden, width: hidden };
                states.copy_ago(schedule, &rows, 1, &mut c_before[..count * hidden]);
            }
            recurrence::Forward {
                dims: Dims { schedule: StepRows::dense(1, count), hidden, outputs: output },
                stretch: 0..1,
                cell: self.layer.cell(&packed.vectors),
                recurrent: packed.forward(),
                gates: Gates::Keep(&mut gates[within(gate_row)]),
                extra: &mut extra[within(geometry.extra * hidden)],
                h0: &h_before[..history * count * output],
                h: &mut y[rows.start * y_stride..][..(count - 1) * y_stride + output],
                h_stride: y_stride,
                cells: match geometry.cells {
                    true => CellStates::Keep {
                        c0: &c_before[..count * hidden],
                        c: &mut c[within(hidden)],
                    },
                    false => CellStates::None,
                },
                zoneout: None,
                dropout: None,
                norm: packed.norm().map(|(epsilon, gain)| Norm {
                    epsilon,
                    gain,
                    bias: &packed.bias,
                    normal: &mut normal[within(gate_row)],
                    normal_extra: &mut normal_extra
                        [within((geometry.norms - geometry.gates) * hidden)],
                    inverse: &mut inverse[within(geometry.norms)],
                }),
                scratch,
            }
            .run(self.isa, threads)?;
        }
        Ok(())
    }
}
