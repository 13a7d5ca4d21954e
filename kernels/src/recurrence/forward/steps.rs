//! The steps of a forward pass, one after another.

use super::second::Second;
use super::step::{History, Input, Operands, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::step::Steps;
use crate::rows::further;

/// Where the cell states of the steps after the first are.
#[derive(Clone, Copy)]
pub(super) enum CellStep {
    /// So many floats further each.
    Along(usize),
    /// Here, and where the first step's is, in turns.
    Turns(*mut f32),
}

/// The steps of a checked pass.
pub(super) struct Pointers<'a, C> {
    steps: usize,
    c_step: CellStep,
    first: Operands<'a, C>,
}

impl<'a, C: Epilogue> Pointers<'a, C> {
    /// So many steps, of which these are the first one's operands.
    ///
    /// # Safety
    /// For as long as it is used `first` is what [`Step::new`] asks, and what it asks of a step
    /// is there for all of them, in the order of their memory that `Forward` has: z, x and h of
    /// all steps; gates and the extra block, of all where gates are kept, else of one; c where
    /// `c_step` says.
    pub(super) unsafe fn new(steps: usize, c_step: CellStep, first: Operands<'a, C>) -> Self {
        Self { steps, c_step, first }
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which `new` has been
// promised to be nobody else's: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

// SAFETY: a step's operands are those of its place in the pass, all of one batch (1); it reads
// states of steps before it, and a second stage what the first has left of the row (2).
unsafe impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn first(&self, t: usize) -> Step<'a, C> {
        assert!(t < self.steps, "a step of the pass");
        let first = self.first;
        let units = first.batch * first.hidden;
        let (c_prev, c) = match self.c_step {
            CellStep::Along(state) => match t {
                0 => (first.c_prev, first.c),
                _ => (
                    first.c.cast_const().wrapping_add((t - 1) * state),
                    first.c.wrapping_add(t * state),
                ),
            },
            CellStep::Turns(_) if t.is_multiple_of(2) => (first.c_prev, first.c),
            CellStep::Turns(other) => (first.c.cast_const(), other),
        };
        let kept = usize::from(first.gates.is_some());
        let operands = Operands {
            input: match first.input {
                Input::Computed(z) => Input::Computed(z.from(t * first.batch, 0)),
                Input::Fused { x, weights, bias } => {
                    Input::Fused { x: x.from(t * first.batch, 0), weights, bias }
                }
            },
            gates: further(first.gates, t * C::GATES * units),
            extra: first.extra.wrapping_add(kept * t * C::EXTRA * units),
            history: History { t, ..first.history },
            c_prev,
            c,
            ..first
        };
        // SAFETY: step t is one of the pass, whose operands lie there, as `new` was promised.
        unsafe { Step::new(operands) }
    }

    #[inline(always)]
    fn second(step: Step<'a, C>) -> Option<Second<'a, C>> {
        Second::of(step)
    }
}
