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

/// How far apart the elements of an operand are.
#[derive(Clone, Copy, Debug)]
struct Strides {
    /// Floats from one row to the next.
    row: isize,
    /// Floats from one column to the next.
    column: isize,
}

impl<'a> Operand<'a> {
    /// The data and the strides of a `rows × columns` operand.
    fn strides(self, rows: usize, columns: usize) -> (&'a [f32], Strides) {
        match self {
            Self::Plain(data) => (data, Strides { row: columns as isize, column: 1 }),
            Self::Transposed(data) => (data, Strides { row: 1, column: rows as isize }),
        }
    }
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of A, rows of B.
    pub depth: usize,
    /// Columns of B and C.
    pub columns: usize,
}

/// `C = A · B + beta · C` by matrixmultiply: A `[rows, depth]`, B
/// `[depth, columns]`, C `[rows, columns]`.
///
/// # Errors
/// [`KernelError::Length`] where an operand does not have the dimensions.
pub fn sgemm(
    Sizes { rows, depth, columns }: Sizes,
    a: Operand<'_>,
    b: Operand<'_>,
    beta: f32,
    c: &mut [f32],
) -> Result<(), KernelError> {
    let (a, of_a) = a.strides(rows, depth);
    let (b, of_b) = b.strides(depth, columns);
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
            of_a.row,
            of_a.column,
            b,
            of_b.row,
            of_b.column,
            beta,
            c.as_mut_ptr(),
            rsc,
            1,
        );
    }
    Ok(())
}
