//! Every size that a group's product is dispatched for.

use super::{Grid, Product, Sums, group};
use crate::Isa;
use crate::gemm::layout::{GROUP, PANEL, ROW_BLOCK, RUN};
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};

/// Adds the product of one term of `rows` rows, 1, 2, …, with a group of `vecs` vectors, 1, 2, …,
/// of whose last `real` lanes are real, to what stands there.
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
        // One term is the first of a row's run.
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
        // SAFETY: A has the rows, the panels the vectors with their padding, and C rows of all
        // columns.
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

/// A tile that were called twice would add its products twice, and one that is not called leaves
/// what stood there.
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
