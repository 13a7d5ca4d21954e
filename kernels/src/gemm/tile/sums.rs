//! Where a tile's sums are loaded from and stored to. Knows rows of vectors in memory and which
//! of their lanes are padding; must not know products.

use crate::gemm::layout::GROUP;
use crate::rows::{Rows, RowsMut, load_lanes, store_lanes};
use crate::simd::Simd;
use std::mem::MaybeUninit;

/// Vectors in rows of memory: vector v of row r starts at column `offset[v]` of the row.
#[derive(Clone, Copy)]
pub(crate) struct Grid<R = RowsMut> {
    pub rows: R,
    pub offset: [usize; GROUP],
    /// Whether every vector of a group, vectors of padding included, has room for all of its
    /// lanes, so that sums are loaded and stored in whole vectors.
    pub roomy: bool,
}

/// The memory from which a group's product loads its sums and to which it stores them.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// The values from which the sums start; `None` is zero. A bias is a grid with stride 0.
    pub from: Option<Grid<Rows>>,
    /// Receives the sums.
    pub to: Grid,
    /// Real lanes of each vector. A grid that is not roomy has memory for no others.
    pub lanes: [usize; GROUP],
    /// Whether every lane of every vector is real.
    pub whole: bool,
}

impl Sums {
    /// Returns sums that start from where these are stored.
    #[inline(always)]
    pub(crate) fn resumed(self) -> Self {
        let Grid { rows, offset, roomy } = self.to;
        Self { from: Some(Grid { rows: rows.as_rows(), offset, roomy }), ..self }
    }

    /// Loads the sums of the tile that starts at row `row` and vector `first`.
    ///
    /// # Safety
    /// The tile's real lanes of `from` are readable, or all of its lanes if `from` is roomy.
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
        // SAFETY: if the group is whole or the grid roomy, all lanes are readable; otherwise the
        // real lanes are.
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

    /// Stores the sums of the tile that starts at row `row` and vector `first`.
    ///
    /// # Safety
    /// The tile's real lanes of `to` are writable, or all of its lanes if `to` is roomy.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        first: usize,
        acc: &[[S::V; V]; R],
    ) {
        let to = Corner::to_write(&self.to, row, first);
        // SAFETY: if the group is whole or the grid roomy, all lanes are writable; otherwise the
        // real lanes are.
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

/// The part of a grid from a tile's first row and first vector on.
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

/// A copy of a tile's sums in memory. Sums at the edge of a matrix pass through it, so that the
/// accumulators are indexed by constants only. A single loop over them that the compiler does not
/// unroll would keep all accumulators on the stack, in every tile.
struct Edge<T, const R: usize, const V: usize>(MaybeUninit<[[T; V]; R]>);

impl<T: Copy, const R: usize, const V: usize> Edge<T, R, V> {
    /// Loads the real lanes of the tile's sums.
    ///
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

    /// Stores the real lanes of the tile's sums.
    ///
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
