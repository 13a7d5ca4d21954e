//! The forward pass of a clockwork: for each stretch of time the product with the input, then the
//! steps.

use super::{ClockworkPass, Regions};
use crate::Error;
use crate::blocks::Forward;
use crate::blocks::clockwork::groups::InputProduct;
use crate::blocks::clockwork::packed::ClockworkPacked;
use crate::blocks::recurrent::remember;
use bptt_kernels::recurrence::ClockedForward;

impl ClockworkPass {
    pub(super) fn run_forward(
        &self,
        packed: &ClockworkPacked,
        forward: Forward<'_, '_>,
    ) -> Result<(), Error> {
        let Forward { x, y, y_stride, memory, state, last, step, threads, .. } = forward;
        let (clocked, schedule, isa) = (&self.clocked, self.schedule.step_rows(), self.isa);
        let x = x.features(self.rows(), clocked.input)?;
        let Regions { kept, inputs, scratch, .. } = self.regions.granted(memory);
        let (clock, activations) = (clocked.at(step), clocked.activations);
        let z = &mut kept[..clocked.kept_len(step, schedule)];
        for first in (0..schedule.steps()).step_by(self.stretch()) {
            let stretch = first..schedule.steps().min(first + self.stretch());
            let part = InputProduct {
                isa,
                clock,
                schedule,
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
                schedule,
                stretch,
                activations,
                weights: &packed.forward,
                z,
                h0: state,
                h: &mut *y,
                h_stride: y_stride,
                scratch,
            }
            .run(isa, threads)?;
        }
        last.copy_from_slice(state);
        remember(last, y, y_stride, clocked.hidden);
        Ok(())
    }
}
