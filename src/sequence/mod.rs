//! Inputs of passes, and checks of their shape. Knows rows and steps; must not know what is
//! computed from them.

mod schedule;

pub use schedule::{Padding, Schedule};

use crate::Error;
use crate::error::check_len;

/// What each row of an input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputSize {
    /// This many numbers.
    Features(usize),
    /// One token, below this number of tokens.
    Tokens(usize),
}

/// The input of a pass, with one row for each row of the pass's [`Schedule`].
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Features, `[rows, features]`.
    Features(&'a [f32]),
    /// Tokens, `[rows]`, each below the number of tokens.
    Tokens(&'a [u32]),
}

/// The tokens of a pass, `[rows]`.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a>(pub &'a [u32]);

impl<'a> From<Tokens<'a>> for Input<'a> {
    fn from(Tokens(tokens): Tokens<'a>) -> Self {
        Self::Tokens(tokens)
    }
}

impl<'a> From<&'a [f32]> for Input<'a> {
    #[inline]
    fn from(features: &'a [f32]) -> Self {
        Self::Features(features)
    }
}

impl<'a> From<&'a Vec<f32>> for Input<'a> {
    fn from(features: &'a Vec<f32>) -> Self {
        Self::Features(features)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Input<'a> {
    #[inline]
    fn from(features: &'a [f32; N]) -> Self {
        Self::Features(features)
    }
}

/// The inputs of a pass of a network with an [encoder](crate::Encoder): that of the decoder, and the
/// source, that of the encoder. Any [`Input`] stands for the inputs of a network without one.
///
/// ```
/// use bptt::{Inputs, Tokens};
///
/// let inputs = Inputs::new(Tokens(&[0, 1, 2])).with_source(&[0.5, -0.5]);
/// # let _ = inputs;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub(crate) x: Input<'a>,
    pub(crate) source: Option<Input<'a>>,
}

impl<'a> Inputs<'a> {
    /// Takes `x`, the input of the network, or of the decoder of a network with an encoder.
    pub fn new(x: impl Into<Input<'a>>) -> Self {
        Self { x: x.into(), source: None }
    }

    /// Adds the source, the input of the encoder. It has the rows of the schedule of the
    /// [source](crate::Training::with_source).
    pub fn with_source(self, source: impl Into<Input<'a>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

impl<'a, T: Into<Input<'a>>> From<T> for Inputs<'a> {
    fn from(x: T) -> Self {
        Self::new(x)
    }
}

impl<'a> Input<'a> {
    /// Returns the features, `[rows, size]`.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not `rows · size` features, [`Error::Mismatch`] if the input
    /// is tokens.
    #[inline]
    pub fn features(self, rows: usize, size: usize) -> Result<&'a [f32], Error> {
        match self {
            Self::Features(x) => check_len("x", x.len(), rows * size).map(|()| x),
            Self::Tokens(_) => Err(no_features(size)),
        }
    }

    /// Returns the tokens, `[rows]`.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not `rows` tokens, [`Error::Token`] if one is not below
    /// `size`, [`Error::Mismatch`] if the input is features.
    pub fn tokens(self, rows: usize, size: usize) -> Result<&'a [u32], Error> {
        let Self::Tokens(tokens) = self else {
            return Err(no_tokens(size));
        };
        check_len("tokens", tokens.len(), rows)?;
        match tokens.iter().position(|&token| token as usize >= size) {
            Some(row) => Err(Error::Token { row, given: tokens[row], tokens: size }),
            None => Ok(tokens),
        }
    }

    /// Returns an error unless the input has `rows` rows of `size`.
    #[inline]
    pub(crate) fn check(self, rows: usize, size: InputSize) -> Result<(), Error> {
        match size {
            InputSize::Features(size) => self.features(rows, size).map(|_| ()),
            InputSize::Tokens(size) => self.tokens(rows, size).map(|_| ()),
        }
    }

    /// Returns an error unless input and `size` are both features or both tokens.
    #[inline]
    pub(crate) fn check_kind(self, size: InputSize) -> Result<(), Error> {
        match (self, size) {
            (Self::Tokens(_), InputSize::Features(size)) => Err(no_features(size)),
            (Self::Features(_), InputSize::Tokens(size)) => Err(no_tokens(size)),
            _ => Ok(()),
        }
    }

    /// Returns the number of elements: features of all rows, or tokens.
    #[inline]
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Features(x) => x.len(),
            Self::Tokens(tokens) => tokens.len(),
        }
    }
}

#[cold]
fn no_features(size: usize) -> Error {
    let (given, expected) = ("tokens".into(), format!("{size} features a row"));
    Error::Mismatch { what: "input", given, expected }
}

#[cold]
fn no_tokens(size: usize) -> Error {
    let (given, expected) = ("features".into(), format!("tokens below {size}"));
    Error::Mismatch { what: "input", given, expected }
}
