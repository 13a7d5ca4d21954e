//! Weights from scores, and the gradient through them. Knows rows of scores; must not know queries,
//! keys or values.

use super::alignment::Stretch;
use super::tasks::{Blockwise, By, run};
use crate::each::each;
use crate::gemm::layout::Span;
use crate::rows::{Rows, RowsMut, load_lanes, store_lanes};
use crate::rowwise::{Strided, StridedMut};
use crate::simd::{Kernel, Simd};
use crate::softmax::Normalise;
use crate::team::Pass;
use crate::tuning::EXP_WORK;
use crate::{Isa, KernelError};

/// The softmax of the scores of each query row, `α[r][s] = exp e[r][s] / Σ exp e[r]`, over the
/// source rows of its sequence. The largest score is subtracted first, so no finite scores
/// overflow. A score of −∞ has the weight 0. A row with a NaN, a +∞ or nothing but −∞ becomes NaN,
/// but a row without scores does not.
#[derive(Debug)]
pub struct Softmax<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// The scores, a stride for each query, which the weights replace. The floats of the stride
    /// after the last score become 0.
    pub scores: StridedMut<'a>,
}

impl Softmax<'_> {
    /// Computes the weights.
    ///
    /// # Errors
    /// [`KernelError::Short`] where the stride or the scores are too short, `TooLarge` where the
    /// sizes do not fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, scores: StridedMut { values, stride } } = self;
        stretch.check_weights("scores", values.len(), stride)?;
        let kernel = Weights { stride, scores: RowsMut::new(values.as_mut_ptr(), stride) };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, stretch, EXP_WORK, isa, pass) };
        Ok(())
    }
}

struct Weights {
    stride: usize,
    scores: RowsMut,
}

// SAFETY: the rows behind the pointer are lent to the call that made this.
unsafe impl Sync for Weights {}

// SAFETY: a block reads and writes its own query rows.
unsafe impl Blockwise for Weights {
    const BY: By = By::Queries;

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, _place: usize) {
        for &row in queries {
            let scores = self.scores.at(row, 0);
            // SAFETY: `Softmax::run` has checked that the row has a stride of floats, and that a
            // stride is as long as the source.
            unsafe {
                if part.len > 0 {
                    let row = std::slice::from_raw_parts_mut(scores, part.len);
                    Normalise { row, total: 1.0 }.run(simd);
                }
                clear(simd, scores.add(part.len), self.stride - part.len);
            }
        }
    }
}

/// The gradient by scores, `∂L/∂e = α ⊙ (∂L/∂α − Σ α ⊙ ∂L/∂α)`, over the source rows of each query
/// row's sequence.
#[derive(Debug)]
pub struct SoftmaxGradients<'a> {
    /// The query rows that are computed.
    pub stretch: Stretch<'a>,
    /// α, a stride for each query.
    pub weights: Strided<'a>,
    /// ∂L/∂α, a stride for each query, which ∂L/∂e replaces. The floats of the stride after the
    /// last become 0.
    pub gradients: StridedMut<'a>,
}

impl SoftmaxGradients<'_> {
    /// Computes the gradients.
    ///
    /// # Errors
    /// As for [`Softmax::run`].
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { stretch, weights, gradients: StridedMut { values, stride } } = self;
        stretch.check_weights("weights", weights.values.len(), weights.stride)?;
        stretch.check_weights("gradients", values.len(), stride)?;
        let kernel = Gradients {
            stride,
            weights: Rows::new(weights.values.as_ptr(), weights.stride),
            gradients: RowsMut::new(values.as_mut_ptr(), stride),
        };
        // SAFETY: the rows were just checked and were borrowed for this call.
        unsafe { run(&kernel, stretch, 2, isa, pass) };
        Ok(())
    }
}

struct Gradients {
    stride: usize,
    weights: Rows,
    gradients: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for Gradients {}

// SAFETY: a block reads and writes gradients of its own query rows; the weights are only read.
unsafe impl Blockwise for Gradients {
    const BY: By = By::Queries;

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, _place: usize) {
        for &row in queries {
            let (weights, gradients) = (self.weights.at(row, 0), self.gradients.at(row, 0));
            // SAFETY: `SoftmaxGradients::run` has checked that both rows have a stride of floats,
            // and that strides are as long as the source.
            unsafe {
                let mut products = simd.zero();
                each!(S, part.len, |at, lanes| {
                    let weights = load_lanes(simd, weights.add(at), lanes);
                    let gradients = load_lanes(simd, gradients.add(at), lanes);
                    products = simd.mul_add(weights, gradients, products);
                });
                let sum = simd.splat(simd.sum(products));
                each!(S, part.len, |at, lanes| {
                    let weights = load_lanes(simd, weights.add(at), lanes);
                    let off = simd.sub(load_lanes(simd, gradients.add(at), lanes), sum);
                    store_lanes(simd, gradients.add(at), simd.mul(weights, off), lanes);
                });
                clear(simd, gradients.add(part.len), self.stride - part.len);
            }
        }
    }
}

/// Sets `len` floats to 0.
///
/// # Safety
/// So many floats are writable there.
#[inline(always)]
unsafe fn clear<S: Simd>(simd: S, to: *mut f32, len: usize) {
    // SAFETY: the caller's; `each!` stays within the length.
    unsafe {
        each!(S, len, |at, lanes| {
            store_lanes(simd, to.add(at), simd.zero(), lanes);
        });
    }
}
