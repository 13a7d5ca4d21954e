//! Rows of floats in memory, as kernels are handed them: a start and a stride. Knows where a
//! row begins; must not know how many there are, which whoever reads or writes one says.

use crate::simd::Simd;
use std::ptr::NonNull;

/// Rows to be read.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    start: *const f32,
    /// Floats from one row to the next; 0 where all are the same.
    stride: usize,
}

/// Rows to be read and written.
#[derive(Clone, Copy)]
pub(crate) struct RowsMut {
    start: *mut f32,
    stride: usize,
}

/// What both can do.
macro_rules! rows {
    ($($rows:ident, $pointer:ty;)+) => {
        $(impl $rows {
            #[inline(always)]
            pub(crate) fn new(start: $pointer, stride: usize) -> Self {
                Self { start, stride }
            }

            /// Where a column of a row is.
            #[inline(always)]
            pub(crate) fn at(self, row: usize, column: usize) -> $pointer {
                self.start.wrapping_add(row * self.stride + column)
            }

            /// The rows from that place on.
            #[inline(always)]
            pub(crate) fn from(self, row: usize, column: usize) -> Self {
                Self { start: self.at(row, column), ..self }
            }

            /// The first `lanes` floats of a row from a column on.
            ///
            /// # Safety
            /// They are readable, and no more than a vector.
            #[inline(always)]
            pub(crate) unsafe fn load<S: Simd>(
                self,
                simd: S,
                (row, column): (usize, usize),
                lanes: usize,
            ) -> S::V {
                // SAFETY: this function's own, which are those of `load_lanes`.
                unsafe { load_lanes(simd, self.at(row, column).cast(), lanes) }
            }
        })+
    };
}
rows! {
    Rows, *const f32;
    RowsMut, *mut f32;
}

impl Rows {
    #[inline(always)]
    pub(crate) fn stride(self) -> usize {
        self.stride
    }
}

impl RowsMut {
    /// The same, to be read.
    #[inline(always)]
    pub(crate) fn as_rows(self) -> Rows {
        Rows { start: self.start, stride: self.stride }
    }

    /// Writes the first `lanes` lanes to a row from a column on.
    ///
    /// # Safety
    /// So many floats are writable there, no more than a vector.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(
        self,
        simd: S,
        (row, column): (usize, usize),
        v: S::V,
        lanes: usize,
    ) {
        // SAFETY: this function's own, which are those of `store_lanes`.
        unsafe { store_lanes(simd, self.at(row, column), v, lanes) };
    }
}

/// A place so many floats further, where there is one: no memory goes on at null.
#[inline(always)]
pub(crate) fn further(place: Option<NonNull<f32>>, floats: usize) -> Option<NonNull<f32>> {
    place.and_then(|place| NonNull::new(place.as_ptr().wrapping_add(floats)))
}

/// Reads `n` lanes: the whole vector where they are all there.
///
/// # Safety
/// `p` is readable for `n ≤ LANES` floats.
#[inline(always)]
pub(crate) unsafe fn load_lanes<S: Simd>(simd: S, p: *const f32, n: usize) -> S::V {
    // SAFETY: `p` is readable for n floats, which are LANES in the first case.
    unsafe { if n == S::LANES { simd.load(p) } else { simd.load_first(p, n) } }
}

/// Writes `n` lanes: the whole vector where they are all wanted.
///
/// # Safety
/// `p` is writable for `n ≤ LANES` floats.
#[inline(always)]
pub(crate) unsafe fn store_lanes<S: Simd>(simd: S, p: *mut f32, v: S::V, n: usize) {
    // SAFETY: `p` is writable for n floats, which are LANES in the first case.
    unsafe { if n == S::LANES { simd.store(p, v) } else { simd.store_first(p, v, n) } }
}
