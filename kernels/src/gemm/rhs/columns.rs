//! Where the columns of a group lie in a row of a product's result. Knows gates, units and
//! lanes; must not know weights.

use crate::gemm::layout::GROUP;
use crate::gemm::prefetch::{Prefetch, When};
use crate::gemm::tile::Grid;
use crate::rows::Rows;

/// A group of a matrix and the group that a sweep over the matrix visits next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Index of the group.
    pub group: usize,
    /// Index of the group that is visited next.
    pub next: usize,
}

/// A group of a matrix, its number of vectors, and the group that a sweep visits next.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Index of the group.
    pub group: usize,
    /// Vectors of the group, without the padding to whole panels.
    pub vecs: usize,
    /// Index of the group that is visited next.
    pub next: usize,
}

/// The columns of one group: for each vector its place in a row of the result, and how many of
/// its lanes are real.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Vectors of the group, without the padding to whole panels.
    pub vecs: usize,
    /// The column of the result at which each vector starts.
    pub offset: [usize; GROUP],
    /// The real lanes of each vector; the others are padding.
    pub lanes: [usize; GROUP],
    /// Whether every lane of every vector is real.
    pub whole: bool,
    /// Vectors of a whole group.
    group: usize,
    /// Columns from this group's offsets to the next group's. Added with wrapping, so that it can
    /// go back.
    advance: usize,
}

impl Columns {
    /// Returns the same columns for a sweep that goes forwards and backwards in turn: backwards,
    /// the next group is the one before this.
    #[inline(always)]
    pub(crate) fn swept(self, backwards: bool) -> Self {
        if backwards { Self { advance: self.advance.wrapping_neg(), ..self } } else { self }
    }

    /// Returns the grid of these columns in `rows`.
    #[inline(always)]
    pub(crate) fn grid<R>(&self, rows: R) -> Grid<R> {
        Grid { rows, offset: self.offset, roomy: false }
    }

    /// Returns a prefetch of `rows` in these columns: every `every`th vector of the group.
    #[inline(always)]
    pub(crate) fn prefetch(&self, rows: Rows, every: usize, when: When) -> Prefetch {
        let Self { offset, group, advance, .. } = *self;
        Prefetch { rows, offset, group, advance, every, when }
    }
}

/// Returns the number of vectors in a full group: 6 with 3 or 6 gates, so that no unit is split
/// between two groups, and otherwise [`GROUP`].
#[inline(always)]
pub(crate) const fn whole(gates: usize) -> usize {
    if matches!(gates, 3 | 6) { 6 } else { GROUP }
}

/// Returns the columns of group `index`, out of `gates × units` columns.
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
