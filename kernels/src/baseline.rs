//! The product of the crate `matrixmultiply` behind a checked function, for benchmarks to
//! compare with. It is built only with the feature `baseline`. Knows dense matrices; must not
//! know packed ones.

use crate::error::check_len;
use crate::{KernelError, checked_len};

/// A dense operand: row-major, or the transpose of a row-major matrix.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// The matrix itself, row-major.
    Plain(&'a [f32]),
    /// The transpose of the row-major matrix.
    Transposed(&'a [f32]),
}

/// Distances between the elements of an operand.
#[derive(Clone, Copy, Debug)]
struct Strides {
    /// Floats from one row to the next.
    row: isize,
    /// Floats from one column to the next.
    column: isize,
}

impl<'a> Operand<'a> {
    /// Returns the data and the strides of this operand, `[rows, columns]`.
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
    /// Columns of A and rows of B.
    pub depth: usize,
    /// Columns of B and C.
    pub columns: usize,
}

/// Computes `C = A · B + beta · C` with `matrixmultiply`: A `[rows, depth]`, B
/// `[depth, columns]`, C `[rows, columns]`.
///
/// # Errors
/// [`KernelError::Length`] where an operand does not have the dimensions, `TooLarge` where
/// they do not fit the address space.
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
    // SAFETY: the lengths were checked above, and the strides reach no further.
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
