//! What the crate answers to input that it refuses.

use bptt_kernels::team::MAX_THREADS;
use bptt_kernels::{IsaError, KernelError};
use std::borrow::Cow;
use std::fmt;

/// Why a call was refused. Nothing has been written when one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice does not have the length that the shape gives.
    Length {
        /// The argument's name.
        what: &'static str,
        /// Its length in elements.
        given: usize,
        /// The length that the shape gives.
        expected: usize,
    },
    /// A slice is not of whole steps.
    Multiple {
        /// The argument's name.
        what: &'static str,
        /// Its length in elements.
        given: usize,
        /// The elements of a step, of which it has to be a multiple.
        of: usize,
    },
    /// A number is outside what is allowed.
    Value {
        /// The argument's name.
        what: &'static str,
        /// Its value.
        given: String,
        /// What it has to be.
        expected: Cow<'static, str>,
    },
    /// A row's target is not one of the outputs.
    Target {
        /// The row.
        row: usize,
        /// Its target.
        given: u32,
        /// The number of outputs, which it has to be below.
        outputs: usize,
    },
    /// Two objects were made for different things: a plan and weights, say, of
    /// different sizes, or weights packed for another instruction set.
    Mismatch {
        /// The object that does not fit.
        what: &'static str,
        /// What it was made for.
        given: String,
        /// What the call needs.
        expected: String,
    },
    /// The pass that this call builds on has not been run, has been consumed, or was one of
    /// other weights.
    Order {
        /// The call.
        call: &'static str,
        /// The last pass that the arena holds.
        given: &'static str,
        /// The pass that it has to hold.
        expected: &'static str,
    },
    /// The instruction set that was asked for is not here.
    Isa(IsaError),
    /// A kernel refused its arguments in another way.
    Kernel(KernelError),
    /// The dimensions' product does not fit the address space.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, given, expected } => {
                write!(f, "{what} has {given} elements, expected {expected}")
            }
            Self::Multiple { what, given, of } => {
                write!(f, "{what} has {given} elements, expected a multiple of {of}")
            }
            Self::Value { what, given, expected } => {
                write!(f, "{what} is {given}, expected {expected}")
            }
            Self::Target { row, given, outputs } => {
                write!(f, "the target of row {row} is {given}, expected below {outputs}")
            }
            Self::Mismatch { what, given, expected } => {
                write!(f, "{what}: made for {given}, expected {expected}")
            }
            Self::Order { call, given, expected } => {
                write!(f, "{call}: the arena holds {given}, expected {expected}")
            }
            Self::Isa(error) => error.fmt(f),
            Self::Kernel(error) => error.fmt(f),
            Self::TooLarge { what } => write!(f, "{what}: too large for the address space"),
            Self::OutOfMemory { bytes } => write!(f, "could not allocate {bytes} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        Self::Isa(error)
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Length { what, given, expected } => Self::Length { what, given, expected },
            KernelError::Packing { given, expected } => {
                Self::Mismatch { what: "packed weights", given, expected }
            }
            KernelError::Target { row, given, classes } => {
                Self::Target { row, given, outputs: classes }
            }
            KernelError::NotFinite { what, at } => {
                let given = format!("∞ or NaN at {at}");
                Self::Value { what, given, expected: "finite, for int8".into() }
            }
            KernelError::TooLarge { what } => Self::TooLarge { what },
            KernelError::OutOfMemory { bytes } => Self::OutOfMemory { bytes },
            other => Self::Kernel(other),
        }
    }
}

/// `Ok` where a slice has the length that is expected of it.
#[inline(always)]
pub(crate) fn check_len(what: &'static str, given: usize, expected: usize) -> Result<(), Error> {
    if given == expected { Ok(()) } else { Err(Error::Length { what, given, expected }) }
}

/// `Ok` where a slice is a whole number of steps.
pub(crate) fn check_multiple(what: &'static str, given: usize, of: usize) -> Result<(), Error> {
    if given.is_multiple_of(of) { Ok(()) } else { Err(Error::Multiple { what, given, of }) }
}

/// `Ok` where a slice, if there is one, has the length that is expected of it.
pub(crate) fn check_optional<T>(
    what: &'static str,
    given: Option<&[T]>,
    expected: usize,
) -> Result<(), Error> {
    given.map_or(Ok(()), |slice| check_len(what, slice.len(), expected))
}

/// A size, 1 or more.
pub(crate) fn check_size(what: &'static str, given: usize) -> Result<usize, Error> {
    if given > 0 {
        Ok(given)
    } else {
        Err(Error::Value { what, given: given.to_string(), expected: "1 or more".into() })
    }
}

/// A count of steps that a sequence may have taken.
pub(crate) fn check_step(given: u64) -> Result<u64, Error> {
    if given < 1 << 63 {
        return Ok(given);
    }
    Err(Error::Value { what: "step", given: given.to_string(), expected: "below 2⁶³".into() })
}

/// A number of threads that a team can have.
pub(crate) fn check_threads(given: usize) -> Result<usize, Error> {
    if (1..=MAX_THREADS).contains(&given) {
        return Ok(given);
    }
    Err(Error::Value { what: "threads", given: given.to_string(), expected: "1 to 256".into() })
}

const _: () = assert!(MAX_THREADS == 256);

/// The product of dimensions, which has to fit the address space.
pub(crate) fn product(what: &'static str, dims: &[usize]) -> Result<usize, Error> {
    Ok(bptt_kernels::checked_len(what, dims)?)
}
