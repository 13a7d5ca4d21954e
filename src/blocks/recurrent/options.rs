//! Options that several layers share: the non-linearities, and their names in files.

use crate::Error;
use crate::blocks::Config;
use crate::error::check_size;
use bptt_kernels::cells::Activations;

/// The non-linearity φ of a gated cell's candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidate {
    /// tanh, as in all libraries.
    #[default]
    Tanh,
    /// The logistic function, as in equations 10.41 and 10.45.
    Logistic,
}

impl From<Candidate> for Activations {
    fn from(candidate: Candidate) -> Self {
        match candidate {
            Candidate::Tanh => Self::Tanh,
            Candidate::Logistic => Self::Logistic,
        }
    }
}

/// The non-linearity φ of a unit without gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// tanh.
    #[default]
    Tanh,
    /// max(0, a).
    Relu,
    /// The logistic function σ.
    Logistic,
    /// No non-linearity, φ(a) = a: the recurrence is linear.
    Identity,
}

impl From<Activation> for Activations {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Tanh => Self::Tanh,
            Activation::Relu => Self::Relu,
            Activation::Logistic => Self::Logistic,
            Activation::Identity => Self::Identity,
        }
    }
}

/// Implements `name` and `of` for each option, which turn it into its name in a [`Config`] and
/// back.
macro_rules! named {
    ($($option:ident { $($variant:ident = $name:literal),+ })+) => {
        $(impl $option {
            /// Returns the option's name in a file.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns the option whose name is the value `field` of a configuration.
            pub(crate) fn of(config: &Config, field: &str) -> Result<Self, Error> {
                match config.word(field)? {
                    $($name => Ok(Self::$variant),)+
                    given => Err(Error::Value {
                        what: "option",
                        given: format!("{field} {given}"),
                        expected: [$($name),+].join(" or ").into(),
                    }),
                }
            }
        })+
    };
}
pub(crate) use named;

named! {
    Candidate { Tanh = "tanh", Logistic = "sigmoid" }
    Activation { Tanh = "tanh", Relu = "relu", Logistic = "sigmoid", Identity = "identity" }
}

/// Returns an error unless both sizes are 1 or more.
pub(crate) fn check_sizes(input_size: usize, hidden_size: usize) -> Result<(), Error> {
    check_size("input_size", input_size)?;
    check_size("hidden_size", hidden_size)?;
    Ok(())
}

/// Makes a configuration with the sizes that all layers have.
pub(super) fn sized(kind: &str, input_size: usize, hidden_size: usize) -> Config {
    Config::new(kind).with("input_size", input_size).with("hidden_size", hidden_size)
}
