//! Passes of a layer whose units move in groups, in the same arena: the gates' region has the
//! input's part of each group at the steps at which it moves, and then its dz; the others have
//! the rows that are gathered of the inputs and the states that a group has seen.

mod backward;

pub(super) use backward::Ends;

use super::arena::Holds;
use super::regions::Regions;
use super::{Arena, Plan};
use crate::arena::{Layout, Region};
use crate::clocked::{Clocked, InputProduct};
use crate::error::product;
use crate::spec::{Sizes, Spec};
use crate::{Error, Isa, Weights};
use bptt_kernels::recurrence::{ClockedForward, clocked_scratch_len};
use bptt_kernels::tuning::CHUNK_ROWS;
use bptt_kernels::{KernelError, gemm, gemm::weight_gradients};

impl Regions<Region> {
    /// Books those of a layer in groups.
    pub(super) fn book_clocked(
        clocked: Clocked<'_>,
        Sizes { input, hidden, .. }: Sizes,
        (steps, batch): (usize, usize),
        isa: Isa,
        threads: usize,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let states = steps.checked_add(1).ok_or(Error::TooLarge { what: "the arena" })?;
        let rows = product("the inputs", &[steps, batch])?;
        product("the inputs", &[rows, input])?;
        let kept = clocked.most_kept(steps, batch)?;
        let [inputs, seen] = clocked.gathered((steps, batch), (input, hidden))?;
        let widest = clocked.groups.iter().map(|group| group.units).fold(0, usize::max);
        let needs = [
            gemm::team_scratch_len(threads, rows, input.max(widest))?,
            clocked_scratch_len(batch, hidden)?,
            weight_gradients::scratch_len(isa, threads, &[input, hidden])?,
        ];
        let dims: Regions<&[usize]> = Regions {
            gates: &[kept],
            extra: &[seen],
            h: &[states, batch, hidden],
            dh: &[batch, hidden],
            x: &[inputs],
            scratch: &[needs.into_iter().fold(0, usize::max)],
            ..Regions::default()
        };
        dims.booked(layout)
    }
}

impl<C: Spec> Plan<C> {
    /// What [`forward`](Self::forward) does, with arguments that have been checked, from a
    /// state, if there is one, after so many steps.
    pub(super) fn forward_clocked(
        &self,
        clocked: Clocked<'_>,
        weights: &Weights<C>,
        x: &[f32],
        (first, step): (Option<&[f32]>, u64),
        arena: &mut Arena<C>,
    ) -> Result<(), Error> {
        (arena.holds, arena.step) = (Holds::Nothing, step);
        let (steps, batch, isa, state) = (self.steps, self.batch, self.isa, self.before_len());
        let granted = self.regions.granted(&mut arena.memory);
        let Regions { gates: kept, h, x: gathered, scratch, .. } = granted;
        let (h0, h) = h.split_at_mut(state);
        match first {
            Some(first) => h0.copy_from_slice(first),
            None => h0.fill(0.0),
        }
        let (clock, activations) = (clocked.at(step), clocked.activations);
        let z = &mut kept[..clocked.kept_len(step, steps, batch)];
        let chunk = (CHUNK_ROWS / batch).max(1);
        let work = self.layer.work_in_stretches(steps * batch, chunk * batch);
        arena.team.pass(work, |pass| -> Result<(), KernelError> {
            for first in (0..steps).step_by(chunk) {
                let stretch = first..steps.min(first + chunk);
                let part = InputProduct {
                    isa,
                    clock,
                    steps,
                    stretch: stretch.clone(),
                    batch,
                    x,
                    bias: &weights.bias,
                    z: &mut *z,
                    gathered: &mut *gathered,
                    scratch: &mut *scratch,
                };
                part.run(weights.inputs(), pass)?;
                ClockedForward {
                    clock,
                    schedule: self.schedule(),
                    stretch,
                    activations,
                    weights: weights.forward().weights,
                    z,
                    h0,
                    h,
                    h_stride: self.layer.sizes().hidden,
                    scratch,
                }
                .run(isa, pass)?;
            }
            Ok(())
        })?;
        arena.holds = Holds::Forward;
        Ok(())
    }
}
