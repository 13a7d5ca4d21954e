//! Dropout of the floats of rows. Knows keys and probabilities; must not know how keys are made.

use super::{RowKernel, Strided, StridedMut, check, run};
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;
use crate::team::Pass;
use crate::threefry::Draw;
use crate::{Isa, KernelError, MAX_LANES, checked_len};

/// Computes `to = m ⊙ from` for rows of `width` floats, where m is 0 with probability `dropout` and
/// `1 / (1 − dropout)` otherwise. The mask of a row is drawn by its key, `keys` `[rows, 2]`, and by
/// the place in the row ([`threefry`](crate::threefry()) with the counter (place, 0)), so the gradient,
/// too, is a call of this function with the same keys.
///
/// # Errors
/// [`KernelError::Short`] where a stride or rows are too short, `Length` unless each row has a key,
/// `Dimension` where the probability is not at least 0 and below 1; nothing is written then.
pub fn drop_out(
    isa: Isa,
    (dropout, keys): (f32, &[u32]),
    (rows, width): (usize, usize),
    from: Strided<'_>,
    to: StridedMut<'_>,
    pass: &mut Pass<'_>,
) -> Result<(), KernelError> {
    check("from", from.values.len(), from.stride, rows, width)?;
    check("to", to.values.len(), to.stride, rows, width)?;
    check_len("keys", keys.len(), checked_len("keys", &[rows, 2])?)?;
    if !(0.0..1.0).contains(&dropout) {
        let expected = format!("a probability below 1, not {dropout}");
        return Err(KernelError::Dimension { what: "dropout", given: 0, expected });
    }
    let kernel = DropOut {
        dropout,
        keys,
        width,
        from: Rows::new(from.values.as_ptr(), from.stride),
        to: RowsMut::new(to.values.as_mut_ptr(), to.stride),
    };
    // SAFETY: the rows and the keys were just checked and were borrowed for this call.
    unsafe { run(&kernel, rows, width, isa, pass) };
    Ok(())
}

struct DropOut<'a> {
    dropout: f32,
    keys: &'a [u32],
    width: usize,
    from: Rows,
    to: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl Sync for DropOut<'_> {}

// SAFETY: a row writes its own floats of `to`, which nothing else reads.
unsafe impl RowKernel for DropOut<'_> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let (from, to) = (self.from.at(row, 0), self.to.at(row, 0));
        let key = [self.keys[2 * row], self.keys[2 * row + 1]];
        let (dropout, kept) = (simd.splat(self.dropout), simd.splat(1.0 / (1.0 - self.dropout)));
        let mut drawn = [[0.0f32; MAX_LANES]; 2];
        // SAFETY: `drop_out` has checked that each row has `width` floats; there is room for the lanes
        // of any instruction set in `drawn`.
        unsafe {
            each!(S, self.width, |at, lanes| {
                simd.call(Draw { key, first: at, to: &mut drawn });
                let is_dropped = simd.lt(simd.load(drawn[0].as_ptr()), dropout);
                let x = simd.mul(load_lanes(simd, from.cast_mut().add(at), lanes), kept);
                store_lanes(simd, to.add(at), simd.select(is_dropped, simd.zero(), x), lanes);
            });
        }
    }
}
