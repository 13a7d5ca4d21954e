//! The forward pass: the input's product of a stretch of time, and the steps over it.

use super::arena::Holds;
use super::regions::Regions;
use super::{Arena, Plan};
use crate::error::{check_optional, check_step};
use crate::inputs::Inputs;
use crate::spec::{Sizes, Spec};
use crate::state::{Parts, State};
use crate::{Error, Noise, Regularisation, Weights};
use bptt_kernels::gemm::Gemm;
use bptt_kernels::recurrence::{CellStates, Dropout, Forward, Gates, Norm, Zoneout};
use bptt_kernels::team::Team;
use bptt_kernels::tuning::CHUNK_ROWS;

impl<C: Spec> Plan<C> {
    /// Runs all steps over `x` `[τ, B, I]` from `initial` (zero where `None`) and
    /// leaves every gate and state in the arena.
    ///
    /// A sequence gets the same bits alone and in a batch, in one pass, in several
    /// that hand the state on, and step by step in a [stream](crate::Stream).
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// plan, [`Error::Value`] where `initial` is of 2⁶³ steps or more, or the plan has
    /// [regularisation](Regularisation), for which there is
    /// [`forward_with`](Self::forward_with); nothing is written then.
    pub fn forward(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        initial: Option<C::State<&[f32]>>,
        arena: &mut Arena<C>,
    ) -> Result<(), Error> {
        if self.regularisation != Regularisation::none() {
            let expected = "some, by Plan::forward_with, for a plan with regularisation".into();
            return Err(Error::Value { what: "noise", given: "none".into(), expected });
        }
        self.forward_with(weights, x, initial, Noise::default(), arena)
    }

    /// [`forward`](Self::forward) with [regularisation](Regularisation), whose noise is drawn
    /// from `noise`; without any it is the same.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_with(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        initial: Option<C::State<&[f32]>>,
        noise: Noise,
        arena: &mut Arena<C>,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        let (before, cell) = (self.before_len(), self.cell_len());
        let late = self.late_len();
        let (h_first, c_first, x_first, step) = match initial.map(State::into_parts) {
            Some(Parts { h, c, x, step }) => (Some(h), c, x, step),
            None => (None, None, None, None),
        };
        check_optional("h0", h_first, before)?;
        check_optional("c0", c_first, cell)?;
        check_optional("x0", x_first, late)?;
        if let Some(clocked) = self.layer.clocked() {
            let step = check_step(step.unwrap_or(0))?;
            arena.version = weights.version();
            return self.forward_clocked(clocked, weights, x, (h_first, step), arena);
        }

        (arena.holds, arena.version) = (Holds::Nothing, weights.version());
        let mut kept = self.regions.granted(&mut arena.memory);
        let Regions { h, c, x: waiting, seen, mask, .. } = &mut kept;
        let parts = [(&mut *h, h_first, before), (c, c_first, cell), (waiting, x_first, late)];
        for (to, from, len) in parts {
            match from {
                Some(from) => to[..len].copy_from_slice(from),
                None => to[..len].fill(0.0),
            }
        }
        if self.regularisation.has_dropout() {
            noise.draw_masks(self.regularisation.dropout(), self.batch, mask);
            for (h, seen) in h[..before].chunks(mask.len()).zip(seen.chunks_mut(mask.len())) {
                seen.iter_mut().zip(h).zip(&**mask).for_each(|((seen, h), m)| *seen = h * m);
            }
        }
        noise.derive_keys(self.batch, bytemuck::cast_slice_mut(kept.keys));
        self.stretches(weights, x, kept, &mut arena.team)?;
        if late > 0 {
            let waiting = &mut self.regions.granted(&mut arena.memory).x[late..];
            waiting.copy_from_slice(&x[x.len() - late..]);
        }
        arena.holds = Holds::Forward;
        Ok(())
    }

    /// The passes over stretches of time, each with the input's product before its steps.
    fn stretches(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        kept: Regions<&mut [f32]>,
        team: &mut Team,
    ) -> Result<(), Error> {
        let (Sizes { input, hidden, output }, schedule) = (self.layer.sizes(), self.schedule());
        let (geometry, dropout) = (self.layer.geometry(), self.regularisation.has_dropout());
        let (before, cell, late) = (self.before_len(), self.cell_len(), self.late_len());
        let Regions { gates, extra, h, c, seen, mask, keys, .. } = kept;
        let Regions { normal, normal_extra, inverse, x: waiting, scratch, .. } = kept;
        let (mask, keys): (&[f32], &[u32]) = (mask, bytemuck::cast_slice(keys));
        let (h0, h) = h.split_at_mut(before);
        let (c0, c) = c.split_at_mut(cell);
        let (seen0, seen) = seen.split_at_mut(if dropout { before } else { 0 });
        let zoneout = self.regularisation.rates().map(|rates| Zoneout { rates, keys: Some(keys) });
        let gate_row = geometry.gates * hidden;
        let steps = (CHUNK_ROWS / self.batch).max(1);
        let work = self.layer.work_in_stretches(schedule.start(self.steps), schedule.start(steps));
        team.pass(work, |pass| -> Result<(), Error> {
            let mut inputs = Inputs::new(&waiting[..late], x);
            for first in (0..self.steps).step_by(steps) {
                let stretch = first..self.steps.min(first + steps);
                let rows = schedule.start(stretch.start)..schedule.start(stretch.end);
                let mut to = &mut gates[rows.start * gate_row..rows.end * gate_row];
                for a in inputs.next(rows.len() * input) {
                    let (rows, start) = (a.len() / input, weights.start());
                    let (now, rest) = to.split_at_mut(rows * gate_row);
                    let weights = &weights.input;
                    Gemm { rows, a, weights, start, c: now, stride: gate_row, scratch }
                        .run(self.isa, pass)?;
                    to = rest;
                }
                Forward {
                    dims: self.dims(),
                    stretch,
                    cell: self.layer.cell(&weights.vectors),
                    recurrent: weights.forward(),
                    gates: Gates::Keep(gates),
                    extra,
                    h0,
                    h,
                    h_stride: output,
                    cells: match geometry.cells {
                        true => CellStates::Keep { c0, c },
                        false => CellStates::None,
                    },
                    zoneout,
                    dropout: dropout.then_some(Dropout { mask, before: seen0, seen }),
                    norm: weights.norm().map(|(epsilon, gain)| Norm {
                        epsilon,
                        gain,
                        bias: &weights.bias,
                        normal,
                        normal_extra,
                        inverse,
                    }),
                    scratch,
                }
                .run(self.isa, pass)?;
            }
            Ok(())
        })
    }
}
