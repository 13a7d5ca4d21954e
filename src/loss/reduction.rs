//! Which rows of a loss count, and how their losses become one value. Knows rows and sequences; must
//! not know outputs.

use super::outputs::TargetRows;
use crate::Error;
use crate::error::check_optional;

/// How the losses of single elements become one value. Rows that a mask leaves out are no part of it,
/// and neither is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum: the negative log-likelihood of all sequences, where a loss is one.
    Sum,
    /// Their mean over all elements that count, or 0 if none counts. The elements are those of the
    /// targets: each row where these are classes, each output where there is a target for each.
    Mean,
    /// The sums of the sequences, averaged over the sequences: the sum divided by the number of
    /// sequences of the schedule. Those without a step that counts are included.
    MeanOverSequences,
}

/// Which rows count, and how their losses become one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counting<'a> {
    /// For each row of the targets, whether it counts.
    pub mask: Option<&'a [bool]>,
    pub reduction: Reduction,
}

impl<'a> Counting<'a> {
    pub fn new(reduction: Reduction) -> Self {
        Self { mask: None, reduction }
    }

    pub fn with_mask(self, mask: &'a [bool]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Returns an error unless the mask, if there is one, has the rows of the targets.
    pub fn check(&self, targets: &TargetRows<'_>) -> Result<(), Error> {
        check_optional("mask", self.mask, targets.given())
    }

    /// Whether row `row` of the targets counts.
    pub fn counts(&self, row: usize) -> bool {
        self.mask.is_none_or(|mask| mask[row])
    }

    /// Returns the number by which the sum of a pass is divided, if each row has `elements` elements.
    pub fn divisor(&self, targets: &TargetRows<'_>, elements: usize) -> Divisor {
        self.divisor_of(targets, || {
            let rows = match self.mask {
                None => targets.count_of_pass() as f64,
                Some(_) => self.sum(targets, |_| 1.0),
            };
            rows * elements as f64
        })
    }

    /// As [`divisor`](Self::divisor), for rows of the targets whose elements have the weight that
    /// `weight` returns.
    pub fn weighted_divisor(
        &self,
        targets: &TargetRows<'_>,
        weight: impl Fn(usize) -> f64,
    ) -> Divisor {
        self.divisor_of(targets, || self.sum(targets, weight))
    }

    fn divisor_of(&self, targets: &TargetRows<'_>, elements: impl FnOnce() -> f64) -> Divisor {
        Divisor(match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => elements(),
            Reduction::MeanOverSequences => targets.sequences() as f64,
        })
    }

    /// Returns the sum of `weight` over the rows of the pass that count.
    fn sum(&self, targets: &TargetRows<'_>, weight: impl Fn(usize) -> f64) -> f64 {
        let of = |row| if self.counts(row) { weight(row) } else { 0.0 };
        match targets.order() {
            None => (0..targets.count_of_pass()).map(of).sum(),
            Some(order) => order.iter().map(|&row| of(row)).sum(),
        }
    }
}

/// What the sum of a pass is divided by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divisor(f64);

impl Divisor {
    /// Returns the part that `loss` has in the value of the pass, 0 if no element counts.
    pub fn divide(self, loss: f64) -> f64 {
        if self.0 == 0.0 { 0.0 } else { loss / self.0 }
    }

    /// Returns the factor of all gradients.
    pub fn scale(self) -> f64 {
        self.divide(1.0)
    }
}
