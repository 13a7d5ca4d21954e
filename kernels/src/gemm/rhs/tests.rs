//! Tests of all small matrices: which columns a group has, and where the values lie.

use super::{Columns, PackedMatrix, Place, columns, whole};
use crate::Isa;
use crate::gemm::layout::{DEPTH_BLOCK, GROUP, PANEL, RUN};
use crate::gemm::prefetch::When;
use crate::rows::Rows;
use crate::simd::{Kernel, Simd};
use crate::team::Pass;

/// Numbers of gates; a backward product may have twice as many as a cell.
const GATES: std::ops::RangeInclusive<usize> = 1..=8;
const UNITS: std::ops::RangeInclusive<usize> = 1..=200;

/// Returns the groups of `gates × units` columns.
fn groups(gates: usize, units: usize, lanes: usize) -> Vec<Columns> {
    let vecs = units.div_ceil(lanes) * gates;
    (0..vecs.div_ceil(whole(gates))).map(|group| columns(gates, units, group, lanes)).collect()
}

/// Runs `check` with every number of gates, units and lanes.
fn all_sizes(check: impl Fn(usize, usize, usize)) {
    for gates in GATES {
        for units in UNITS {
            [1, 4, 8, 16].into_iter().for_each(|lanes| check(gates, units, lanes));
        }
    }
}

#[test]
fn groups_have_each_column_once() {
    all_sizes(|gates, units, lanes| {
        let mut seen = vec![0; gates * units];
        for group in groups(gates, units, lanes) {
            assert!((1..=whole(gates)).contains(&group.vecs));
            let of_group = 0..group.vecs;
            for v in of_group.clone() {
                let (unit, real) = (group.offset[v] % units, group.lanes[v]);
                assert!(unit % lanes == 0 && real == lanes.min(units - unit), "a vector of a gate");
                seen[group.offset[v]..][..real].iter_mut().for_each(|seen| *seen += 1);
            }
            assert!(group.lanes[group.vecs..].iter().all(|&real| real == 0), "padding");
            assert_eq!(group.whole, of_group.clone().all(|v| group.lanes[v] == lanes));
            let grid = group.grid(());
            let ends = of_group.map(|v| grid.offset[v] + group.lanes[v]);
            assert!(ends.max().unwrap() <= gates * units, "beyond a row");
        }
        assert!(seen.iter().all(|&seen| seen == 1), "{gates} gates, {units} units, {lanes} lanes");
    });
}

/// The columns that are prefetched for the next group of a sweep, in either direction, are that
/// group's.
#[test]
fn a_group_knows_where_the_next_one_lies() {
    all_sizes(|gates, units, lanes| {
        // With other numbers of gates a group may split a unit.
        if !whole(gates).is_multiple_of(gates) {
            return;
        }
        let from = |columns: Columns, to: Columns, backwards| {
            let prefetch =
                columns.swept(backwards).prefetch(Rows::new(std::ptr::null(), 0), 1, When::Start);
            assert_eq!(prefetch.group, whole(gates));
            for v in 0..columns.vecs.min(to.vecs) {
                assert_eq!(columns.offset[v].wrapping_add(prefetch.advance), to.offset[v]);
            }
        };
        for pair in groups(gates, units, lanes).windows(2) {
            from(pair[0], pair[1], false);
            from(pair[1], pair[0], true);
        }
    });
}

#[test]
fn a_matrix_has_as_many_groups_as_its_columns() {
    for &isa in Isa::available() {
        for gates in GATES {
            for units in UNITS {
                let matrix = PackedMatrix::zeros(isa, gates, units, 1).unwrap();
                assert_eq!(matrix.groups(), groups(gates, units, isa.lanes()).len());
            }
        }
    }
}

/// Reads every value of a packed matrix where a tile would read it. Each value has to be the
/// weight of its output and input, no place may be read twice, and all other places have to be
/// zero.
struct Reads<'a> {
    matrix: &'a PackedMatrix,
    weight: fn(usize, usize) -> f32,
}

impl Kernel for Reads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let Self { matrix, weight } = self;
        let start = matrix.panels.as_ptr();
        let mut seen = vec![false; matrix.panels.len()];
        for group in 0..matrix.groups() {
            let columns = matrix.columns(group, S::LANES);
            let place = Place { group, vecs: columns.vecs, next: 0 };
            for first_k in (0..matrix.depth).step_by(DEPTH_BLOCK) {
                // SAFETY: the group and the block are in the matrix.
                let product = unsafe { matrix.product(std::ptr::null(), place, first_k, S::LANES) };
                for v in 0..columns.vecs {
                    for k in 0..product.depth {
                        let panel = v / PANEL * product.panel_stride;
                        let at = panel + (k * PANEL + v % PANEL) * S::LANES;
                        let block = (product.panels as usize - start as usize) / size_of::<f32>();
                        for lane in 0..columns.lanes[v] {
                            let place = block + at + lane;
                            assert!(!std::mem::replace(&mut seen[place], true), "read twice");
                            let output = columns.offset[v] + lane;
                            assert_eq!(matrix.panels[place], weight(output, first_k + k));
                        }
                    }
                }
            }
        }
        let padding = seen.iter().zip(&*matrix.panels).filter(|(seen, _)| !**seen);
        assert!(padding.into_iter().all(|(_, &value)| value == 0.0), "the padding");
        let values = matrix.outputs() * matrix.depth;
        assert_eq!(seen.iter().filter(|seen| **seen).count(), values);
    }
}

#[test]
fn values_lie_where_they_are_read() {
    // Returns a different number for each output and input.
    fn weight(output: usize, input: usize) -> f32 {
        (1 + output * 600 + input) as f32
    }
    let depths =
        [1, 2, 3, RUN - 1, RUN, RUN + 1, DEPTH_BLOCK, DEPTH_BLOCK + 1, 2 * DEPTH_BLOCK + 3];
    for &isa in Isa::available() {
        for gates in 1..=4 {
            for units in [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, GROUP * 16 + 1] {
                for depth in depths {
                    let mut matrix = PackedMatrix::zeros(isa, gates, units, depth).unwrap();
                    let outputs = gates * units;
                    let by_rows: Vec<f32> =
                        (0..outputs * depth).map(|at| weight(at / depth, at % depth)).collect();
                    matrix.pack_rows(&by_rows, &mut Pass::serial()).unwrap();
                    isa.enter(Reads { matrix: &matrix, weight });
                    if gates == 1 {
                        let by_columns: Vec<f32> =
                            (0..units * depth).map(|at| weight(at % units, at / units)).collect();
                        let mut matrix = PackedMatrix::zeros(isa, 1, units, depth).unwrap();
                        matrix.pack_columns(&by_columns, &mut Pass::serial()).unwrap();
                        isa.enter(Reads { matrix: &matrix, weight });
                    }
                }
            }
        }
    }
}
