//! Layer normalisation of rows (Ba et al. 2016): `y = b + γ ⊙ x̂` with `x̂ = (x − μ) / √(σ² + ε)`, the
//! mean and the variance of each row. Must not know what computed the rows.

use super::{RowKernel, Strided, StridedMut, check, run};
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::normalise::{Denormalise, Normalise, RowGradients};
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;
use crate::team::Pass;
use crate::{Isa, KernelError, checked_len};

/// A forward pass over rows.
#[derive(Debug)]
pub struct LayerNormForward<'a> {
    /// The number of rows.
    pub rows: usize,
    /// x, `[rows, width]`.
    pub x: &'a [f32],
    /// ε.
    pub epsilon: f32,
    /// γ, `[width]`.
    pub gain: &'a [f32],
    /// b, `[width]`.
    pub bias: &'a [f32],
    /// Output: x̂, `[rows, width]`.
    pub normal: &'a mut [f32],
    /// Output: `1 / √(σ² + ε)`, `[rows]`.
    pub inverse: &'a mut [f32],
    /// Output: y.
    pub y: StridedMut<'a>,
}

impl LayerNormForward<'_> {
    /// Computes the rows.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a slice does not fit, `Short` where y is too short; nothing is
    /// written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { rows, x, epsilon, gain, bias, normal, inverse, y } = self;
        let width = gain.len();
        let all = checked_len("x", &[rows, width])?;
        check_len("x", x.len(), all)?;
        check_len("bias", bias.len(), width)?;
        check_len("normal", normal.len(), all)?;
        check_len("inverse", inverse.len(), rows)?;
        check("y", y.values.len(), y.stride, rows, width)?;
        if width == 0 {
            return Ok(());
        }
        normal.copy_from_slice(x);
        let kernel = ForwardRows {
            epsilon,
            gain,
            bias,
            normal: RowsMut::new(normal.as_mut_ptr(), width),
            inverse: RowsMut::new(inverse.as_mut_ptr(), 1),
            y: RowsMut::new(y.values.as_mut_ptr(), y.stride),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, rows, width, isa, pass) };
        Ok(())
    }
}

struct ForwardRows<'a> {
    epsilon: f32,
    gain: &'a [f32],
    bias: &'a [f32],
    normal: RowsMut,
    inverse: RowsMut,
    y: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for ForwardRows<'_> {}

// SAFETY: a row reads and writes its own floats.
unsafe impl RowKernel for ForwardRows<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let Self { epsilon, gain, bias, normal, inverse, y } = self;
        let (normal, y) = (normal.at(row, 0), y.at(row, 0));
        // SAFETY: `run` has checked that each row has as many floats as there are gains, one or more,
        // and that there is a bias for each.
        unsafe {
            simd.call(Normalise::new(normal, gain.len(), *epsilon, inverse.at(row, 0)));
            each!(S, gain.len(), |at, lanes| {
                // Not `map`: its closure would be compiled without the instruction set.
                let gain = load_lanes(simd, gain.as_ptr().add(at), lanes);
                let bias = load_lanes(simd, bias.as_ptr().add(at), lanes);
                let x = load_lanes(simd, normal.add(at), lanes);
                store_lanes(simd, y.add(at), simd.mul_add(gain, x, bias), lanes);
            });
        }
    }
}

/// A backward pass over rows, for the gradient by x. Those by γ and b are sums over the rows of
/// `dy ⊙ x̂` and of `dy`: see [`Diagonal`](crate::diagonal::Diagonal).
#[derive(Debug)]
pub struct LayerNormBackward<'a> {
    /// The number of rows.
    pub rows: usize,
    /// γ, `[width]`.
    pub gain: &'a [f32],
    /// x̂, `[rows, width]`, from the forward pass.
    pub normal: &'a [f32],
    /// `1 / √(σ² + ε)`, `[rows]`, from the forward pass.
    pub inverse: &'a [f32],
    /// ∂L/∂y.
    pub dy: Strided<'a>,
    /// Output: ∂L/∂x, `[rows, width]`.
    pub dx: &'a mut [f32],
}

impl LayerNormBackward<'_> {
    /// Computes the rows.
    ///
    /// # Errors
    /// As for [`LayerNormForward::run`].
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { rows, gain, normal, inverse, dy, dx } = self;
        let width = gain.len();
        let all = checked_len("dx", &[rows, width])?;
        check_len("normal", normal.len(), all)?;
        check_len("inverse", inverse.len(), rows)?;
        check("dy", dy.values.len(), dy.stride, rows, width)?;
        check_len("dx", dx.len(), all)?;
        let kernel = BackwardRows {
            gain,
            normal: Rows::new(normal.as_ptr(), width),
            inverse: Rows::new(inverse.as_ptr(), 1),
            dy: Rows::new(dy.values.as_ptr(), dy.stride),
            dx: RowsMut::new(dx.as_mut_ptr(), width),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, rows, width, isa, pass) };
        Ok(())
    }
}

struct BackwardRows<'a> {
    gain: &'a [f32],
    normal: Rows,
    inverse: Rows,
    dy: Rows,
    dx: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for BackwardRows<'_> {}

// SAFETY: a row writes its own floats of dx, which nothing else reads.
unsafe impl RowKernel for BackwardRows<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let gradients = RowGradients {
            d: self.dy.at(row, 0),
            gain: self.gain.as_ptr(),
            normal: self.normal.at(row, 0),
            inverse: self.inverse.at(row, 0),
            da: self.dx.at(row, 0),
            hidden: self.gain.len(),
        };
        // SAFETY: `run` has checked that each row has as many floats as there are gains.
        simd.call(unsafe { Denormalise::new(gradients) });
    }
}
