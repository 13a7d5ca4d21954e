//! Tests every size of a group's product, and so every tile that it is dispatched to.

use super::{Grid, Product, Sums, group};
use crate::Isa;
use crate::gemm::layout::{GROUP, PANEL, ROW_BLOCK, RUN};
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};

/// Adds a product of one term to values in memory. The `rows` rows have the values 1, 2, …, and
/// so have the columns, a group of `vecs` vectors of which the last has `real` real lanes.
struct Dispatch {
    rows: usize,
    vecs: usize,
    real: usize,
}

impl Kernel for Dispatch {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const BEFORE: f32 = 0.5;
        let Self { rows, vecs, real } = self;
        let real = real.min(S::LANES);
        // The only term is the first of each row's run.
        let mut a = vec![0.0; rows * RUN];
        a.iter_mut().step_by(RUN).zip(1..).for_each(|(a, row)| *a = row as f32);
        let columns = (vecs - 1) * S::LANES + real;
        let mut panels = vec![0.0; vecs.next_multiple_of(PANEL) * S::LANES];
        panels[..columns].iter_mut().zip(1..).for_each(|(b, column)| *b = column as f32);
        let stride = columns + 3;
        let mut c = vec![BEFORE; rows * stride];
        let (mut offset, mut lanes) = ([0; GROUP], [0; GROUP]);
        for v in 0..vecs {
            (offset[v], lanes[v]) = (v * S::LANES, S::LANES.min(columns - v * S::LANES));
        }
        let to = Grid { rows: RowsMut::new(c.as_mut_ptr(), stride), offset, roomy: false };
        let from = Grid { rows: to.rows.as_rows(), offset, roomy: false };
        let sums = Sums { from: Some(from), to, lanes, whole: real == S::LANES };
        let product = Product {
            a: a.as_ptr(),
            panels: panels.as_ptr(),
            panel_stride: PANEL * S::LANES,
            depth: 1,
            ahead: panels.as_ptr(),
        };
        // SAFETY: A has the rows, the panels have the vectors with their padding, and C has the
        // rows with all columns.
        unsafe { group(simd, rows, product, vecs, &sums, &[]) };
        for (row, c) in c.chunks(stride).enumerate() {
            let (sums, beyond) = c.split_at(columns);
            for (column, &sum) in sums.iter().enumerate() {
                let expected = BEFORE + ((row + 1) * (column + 1)) as f32;
                assert_eq!(sum, expected, "row {row}, column {column} of {rows} × {vecs}");
            }
            assert_eq!(beyond, [BEFORE; 3], "beyond row {row} of {rows} × {vecs}");
        }
    }
}

/// A tile that is called twice would add its products twice, and a tile that is not called would
/// leave the old values.
#[test]
#[cfg_attr(miri, ignore = "hours in an interpreter")]
fn each_row_and_vector_is_in_one_tile() {
    for &isa in Isa::available() {
        for rows in 1..=ROW_BLOCK {
            for vecs in 1..=GROUP {
                for real in [1, isa.lanes() - 1, isa.lanes()].into_iter().filter(|&real| real > 0) {
                    isa.enter(Dispatch { rows, vecs, real });
                }
            }
        }
    }
}
