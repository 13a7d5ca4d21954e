//! The input's part of the gates of a stretch, `b + U x`: products, or rows of a table.

use crate::Error;
use crate::blocks::recurrent::RecurrentPacked;
use crate::blocks::recurrent::inputs::Inputs;
use bptt_kernels::gemm::Gemm;
use bptt_kernels::team::Pass as Threads;

/// Floats in a cache line. Each row of a table begins on one.
const LINE: usize = bptt_kernels::ALIGNMENT / size_of::<f32>();

/// What the input's part of the gates, `b + U x`, is made from.
pub(super) enum InputPart<'a> {
    /// U and the inputs that are still to come.
    Products(Inputs<'a>),
    /// A table and the tokens that are still to come.
    Rows(Table<'a>, &'a [u32]),
}

impl InputPart<'_> {
    /// Writes the input's part of the next rows to `z`, whose rows are `stride` floats apart.
    pub fn take(
        &mut self,
        packed: &RecurrentPacked,
        mut z: &mut [f32],
        stride: usize,
        scratch: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        match self {
            Self::Products(inputs) => {
                let (weights, start) = (&packed.input, packed.start());
                let width = weights.depth();
                for a in inputs.next(z.len() / stride * width) {
                    let rows = a.len() / width;
                    let (c, rest) = z.split_at_mut(rows * stride);
                    let scratch = &mut *scratch;
                    Gemm { rows, a, weights, start, c, stride, scratch }
                        .run(packed.isa(), threads)?;
                    z = rest;
                }
            }
            Self::Rows(table, tokens) => {
                let (now, rest) = tokens.split_at(z.len() / stride);
                *tokens = rest;
                for (z, &token) in z.chunks_exact_mut(stride).zip(now) {
                    let row = table.row(token);
                    z[..row.len()].copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}

/// A table with the input's part of the gates for each token.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub rows: &'a [f32],
    pub width: usize,
}

impl<'a> Table<'a> {
    /// Returns the number of tokens that have a row.
    pub fn tokens(self) -> usize {
        self.rows.len() / stride(self.width)
    }

    /// Returns the row of `token`.
    pub fn row(self, token: u32) -> &'a [f32] {
        &self.rows[token as usize * stride(self.width)..][..self.width]
    }
}

/// Returns the floats from one row of a table to the next.
pub(super) fn stride(width: usize) -> usize {
    width.next_multiple_of(LINE)
}
