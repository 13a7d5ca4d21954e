//! The steps of a backward pass, one after another.

use super::second::Second;
use super::step::{Operands, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::step::Steps;

/// The steps of a checked pass, the last step first, and then the D states before the first step,
/// for which only ∂L/∂h is computed.
pub(super) struct Pointers<'a, C> {
    last: Operands<'a, C>,
}

impl<'a, C: Epilogue> Pointers<'a, C> {
    /// Makes the steps of a pass with these operands.
    ///
    /// # Safety
    /// For as long as it is used, the operands are what [`Step::new`] requires, for all steps.
    pub(super) unsafe fn new(last: Operands<'a, C>) -> Self {
        Self { last }
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which is nobody else's, as
// `new` has been promised: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

// SAFETY: a step's operands are those of its place in the pass, and all steps have the same batch
// (1); a step reads gradients of steps that were taken before it, and a second stage reads what the
// first has left in the same row (2).
unsafe impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        match self.last.schedule.steps() {
            0 => 0,
            steps => steps + self.last.recurrent.history(),
        }
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        let last = self.last;
        assert!(index < last.schedule.steps() + last.recurrent.history(), "a step of the pass");
        let t = last.schedule.steps() as isize - index as isize;
        let start = |t: isize| if t >= 1 { last.schedule.start((t - 1) as usize) } else { 0 };
        let (start, start_prev) = (start(t), start(t - 1));
        // SAFETY: `t` is one of the steps or of the D states before them, whose operands `new` was
        // promised.
        unsafe { Step::new(Operands { t, start, start_prev, ..last }) }
    }

    #[inline(always)]
    fn second(step: Step<'a, C>) -> Option<Second<'a, C>> {
        Second::of(step)
    }
}
