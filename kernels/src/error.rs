//! The errors of the crate's public functions, and the checks of lengths that return
//! them. Knows lengths; must not know what the kernels compute.

use std::fmt;

/// The reason why a function refused its arguments. A function that returns one has
/// written nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length that follows from the dimensions.
    Length {
        /// The argument's name.
        what: &'static str,
        /// The argument's length.
        given: usize,
        /// The length that follows from the dimensions.
        expected: usize,
    },
    /// A slice, or the stride between rows, is shorter than the dimensions allow.
    Short {
        /// The argument's name.
        what: &'static str,
        /// The argument's length.
        given: usize,
        /// The least length that the dimensions allow.
        least: usize,
    },
    /// A dimension has a value that the function does not support.
    Dimension {
        /// The dimension's name.
        what: &'static str,
        /// The dimension's value.
        given: usize,
        /// The values that are allowed, in words.
        expected: String,
    },
    /// A matrix was packed for another instruction set or layout.
    Packing {
        /// The instruction set and layout that it was packed for, in words.
        given: String,
        /// The instruction set and layout that the call needs, in words.
        expected: String,
    },
    /// A row's target is not one of the classes.
    Target {
        /// The row's index.
        row: usize,
        /// The row's target.
        given: u32,
        /// The number of classes. A target has to be less than this.
        classes: usize,
    },
    /// A value that has to be finite is ∞ or NaN.
    NotFinite {
        /// The argument's name.
        what: &'static str,
        /// The index of the first such value.
        at: usize,
    },
    /// A length that follows from the dimensions does not fit the address space.
    TooLarge {
        /// The name of the argument or buffer.
        what: &'static str,
    },
    /// The allocator could not provide the memory.
    OutOfMemory {
        /// The number of bytes that were asked for.
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

/// Returns [`KernelError::Length`] unless the length `given` is `expected`.
#[inline(always)]
pub(crate) fn check_len(
    what: &'static str,
    given: usize,
    expected: usize,
) -> Result<(), KernelError> {
    if given == expected { Ok(()) } else { Err(KernelError::Length { what, given, expected }) }
}

/// Returns [`KernelError::Short`] unless the length `given` is `least` or more.
#[inline(always)]
pub(crate) fn check_room(
    what: &'static str,
    given: usize,
    least: usize,
) -> Result<(), KernelError> {
    if given >= least { Ok(()) } else { Err(KernelError::Short { what, given, least }) }
}

/// Returns the sum of `lens`, with the limit and the error of [`checked_len`].
#[inline]
pub(crate) fn checked_sum(what: &'static str, lens: &[usize]) -> Result<usize, KernelError> {
    let sum = lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
    checked_len(what, &[sum.ok_or(KernelError::TooLarge { what })?])
}

/// Returns the product of `dims`: the number of floats in an array of these dimensions.
///
/// # Errors
/// [`KernelError::TooLarge`], which names `what`, where that many f32 take more bytes than an
/// `isize` can count.
#[inline]
pub fn checked_len(what: &'static str, dims: &[usize]) -> Result<usize, KernelError> {
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&len| len <= isize::MAX as usize / size_of::<f32>() - 64)
        .ok_or(KernelError::TooLarge { what })
}
