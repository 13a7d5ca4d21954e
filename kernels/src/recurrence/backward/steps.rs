//! The steps of a backward pass, one after another.

use super::second::Second;
use super::step::{Operands, Step};
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::step::Steps;

/// A checked pass: the steps from the last, and after them what is left, ∂L/∂h of the
/// states before the first step.
pub(super) struct Pointers<'a, C> {
    last: Operands<'a, C>,
}

impl<'a, C: Epilogue> Pointers<'a, C> {
    /// The steps of these operands.
    ///
    /// # Safety
    /// For as long as it is used they are what [`Step::new`] asks, for all steps.
    pub(super) unsafe fn new(last: Operands<'a, C>) -> Self {
        Self { last }
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which `new` has been
// promised to be nobody else's: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

// SAFETY: a step's operands are those of its place in the pass, all of one batch (1); it reads
// gradients of steps that were taken before it, and a second stage what the first has left of
// the row (2).
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
        // SAFETY: t is one of the steps or of the D before them, of which `new` was promised
        // the operands.
        unsafe { Step::new(Operands { t, start, start_prev, ..last }) }
    }

    #[inline(always)]
    fn second(step: Step<'a, C>) -> Option<Second<'a, C>> {
        Second::of(step)
    }
}
