//! The steps of a backward pass, one after another.

use super::second::Second;
use super::step::{Operands, Step};
use crate::cells::{Epilogue, Geometry};
use crate::gemm::layout::Span;
use crate::recurrence::step::{self, Steps};

/// The steps of a checked pass, the last step first, and then the D states before the first step,
/// for which only ∂L/∂h is computed.
///
/// Near the end of its sequence a row has fewer products than before: a product with a delay d comes
/// from the step d steps later. Where the sequences have different lengths, each step is therefore
/// taken in several spans of rows, so that all rows of a span have the same products. Where they
/// have the same length, a step is one span.
pub(super) struct Pointers<'a, C> {
    last: Operands<'a, C>,
    /// Spans of rows in a step, some of which may be empty.
    spans: usize,
}

/// A span of a step.
struct Place {
    /// The step, counted from 1; 0 and below stand for the states before the first step.
    t: isize,
    rows: Span,
    /// The products of the span that do not exist, counted from the first.
    ended: usize,
    /// Whether the sequences of the span end with this step.
    is_last: bool,
}

impl<'a, C: Epilogue> Pointers<'a, C> {
    /// Makes the steps of a pass with these operands.
    ///
    /// # Safety
    /// For as long as it is used, the operands are what [`Step::new`] requires, for all steps.
    pub(super) unsafe fn new(last: Operands<'a, C>) -> Self {
        let spans = if last.schedule.is_dense() { 1 } else { 1 + ends(&last).len() };
        Self { last, spans }
    }

    /// Returns the number of sequences that have step `t`, counted from 1; all have the states
    /// before the first step.
    #[inline(always)]
    fn count_at(&self, t: isize) -> usize {
        let schedule = self.last.schedule;
        if t >= 1 { schedule.count((t - 1) as usize) } else { schedule.batch() }
    }

    /// Returns the span of index `index`.
    #[inline(always)]
    fn place(&self, index: usize) -> Place {
        let steps = self.last.schedule.steps();
        assert!(index < (steps + self.last.recurrent.history()) * self.spans, "a step of the pass");
        let (nth, span) = match self.spans {
            1 => (index, None),
            spans => (index / spans, Some(index % spans)),
        };
        let t = steps as isize - nth as isize;
        // Most steps of sequences of one length: all products exist.
        if span.is_none() && nth >= self.last.recurrent.history() {
            let rows = Span { first: 0, len: self.last.batch };
            return Place { t, rows, ended: 0, is_last: false };
        }
        let ends = ends(&self.last);
        let end = |span: usize| self.count_at(t + ends.delay(span) as isize);
        let (span, rows) = match span {
            // All rows have the same products: those whose steps still are within the sequences.
            None => {
                let span = (0..ends.len()).take_while(|&span| end(span) == 0).count();
                (span, Span { first: 0, len: self.count_at(t) })
            }
            Some(span) => {
                let first = if span == 0 { 0 } else { end(span - 1) };
                let end = if span < ends.len() { end(span) } else { self.count_at(t) };
                (span, Span { first, len: end - first })
            }
        };
        let ended = span.min(ends.delays) * C::BACK.len();
        Place { t, rows, ended, is_last: span == ends.len() }
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which is nobody else's, as
// `new` has been promised: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

// SAFETY: a step's operands are those of its place in the pass, and it has the rows of its span
// (1); a step reads gradients of steps that were taken before it, and a second stage reads what the
// first has left in the same row (2).
unsafe impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        match self.last.schedule.steps() {
            0 => 0,
            steps => (steps + self.last.recurrent.history()) * self.spans,
        }
    }

    #[inline(always)]
    fn rows(&self, index: usize) -> Span {
        match self.spans {
            1 => Span { first: 0, len: self.last.batch },
            _ => self.place(index).rows,
        }
    }

    #[inline(always)]
    fn part(&self, parts: usize, part: usize) -> Span {
        self.last.schedule.part(&(0..self.last.schedule.steps()), parts, part)
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        let last = self.last;
        let Place { t, rows: Span { first, len }, ended, is_last } = self.place(index);
        let start = |t: isize| if t >= 1 { last.schedule.start((t - 1) as usize) } else { 0 };
        let (start, start_prev, batch) = (start(t), start(t - 1), first + len);
        let operands = Operands { batch, t, ended, is_last, start, start_prev, ..last };
        // SAFETY: `t` is one of the steps or of the D states before them, whose operands `new` was
        // promised, for its first rows.
        let step = unsafe { Step::new(operands) };
        if first > 0 { step::Step::rows(step, first, len) } else { step }
    }

    #[inline(always)]
    fn second(step: Step<'a, C>) -> Option<Second<'a, C>> {
        Second::of(step)
    }
}

/// After how many steps the rows of a step lose products, and after how many they end.
struct Ends<'a> {
    /// The delay of each product of the backward step, the longest first; each delay has the same
    /// number of products.
    products: &'a [usize],
    of_delay: usize,
    /// The number of delays.
    delays: usize,
}

/// Returns the ends of the spans of a step.
#[inline(always)]
fn ends<'a, C: Epilogue>(last: &Operands<'a, C>) -> Ends<'a> {
    let (products, of_delay) = (last.recurrent.delays, C::BACK.len());
    Ends { products, of_delay, delays: products.len() / of_delay }
}

impl Ends<'_> {
    /// Returns the number of ends: one for each delay, and one for the end of the sequence, unless
    /// the shortest delay is 1 and so the same.
    #[inline(always)]
    fn len(&self) -> usize {
        self.delays + usize::from(self.products[self.products.len() - 1] != 1)
    }

    /// Returns the steps from a step to the one that the rows of span `span` have, and those of the
    /// next span do not.
    #[inline(always)]
    fn delay(&self, span: usize) -> usize {
        if span < self.delays { self.products[span * self.of_delay] } else { 1 }
    }
}
