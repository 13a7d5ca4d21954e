//! The element-wise functions φ that a cell can be built with.

use crate::Number;

/// An element-wise function of a pre-activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// tanh(a).
    Tanh,
    /// σ(a) = 1 / (1 + e⁻ᵃ).
    Logistic,
    /// max(0, a).
    Relu,
    /// a itself: for tests, to tell a fault of a product from an error of an activation.
    Identity,
    /// a + ½ where a ≥ 0, and σ(a) elsewhere: the g of the minimal cells.
    Positive,
    /// eᵃ.
    Exp,
    /// ln(1 + eᵃ).
    Softplus,
    /// σ(a) of the difference a of two logarithms.
    Share,
    /// √(1 − e²ᵃ) of a ≤ 0.
    Complement,
    /// a / 6 + 1/2, but at least 0 and at most 1: PyTorch's.
    HardSigmoid,
    /// 0.2 a + 1/2, but at least 0 and at most 1: ONNX's.
    HardSigmoid02,
    /// a, but at least −limit and at most this limit.
    Clip(f64),
}

/// The slope of a hard sigmoid between its limits, as `f32` has it.
fn hard_slope<N: Number>(of: Activation) -> N {
    N::nearest(if of == Activation::HardSigmoid { 1.0 / 6.0 } else { 0.2 })
}

impl Activation {
    /// y = φ(a).
    pub fn apply<N: Number>(self, a: N) -> N {
        match self {
            Activation::Tanh => a.tanh(),
            Activation::Logistic => a.logistic(),
            Activation::Relu => a.relu(),
            Activation::Identity => a,
            Activation::Positive => a.positive(),
            Activation::Exp => a.exp(),
            Activation::Softplus => a.softplus(),
            Activation::Share => a.share(),
            Activation::Complement => a.complement(),
            Activation::HardSigmoid | Activation::HardSigmoid02 => {
                N::dot([(hard_slope(self), a), (N::one(), N::exact(0.5))]).clamped(0.0, 1.0)
            }
            Activation::Clip(limit) => a.clamped(-limit, limit),
        }
    }

    /// φ′(a), from y = φ(a), which is all that back-propagation keeps.
    pub fn slope<N: Number>(self, y: N) -> N {
        match self {
            Activation::Tanh => y.tanh_slope(),
            Activation::Logistic => y.logistic_slope(),
            Activation::Relu => y.relu_slope(),
            Activation::Identity => N::one(),
            Activation::Positive => y.positive_slope(),
            Activation::Exp => y,
            Activation::Softplus => y.softplus_slope(),
            Activation::Share => y.share_slope(),
            Activation::Complement => y.complement_slope(),
            Activation::HardSigmoid | Activation::HardSigmoid02 => {
                hard_slope::<N>(self) * y.inside(0.0, 1.0)
            }
            Activation::Clip(limit) => y.inside(-limit, limit),
        }
    }
}
