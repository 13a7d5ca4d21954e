//! Rows of floats in memory, as kernels are handed them: a start and a stride. Knows where a
//! row begins; must not know how many there are, which whoever reads or writes one says.

use crate::error::{KernelError, check_len, check_room, checked_len};
use crate::simd::Simd;
use std::ptr::NonNull;

/// A place in rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// How many rows come before it.
    pub row: usize,
    /// How many floats of its row do.
    pub column: usize,
}

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

            /// The first `lanes` floats from a place on.
            ///
            /// # Safety
            /// They are readable, and no more than a vector.
            #[inline(always)]
            pub(crate) unsafe fn load<S: Simd>(
                self,
                simd: S,
                At { row, column }: At,
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

    /// Writes the first `lanes` lanes from a place on.
    ///
    /// # Safety
    /// So many floats are writable there, no more than a vector.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(
        self,
        simd: S,
        At { row, column }: At,
        v: S::V,
        lanes: usize,
    ) {
        // SAFETY: this function's own, which are those of `store_lanes`.
        unsafe { store_lanes(simd, self.at(row, column), v, lanes) };
    }
}

/// Rows of a matrix that stand in two places: some that come first, and the others. So do the
/// states that a pass has read, of which the first are from before it.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// The rows that come first, one after the other.
    pub first: &'a [f32],
    /// The others.
    pub rest: &'a [f32],
    /// Floats from one of the others to the next, as many as there are columns or more.
    pub stride: usize,
}

impl<'a> Joined<'a> {
    /// Rows that all stand in one place, `columns` floats each, one after the other.
    pub fn whole(rows: &'a [f32], columns: usize) -> Self {
        Self { first: &[], rest: rows, stride: columns }
    }

    /// `Ok` where they are `depth` rows of `columns`. What lies between the others may be missing
    /// after the last.
    #[inline]
    pub(crate) fn check(
        self,
        what: &'static str,
        depth: usize,
        columns: usize,
    ) -> Result<(), KernelError> {
        let Self { first, rest, stride } = self;
        check_room("stride", stride, columns)?;
        // Without columns any number of rows is nothing.
        let count = first.len().checked_div(columns).unwrap_or(0).min(depth);
        check_len(what, first.len(), count * columns)?;
        let expected = checked_len(what, &[depth - count, stride])?;
        let least = expected.saturating_sub(stride - columns);
        if !(least..=expected).contains(&rest.len()) {
            check_len(what, rest.len(), expected)?;
        }
        Ok(())
    }
}

/// [`Joined`] as pointers.
#[derive(Clone, Copy)]
pub(crate) struct JoinedAt {
    first: Rows,
    /// How many rows come first.
    count: usize,
    rest: Rows,
}

impl JoinedAt {
    /// Rows of so many columns.
    #[inline]
    pub(crate) fn new(Joined { first, rest, stride }: Joined<'_>, columns: usize) -> Self {
        let count = first.len().checked_div(columns).unwrap_or(0);
        let (first, rest) = (Rows::new(first.as_ptr(), columns), Rows::new(rest.as_ptr(), stride));
        Self { first, count, rest }
    }

    /// Where a column of a row is.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> *const f32 {
        match row.checked_sub(self.count) {
            None => self.first.at(row, column),
            Some(row) => self.rest.at(row, column),
        }
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
