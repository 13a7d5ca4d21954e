//! The sizes and the weights of a pass. Knows which have to fit which; must not know steps.

use super::schedule::Schedule;
use crate::cells::SecondProduct;
use crate::error::{check_len, check_room};
use crate::gemm::PackedMatrix;
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// The rows of τ steps of B sequences.
    pub schedule: Schedule,
    /// Units, H.
    pub hidden: usize,
    /// Floats of a hidden state, R: H where it is not projected.
    pub outputs: usize,
}

impl Dims {
    /// τ.
    #[inline]
    pub fn steps(self) -> usize {
        self.schedule.steps()
    }

    /// B.
    #[inline]
    pub fn batch(self) -> usize {
        self.schedule.batch()
    }

    /// Floats of `width` for each sequence.
    #[inline]
    pub(super) fn sequences(self, what: &'static str, width: usize) -> Result<usize, KernelError> {
        checked_len(what, &[self.batch(), width])
    }

    /// Floats of `blocks` blocks of `width` for each row of the schedule.
    #[inline]
    pub(super) fn rows(
        self,
        what: &'static str,
        blocks: usize,
        width: usize,
    ) -> Result<usize, KernelError> {
        checked_len(what, &[self.steps(), self.batch(), blocks, width])
    }

    /// `Ok` where a stretch is some of the steps.
    pub(super) fn check_stretch(self, stretch: &Range<usize>) -> Result<(), KernelError> {
        if stretch.start <= stretch.end && stretch.end <= self.steps() {
            return Ok(());
        }
        let (what, given) = ("the stretch's end", stretch.end);
        let expected = format!("{} to {}", stretch.start, self.steps());
        Err(KernelError::Dimension { what, given, expected })
    }

    /// `Ok` where a slice has a row of `width` floats for each of the schedule, `stride` floats
    /// apart. What lies between them may be missing after the last.
    #[inline]
    pub(super) fn check_rows(
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
    /// The weights of each product: forward one for each delay, backward as many for each
    /// as [`Geometry::back`](crate::cells::Geometry) says.
    pub weights: &'a [PackedMatrix],
    /// For each product how many steps lie between the states that it connects, the
    /// longest delay first, which is also how many states a pass begins from, D.
    pub delays: &'a [usize],
    /// The weights of a second product in a step.
    pub second: Option<&'a PackedMatrix>,
}

impl<'a> Recurrent<'a> {
    /// One product with the state of the step before.
    pub fn of(weights: &'a PackedMatrix) -> Self {
        Self { weights: std::slice::from_ref(weights), delays: &[1], second: None }
    }

    /// D.
    pub(super) fn history(&self) -> usize {
        self.delays[0]
    }

    /// `Ok` where there are products, with a delay each, in their order.
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

    /// `Ok` where the second product's weights are there if there is one, and fit.
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
