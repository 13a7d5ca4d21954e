//! The sizes and the weights of a pass. Knows which have to fit which; must not know steps.

use crate::error::check_len;
use crate::gemm::rhs::PackedMatrix;
use crate::{Isa, KernelError, checked_len};

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Time steps, τ.
    pub steps: usize,
    /// Sequences side by side, B.
    pub batch: usize,
    /// Units, H.
    pub hidden: usize,
    /// Floats of a hidden state, R: H where it is not projected.
    pub outputs: usize,
}

impl Dims {
    /// Floats of `width` for each sequence.
    #[inline]
    pub(super) fn rows(self, what: &'static str, width: usize) -> Result<usize, KernelError> {
        checked_len(what, &[self.batch, width])
    }

    /// Floats of so many blocks of `width` for each step and sequence.
    #[inline]
    pub(super) fn all(
        self,
        what: &'static str,
        blocks: usize,
        width: usize,
    ) -> Result<usize, KernelError> {
        checked_len(what, &[self.steps, self.batch, blocks, width])
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
        sizes: Option<(usize, usize)>,
    ) -> Result<(), KernelError> {
        match (self.second, sizes) {
            (Some(second), Some((units, depth))) => second.check(isa, 1, units, depth),
            (None, None) => Ok(()),
            (given, _) => Err(KernelError::Packing {
                given: format!("{} second products", usize::from(given.is_some())),
                expected: format!("{} of them", usize::from(sizes.is_some())),
            }),
        }
    }
}
