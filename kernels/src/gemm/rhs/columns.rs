//! Where the columns of a group lie in a row of a result. Knows gates, units and lanes; must
//! not know weights.

use crate::gemm::layout::GROUP;
use crate::gemm::prefetch::{Prefetch, When};
use crate::gemm::tile::Grid;
use crate::rows::Rows;

/// The turn of a group of a matrix in a sweep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Which group it is.
    pub group: usize,
    /// The group whose turn comes after.
    pub next: usize,
}

/// A group of a matrix in a sweep, with how much of it there is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub group: usize,
    /// Its vectors, without the padding to whole panels.
    pub vecs: usize,
    /// The group that comes after it.
    pub next: usize,
}

/// The columns of one group: for each of its vectors where it goes in a row of
/// the result, and how many of its lanes are real.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Its vectors, without the padding to whole panels.
    pub vecs: usize,
    pub offset: [usize; GROUP],
    pub lanes: [usize; GROUP],
    /// Whether every lane of every vector is real.
    pub whole: bool,
    /// Vectors of a whole group.
    group: usize,
    /// From a group's offsets to those of the one that comes after it; wraps.
    advance: usize,
}

impl Columns {
    /// The same columns in a sweep to and fro: backwards, the group before comes after.
    #[inline(always)]
    pub(crate) fn swept(self, backwards: bool) -> Self {
        if backwards { Self { advance: self.advance.wrapping_neg(), ..self } } else { self }
    }

    /// Rows in these columns.
    #[inline(always)]
    pub(crate) fn grid<R>(&self, rows: R) -> Grid<R> {
        Grid { rows, offset: self.offset, roomy: false }
    }

    /// Rows to be fetched in these columns, every `every`th vector.
    #[inline(always)]
    pub(crate) fn prefetch(&self, rows: Rows, every: usize, when: When) -> Prefetch {
        let Self { offset, group, advance, .. } = *self;
        Prefetch { rows, offset, group, advance, every, when }
    }
}

/// Vectors of a whole group: as many as there may be that have whole units.
#[inline(always)]
pub(crate) const fn whole(gates: usize) -> usize {
    if matches!(gates, 3 | 6) { 6 } else { GROUP }
}

/// The columns of group `index` of `gates × units` columns.
#[inline(always)]
pub(crate) fn columns(gates: usize, units: usize, index: usize, lanes: usize) -> Columns {
    let group = whole(gates);
    let first = index * group;
    let (mut block, mut gate) = (first / gates, first % gates);
    let mut columns = Columns {
        vecs: group.min(units.div_ceil(lanes) * gates - first),
        offset: [0; GROUP],
        lanes: [0; GROUP],
        whole: true,
        group,
        advance: group / gates * lanes,
    };
    for v in 0..columns.vecs {
        let unit = block * lanes;
        columns.offset[v] = gate * units + unit;
        columns.lanes[v] = lanes.min(units - unit);
        columns.whole &= columns.lanes[v] == lanes;
        gate += 1;
        if gate == gates {
            (block, gate) = (block + 1, 0);
        }
    }
    columns
}
