//! What an entry answers to input that it refuses.

use std::fmt;

/// Why a kernel entry refused its arguments. Nothing has been written when one
/// is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length that the dimensions give.
    Length {
        /// The argument's name.
        what: &'static str,
        /// Its length.
        given: usize,
        /// The length that the dimensions give.
        expected: usize,
    },
    /// A slice, or the distance between rows, is below the least that the dimensions allow.
    Short {
        /// The argument's name.
        what: &'static str,
        /// Its length.
        given: usize,
        /// The least that it may be.
        least: usize,
    },
    /// A dimension is outside what the entry can do.
    Dimension {
        /// The dimension's name.
        what: &'static str,
        /// Its value.
        given: usize,
        /// What it has to be.
        expected: String,
    },
    /// A matrix was packed for another instruction set or layout.
    Packing {
        /// What it was packed for.
        given: String,
        /// What the call needs.
        expected: String,
    },
    /// A row's target is not one of the classes.
    Target {
        /// The row.
        row: usize,
        /// Its target.
        given: u32,
        /// The number of classes, which it has to be below.
        classes: usize,
    },
    /// A value that has to be finite is not.
    NotFinite {
        /// The argument's name.
        what: &'static str,
        /// Where the first such value is.
        at: usize,
    },
    /// The product of the dimensions does not fit the address space.
    TooLarge {
        /// What was to be made.
        what: &'static str,
    },
    /// The allocator refused.
    OutOfMemory {
        /// The bytes that were asked for.
        bytes: usize,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, given, expected } => {
                write!(f, "{what} has {given} elements, expected {expected}")
            }
            Self::Short { what, given, least } => {
                write!(f, "{what} of {given}, expected {least} or more")
            }
            Self::Dimension { what, given, expected } => {
                write!(f, "{what} is {given}, expected {expected}")
            }
            Self::Packing { given, expected } => {
                write!(f, "packed weights are {given}, expected {expected}")
            }
            Self::Target { row, given, classes } => {
                write!(f, "the target of row {row} is {given}, expected below {classes}")
            }
            Self::NotFinite { what, at } => {
                write!(f, "{what} at {at} is ∞ or NaN, expected finite")
            }
            Self::TooLarge { what } => write!(f, "{what}: too large for the address space"),
            Self::OutOfMemory { bytes } => write!(f, "could not allocate {bytes} bytes"),
        }
    }
}

impl std::error::Error for KernelError {}

/// `Ok` where a slice has the length that is expected of it.
#[inline(always)]
pub(crate) fn check_len(
    what: &'static str,
    given: usize,
    expected: usize,
) -> Result<(), KernelError> {
    if given == expected { Ok(()) } else { Err(KernelError::Length { what, given, expected }) }
}

/// `Ok` where a slice has at least the length that is expected of it.
#[inline(always)]
pub(crate) fn check_room(
    what: &'static str,
    given: usize,
    least: usize,
) -> Result<(), KernelError> {
    if given >= least { Ok(()) } else { Err(KernelError::Short { what, given, least }) }
}

/// The sum of lengths, or [`KernelError::TooLarge`] as [`checked_len`].
#[inline]
pub(crate) fn checked_sum(what: &'static str, lens: &[usize]) -> Result<usize, KernelError> {
    let sum = lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
    checked_len(what, &[sum.ok_or(KernelError::TooLarge { what })?])
}

/// The product of dimensions, or [`KernelError::TooLarge`] where it (in f32)
/// does not fit `isize`.
#[inline]
pub fn checked_len(what: &'static str, dims: &[usize]) -> Result<usize, KernelError> {
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&len| len <= isize::MAX as usize / size_of::<f32>() - 64)
        .ok_or(KernelError::TooLarge { what })
}
