//! Options that several layers share: the non-linearities and limits, and their names in files.

use crate::Error;
use crate::blocks::Config;
use crate::error::check_size;
use bptt_kernels::cells::{self, Activations, HardSigmoid};

/// The non-linearity φ of a gated cell's candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidate {
    /// tanh, as in all libraries.
    #[default]
    Tanh,
    /// The logistic function, as in equations 10.41 and 10.45.
    Logistic,
    /// max(0, a), which has no upper bound.
    Relu,
    /// min(max(a / 6 + 1/2, 0), 1), as [`GateActivation::HardSigmoid`].
    HardSigmoid,
    /// min(max(0.2 a + 1/2, 0), 1), as [`GateActivation::HardSigmoid02`].
    HardSigmoid02,
}

/// The non-linearity of a gated cell's gates.
///
/// Two functions are called "hard sigmoid". Both are 1/2 at 0, rise in a line, and are 0 and 1
/// beyond, but they differ in the slope of the line:
///
/// | | formula | limits at | found in |
/// | --- | --- | --- | --- |
/// | `HardSigmoid` | min(max(a / 6 + 1/2, 0), 1) | ±3 | PyTorch, Keras 3 |
/// | `HardSigmoid02` | min(max(0.2 a + 1/2, 0), 1) | ±2.5 | Keras 2, ONNX by default |
///
/// A network that was trained with one of them computes something else with the other. The
/// derivative is the slope where the value is between 0 and 1, and 0 where it is 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateActivation {
    /// The logistic function σ, as in all libraries by default.
    #[default]
    Logistic,
    /// min(max(a / 6 + 1/2, 0), 1).
    HardSigmoid,
    /// min(max(0.2 a + 1/2, 0), 1).
    HardSigmoid02,
}

impl GateActivation {
    /// Returns the hard sigmoid, unless the gates are logistic.
    pub(super) fn hard(self) -> Option<HardSigmoid> {
        match self {
            Self::Logistic => None,
            Self::HardSigmoid => Some(HardSigmoid::SIXTH),
            Self::HardSigmoid02 => Some(HardSigmoid::FIFTH),
        }
    }

    /// Adds the gates' non-linearity to a configuration, unless it is the usual one.
    pub(super) fn add_to(self, config: Config) -> Config {
        match self {
            Self::Logistic => config,
            hard => config.with("gate_activation", hard.name()),
        }
    }

    /// Reads what [`add_to`](Self::add_to) has added.
    pub(super) fn from_config(config: &Config) -> Result<Self, Error> {
        match config.get("gate_activation") {
            None => Ok(Self::Logistic),
            Some(_) => Self::of(config, "gate_activation"),
        }
    }
}

impl From<Candidate> for cells::Activation {
    fn from(candidate: Candidate) -> Self {
        match candidate {
            Candidate::Tanh => Self::Usual(Activations::Tanh),
            Candidate::Logistic => Self::Usual(Activations::Logistic),
            Candidate::Relu => Self::Usual(Activations::Relu),
            Candidate::HardSigmoid => Self::HardSigmoid(HardSigmoid::SIXTH),
            Candidate::HardSigmoid02 => Self::HardSigmoid(HardSigmoid::FIFTH),
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
    /// min(max(a / 6 + 1/2, 0), 1), as [`GateActivation::HardSigmoid`].
    HardSigmoid,
    /// min(max(0.2 a + 1/2, 0), 1), as [`GateActivation::HardSigmoid02`].
    HardSigmoid02,
}

impl From<Activation> for cells::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Tanh => Self::Usual(Activations::Tanh),
            Activation::Relu => Self::Usual(Activations::Relu),
            Activation::Logistic => Self::Usual(Activations::Logistic),
            Activation::Identity => Self::Usual(Activations::Identity),
            Activation::HardSigmoid => Self::HardSigmoid(HardSigmoid::SIXTH),
            Activation::HardSigmoid02 => Self::HardSigmoid(HardSigmoid::FIFTH),
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
    Candidate {
        Tanh = "tanh",
        Logistic = "sigmoid",
        Relu = "relu",
        HardSigmoid = "hard_sigmoid",
        HardSigmoid02 = "hard_sigmoid_02"
    }
    GateActivation {
        Logistic = "sigmoid",
        HardSigmoid = "hard_sigmoid",
        HardSigmoid02 = "hard_sigmoid_02"
    }
    Activation {
        Tanh = "tanh",
        Relu = "relu",
        Logistic = "sigmoid",
        Identity = "identity",
        HardSigmoid = "hard_sigmoid",
        HardSigmoid02 = "hard_sigmoid_02"
    }
}

/// Returns an error unless a state can be clipped to ±`limit`.
pub(super) fn check_limit(what: &'static str, limit: f32) -> Result<(), Error> {
    if limit > 0.0 && limit.is_finite() {
        return Ok(());
    }
    Err(Error::Value { what, given: limit.to_string(), expected: "positive and finite".into() })
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
