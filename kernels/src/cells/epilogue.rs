//! What a pass knows of a cell, and what a cell knows of a pass: constants, and the places
//! of some units.

use crate::KernelError;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::Simd;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The most sums that a unit has.
pub(crate) const MOST_SUMS: usize = 4;

/// The sums of a step and what becomes of them.
///
/// H are the units, `z = b + U x + W h₋`, in as many blocks of H as there are gates. A
/// step is one product, whose sums [`forward`](Self::forward) finishes, or two, of which
/// the second is of what the first has left in the extra block.
///
/// The constants and places are all that the passes know of a cell.
///
/// # Safety
/// The constants are checked where a cell is compiled, by [`Geometry::new`](super::Geometry),
/// and places are only read and written as far as the constants say that they go. What is
/// left for an implementation to promise:
///
/// 1. [`check`](Self::check) answers `Ok` only where the cell's own vectors have all of the
///    blocks that the other methods hand to [`ForwardUnits::vector`] and [`BackwardUnits::vector`], each of
///    so many units;
/// 2. it answers the same whenever it is asked.
pub(crate) unsafe trait Epilogue: Copy + Sync {
    /// Blocks of gates: outputs of the input's product, and of what is kept of a step,
    /// to become ∂L/∂z.
    const GATES: usize;
    /// Sums of a unit in the step's product: the first of the gates.
    const SUMS: usize = Self::GATES;
    /// Blocks that are kept beside the gates.
    const EXTRA: usize = 0;
    /// Whether there is a cell state c beside h.
    const CELLS: bool = false;
    /// Whether the sums are of the recurrent product alone, and the input's part is the
    /// cell's to add.
    const SEPARATE_SUMS: bool = false;
    /// Whether h₋ enters other than by a product, so that a part of ∂L/∂h is carried.
    const CARRIES: bool = false;
    /// Where a second product, of the extra block, begins: at this gate's input part.
    const SECOND: Option<usize> = None;
    /// Whether h is a second product, of the extra block.
    const PROJECTS: bool = false;
    /// What the products of a step backward are of, for each delay.
    const BACK: &'static [BackwardLhs] = &[BackwardLhs::Gates { first: 0, count: Self::GATES }];

    /// `Ok` where the cell's own vectors fit so many units.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    fn check(&self, _hidden: usize) -> Result<(), KernelError> {
        Ok(())
    }

    /// States of some units from their sums.
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, z: [S::V; MOST_SUMS]);

    /// States of some units from all gates' sums with their biases, where these have been
    /// normalised, and, of recurrent sums that are apart, the last one's without.
    #[inline(always)]
    fn forward_normed<S: Simd>(
        &self,
        simd: S,
        at: &ForwardUnits<Self>,
        z: [S::V; MOST_SUMS],
        _apart: S::V,
    ) {
        self.forward(simd, at, z);
    }

    /// What the second product's sum makes of them.
    #[inline(always)]
    fn second<S: Simd>(&self, _simd: S, _at: &ForwardUnits<Self>, _z: S::V) {}

    /// Gradients of some units from their ∂L/∂h, or from that of what is projected.
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V);

    /// The same from the gradient of the extra block.
    #[inline(always)]
    fn second_backward<S: Simd>(&self, _simd: S, _at: &BackwardUnits<Self>, _d: S::V) {}
}

/// A left operand of a step backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackwardLhs {
    /// So many blocks of ∂L/∂z from the first.
    Gates {
        /// The first.
        first: usize,
        /// How many.
        count: usize,
    },
    /// The extra block.
    Extra,
}

impl BackwardLhs {
    /// How many blocks it is.
    pub const fn blocks(self) -> usize {
        match self {
            Self::Gates { count, .. } => count,
            Self::Extra => 1,
        }
    }
}

/// Where some units of a row are, forward: each pointer is to the first of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardPointers {
    /// How many lanes are units.
    pub lanes: usize,
    /// The first of them.
    pub unit: usize,
    /// Floats from a block to the next.
    pub hidden: usize,
    /// The input's part of the gates, for sums that are apart from it.
    pub input: *const f32,
    /// The gates, where they are kept.
    pub gates: Option<NonNull<f32>>,
    pub extra: *mut f32,
    pub h_prev: *const f32,
    /// h₋ as the products see it.
    pub h_seen: *const f32,
    pub h: *mut f32,
    pub c_prev: *const f32,
    pub c: *mut f32,
}

/// Where they are backward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackwardPointers {
    pub lanes: usize,
    pub unit: usize,
    pub hidden: usize,
    /// The gates, to become ∂L/∂z.
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub h_prev: *const f32,
    /// h₋ as the products saw it, and the share that they saw of it where it was not all.
    pub h_seen: *const f32,
    pub mask: Option<NonNull<f32>>,
    pub h: *const f32,
    pub c_prev: *const f32,
    /// Where c goes as the cell made it, before zoneout, if anybody asks.
    pub c_made: Option<NonNull<f32>>,
    /// What is carried of ∂L/∂h to the step before, and ∂L/∂c.
    pub dh: *mut f32,
    pub dc: *mut f32,
}

/// The places of some units, as a cell reads and writes them. It has what the cell's constants
/// say, and refuses what they do not, which costs nothing: they are known when it is compiled.
pub(crate) struct ForwardUnits<C> {
    at: ForwardPointers,
    cell: PhantomData<fn() -> C>,
}

/// The same backward.
pub(crate) struct BackwardUnits<C> {
    at: BackwardPointers,
    cell: PhantomData<fn() -> C>,
}

/// What both kinds of places can do.
macro_rules! places {
    ($($place:ident)+) => {
        $(impl<C: Epilogue> $place<C> {
            /// Reads the units' values of one of the places.
            #[inline(always)]
            fn read<S: Simd>(&self, simd: S, place: *const f32) -> S::V {
                // SAFETY: called in this file alone, with what `new` has been promised to be
                // readable for `lanes` floats.
                unsafe { load_lanes(simd, place, self.at.lanes) }
            }

            /// Writes them.
            #[inline(always)]
            fn write<S: Simd>(&self, simd: S, place: *mut f32, v: S::V) {
                // SAFETY: as for `read`, with what is writable.
                unsafe { store_lanes(simd, place, v, self.at.lanes) };
            }

            /// A place in one of the blocks, of which there are so many, H floats each.
            #[inline(always)]
            fn block(&self, first: *mut f32, block: usize, blocks: usize) -> *mut f32 {
                assert!(block < blocks, "the cell has no such block");
                first.wrapping_add(block * self.at.hidden)
            }

            /// The units' values of a block of one of the cell's own vectors.
            ///
            /// # Safety
            /// It has the block: [`Epilogue::check`] was told of `hidden` units, as `new` has
            /// been promised, and has seen to it.
            #[inline(always)]
            pub(crate) unsafe fn vector<S: Simd>(&self, simd: S, v: &[f32], block: usize) -> S::V {
                let at = block * self.at.hidden + self.at.unit;
                debug_assert!(at + self.at.lanes <= v.len());
                self.read(simd, v.as_ptr().wrapping_add(at))
            }
        })+
    };
}
places!(ForwardUnits BackwardUnits);

/// Methods that read a place which there is where the condition holds.
macro_rules! reads {
    ($($(#[$doc:meta])* $place:ident: $has:expr;)+) => {
        $($(#[$doc])*
        #[inline(always)]
        pub(crate) fn $place<S: Simd>(&self, simd: S) -> S::V {
            assert!($has, "the cell has no such place");
            self.read(simd, self.at.$place.cast::<f32>())
        })+
    };
}

/// Those that write one.
macro_rules! writes {
    ($($name:ident, $place:ident: $has:expr;)+) => {
        $(#[inline(always)]
        pub(crate) fn $name<S: Simd>(&self, simd: S, v: S::V) {
            assert!($has, "the cell has no such place");
            self.write(simd, self.at.$place, v);
        })+
    };
}

impl<C: Epilogue> ForwardUnits<C> {
    /// The places, where a cell may read and write as it likes.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are good for so many floats, which
    ///    nobody else writes, and of what is written here nobody else reads: `h_prev`, `h_seen`
    ///    and `h`; `gates`, where they are kept, at each of `GATES` blocks, `hidden` floats
    ///    apart; `c_prev` and `c` where the cell has `CELLS`;
    /// 2. `input` is so for as many blocks where the sums are `SEPARATE_SUMS`, and `extra` where there
    ///    is one and gates are kept or a second product reads it;
    /// 3. the cell has been checked for `hidden` units, of which the last here is one.
    #[inline(always)]
    pub(crate) unsafe fn new(at: ForwardPointers) -> Self {
        Self { at, cell: PhantomData }
    }

    /// The places of the cell whose h is projected: its h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> ForwardUnits<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::SEPARATE_SUMS && !I::CARRIES);
        ForwardUnits { at: ForwardPointers { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// Whether gates and extra blocks are kept.
    #[inline(always)]
    pub(crate) fn keeps(&self) -> bool {
        self.at.gates.is_some()
    }

    /// Keeps the first `count` gates, if any are.
    #[inline(always)]
    pub(crate) fn store_gates<S: Simd>(&self, simd: S, gates: &[S::V; MOST_SUMS], count: usize) {
        let Some(to) = self.at.gates else { return };
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.write(simd, self.block(to.as_ptr(), gate, C::GATES), gates[gate]);
            }
        }
    }

    /// Keeps a gate, if they are.
    #[inline(always)]
    pub(crate) fn store_gate<S: Simd>(&self, simd: S, gate: usize, v: S::V) {
        if let Some(gates) = self.at.gates {
            self.write(simd, self.block(gates.as_ptr(), gate, C::GATES), v);
        }
    }

    /// The input's part of a gate, for sums that are apart from it.
    #[inline(always)]
    pub(crate) fn input<S: Simd>(&self, simd: S, gate: usize) -> S::V {
        assert!(C::SEPARATE_SUMS, "the sums are on top of the input's part");
        self.read(simd, self.block(self.at.input.cast_mut(), gate, C::GATES))
    }

    /// Leaves what a second product reads, or keeps it, if gates are kept.
    #[inline(always)]
    pub(crate) fn set_extra<S: Simd>(&self, simd: S, v: S::V) {
        if self.keeps() || C::SECOND.is_some() || C::PROJECTS {
            self.write(simd, self.block(self.at.extra, 0, C::EXTRA), v);
        }
    }

    reads! {
        /// h₋.
        h_prev: true;
        /// h₋ as the products see it.
        h_seen: true;
        /// What the first product has left where h will be.
        h: true;
        /// c₋.
        c_prev: C::CELLS;
    }
    writes! {
        set_h, h: true;
        set_c, c: C::CELLS;
    }
}

impl<C: Epilogue> BackwardUnits<C> {
    /// The places, where a cell may read and write as it likes.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are good for so many floats, which
    ///    nobody else writes, and of what is written here nobody else reads: `gates` at each of
    ///    `GATES` blocks, `hidden` floats apart; `h_prev`, `h_seen` and `h`; `mask` and
    ///    `c_made` where they are there; `c_prev` and `dc` where the cell has `CELLS`;
    /// 2. `extra` is where the cell has `EXTRA`, and `dh` where it `CARRIES` a part;
    /// 3. the cell has been checked for `hidden` units, of which the last here is one.
    #[inline(always)]
    pub(crate) unsafe fn new(at: BackwardPointers) -> Self {
        Self { at, cell: PhantomData }
    }

    /// The places of the cell whose h is projected: its h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> BackwardUnits<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::SEPARATE_SUMS && !I::CARRIES);
        BackwardUnits { at: BackwardPointers { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// What was kept of a gate.
    #[inline(always)]
    pub(crate) fn gate<S: Simd>(&self, simd: S, gate: usize) -> S::V {
        self.read(simd, self.block(self.at.gates, gate, C::GATES))
    }

    /// Leaves the first `count` gates' ∂L/∂z where the gates were.
    #[inline(always)]
    pub(crate) fn store_gradients<S: Simd>(&self, simd: S, dz: &[S::V; MOST_SUMS], count: usize) {
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.store_gradient(simd, gate, dz[gate]);
            }
        }
    }

    /// Leaves one.
    #[inline(always)]
    pub(crate) fn store_gradient<S: Simd>(&self, simd: S, gate: usize, dz: S::V) {
        self.write(simd, self.block(self.at.gates, gate, C::GATES), dz);
    }

    /// The gradient by h₋ of one by what the products saw of it.
    #[inline(always)]
    pub(crate) fn masked<S: Simd>(&self, simd: S, d: S::V) -> S::V {
        match self.at.mask {
            None => d,
            Some(mask) => simd.mul(d, self.read(simd, mask.as_ptr().cast_const())),
        }
    }

    /// Leaves c as the cell made it, if anybody asks.
    #[inline(always)]
    pub(crate) fn set_c_made<S: Simd>(&self, simd: S, v: S::V) {
        if let Some(place) = self.at.c_made {
            self.write(simd, place.as_ptr(), v);
        }
    }

    reads! {
        /// What was kept in the extra block.
        extra: C::EXTRA > 0;
        /// h₋.
        h_prev: true;
        /// h₋ as the products saw it.
        h_seen: true;
        h: true;
        /// c₋.
        c_prev: C::CELLS;
        /// What has been carried of ∂L/∂h to the step before.
        dh: C::CARRIES;
        /// ∂L/∂c.
        dc: C::CELLS;
    }
    writes! {
        set_extra, extra: C::EXTRA > 0;
        set_dh, dh: C::CARRIES;
        set_dc, dc: C::CELLS;
    }
}
