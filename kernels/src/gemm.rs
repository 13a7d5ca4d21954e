//! Products with packed weights: `C = start + A · packed`, whole sequences at a
//! time. Knows blocking for the caches; must not know cells.

use crate::error::{check_len, check_room};
use crate::fetch::When;
use crate::left;
use crate::pack::PackedMatrix;
use crate::scratch;
use crate::simd::{Kernel, Simd};
use crate::tile::{self, DEPTH_BLOCK, Sums};
use crate::{Isa, KernelError, checked_len};

/// What the sums of a product start from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Zero: `C = A · B`.
    Zero,
    /// What stands in `C`: `C += A · B`.
    Accumulate,
    /// A value per column, `[outputs]`: `C = bias + A · B`.
    Bias(&'a [f32]),
}

/// Rows handled before moving on.
const ROW_BLOCK: usize = scratch::ROWS;

struct Gemm<'a> {
    rows: usize,
    a: &'a [f32],
    weights: &'a PackedMatrix,
    start: Start<'a>,
    c: &'a mut [f32],
    scratch: &'a mut [f32],
}

/// Floats of scratch that [`gemm`] needs.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
pub fn scratch_len(rows: usize, depth: usize) -> Result<usize, KernelError> {
    left::checked_len(rows.min(ROW_BLOCK), depth)
}

impl Kernel for Gemm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.weights;
        let (depth, outputs) = (w.depth(), w.outputs());
        let mut between = scratch::For::<S>::new();
        for first_row in (0..self.rows).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(self.rows - first_row);
            // SAFETY: `gemm` has checked that A is rows × depth and the scratch long
            // enough for so many of its rows.
            let a = unsafe {
                let a = self.a.as_ptr().add(first_row * depth);
                left::pack(s, a, rows, depth, self.scratch.as_mut_ptr())
            };
            for group in 0..w.groups() {
                let columns = w.columns(group, S::LANES);
                let next = if group + 1 == w.groups() { 0 } else { group + 1 };
                // SAFETY: `gemm` has checked that A is rows × depth, C rows ×
                // outputs and the bias outputs long; group and first_k lie in the
                // matrix.
                unsafe {
                    let to = columns.grid(self.c.as_mut_ptr().add(first_row * outputs), outputs);
                    let from = match self.start {
                        Start::Zero => None,
                        Start::Accumulate => Some(to),
                        Start::Bias(bias) => Some(columns.grid(bias.as_ptr().cast_mut(), 0)),
                    };
                    let mut sums = Sums { from, to, lanes: columns.lanes, whole: columns.whole };
                    let fetches = [columns.fetch(to.start, outputs, 1, When::After)];
                    for first_k in (0..depth).step_by(DEPTH_BLOCK) {
                        // Between blocks of depth the sums stay on the stack: rows
                        // of C a power of two apart evict each other.
                        let last = depth - first_k <= DEPTH_BLOCK;
                        sums.to = if last { to } else { between.grid() };
                        let a = a.add(rows * first_k);
                        let product = w.product(a, group, &columns, first_k, S::LANES, next);
                        let fetches = if last { &fetches[..] } else { &[] };
                        tile::group(s, rows, product, columns.vecs, &sums, fetches);
                        sums = sums.resumed();
                    }
                }
            }
        }
    }
}

/// `C = start + A · B`: A `[rows, depth]`, B packed, C `[rows, outputs]`, all
/// row-major. Each element of C is one sum in the order of the depth. `scratch` is
/// [`scratch_len`] floats or more, overwritten.
///
/// # Errors
/// [`KernelError::Length`] where `a`, `c` or the bias does not fit, `Packing`
/// where the weights are packed for another instruction set.
pub fn gemm(
    isa: Isa,
    rows: usize,
    a: &[f32],
    weights: &PackedMatrix,
    start: Start<'_>,
    c: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), KernelError> {
    weights.check(isa, weights.gates(), weights.units(), weights.depth())?;
    check_len("a", a.len(), checked_len("a", &[rows, weights.depth()])?)?;
    check_len("c", c.len(), checked_len("c", &[rows, weights.outputs()])?)?;
    if let Start::Bias(bias) = start {
        check_len("bias", bias.len(), weights.outputs())?;
    }
    check_room("scratch", scratch.len(), scratch_len(rows, weights.depth())?)?;
    isa.enter(Gemm { rows, a, weights, start, c, scratch });
    Ok(())
}
