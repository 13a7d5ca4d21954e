//! Rows of floats in memory, as kernels get them: a start and a stride. Knows where a row
//! begins; must not know how many rows there are, which the code that reads or writes them
//! has to know.

use crate::error::{KernelError, check_len, check_room, checked_len};
use crate::simd::Simd;
use std::ptr::NonNull;

/// The position of a float in rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Index of the row.
    pub row: usize,
    /// Index of the float in its row.
    pub column: usize,
}

/// Rows that are only read.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    start: *const f32,
    /// Floats from one row to the next; 0 if every row is the same memory.
    stride: usize,
}

/// Rows that are read and written.
#[derive(Clone, Copy)]
pub(crate) struct RowsMut {
    start: *mut f32,
    stride: usize,
}

/// The methods that `Rows` and `RowsMut` share.
macro_rules! rows {
    ($($rows:ident, $pointer:ty;)+) => {
        $(impl $rows {
            #[inline(always)]
            pub(crate) fn new(start: $pointer, stride: usize) -> Self {
                Self { start, stride }
            }

            /// Returns the address of float `column` of row `row`.
            #[inline(always)]
            pub(crate) fn at(self, row: usize, column: usize) -> $pointer {
                self.start.wrapping_add(row * self.stride + column)
            }

            /// Returns the rows that start at float `column` of row `row`.
            #[inline(always)]
            pub(crate) fn from(self, row: usize, column: usize) -> Self {
                Self { start: self.at(row, column), ..self }
            }

            /// Reads `lanes` floats from a position into the first lanes of a vector.
            ///
            /// # Safety
            /// These floats are readable, and they are no more than a vector.
            #[inline(always)]
            pub(crate) unsafe fn load<S: Simd>(
                self,
                simd: S,
                At { row, column }: At,
                lanes: usize,
            ) -> S::V {
                // SAFETY: `load_lanes` asks for the same as this function.
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
    /// Returns the same rows, to be only read.
    #[inline(always)]
    pub(crate) fn as_rows(self) -> Rows {
        Rows { start: self.start, stride: self.stride }
    }

    /// Writes the first `lanes` lanes of `v` to a position.
    ///
    /// # Safety
    /// The `lanes` floats there are writable, and they are no more than a vector.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(
        self,
        simd: S,
        At { row, column }: At,
        v: S::V,
        lanes: usize,
    ) {
        // SAFETY: `store_lanes` asks for the same as this function.
        unsafe { store_lanes(simd, self.at(row, column), v, lanes) };
    }
}

/// The rows of one matrix, stored in two places: the first rows, and the rest. The hidden
/// states that the steps of a pass read are stored like this: the first step reads the state
/// from before the pass, and each later step reads a state that the pass has written.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// The first rows, one directly after the other.
    pub first: &'a [f32],
    /// The rest of the rows.
    pub rest: &'a [f32],
    /// Floats from one row of `rest` to the next: the number of columns or more.
    pub stride: usize,
    /// The index of each row, if they are not in order: first come the rows of `first`, then those
    /// of `rest`.
    pub order: Option<&'a [usize]>,
}

impl<'a> Joined<'a> {
    /// Takes rows of `columns` floats that are all in one place, one directly after the other.
    pub fn whole(rows: &'a [f32], columns: usize) -> Self {
        Self { first: &[], rest: rows, stride: columns, order: None }
    }

    /// Returns an error unless these are `depth` rows of `columns` floats. `rest` may end with
    /// the last row's columns or anywhere in the gap behind them. In another order than their own,
    /// rows may be left out or come several times.
    #[inline]
    pub(crate) fn check(
        self,
        what: &'static str,
        depth: usize,
        columns: usize,
    ) -> Result<(), KernelError> {
        let Self { first, rest, stride, order } = self;
        check_room("stride", stride, columns)?;
        if let Some(order) = order {
            check_len("the order of the rows", order.len(), depth)?;
            let Some(&last) = order.iter().max() else { return Ok(()) };
            // The rows up to the last that is read, of which `rest` may have more.
            let of_first = first.len().checked_div(columns).unwrap_or(0);
            check_len(what, first.len(), of_first * columns)?;
            let left = match (last + 1).saturating_sub(of_first) {
                0 => 0,
                left => checked_len(what, &[left - 1, stride])? + columns,
            };
            return check_room(what, rest.len(), left);
        }
        // With 0 columns any number of rows has no floats.
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

/// [`Joined`] rows as pointers.
#[derive(Clone, Copy)]
pub(crate) struct JoinedAt<'a> {
    first: Rows,
    /// Number of rows in `first`.
    count: usize,
    rest: Rows,
    order: Option<&'a [usize]>,
}

impl<'a> JoinedAt<'a> {
    /// Takes the pointers of rows of `columns` floats.
    #[inline]
    pub(crate) fn new(Joined { first, rest, stride, order }: Joined<'a>, columns: usize) -> Self {
        let count = first.len().checked_div(columns).unwrap_or(0);
        let (first, rest) = (Rows::new(first.as_ptr(), columns), Rows::new(rest.as_ptr(), stride));
        Self { first, count, rest, order }
    }

    /// Returns the address of float `column` of row `row`.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> *const f32 {
        let row = self.order.map_or(row, |order| order[row]);
        match row.checked_sub(self.count) {
            None => self.first.at(row, column),
            Some(row) => self.rest.at(row, column),
        }
    }
}

/// Returns the address `floats` floats after `place`, or `None` if there is no place.
#[inline(always)]
pub(crate) fn further(place: Option<NonNull<f32>>, floats: usize) -> Option<NonNull<f32>> {
    place.and_then(|place| NonNull::new(place.as_ptr().wrapping_add(floats)))
}

/// Reads `n` floats into the first lanes of a vector; the other lanes are 0.
///
/// # Safety
/// `p` is readable for `n ≤ LANES` floats.
#[inline(always)]
pub(crate) unsafe fn load_lanes<S: Simd>(simd: S, p: *const f32, n: usize) -> S::V {
    // SAFETY: `p` is readable for n floats, which are LANES in the first case.
    unsafe { if n == S::LANES { simd.load(p) } else { simd.load_first(p, n) } }
}

/// Writes the first `n` lanes of a vector.
///
/// # Safety
/// `p` is writable for `n ≤ LANES` floats.
#[inline(always)]
pub(crate) unsafe fn store_lanes<S: Simd>(simd: S, p: *mut f32, v: S::V, n: usize) {
    // SAFETY: `p` is writable for n floats, which are LANES in the first case.
    unsafe { if n == S::LANES { simd.store(p, v) } else { simd.store_first(p, v, n) } }
}
