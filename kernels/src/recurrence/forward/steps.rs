//! The steps of a forward pass, one after another.

use super::second::Second;
use super::step::{Input, Operands, Step};
use crate::cells::{Epilogue, Geometry};
use crate::gemm::layout::Span;
use crate::recurrence::step::Steps;
use crate::rows::{RowsMut, further};
use std::ops::Range;

/// Where the cell states of the steps after the first are.
#[derive(Clone, Copy)]
pub(super) enum CellStep {
    /// All in the place of the first step's state.
    InPlace,
    /// Each in its own rows of the schedule.
    Along,
    /// In turns in the place of the first step's state and in this one.
    Turns(*mut f32),
}

/// The steps of a checked pass.
pub(super) struct Pointers<'a, C> {
    stretch: Range<usize>,
    c_step: CellStep,
    first: Operands<'a, C>,
}

impl<'a, C: Epilogue> Pointers<'a, C> {
    /// Makes the steps of `stretch`; `first` has the operands of the schedule's first step.
    ///
    /// # Safety
    /// For as long as it is used, `first` is what [`Step::new`] requires, and what it requires of a
    /// step is there for all steps, in the order of `Forward`'s memory: x and h for all steps; if
    /// gates are kept, z, the gates and the extra block, too, else z for the steps of the stretch and
    /// the extra block for one step; c where `c_step` says.
    pub(super) unsafe fn new(
        stretch: Range<usize>,
        c_step: CellStep,
        first: Operands<'a, C>,
    ) -> Self {
        Self { stretch, c_step, first }
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which is nobody else's, as
// `new` has been promised: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

// SAFETY: a step's operands are those of its place in the pass, and it has the first rows of the
// batch, as many as the schedule says (1); a step reads states of steps before it, and a second
// stage reads what the first has left in the same row (2).
unsafe impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        self.stretch.len()
    }

    #[inline(always)]
    fn rows(&self, index: usize) -> Span {
        assert!(index < self.stretch.len(), "a step of the pass");
        Span { first: 0, len: self.first.history.schedule.count(self.stretch.start + index) }
    }

    #[inline(always)]
    fn part(&self, parts: usize, part: usize) -> Span {
        self.first.history.schedule.part(&self.stretch, parts, part)
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        assert!(index < self.stretch.len(), "a step of the pass");
        let (t, first) = (self.stretch.start + index, self.first);
        let schedule = first.history.schedule;
        let row = schedule.start(t);
        let (c_prev, c) = match self.c_step {
            CellStep::InPlace => (first.c_prev, first.c),
            CellStep::Along => {
                let cells = RowsMut::new(first.c, first.hidden);
                let before = match t {
                    0 => first.c_prev,
                    _ => cells.at(schedule.start(t - 1), 0).cast_const(),
                };
                (before, cells.at(row, 0))
            }
            CellStep::Turns(_) if t.is_multiple_of(2) => (first.c_prev, first.c),
            CellStep::Turns(other) => (first.c.cast_const(), other),
        };
        let (kept, of_z) = match first.gates {
            Some(_) => (row * first.hidden, row),
            None => (0, row - schedule.start(self.stretch.start)),
        };
        let operands = Operands {
            batch: schedule.count(t),
            input: match first.input {
                Input::Computed(z) => Input::Computed(z.from(of_z, 0)),
                Input::Fused { x, weights, bias } => {
                    Input::Fused { x: x.from(row, 0), weights, bias }
                }
            },
            gates: further(first.gates, C::GATES * kept),
            extra: first.extra.wrapping_add(C::EXTRA * kept),
            t,
            h_prev: first.history.ago(t, 1),
            h: first.history.of(t),
            c_prev,
            c,
            ..first
        };
        // SAFETY: step t is one of the pass, and its operands lie there, as `new` was promised.
        unsafe { Step::new(operands) }
    }

    #[inline(always)]
    fn second(step: Step<'a, C>) -> Option<Second<'a, C>> {
        Second::of(step)
    }
}
