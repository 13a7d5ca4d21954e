//! Activation functions with edges, limits of states, and the functions of a cell that has some of
//! them.

use super::Activations;
use super::functions::{Functions, Phi};
use crate::simd::Simd;
use crate::vmath::{logistic, tanh};

/// The function min(max(slope · a + 1/2, 0), 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardSigmoid {
    slope: f32,
}

impl HardSigmoid {
    /// min(max(a / 6 + 1/2, 0), 1).
    pub const SIXTH: Self = Self { slope: 1.0 / 6.0 };
    /// min(max(0.2 a + 1/2, 0), 1).
    pub const FIFTH: Self = Self { slope: 0.2 };

    /// Computes the function, which is NaN where z is.
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, z: S::V) -> S::V {
        let y = simd.mul_add(simd.splat(self.slope), z, simd.splat(0.5));
        simd.min(simd.splat(1.0), simd.max(simd.zero(), y))
    }

    /// Computes `dy · slope` where the value `y` is between its limits, and 0 where it is 0 or 1.
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        let dz = simd.mul(dy, simd.splat(self.slope));
        let below = simd.select(simd.lt(y, simd.splat(1.0)), dz, simd.zero());
        simd.select(simd.lt(simd.zero(), y), below, simd.zero())
    }
}

/// Any function φ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// One of the usual functions.
    Usual(Activations),
    /// A hard sigmoid.
    HardSigmoid(HardSigmoid),
}

impl From<Activations> for Activation {
    fn from(usual: Activations) -> Self {
        Self::Usual(usual)
    }
}

impl Phi for Activation {
    const SHORT: bool = false;

    #[inline(always)]
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self {
            Self::Usual(usual) => usual.candidate(simd, z),
            Self::HardSigmoid(hard) => hard.value(simd, z),
        }
    }

    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self {
            Self::Usual(usual) => usual.candidate_gradient(simd, dy, y),
            Self::HardSigmoid(hard) => hard.gradient(simd, dy, y),
        }
    }
}

/// The functions of a cell that are not all [`Activations`], and the limits of its states.
///
/// A cell with these functions has passes of its own, whose loops ask which functions they are. So
/// it is a little slower than a cell with the usual functions, which asks nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hard {
    /// φ. It concerns no other function: gates are logistic even if it is the identity.
    pub candidate: Activation,
    /// The function of the gates; `None` is the logistic function.
    pub gates: Option<HardSigmoid>,
    /// The limit to which the new cell state of an LSTM is clipped, or ∞.
    pub cell_clip: f32,
    /// The limit to which a projected hidden state is clipped, or ∞.
    pub projection_clip: f32,
}

impl Phi for Hard {
    const SHORT: bool = false;

    #[inline(always)]
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        self.candidate.candidate(simd, z)
    }

    #[inline(always)]
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        self.candidate.candidate_gradient(simd, dy, y)
    }
}

impl Functions for Hard {
    const LIMITS: bool = true;

    #[inline(always)]
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V {
        match self.gates {
            None => logistic(simd, z),
            Some(hard) => hard.value(simd, z),
        }
    }

    #[inline(always)]
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V {
        tanh(simd, z)
    }

    #[inline(always)]
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        match self.gates {
            None => Activations::Logistic.gate_gradient(simd, dy, y),
            Some(hard) => hard.gradient(simd, dy, y),
        }
    }

    #[inline(always)]
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V {
        Activations::Tanh.cell_gradient(simd, dy, y)
    }

    #[inline(always)]
    fn between<S: Simd>(self, simd: S, u: S::V, h: S::V, n: S::V) -> S::V {
        if self.candidate != Activation::Usual(Activations::Relu) {
            return Activations::Tanh.between(simd, u, h, n);
        }
        // n may be so large that h is lost in h − n.
        simd.mul_add(u, h, simd.mul(simd.sub(simd.splat(1.0), u), n))
    }

    #[inline(always)]
    fn between_gradient<S: Simd>(self, simd: S, u: S::V, dh: S::V) -> S::V {
        if self.candidate != Activation::Usual(Activations::Relu) {
            return Activations::Tanh.between_gradient(simd, u, dh);
        }
        simd.mul(simd.sub(simd.splat(1.0), u), dh)
    }

    #[inline(always)]
    fn clip<S: Simd>(self, simd: S, c: S::V) -> S::V {
        clip(simd, self.cell_clip, c)
    }

    #[inline(always)]
    fn clip_gradient<S: Simd>(self, simd: S, dc: S::V, c: S::V) -> S::V {
        clip_gradient(simd, self.cell_clip, dc, c)
    }

    #[inline(always)]
    fn project<S: Simd>(self, simd: S, h: S::V) -> S::V {
        clip(simd, self.projection_clip, h)
    }

    #[inline(always)]
    fn project_gradient<S: Simd>(self, simd: S, dh: S::V, h: S::V) -> S::V {
        // Where zoneout has kept the h of the step before, `dh` is 0 already.
        clip_gradient(simd, self.projection_clip, dh, h)
    }
}

/// Limits `z` to ±`limit`. NaN stays NaN.
#[inline(always)]
fn clip<S: Simd>(simd: S, limit: f32, z: S::V) -> S::V {
    simd.min(simd.splat(limit), simd.max(simd.splat(-limit), z))
}

/// Returns `d`, the gradient by a clipped value, where `z` is between the limits, and 0 where it is
/// at a limit or beyond. `z` is the value either before or after it was clipped. Where there is no
/// limit, an infinite value keeps its gradient.
#[inline(always)]
fn clip_gradient<S: Simd>(simd: S, limit: f32, d: S::V, z: S::V) -> S::V {
    if limit == f32::INFINITY {
        return d;
    }
    simd.select(simd.lt(simd.abs(z), simd.splat(limit)), d, simd.zero())
}
