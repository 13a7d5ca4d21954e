//! The steps of a forward pass, one after another.

use super::second::Second;
use super::step::{History, Input, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::step::Steps;

/// Where the cell states of the steps after the first are.
#[derive(Clone, Copy)]
pub(super) enum SStep {
    /// So many floats further each.
    Along(usize),
    /// Here, and where the first step's is, in turns.
    Turns(*mut f32),
}

/// The steps of a checked pass.
pub(super) struct Pointers<'a, C> {
    pub steps: usize,
    pub s_step: SStep,
    pub first: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn first(&self, t: usize) -> Step<'a, C> {
        let first = self.first;
        let units = first.batch * first.hidden;
        let (s_prev, s) = match self.s_step {
            SStep::Along(state) => match t {
                0 => (first.s_prev, first.s),
                _ => (
                    first.s.cast_const().wrapping_add((t - 1) * state),
                    first.s.wrapping_add(t * state),
                ),
            },
            SStep::Turns(_) if t.is_multiple_of(2) => (first.s_prev, first.s),
            SStep::Turns(other) => (first.s.cast_const(), other),
        };
        let kept = usize::from(!first.gates.is_null());
        Step {
            input: match first.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(t * first.batch * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    let x = x.wrapping_add(t * first.batch * weights.depth());
                    Input::Fused { x, weights, bias }
                }
            },
            gates: first.gates.wrapping_add(kept * t * C::GATES * units),
            extra: first.extra.wrapping_add(kept * t * C::EXTRA * units),
            history: History { t, ..first.history },
            s_prev,
            s,
            ..first
        }
    }

    #[inline(always)]
    fn second(&self, t: usize) -> Option<Second<'a, C>> {
        let step = self.first(t);
        step.recurrent.second.map(|weights| Second { step, weights })
    }
}
