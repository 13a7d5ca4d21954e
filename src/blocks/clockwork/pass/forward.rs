//! The forward pass of a clockwork: for each stretch of time the product with the input, then the
//! steps.

use super::{ClockworkPass, Regions};
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::clockwork::groups::InputProduct;
use crate::blocks::clockwork::packed::ClockworkPacked;
use crate::blocks::recurrent::last_rows;
use bptt_kernels::recurrence::ClockedForward;
use bptt_kernels::tuning::CHUNK_ROWS;

impl ClockworkPass {
    pub(super) fn run_forward(
        &self,
        packed: &ClockworkPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, last, step, threads, .. } = forward;
        let (clocked, rows, isa) = (&self.clocked, self.move_rows(), self.isa);
        let x = x.features(self.rows(), clocked.input)?;
        let Regions { kept, inputs, scratch, .. } = self.regions.granted(memory);
        let (clock, activation) = (clocked.at(step), clocked.activation);
        let z = &mut kept[..clocked.kept_len(step, rows)];
        for stretch in self.schedule.stretches(CHUNK_ROWS) {
            let part = InputProduct {
                isa,
                clock,
                rows,
                stretch: stretch.clone(),
                x,
                bias: &packed.bias,
                z: &mut *z,
                gathered: &mut *inputs,
                scratch: &mut *scratch,
            };
            part.run(packed.inputs.iter(), threads)?;
            ClockedForward {
                clock,
                schedule: rows,
                stretch,
                activation,
                weights: &packed.forward,
                z,
                h0: state,
                h: &mut *y,
                h_stride: y_stride,
                scratch,
            }
            .run(isa, threads)?;
        }
        last_rows(&self.schedule, state, y, y_stride, clocked.hidden, last);
        Ok(())
    }
}
