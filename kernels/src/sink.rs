//! Sums that go to memory, row by row.

use crate::pack::Columns;
use crate::simd::Simd;
use crate::tile::{Sink, load_edge, store_lanes};

/// Rows of a result in memory.
pub(crate) struct Matrix {
    /// Null where there is none.
    pub bias: *const f32,
    pub c: *mut f32,
    pub c_stride: usize,
    pub columns: Columns,
}

impl<S: Simd> Sink<S> for Matrix {
    #[inline(always)]
    fn whole(&self) -> bool {
        self.columns.whole
    }
    #[inline(always)]
    unsafe fn start<const WHOLE: bool>(&self, s: S, _row: usize, vec: usize) -> S::V {
        if self.bias.is_null() {
            return s.zero();
        }
        // SAFETY: the column's real lanes lie in the bias.
        unsafe {
            load_edge::<S, WHOLE>(
                s,
                self.bias.add(self.columns.offset[vec]),
                self.columns.lanes[vec],
            )
        }
    }
    #[inline(always)]
    unsafe fn resume<const WHOLE: bool>(&self, s: S, row: usize, vec: usize) -> S::V {
        let at = row * self.c_stride + self.columns.offset[vec];
        // SAFETY: the column's real lanes lie in a row of C.
        unsafe { load_edge::<S, WHOLE>(s, self.c.add(at), self.columns.lanes[vec]) }
    }
    #[inline(always)]
    unsafe fn put<const WHOLE: bool>(&mut self, s: S, row: usize, vec: usize, sum: S::V) {
        let at = row * self.c_stride + self.columns.offset[vec];
        // SAFETY: the column's real lanes lie in a row of C.
        unsafe {
            if WHOLE {
                s.store(self.c.add(at), sum);
            } else {
                store_lanes(s, self.c.add(at), sum, self.columns.lanes[vec]);
            }
        }
    }
    #[inline(always)]
    fn fetches(&self, resume: bool) -> bool {
        resume
    }
    #[inline(always)]
    fn prefetch(&self, s: S, row: usize, vec: usize) {
        let at = row * self.c_stride + self.columns.offset_beyond(vec);
        s.prefetch(self.c.wrapping_add(at));
    }
}
