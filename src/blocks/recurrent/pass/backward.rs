//! The backward pass: back-propagation through the steps, from the last to the first; then the
//! gradients of the parameters, which are sums over all steps, and ∂L/∂x.

use super::RecurrentPass;
use super::regions::Regions;
use super::sums::{Normal, Sums};
use crate::Error;
use crate::blocks::Backward;
use crate::blocks::recurrent::{RecurrentPacked, Sizes, StateParts};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{self, DropoutBack, NormBack, Zoneout, ZoneoutBack};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{KernelError, PackedMatrix};

impl RecurrentPass {
    /// Back-propagates through time over the forward pass that `memory` holds. The gradients of the
    /// pre-activations replace the gates.
    ///
    /// Parameter gradients are sums over all steps and sequences, each in one fixed order that
    /// begins with the last step. Therefore a sequence may be divided into several stretches: if
    /// they are accumulated with the last stretch first, the gradients have the same bits as in one
    /// pass.
    pub(super) fn run_backward(
        &self,
        packed: &RecurrentPacked,
        backward: Backward<'_, '_>,
    ) -> Result<(), Error> {
        let Backward { x, y, y_stride, dy, dy_stride, memory, state, dlast, dstate, .. } = backward;
        let Backward { dx, gradients, accumulate, threads, .. } = backward;
        let (Sizes { input, .. }, geometry) = (self.layer.sizes, self.layer.geometry());
        let x = x.features(self.rows(), input)?;
        let recurrent = packed.back()?;
        let wants_waiting = self.wanted.state && self.layer.late;
        let by_input = match dx.is_some() || wants_waiting {
            true => Some(packed.input_back()?),
            false => None,
        };
        let (lens, regularisation) = (self.state_lens(), self.layer.regularisation);
        match dlast {
            Some(dlast) => dstate.copy_from_slice(dlast),
            None => dstate.fill(0.0),
        }
        if self.rows() == 0 {
            // The state after the pass is the one before it, and the sums have no terms.
            if self.wanted.parameters && !accumulate {
                gradients.fill(0.0);
            }
            return Ok(());
        }
        let StateParts { h: h0, c: c0, x: waiting } = lens.split(state);
        let StateParts { h: dh, c: dc, x: dx_waiting } = lens.split_mut(dstate);
        // The kernel takes ∂L/∂h of step t from index t mod D.
        self.turn(dh);
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, c, seen_before, seen, mask, keys, dh_all, .. } = granted;
        let Regions { dh_kept, dc_kept, c_made, normal, normal_extra, inverse, .. } = granted;
        let Regions { da, da_extra, read, scratch, .. } = granted;
        let keys: &[u32] = bytemuck::cast_slice(keys);
        let dropout =
            regularisation.has_dropout().then_some(DropoutBack { mask, before: seen_before, seen });
        recurrence::Backward {
            dims: self.dims(),
            cell: self.layer.cell(&packed.vectors),
            recurrent,
            gates: &mut *gates,
            extra: &mut *extra,
            h0,
            h: y,
            h_stride: y_stride,
            c0,
            c,
            dy: Some(dy),
            dy_stride,
            dh,
            dc,
            dh_all: &mut *dh_all,
            zoneout: regularisation.rates().map(|rates| {
                let zoneout = Zoneout { rates, keys: Some(keys) };
                ZoneoutBack { zoneout, dh_kept, dc_kept }
            }),
            dropout,
            c_made: &mut *c_made,
            norm: packed.norm().map(|(_, gain)| NormBack {
                gain,
                normal,
                normal_extra,
                inverse,
                da: &mut *da,
                da_extra: &mut *da_extra,
            }),
            scratch: &mut *scratch,
        }
        .run(self.isa, threads)?;
        // With normalisation, `da` and `da_extra` hold the gradients of the products' sums, and
        // `gates` and `extra` the gradients of what the cell read. Without it, the two are the
        // same.
        let normed = self.layer.is_normed();
        let (by_sums, extra_by_sums) = if normed { (&*da, &*da_extra) } else { (&*gates, &*extra) };
        if self.wanted.parameters {
            let (h0, h, h_stride) = match dropout {
                Some(DropoutBack { before, seen, .. }) => (before, seen, self.layer.sizes.output),
                None => (h0, y, y_stride),
            };
            Sums {
                isa: self.isa,
                rows: self.rows(),
                batch: self.schedule.batch(),
                ago: &self.ago,
                sizes: self.layer.sizes,
                geometry,
                accumulate,
                dz: gates,
                extra,
                da: by_sums,
                da_extra: extra_by_sums,
                normal: normed.then_some(Normal { gates: normal, extra: normal_extra }),
                dh_all,
                waiting: if read.is_empty() { waiting } else { &[] },
                x: if read.is_empty() { x } else { &*read },
                h0,
                h,
                h_stride,
                c0,
                c,
                c_after: if c_made.is_empty() { c } else { c_made },
                scratch: &mut *scratch,
                threads: &mut *threads,
            }
            .add_up(&self.layer, &self.sections, gradients)?;
        }
        let Some(weights) = by_input else { return Ok(()) };
        if !read.is_empty() {
            self.by_input(weights, by_sums, read, scratch, threads)?;
            self.spread_late(read, dx_waiting, dx);
            return Ok(());
        }
        // The first rows of `by_sums` belong to the input that was waiting in the state.
        let (first, rest) = by_sums.split_at(lens.x / input * weights.depth());
        // The last input of the pass waits for the next pass: no step of this pass reads it, and
        // its gradient is the one in `dlast`.
        let waits = match dx {
            Some(dx) => {
                let (seen, waits) = dx.split_at_mut(dx.len() - lens.x);
                self.by_input(weights, rest, seen, scratch, threads)?;
                waits
            }
            None => &mut [],
        };
        waits.copy_from_slice(&dx_waiting[..waits.len()]);
        if wants_waiting {
            self.by_input(weights, first, dx_waiting, scratch, threads)?;
        }
        Ok(())
    }

    /// Puts ∂L/∂h of each sequence's last D steps where the kernel finds that of step t: at index t
    /// mod D.
    fn turn(&self, dh: &mut [f32]) {
        let (history, batch, width) =
            (self.layer.history(), self.schedule.batch(), self.layer.sizes.output);
        if self.schedule.is_dense() || history == 1 {
            dh.rotate_right(self.schedule.steps() % history * batch * width);
            return;
        }
        // In each sequence alone, one swap of two steps after the other: the indices go up by 1
        // until they are at their places.
        for n in 0..batch {
            for _ in 0..self.schedule.len_of(n) % history {
                for nth in (1..history).rev() {
                    let (later, earlier) =
                        ((nth * batch + n) * width, ((nth - 1) * batch + n) * width);
                    for unit in 0..width {
                        dh.swap(later + unit, earlier + unit);
                    }
                }
            }
        }
    }

    /// Hands the gradients of the inputs that the rows have `read` a step late to the inputs
    /// themselves, and to those that were waiting. The last input of each sequence waits for the
    /// next pass: its gradient is the one that `waiting` holds, which comes from that pass.
    fn spread_late(&self, read: &[f32], waiting: &mut [f32], dx: Option<&mut [f32]>) {
        let (schedule, width) = (&self.schedule, self.layer.sizes.input);
        let rows = |step: usize| schedule.start(step) * width..schedule.start(step + 1) * width;
        if let Some(dx) = dx {
            for step in 0..schedule.steps() {
                let (now, next) = (rows(step), &read[rows(step).end..]);
                let kept = next.len().min(schedule.step_rows().count(step + 1) * width);
                dx[now.clone()][..kept].copy_from_slice(&next[..kept]);
                let ended = kept..now.len();
                dx[now][ended.clone()].copy_from_slice(&waiting[ended]);
            }
        }
        let first = schedule.step_rows().count(0) * width;
        waiting[..first].copy_from_slice(&read[..first]);
    }

    /// Computes `∂L/∂x = dz U`.
    fn by_input(
        &self,
        weights: &PackedMatrix,
        dz: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), KernelError> {
        let (rows, stride, start) = (dz.len() / weights.depth(), weights.outputs(), Start::Zero);
        Gemm { rows, a: dz, weights, start, c: dx, stride, scratch }.run(self.isa, threads)
    }
}
