//! matrixmultiply's product behind a checked entry: what the benchmarks compare
//! with. Only built with the feature `baseline`.

use crate::error::check_len;
use crate::{KernelError, checked_len};

/// A dense operand: row-major, or the transpose of a row-major matrix.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// As it is.
    Plain(&'a [f32]),
    /// Its transpose.
    Transposed(&'a [f32]),
}

impl<'a> Operand<'a> {
    /// The data and the strides of rows and columns of a `rows × columns` operand.
    fn strides(self, rows: usize, columns: usize) -> (&'a [f32], isize, isize) {
        match self {
            Self::Plain(data) => (data, columns as isize, 1),
            Self::Transposed(data) => (data, 1, rows as isize),
        }
    }
}

/// `C = A · B + beta · C` by matrixmultiply: A `[rows, depth]`, B
/// `[depth, columns]`, C `[rows, columns]`.
///
/// # Errors
/// [`KernelError::Length`] where an operand does not have the dimensions.
pub fn sgemm(
    (rows, depth, columns): (usize, usize, usize),
    a: Operand<'_>,
    b: Operand<'_>,
    beta: f32,
    c: &mut [f32],
) -> Result<(), KernelError> {
    let (a, rsa, csa) = a.strides(rows, depth);
    let (b, rsb, csb) = b.strides(depth, columns);
    check_len("a", a.len(), checked_len("a", &[rows, depth])?)?;
    check_len("b", b.len(), checked_len("b", &[depth, columns])?)?;
    check_len("c", c.len(), checked_len("c", &[rows, columns])?)?;
    let (a, b, rsc) = (a.as_ptr(), b.as_ptr(), columns as isize);
    // SAFETY: the lengths checked above are those that the strides reach.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            depth,
            columns,
            1.0,
            a,
            rsa,
            csa,
            b,
            rsb,
            csb,
            beta,
            c.as_mut_ptr(),
            rsc,
            1,
        );
    }
    Ok(())
}
