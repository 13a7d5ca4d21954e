//! Sums of a matrix's columns: the gradients of biases. Knows rows and columns;
//! must not know layers.

use crate::error::check_len;
use crate::simd::{Kernel, Simd};
use crate::tile::{load_lanes, store_lanes};
use crate::{Isa, KernelError, checked_len};

/// Vectors of columns summed side by side: whole cache lines of a row, and sums
/// enough in flight to hide the latency of an addition.
const SIDE_BY_SIDE: usize = 4;

struct Add<'a> {
    rows: usize,
    a: &'a [f32],
    out: &'a mut [f32],
}

/// outₖ += Σ aₖ over the rows of `a` `[rows, columns]`, `columns` being `out`'s
/// length. Each sum is one chain from `out` over the last row to the first, so that
/// rows may be handed in several calls, the last ones first.
///
/// # Errors
/// [`KernelError::Length`] where `a` is not so long; nothing is written then.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, columns};
///
/// let mut sums = [10.0, 20.0];
/// columns::add(Isa::best()?, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut sums)?;
/// assert_eq!(sums, [19.0, 32.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add(isa: Isa, rows: usize, a: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    check_len("a", a.len(), checked_len("a", &[rows, out.len()])?)?;
    isa.enter(Add { rows, a, out });
    Ok(())
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let columns = self.out.len();
        let wide = SIDE_BY_SIDE * S::LANES;
        let whole = columns - columns % wide;
        // SAFETY: first + wide ≤ whole ≤ columns, and first + lanes ≤ columns.
        unsafe {
            for first in (0..whole).step_by(wide) {
                self.block::<S, SIDE_BY_SIDE>(s, first, S::LANES);
            }
            for first in (whole..columns).step_by(S::LANES) {
                self.block::<S, 1>(s, first, S::LANES.min(columns - first));
            }
        }
    }
}

impl Add<'_> {
    /// The columns of `V` vectors from `first`, `lanes` of each.
    ///
    /// # Safety
    /// They lie in a row.
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize>(&mut self, s: S, first: usize, lanes: usize) {
        let columns = self.out.len();
        let out = self.out.as_mut_ptr();
        let mut sums = [s.zero(); V];
        // SAFETY: the caller's; `add` has checked that `a` has `rows` rows.
        unsafe {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = load_lanes(s, out.add(first + v * S::LANES), lanes);
            }
            for row in (0..self.rows).rev() {
                let row = self.a.as_ptr().add(row * columns + first);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = s.add(*sum, load_lanes(s, row.add(v * S::LANES), lanes));
                }
            }
            for (v, sum) in sums.iter().enumerate() {
                store_lanes(s, out.add(first + v * S::LANES), *sum, lanes);
            }
        }
    }
}
