//! Where a tile's sums come from and where they go. Knows rows of vectors in memory and
//! lanes that are not there; must not know products.

use crate::gemm::layout::GROUP;
use crate::rows::{Rows, RowsMut, load_lanes, store_lanes};
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Vectors of rows in memory: vector v of row r begins at column `offset[v]` of the row.
#[derive(Clone, Copy)]
pub(crate) struct Grid<R = RowsMut> {
    pub rows: R,
    pub offset: [usize; GROUP],
    /// Whether every vector of a group has room for all of its lanes, real or not. Sums that
    /// rest in such a place are stored and read in whole vectors.
    pub roomy: bool,
}

/// Where the chains of a group's product start, and where they are left.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// `None` is zero. A bias is a grid whose stride is 0.
    pub from: Option<Grid<Rows>>,
    pub to: Grid,
    /// Real lanes of each vector, which are all that a grid without room for more has.
    pub lanes: [usize; GROUP],
    /// Whether every lane of every vector is real.
    pub whole: bool,
}

impl Sums {
    /// The same sums, taken up where they were left.
    #[inline(always)]
    pub(crate) fn resumed(self) -> Self {
        let Grid { rows, offset, roomy } = self.to;
        Self { from: Some(Grid { rows: rows.as_rows(), offset, roomy }), ..self }
    }

    /// The sums of the tile whose first row and vector these are, to go on from.
    ///
    /// # Safety
    /// The real lanes of `from` are readable, or, where it is roomy, all of them.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        first: usize,
    ) -> [[S::V; V]; R] {
        let mut acc = [[simd.zero(); V]; R];
        let Some(from) = &self.from else { return acc };
        let whole = self.whole || from.roomy;
        let from = Corner::to_read(from, row, first);
        // SAFETY: of a whole group, or a roomy grid, all lanes are readable, of another the
        // real ones.
        unsafe {
            if whole {
                for r in 0..R {
                    for v in 0..V {
                        acc[r][v] = simd.load(from.at(r, v));
                    }
                }
            } else {
                let edge = Edge::<S::V, R, V>::load(simd, from, &self.lanes[first..]);
                for r in 0..R {
                    for v in 0..V {
                        acc[r][v] = edge.get(r, v);
                    }
                }
            }
        }
        acc
    }

    /// Leaves the tile's sums where they belong.
    ///
    /// # Safety
    /// The real lanes of `to` are writable, or, where it is roomy, all of them.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        first: usize,
        acc: &[[S::V; V]; R],
    ) {
        let to = Corner::to_write(&self.to, row, first);
        // SAFETY: of a whole group, or a roomy grid, all lanes are writable, of another the
        // real ones.
        unsafe {
            if self.whole || self.to.roomy {
                for r in 0..R {
                    for v in 0..V {
                        simd.store(to.at(r, v), acc[r][v]);
                    }
                }
            } else {
                Edge::<S::V, R, V>::of(acc).store(simd, to, &self.lanes[first..]);
            }
        }
    }
}

/// A grid seen from a tile's first row and vector.
#[derive(Clone, Copy)]
struct Corner<'a, R> {
    rows: R,
    offset: &'a [usize],
}

impl<'a> Corner<'a, Rows> {
    #[inline(always)]
    fn to_read(grid: &'a Grid<Rows>, row: usize, first: usize) -> Self {
        Self { rows: grid.rows.from(row, 0), offset: &grid.offset[first..] }
    }

    #[inline(always)]
    fn at(self, r: usize, v: usize) -> *const f32 {
        self.rows.at(r, self.offset[v])
    }
}

impl<'a> Corner<'a, RowsMut> {
    #[inline(always)]
    fn to_write(grid: &'a Grid, row: usize, first: usize) -> Self {
        Self { rows: grid.rows.from(row, 0), offset: &grid.offset[first..] }
    }

    #[inline(always)]
    fn at(self, r: usize, v: usize) -> *mut f32 {
        self.rows.at(r, self.offset[v])
    }
}

/// A tile's sums in memory. At the edge of a matrix they pass through here, so
/// that the accumulators are only ever indexed by constants: one loop over them
/// that stays rolled would keep them all on the stack, in every tile.
struct Edge<T, const R: usize, const V: usize>(MaybeUninit<[[T; V]; R]>);

impl<T: Copy, const R: usize, const V: usize> Edge<T, R, V> {
    /// # Safety
    /// The real lanes of R rows and V vectors are readable.
    #[inline(always)]
    unsafe fn load<S: Simd<V = T>>(simd: S, from: Corner<'_, Rows>, lanes: &[usize]) -> Self {
        let mut edge = MaybeUninit::<[[T; V]; R]>::uninit();
        for i in 0..R * V {
            // SAFETY: the real lanes are readable, and i < R · V.
            unsafe {
                let v = load_lanes(simd, from.at(i / V, i % V), lanes[i % V]);
                *edge.as_mut_ptr().cast::<T>().add(i) = v;
            }
        }
        Self(edge)
    }

    #[inline(always)]
    fn of(acc: &[[T; V]; R]) -> Self {
        let mut edge = MaybeUninit::<[[T; V]; R]>::uninit();
        for r in 0..R {
            for v in 0..V {
                // SAFETY: r < R and v < V.
                unsafe { *edge.as_mut_ptr().cast::<T>().add(r * V + v) = acc[r][v] };
            }
        }
        Self(edge)
    }

    #[inline(always)]
    fn get(&self, r: usize, v: usize) -> T {
        debug_assert!(r < R && v < V);
        // SAFETY: r < R and v < V; `load` and `of` fill every place.
        unsafe { *self.0.as_ptr().cast::<T>().add(r * V + v) }
    }

    /// # Safety
    /// The real lanes of R rows and V vectors are writable.
    #[inline(always)]
    unsafe fn store<S: Simd<V = T>>(&self, simd: S, to: Corner<'_, RowsMut>, lanes: &[usize]) {
        for i in 0..R * V {
            let (r, v) = (i / V, i % V);
            // SAFETY: the real lanes are writable.
            unsafe { store_lanes(simd, to.at(r, v), self.get(r, v), lanes[v]) };
        }
    }
}
