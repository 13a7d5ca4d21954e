//! A recurrent projection (Sak et al. 2014): what the cell would show is kept as m, and
//! `h = P m`, without a bias, is what shows and what recurs.

use super::{Back, Epilogue, Forth, MOST_SUMS, Source};
use crate::KernelError;
use crate::simd::Simd;

/// A cell whose hidden state is projected.
#[derive(Clone, Copy, Debug)]
pub struct Projected<C>(
    /// The cell.
    pub C,
);

impl<C: Epilogue> Epilogue for Projected<C> {
    const GATES: usize = C::GATES;
    const EXTRA: usize = 1;
    const CELLS: bool = C::CELLS;
    const PROJECTS: bool = {
        assert!(C::EXTRA == 0 && !C::APART && !C::CARRIES && C::SUMS == C::GATES);
        true
    };

    const BACK: &'static [Source] = C::BACK;

    fn check(&self, hidden: usize) -> Result<(), KernelError> {
        self.0.check(hidden)
    }

    #[inline(always)]
    unsafe fn forward<S: Simd>(&self, s: S, at: &Forth, z: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's; m is as long as h would be.
        unsafe { self.0.forward(s, &Forth { h: at.extra, ..*at }, z) };
    }

    #[inline(always)]
    unsafe fn backward<S: Simd>(&self, s: S, at: &Back, dm: S::V) {
        // SAFETY: the caller's.
        unsafe { self.0.backward(s, &Back { h: at.extra, ..*at }, dm) };
    }
}
