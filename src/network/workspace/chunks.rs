//! The loss of a run, and the last blocks of a network where they run in chunks of rows. Knows the
//! order of rows; must not know what a block or a loss computes.

use super::passes::{Compute, From, FromEncoder, Run, Sums};
use crate::Error;
use crate::blocks::Source;
use crate::loss::{Loss, Outputs, TargetRows};
use crate::network::plan::{Parts, Planned};
use crate::sequence::Input;
use bptt_kernels::team::Team;
use std::ops::Range;

impl<'a> Run<'a> {
    /// Returns the loss so far plus that of the outputs of this run, and overwrites the outputs with
    /// the gradient with respect to them. If there are blocks behind, the outputs are their input:
    /// these run forward and backward over chunks of rows, the last rows first, in the memory
    /// `behind`.
    pub(super) fn gradient(
        &self,
        loss: &dyn Loss,
        outputs: Outputs<'_>,
        behind: &mut [f32],
        team: &mut Team,
        sums: Sums<'_>,
    ) -> Result<f64, Error> {
        let Some(tail) = &self.planned.tail else { return loss.gradient(self.runtime, outputs) };
        let Outputs { y, size, targets, loss_so_far: mut value } = outputs;
        let Sums { gradients, mut accumulate } = sums;
        if targets.count() == 0 && !accumulate {
            gradients[tail.parameters.clone()].fill(0.0);
        }
        for (rows, planned) in tail.chunks(targets.count()).rev() {
            let y = &mut y[rows.start * size..rows.end * size];
            let run = self.behind(planned, y);
            run.forward(behind, team, Source::default(), Compute::All)?;
            let from = From {
                loss,
                targets: of_chunk(&targets, &rows),
                loss_so_far: value,
                has_last_gradient: false,
                gradients: &mut *gradients,
                accumulate,
                encoder: FromEncoder::default(),
            };
            value = run.backward(behind, team, from)?;
            accumulate = true;
            y.copy_from_slice(planned.parts.dx.of(behind));
        }
        Ok(value)
    }

    /// Returns the loss so far plus that of the outputs that the memory holds, which it may overwrite.
    pub(super) fn value(
        &self,
        memory: &mut [f32],
        team: &mut Team,
        loss: &dyn Loss,
        targets: TargetRows<'_>,
        loss_so_far: f64,
    ) -> Result<f64, Error> {
        let Planned { parts, output: size, .. } = *self.planned;
        let Parts { y, tail: behind, .. } = parts.granted(memory);
        let Some(tail) = &self.planned.tail else {
            return loss.value(self.runtime, Outputs { y, size, targets, loss_so_far });
        };
        let mut value = loss_so_far;
        for (rows, planned) in tail.chunks(targets.count()).rev() {
            let run = self.behind(planned, &y[rows.start * size..rows.end * size]);
            run.forward(behind, team, Source::default(), Compute::All)?;
            value = run.value(behind, team, loss, of_chunk(&targets, &rows), value)?;
        }
        Ok(value)
    }

    /// Returns the run over a chunk of the blocks behind this one, with the input `x`.
    fn behind<'x>(&'x self, planned: &'x Planned, x: &'x [f32]) -> Run<'x> {
        Run { planned, x: Input::Features(x), ..*self }
    }
}

/// Returns the targets of the rows `rows` of outputs with these targets.
fn of_chunk<'t>(targets: &TargetRows<'t>, rows: &Range<usize>) -> TargetRows<'t> {
    let first = targets.first();
    targets.clone().within(first + rows.start..first + rows.end)
}
