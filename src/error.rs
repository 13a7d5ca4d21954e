//! The error type of the crate, and checks of lengths and sizes that return it.

use bptt_kernels::team::MAX_THREADS;
use bptt_kernels::{IsaError, KernelError};
use std::borrow::Cow;
use std::fmt;

/// The reason why a call was refused. A call that returns an error has written nothing, unless its
/// page says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A slice does not have the length that follows from its shape.
    Length {
        /// The argument's name.
        what: &'static str,
        /// Its length in elements.
        given: usize,
        /// The length that follows from its shape.
        expected: usize,
    },
    /// A slice does not hold a whole number of steps.
    Multiple {
        /// The argument's name.
        what: &'static str,
        /// Its length in elements.
        given: usize,
        /// The elements of one step; the length must be a multiple of this.
        of: usize,
    },
    /// A value is outside the allowed range.
    Value {
        /// The argument's name.
        what: &'static str,
        /// Its value.
        given: String,
        /// The allowed values.
        expected: Cow<'static, str>,
    },
    /// The target of a row is not the number of an output.
    Target {
        /// The row.
        row: usize,
        /// Its target.
        given: u32,
        /// The number of outputs; the target must be below it.
        outputs: usize,
    },
    /// The token of a row is not below the number of tokens.
    Token {
        /// The row.
        row: usize,
        /// Its token.
        given: u32,
        /// The number of tokens; the token must be below it.
        tokens: usize,
    },
    /// Two objects do not fit each other: a workspace and a model with layers of different sizes,
    /// for example, or weights that were packed for another instruction set.
    Mismatch {
        /// The object that does not fit.
        what: &'static str,
        /// What it was made for.
        given: String,
        /// What the call needs.
        expected: String,
    },
    /// The call needs the results of an earlier pass, which was not run, has been overwritten, or
    /// used other weights.
    Order {
        /// The call.
        call: &'static str,
        /// The last pass that the workspace holds.
        given: &'static str,
        /// The pass that it has to hold.
        expected: &'static str,
    },
    /// A file could not be read or written.
    Io {
        /// Its path.
        path: String,
        /// The kind of error that the system reported.
        kind: std::io::ErrorKind,
        /// The message of the system.
        message: String,
    },
    /// The content of a file is wrong.
    File {
        /// The wrong part: a tensor, by its name, or the configuration.
        what: String,
        /// What the file contains.
        given: String,
        /// What it should contain.
        expected: String,
    },
    /// The instruction set that was asked for is unknown, or this CPU does not have it.
    Isa(IsaError),
    /// A kernel refused its arguments for a reason that no other variant covers.
    Kernel(KernelError),
    /// The product of the dimensions does not fit the address space.
    TooLarge {
        /// The object that should have been allocated.
        what: &'static str,
    },
    /// The allocator could not provide the memory.
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
            Self::Token { row, given, tokens } => {
                write!(f, "the token of row {row} is {given}, expected below {tokens}")
            }
            Self::Mismatch { what, given, expected } => {
                write!(f, "{what}: made for {given}, expected {expected}")
            }
            Self::Order { call, given, expected } => {
                write!(f, "{call}: the workspace holds {given}, expected {expected}")
            }
            Self::Io { path, message, .. } => write!(f, "{path}: {message}"),
            Self::File { what, given, expected } => {
                write!(f, "{what}: {given}, expected {expected}")
            }
            Self::Isa(error) => error.fmt(f),
            Self::Kernel(error) => error.fmt(f),
            Self::TooLarge { what } => write!(f, "{what}: too large for the address space"),
            Self::OutOfMemory { bytes } => write!(f, "could not allocate {bytes} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Makes a [`TooLarge`](Self::TooLarge) error name `what`, the whole object that the caller
    /// asked for, instead of the part of it that was too large. Other errors stay as they are.
    pub(crate) fn of_whole(self, what: &'static str) -> Self {
        if matches!(self, Self::TooLarge { .. }) { Self::TooLarge { what } } else { self }
    }
}

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

/// Returns an error unless the length `given` is the `expected` one.
#[inline(always)]
pub(crate) fn check_len(what: &'static str, given: usize, expected: usize) -> Result<(), Error> {
    if given == expected { Ok(()) } else { Err(Error::Length { what, given, expected }) }
}

/// Returns an error unless the length `given` is a multiple of `of`, the elements of a step.
pub(crate) fn check_multiple(what: &'static str, given: usize, of: usize) -> Result<(), Error> {
    if given.is_multiple_of(of) { Ok(()) } else { Err(Error::Multiple { what, given, of }) }
}

/// Returns an error if there is a slice and its length is not the `expected` one.
pub(crate) fn check_optional<T>(
    what: &'static str,
    given: Option<&[T]>,
    expected: usize,
) -> Result<(), Error> {
    given.map_or(Ok(()), |slice| check_len(what, slice.len(), expected))
}

/// Returns the size `given`, or an error if it is 0.
pub(crate) fn check_size(what: &'static str, given: usize) -> Result<usize, Error> {
    if given > 0 {
        Ok(given)
    } else {
        Err(Error::Value { what, given: given.to_string(), expected: "1 or more".into() })
    }
}

/// Returns `given`, the number of steps that a sequence has taken, or an error if it is 2⁶³ or
/// more.
pub(crate) fn check_step(given: u64) -> Result<u64, Error> {
    if given < 1 << 63 {
        return Ok(given);
    }
    Err(Error::Value { what: "step", given: given.to_string(), expected: "below 2⁶³".into() })
}

/// Returns the number of threads `given`, or an error if a team cannot have that many.
pub(crate) fn check_threads(given: usize) -> Result<usize, Error> {
    if (1..=MAX_THREADS).contains(&given) {
        return Ok(given);
    }
    Err(Error::Value { what: "threads", given: given.to_string(), expected: "1 to 256".into() })
}

const _: () = assert!(MAX_THREADS == 256);

/// Returns the product of `dims`, or an error if that many floats do not fit the address space.
pub(crate) fn product(what: &'static str, dims: &[usize]) -> Result<usize, Error> {
    Ok(bptt_kernels::checked_len(what, dims)?)
}
