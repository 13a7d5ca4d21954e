//! The activation functions of cells, and their derivatives.

use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// The activation functions of a cell. Each variant is named for φ, the function of the candidate
/// (or of the whole unit, if it is a vanilla one). Gates are logistic unless the cell has a
/// [`GateActivation`], and the cell state of an LSTM goes through tanh before it is output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activations {
    /// φ = tanh, as is usual.
    #[default]
    Tanh,
    /// φ = σ, as in equations 10.41 and 10.45.
    Logistic,
    /// φ(a) = max(0, a).
    Relu,
    /// φ(a) = a, for a linear recurrence. Logistic gates and the output of an LSTM's cell state are
    /// identities too then.
    Identity,
    /// φ(a) = min(max(a / 6 + 1/2, 0), 1).
    HardSigmoid,
    /// φ(a) = min(max(0.2 a + 1/2, 0), 1).
    HardSigmoid02,
}

/// The activation function of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GateActivation {
    /// σ, the logistic function.
    #[default]
    Logistic,
    /// min(max(a / 6 + 1/2, 0), 1).
    HardSigmoid,
    /// min(max(0.2 a + 1/2, 0), 1).
    HardSigmoid02,
}

/// The slope of [`Activations::HardSigmoid`] between its limits.
const SIXTH: f32 = 1.0 / 6.0;

/// The slope of [`Activations::HardSigmoid02`] between its limits.
const FIFTH: f32 = 0.2;

/// Computes `min(max(slope · z + 1/2, 0), 1)`, which is NaN where z is.
#[inline(always)]
fn hard_sigmoid<S: Simd>(simd: S, slope: f32, z: S::V) -> S::V {
    let y = simd.mul_add(simd.splat(slope), z, simd.splat(0.5));
    simd.min(simd.splat(1.0), simd.max(simd.zero(), y))
}

/// Computes `dy · slope` where the value `y` of a hard sigmoid is between its limits, and 0 where it
/// is 0 or 1.
#[inline(always)]
fn hard_sigmoid_gradient<S: Simd>(simd: S, slope: f32, dy: S::V, y: S::V) -> S::V {
    let dz = simd.mul(dy, simd.splat(slope));
    let below = simd.select(simd.lt(y, simd.splat(1.0)), dz, simd.zero());
    simd.select(simd.lt(simd.zero(), y), below, simd.zero())
}

/// Limits `z` to ±`limit`. NaN stays NaN.
#[inline(always)]
pub(super) fn clip<S: Simd>(simd: S, limit: f32, z: S::V) -> S::V {
    simd.min(simd.splat(limit), simd.max(simd.splat(-limit), z))
}

/// Returns `d`, the gradient by a clipped value, where `z` is between the limits, and 0 where it is at
/// a limit or beyond. `z` is the value either before or after it was clipped.
#[inline(always)]
pub(super) fn clip_gradient<S: Simd>(simd: S, limit: f32, d: S::V, z: S::V) -> S::V {
    simd.select(simd.lt(simd.abs(z), simd.splat(limit)), d, simd.zero())
}

impl Activations {
    /// Returns whether φ is a hard sigmoid.
    #[inline(always)]
    fn is_hard(self) -> bool {
        matches!(self, Self::HardSigmoid | Self::HardSigmoid02)
    }

    /// Computes φ, which is not a hard sigmoid.
    #[inline(always)]
    fn smooth<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self {
            Self::Tanh => tanh(simd, z),
            Self::Logistic => logistic(simd, z),
            Self::Relu => simd.max(simd.zero(), z),
            _ => z,
        }
    }

    #[inline(always)]
    pub(crate) fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self {
            Self::HardSigmoid => hard_sigmoid(simd, SIXTH, z),
            Self::HardSigmoid02 => hard_sigmoid(simd, FIFTH, z),
            smooth => smooth.smooth(simd, z),
        }
    }

    /// `dy · σ'`, from the value `y` of a logistic gate: `σ' = y(1 − y)`.
    #[inline(always)]
    pub(crate) fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self == Self::Identity { dy } else { simd.mul(dy, simd.neg_mul_add(y, y, y)) }
    }

    /// `dy · φ'`, from the value `y` of φ, which is not a hard sigmoid. The derivative of max(0, a)
    /// is 0 at 0.
    #[inline(always)]
    fn smooth_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::Tanh => simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0))),
            Self::Relu => simd.select(simd.lt(simd.zero(), y), dy, simd.zero()),
            _ => self.gate_gradient(simd, dy, y),
        }
    }

    /// `dy · φ'`, from the candidate's value `y`. The derivatives of max(0, a) and of the hard
    /// sigmoids are 0 at their limits.
    #[inline(always)]
    pub(crate) fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::HardSigmoid => hard_sigmoid_gradient(simd, SIXTH, dy, y),
            Self::HardSigmoid02 => hard_sigmoid_gradient(simd, FIFTH, dy, y),
            smooth => smooth.smooth_gradient(simd, dy, y),
        }
    }
}

/// The functions of a cell with gates. There are two implementations, of which a cell chooses one for
/// each vector of units: [`Usual`] has what nearly all cells need, so that they do not pay for what is
/// in [`Hard`] alone.
pub(super) trait Functions: Copy {
    /// The function of a gate.
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V;
    /// φ, the function of the candidate.
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V;
    /// The function of an LSTM's cell state before it is output.
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V;
    /// Limits a new cell state.
    fn clip<S: Simd>(self, simd: S, c: S::V) -> S::V;
    /// `dy` times the gate's derivative, from its value `y`.
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;
    /// `dy · φ'`, from the candidate's value `y`.
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;
    /// `dy · tanh'`, from `y`, the value of `tanh c`.
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;
    /// The gradient by a cell state `c` before it is clipped, from `dc`, the gradient by the clipped
    /// one.
    fn clip_gradient<S: Simd>(self, simd: S, dc: S::V, c: S::V) -> S::V;
}

/// Logistic gates, a φ that is not a hard sigmoid, and cell states that are not clipped.
#[derive(Clone, Copy)]
pub(super) struct Usual(Activations);

impl Functions for Usual {
    #[inline(always)]
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self.0 == Activations::Identity { z } else { logistic(simd, z) }
    }

    #[inline(always)]
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        self.0.smooth(simd, z)
    }

    #[inline(always)]
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V {
        if self.0 == Activations::Identity { z } else { tanh(simd, z) }
    }

    #[inline(always)]
    fn clip<S: Simd>(self, _simd: S, c: S::V) -> S::V {
        c
    }

    #[inline(always)]
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        self.0.gate_gradient(simd, dy, y)
    }

    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        self.0.smooth_gradient(simd, dy, y)
    }

    #[inline(always)]
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        if self.0 == Activations::Identity {
            dy
        } else {
            simd.mul(dy, simd.neg_mul_add(y, y, simd.splat(1.0)))
        }
    }

    #[inline(always)]
    fn clip_gradient<S: Simd>(self, _simd: S, dc: S::V, _c: S::V) -> S::V {
        dc
    }
}

/// All of the functions, of which at least one is not in [`Usual`].
#[derive(Clone, Copy)]
pub(super) struct Hard {
    activations: Activations,
    gates: GateActivation,
    /// The limit of cell states, ∞ if there is none.
    limit: f32,
}

impl Hard {
    /// Returns the functions unless they are all in [`Usual`].
    #[inline(always)]
    pub(super) fn of(activations: Activations, gates: GateActivation, limit: f32) -> Option<Self> {
        let hard = gates != GateActivation::Logistic || activations.is_hard();
        (hard || limit < f32::INFINITY).then_some(Self { activations, gates, limit })
    }
}

impl Activations {
    /// Returns the functions of cells for which [`Hard::of`] returns none.
    #[inline(always)]
    pub(super) fn usual(self) -> Usual {
        Usual(self)
    }
}

impl Functions for Hard {
    #[inline(always)]
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self.gates {
            GateActivation::Logistic => Usual(self.activations).gate(simd, z),
            GateActivation::HardSigmoid => hard_sigmoid(simd, SIXTH, z),
            GateActivation::HardSigmoid02 => hard_sigmoid(simd, FIFTH, z),
        }
    }

    #[inline(always)]
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        self.activations.candidate(simd, z)
    }

    #[inline(always)]
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V {
        Usual(self.activations).cell(simd, z)
    }

    #[inline(always)]
    fn clip<S: Simd>(self, simd: S, c: S::V) -> S::V {
        clip(simd, self.limit, c)
    }

    #[inline(always)]
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self.gates {
            GateActivation::Logistic => self.activations.gate_gradient(simd, dy, y),
            GateActivation::HardSigmoid => hard_sigmoid_gradient(simd, SIXTH, dy, y),
            GateActivation::HardSigmoid02 => hard_sigmoid_gradient(simd, FIFTH, dy, y),
        }
    }

    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        self.activations.candidate_gradient(simd, dy, y)
    }

    #[inline(always)]
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        Usual(self.activations).cell_gradient(simd, dy, y)
    }

    #[inline(always)]
    fn clip_gradient<S: Simd>(self, simd: S, dc: S::V, c: S::V) -> S::V {
        // Where nothing is clipped, an infinite cell state keeps its gradient.
        if self.limit < f32::INFINITY { clip_gradient(simd, self.limit, dc, c) } else { dc }
    }
}
