//! The forward pass: the input's product of a stretch of time, and the steps over it.

use super::arena::Holds;
use super::{Arena, CHUNK_ROWS, Plan};
use crate::arena::grant;
use crate::error::{check_optional, check_step};
use crate::inputs::Inputs;
use crate::layer::{Layer, Sizes};
use crate::state::{Parts, State};
use crate::{Error, Weights};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{CellStates, Forward, Gates};

impl<C: Layer> Plan<C> {
    /// Runs all steps over `x` `[τ, B, I]` from `initial` (zero where `None`) and
    /// leaves every gate and state in the arena.
    ///
    /// A sequence gets the same bits alone and in a batch, in one pass, in several
    /// that hand the state on, and step by step in a [stream](crate::Stream).
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// plan, [`Error::Value`] where `initial` is of 2⁶³ steps or more; nothing is written
    /// then.
    pub fn forward(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        initial: Option<C::State<&[f32]>>,
        arena: &mut Arena<C>,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        let (before, cell) = (self.before_len(), self.cell_len());
        let late = self.late_len();
        let (h_first, s_first, x_first, step) = match initial.map(State::into_parts) {
            Some(Parts { h, s, x, step }) => (Some(h), s, x, step),
            None => (None, None, None, None),
        };
        check_optional("h0", h_first, before)?;
        check_optional("s0", s_first, cell)?;
        check_optional("x0", x_first, late)?;
        if let Some(clocked) = self.layer.clocked() {
            let step = check_step(step.unwrap_or(0))?;
            return self.forward_clocked(clocked, weights, x, (h_first, step), arena);
        }

        arena.holds = Holds::Nothing;
        let Sizes { input, hidden, output } = self.layer.sizes();
        let geometry = self.layer.geometry();
        let regions = self.regions;
        let [gates, extra, mut h, mut s, waiting, scratch] = grant(
            &mut arena.memory,
            [regions.gates, regions.extra, regions.h, regions.s, regions.x, regions.scratch],
        );
        let first = [(&mut *h, h_first, before), (&mut *s, s_first, cell)];
        for (to, from, len) in first.into_iter().chain([(&mut *waiting, x_first, late)]) {
            match from {
                Some(from) => to[..len].copy_from_slice(from),
                None => to[..len].fill(0.0),
            }
        }
        let chunk = (CHUNK_ROWS / self.batch).max(1) * self.batch;
        let work = self.layer.work_in_stretches(self.steps * self.batch, chunk);
        arena.team.pass(work, |pass| -> Result<(), Error> {
            let (gate_row, mut extra) = (geometry.gates * hidden, extra);
            let mut inputs = Inputs::new(&waiting[..late], x);
            for gates in gates.chunks_mut(chunk * gate_row) {
                let rows = gates.len() / gate_row;
                let mut c = &mut *gates;
                for a in inputs.next(rows * input) {
                    let rows = a.len() / input;
                    let (now, rest) = c.split_at_mut(rows * gate_row);
                    let start = Start::Bias(&weights.bias);
                    let weights = &weights.input;
                    Gemm { rows, a, weights, start, c: now, stride: gate_row, scratch }
                        .run(self.isa, pass)?;
                    c = rest;
                }
                let (extra_now, extra_rest) = extra.split_at_mut(rows * geometry.extra * hidden);
                let (h0, h_now) = h.split_at_mut(before);
                let (s0, s_now) = s.split_at_mut(cell);
                let cells = match geometry.cells {
                    true => CellStates::Keep { s0, s: &mut s_now[..rows * hidden] },
                    false => CellStates::None,
                };
                Forward {
                    dims: self.dims(rows / self.batch),
                    cell: self.layer.cell(&weights.vectors),
                    recurrent: weights.forward(),
                    gates: Gates::Keep(gates),
                    extra: extra_now,
                    h0,
                    h: &mut h_now[..rows * output],
                    cells,
                    scratch,
                }
                .run(self.isa, pass)?;
                extra = extra_rest;
                h = &mut h[rows * output..];
                s = &mut s[if cell > 0 { rows * hidden } else { 0 }..];
            }
            Ok(())
        })?;
        if late > 0 {
            waiting[late..].copy_from_slice(&x[x.len() - late..]);
        }
        arena.holds = Holds::Forward;
        Ok(())
    }
}
