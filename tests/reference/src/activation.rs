//! The element-wise functions φ that a cell can be built with.

use crate::Number;

/// An element-wise function of a pre-activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// tanh(a).
    Tanh,
    /// σ(a) = 1 / (1 + e⁻ᵃ).
    Logistic,
    /// max(0, a).
    Relu,
    /// a itself: for tests, to tell a fault of a product from an error of an activation.
    Identity,
}

impl Activation {
    /// y = φ(a).
    pub fn apply<N: Number>(self, a: N) -> N {
        match self {
            Activation::Tanh => a.tanh(),
            Activation::Logistic => a.logistic(),
            Activation::Relu => a.relu(),
            Activation::Identity => a,
        }
    }

    /// φ′(a), from y = φ(a), which is all that back-propagation keeps.
    pub fn slope<N: Number>(self, y: N) -> N {
        match self {
            Activation::Tanh => y.tanh_slope(),
            Activation::Logistic => y.logistic_slope(),
            Activation::Relu => y.relu_slope(),
            Activation::Identity => N::one(),
        }
    }
}
