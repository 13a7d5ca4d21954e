//! The steps of a backward pass, one after another.

use super::second::Second;
use super::step::Step;
use crate::cells::{Epilogue, Geometry};
use crate::recurrence::step::Steps;

/// A checked pass: the steps from the last, and after them what is left, ∂L/∂h of the
/// states before the first step.
pub(super) struct Pointers<'a, C> {
    pub last: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        match self.last.steps {
            0 => 0,
            steps => steps + self.last.recurrent.history(),
        }
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        let last = self.last;
        let t = last.steps as isize - index as isize;
        Step { t, ..last }
    }

    #[inline(always)]
    fn second(&self, index: usize) -> Option<Second<'a, C>> {
        let step = self.first(index);
        let weights = step.recurrent.second?;
        (step.t > 0).then_some(Second { step, weights })
    }
}
