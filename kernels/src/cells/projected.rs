//! A recurrent projection (Sak et al. 2014): the inner cell's output m is kept in the extra block,
//! and the hidden state, which is output and recurs, is `h = P m`, without a bias. The functions of
//! the inner cell may limit it.

use super::{BackwardLhs, BackwardUnits, Epilogue, ForwardUnits, MOST_SUMS};
use crate::KernelError;
use crate::simd::Simd;

/// A cell whose output m is projected to the hidden state, `h = P m`.
#[derive(Clone, Copy, Debug)]
pub struct Projected<C>(
    /// The inner cell, which computes m.
    pub C,
);

// SAFETY: the only vectors are the inner cell's, which checks them.
unsafe impl<C: Epilogue> Epilogue for Projected<C> {
    const GATES: usize = C::GATES;
    const EXTRA: usize = 1;
    const CELLS: bool = C::CELLS;
    const PROJECTS: bool = {
        assert!(C::EXTRA == 0 && !C::SEPARATE_SUMS && !C::CARRIES && C::SUMS == C::GATES);
        true
    };

    const LIMITS: bool = C::LIMITS;
    const SHORT: bool = C::SHORT;

    const BACK: &'static [BackwardLhs] = C::BACK;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        self.0.check(hidden)
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, z: [S::V; MOST_SUMS]) {
        self.0.forward(simd, &at.projected(), z);
    }

    #[inline(always)]
    fn project<S: Simd>(&self, simd: S, h: S::V) -> S::V {
        self.0.project(simd, h)
    }

    #[inline(always)]
    fn project_backward<S: Simd>(&self, simd: S, dh: S::V, h: S::V) -> S::V {
        self.0.project_backward(simd, dh, h)
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dm: S::V) {
        self.0.backward(simd, &at.projected(), dm);
    }
}
