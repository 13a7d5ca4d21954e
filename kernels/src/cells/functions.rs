//! The interface between the equations of cells and the functions in them. Must not know any
//! function.

use crate::simd::Simd;

/// A function φ, which a whole unit or the candidate of a cell with gates goes through.
///
/// Passes are compiled for each type of functions. So a cell with the usual
/// [`Activations`](super::Activations) does not pay for the functions that other types have.
pub(crate) trait Phi: Copy + Sync {
    /// Whether a step of a single row has kernels of its own for few units, in which the sums stay
    /// in registers. It only saves time, and these kernels take long to compile.
    const SHORT: bool = true;

    /// φ.
    fn candidate<S: Simd>(self, simd: S, z: S::V) -> S::V;

    /// `dy · φ'`, from the value `y` of φ. Where φ has an edge, the derivative there is 0.
    fn candidate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;
}

/// The functions of a cell, of which one without gates has φ alone.
pub(crate) trait Functions: Phi {
    /// Whether [`project`](Self::project) changes anything.
    const LIMITS: bool = false;

    /// The function of a gate.
    fn gate<S: Simd>(self, simd: S, z: S::V) -> S::V;

    /// The function of an LSTM's cell state before it is output.
    fn cell<S: Simd>(self, simd: S, z: S::V) -> S::V;

    /// `dy` times the derivative of the gate's function, from its value `y`.
    fn gate_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;

    /// `dy` times the derivative of the cell state's function, from its value `y`.
    fn cell_gradient<S: Simd>(self, simd: S, dy: S::V, y: S::V) -> S::V;

    /// `u ⊙ h + (1 − u) ⊙ n`, the state of a GRU.
    #[inline(always)]
    fn between<S: Simd>(self, simd: S, u: S::V, h: S::V, n: S::V) -> S::V {
        simd.mul_add(u, simd.sub(h, n), n)
    }

    /// `(1 − u) ⊙ dh`, the gradient by n of [`between`](Self::between).
    #[inline(always)]
    fn between_gradient<S: Simd>(self, simd: S, u: S::V, dh: S::V) -> S::V {
        simd.neg_mul_add(u, dh, dh)
    }

    /// Limits a new cell state.
    #[inline(always)]
    fn clip<S: Simd>(self, _simd: S, c: S::V) -> S::V {
        c
    }

    /// The gradient by a cell state `_c` before it is limited, from `dc`, the gradient by the
    /// limited one.
    #[inline(always)]
    fn clip_gradient<S: Simd>(self, _simd: S, dc: S::V, _c: S::V) -> S::V {
        dc
    }

    /// Limits a projected hidden state.
    #[inline(always)]
    fn project<S: Simd>(self, _simd: S, h: S::V) -> S::V {
        h
    }

    /// The gradient by what [`project`](Self::project) has limited, from `dh` and the limited `_h`.
    #[inline(always)]
    fn project_gradient<S: Simd>(self, _simd: S, dh: S::V, _h: S::V) -> S::V {
        dh
    }
}
