//! The sizes and the weights of a pass. Knows which of them must fit each other; must not know
//! steps.

use super::schedule::StepRows;
use crate::cells::SecondProduct;
use crate::error::{check_len, check_room};
use crate::gemm::PackedMatrix;
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims<'a> {
    /// The rows of at most τ steps of B sequences.
    pub schedule: StepRows<'a>,
    /// Hidden units, H.
    pub hidden: usize,
    /// Floats of a hidden state, R, which is H unless the cell projects.
    pub outputs: usize,
}

impl Dims<'_> {
    /// Returns the number of steps, τ.
    #[inline]
    pub fn steps(self) -> usize {
        self.schedule.steps()
    }

    /// Returns the number of sequences, B.
    #[inline]
    pub fn batch(self) -> usize {
        self.schedule.batch()
    }

    /// Returns the floats of `[B, width]`.
    #[inline]
    pub(crate) fn sequences(self, what: &'static str, width: usize) -> Result<usize, KernelError> {
        checked_len(what, &[self.batch(), width])
    }

    /// Returns the floats of `[rows, blocks, width]`, for all rows of the schedule.
    #[inline]
    pub(crate) fn rows(
        self,
        what: &'static str,
        blocks: usize,
        width: usize,
    ) -> Result<usize, KernelError> {
        self.schedule.floats(what, blocks, width)
    }

    /// Checks that `stretch` is a range of the schedule's steps.
    pub(crate) fn check_stretch(self, stretch: &Range<usize>) -> Result<(), KernelError> {
        if stretch.start <= stretch.end && stretch.end <= self.steps() {
            return Ok(());
        }
        let (what, given) = ("the stretch's end", stretch.end);
        let expected = format!("{} to {}", stretch.start, self.steps());
        Err(KernelError::Dimension { what, given, expected })
    }

    /// Checks that a slice of `len` floats has a row of `width` floats for each row of the
    /// schedule, `stride` floats from one row to the next. The gap after the last row may be
    /// missing.
    #[inline]
    pub(crate) fn check_rows(
        self,
        what: &'static str,
        len: usize,
        width: usize,
        stride: usize,
    ) -> Result<(), KernelError> {
        check_room("stride", stride, width)?;
        let expected = self.rows(what, 1, stride)?;
        let least = expected.saturating_sub(stride - width);
        if (least..=expected).contains(&len) { Ok(()) } else { check_len(what, len, expected) }
    }
}

/// The recurrent weights of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Recurrent<'a> {
    /// The weights of each product. Forward there is one matrix for each delay; backward, for each
    /// delay, one for each operand in [`Geometry::back`](crate::cells::Geometry).
    pub weights: &'a [PackedMatrix],
    /// For each product, how many steps lie between the two states that it connects, the longest
    /// delay first. The longest delay, D, is also the number of states that a pass starts from.
    pub delays: &'a [usize],
    /// The weights of the second product of a step, if the cell has one.
    pub second: Option<&'a PackedMatrix>,
}

impl<'a> Recurrent<'a> {
    /// Returns the weights of a single product, with the state of the step before.
    pub fn of(weights: &'a PackedMatrix) -> Self {
        Self { weights: std::slice::from_ref(weights), delays: &[1], second: None }
    }

    /// Returns the longest delay, D.
    pub(super) fn history(&self) -> usize {
        self.delays[0]
    }

    /// Checks that there are products, and a delay of 1 or more for each, the longest first.
    pub(super) fn check(&self) -> Result<(), KernelError> {
        check_len("delays", self.delays.len(), self.weights.len())?;
        let sorted = self.delays.is_sorted_by(|a, b| a >= b);
        match self.delays.last() {
            Some(1..) if sorted => Ok(()),
            _ => Err(KernelError::Dimension {
                what: "delays",
                given: self.delays.last().copied().unwrap_or(0),
                expected: "1 or more, the longest first".into(),
            }),
        }
    }

    /// Checks that the second product's weights are given if and only if the cell has a second
    /// product, and that they fit.
    #[inline]
    pub(super) fn check_second(
        &self,
        isa: Isa,
        sizes: Option<SecondProduct>,
    ) -> Result<(), KernelError> {
        match (self.second, sizes) {
            (Some(second), Some(SecondProduct { units, depth })) => {
                second.check(isa, 1, units, depth)
            }
            (None, None) => Ok(()),
            (given, _) => Err(KernelError::Packing {
                given: format!("{} second products", usize::from(given.is_some())),
                expected: format!("{} of them", usize::from(sizes.is_some())),
            }),
        }
    }
}
