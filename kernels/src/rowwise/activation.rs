//! An activation function of each float of rows, and its derivative. Knows activation functions; must
//! not know what computed the floats.

use super::{RowKernel, Strided, StridedMut, check, run};
use crate::cells::{Activation, Phi};
use crate::each::each;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::rows::{Rows, RowsMut};
use crate::simd::Simd;
use crate::team::Pass;
use crate::{Isa, KernelError};

/// Replaces the first `width` floats of each row, a, by φ(a), with φ = `activation` as the candidate of
/// a cell.
///
/// # Errors
/// [`KernelError::Short`] where the stride or the rows are too short; nothing is written then.
pub fn activate(
    isa: Isa,
    activation: Activation,
    (rows, width): (usize, usize),
    y: StridedMut<'_>,
    pass: &mut Pass<'_>,
) -> Result<(), KernelError> {
    let StridedMut { values, stride } = y;
    check("y", values.len(), stride, rows, width)?;
    let y = RowsMut::new(values.as_mut_ptr(), stride);
    // SAFETY: the rows were just checked and were borrowed for this call.
    unsafe {
        match activation {
            Activation::Usual(phi) => run(&Activate { phi, width, y }, rows, width, isa, pass),
            phi => run(&Activate { phi, width, y }, rows, width, isa, pass),
        }
    }
    Ok(())
}

struct Activate<F> {
    phi: F,
    width: usize,
    y: RowsMut,
}

// SAFETY: the rows behind the pointer are lent to the call that made this.
unsafe impl<F: Phi> Sync for Activate<F> {}

// SAFETY: a row reads and writes its own floats.
unsafe impl<F: Phi> RowKernel for Activate<F> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let y = self.y.at(row, 0);
        // SAFETY: `activate` has checked that the row has `width` floats.
        unsafe {
            each!(S, self.width, |at, lanes| {
                let a = load_lanes(simd, y.add(at), lanes);
                store_lanes(simd, y.add(at), self.phi.candidate(simd, a), lanes);
            });
        }
    }
}

/// Computes `dz = dy ⊙ φ'(a)` for rows of `width` floats, from `y` = φ(a).
///
/// # Errors
/// [`KernelError::Short`] where a stride or rows are too short; nothing is written then.
pub fn activation_gradients(
    isa: Isa,
    activation: Activation,
    (rows, width): (usize, usize),
    (y, dy): (Strided<'_>, Strided<'_>),
    dz: StridedMut<'_>,
    pass: &mut Pass<'_>,
) -> Result<(), KernelError> {
    check("y", y.values.len(), y.stride, rows, width)?;
    check("dy", dy.values.len(), dy.stride, rows, width)?;
    check("dz", dz.values.len(), dz.stride, rows, width)?;
    let y = Rows::new(y.values.as_ptr(), y.stride);
    let dy = Rows::new(dy.values.as_ptr(), dy.stride);
    let dz = RowsMut::new(dz.values.as_mut_ptr(), dz.stride);
    // SAFETY: the rows were just checked and were borrowed for this call.
    unsafe {
        match activation {
            Activation::Usual(phi) => {
                run(&Gradients { phi, width, y, dy, dz }, rows, width, isa, pass);
            }
            phi => run(&Gradients { phi, width, y, dy, dz }, rows, width, isa, pass),
        }
    }
    Ok(())
}

struct Gradients<F> {
    phi: F,
    width: usize,
    y: Rows,
    dy: Rows,
    dz: RowsMut,
}

// SAFETY: the rows behind the pointers are lent to the call that made this.
unsafe impl<F: Phi> Sync for Gradients<F> {}

// SAFETY: a row writes its own floats of dz, which nothing else reads.
unsafe impl<F: Phi> RowKernel for Gradients<F> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) {
        let (y, dy, dz) = (self.y.at(row, 0), self.dy.at(row, 0), self.dz.at(row, 0));
        // SAFETY: `activation_gradients` has checked that each row has `width` floats.
        unsafe {
            each!(S, self.width, |at, lanes| {
                let (y, dy) = (
                    load_lanes(simd, y.cast_mut().add(at), lanes),
                    load_lanes(simd, dy.cast_mut().add(at), lanes),
                );
                let d = self.phi.candidate_gradient(simd, dy, y);
                store_lanes(simd, dz.add(at), d, lanes);
            });
        }
    }
}
