//! What a pass knows of a cell, and what a cell knows of a pass: constants, and the places
//! of some units.

use crate::KernelError;
use crate::simd::Simd;
use crate::tile::{load_lanes, store_lanes};
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
///    blocks that the other methods hand to [`Forth::vector`] and [`Back::vector`], each of
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
    /// Whether there is a cell state s beside h.
    const CELLS: bool = false;
    /// Whether the sums are of the recurrent product alone, and the input's part is the
    /// cell's to add.
    const APART: bool = false;
    /// Whether h₋ enters other than by a product, so that a part of ∂L/∂h is carried.
    const CARRIES: bool = false;
    /// Where a second product, of the extra block, begins: at this gate's input part.
    const SECOND: Option<usize> = None;
    /// Whether h is a second product, of the extra block.
    const PROJECTS: bool = false;
    /// What the products of a step backward are of, for each delay.
    const BACK: &'static [Source] = &[Source::Gates { first: 0, count: Self::GATES }];

    /// `Ok` where the cell's own vectors fit so many units.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    fn check(&self, _hidden: usize) -> Result<(), KernelError> {
        Ok(())
    }

    /// States of some units from their sums.
    fn forward<S: Simd>(&self, s: S, at: &Forth<Self>, z: [S::V; MOST_SUMS]);

    /// States of some units from all gates' sums with their biases, where these have been
    /// normalised, and, of recurrent sums that are apart, the last one's without.
    #[inline(always)]
    fn forward_normed<S: Simd>(&self, s: S, at: &Forth<Self>, z: [S::V; MOST_SUMS], _apart: S::V) {
        self.forward(s, at, z);
    }

    /// What the second product's sum makes of them.
    #[inline(always)]
    fn second<S: Simd>(&self, _s: S, _at: &Forth<Self>, _z: S::V) {}

    /// Gradients of some units from their ∂L/∂h, or from that of what is projected.
    fn backward<S: Simd>(&self, s: S, at: &Back<Self>, dh: S::V);

    /// The same from the gradient of the extra block.
    #[inline(always)]
    fn second_backward<S: Simd>(&self, _s: S, _at: &Back<Self>, _d: S::V) {}
}

/// A left operand of a step backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
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

impl Source {
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
pub(crate) struct ForthAt {
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
    pub s_prev: *const f32,
    pub s: *mut f32,
}

/// Where they are backward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackAt {
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
    pub s_prev: *const f32,
    /// Where s goes as the cell made it, before zoneout, if anybody asks.
    pub s_made: Option<NonNull<f32>>,
    /// What is carried of ∂L/∂h to the step before, and ∂L/∂s.
    pub dh: *mut f32,
    pub ds: *mut f32,
}

/// The places of some units, as a cell reads and writes them. It has what the cell's constants
/// say, and refuses what they do not, which costs nothing: they are known when it is compiled.
pub(crate) struct Forth<C> {
    at: ForthAt,
    cell: PhantomData<fn() -> C>,
}

/// The same backward.
pub(crate) struct Back<C> {
    at: BackAt,
    cell: PhantomData<fn() -> C>,
}

/// What both kinds of places can do.
macro_rules! places {
    ($($place:ident)+) => {
        $(impl<C: Epilogue> $place<C> {
            /// Reads the units' values of one of the places.
            #[inline(always)]
            fn read<S: Simd>(&self, s: S, place: *const f32) -> S::V {
                // SAFETY: called in this file alone, with what `new` has been promised to be
                // readable for `lanes` floats.
                unsafe { load_lanes(s, place, self.at.lanes) }
            }

            /// Writes them.
            #[inline(always)]
            fn write<S: Simd>(&self, s: S, place: *mut f32, v: S::V) {
                // SAFETY: as for `read`, with what is writable.
                unsafe { store_lanes(s, place, v, self.at.lanes) };
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
            pub(crate) unsafe fn vector<S: Simd>(&self, s: S, v: &[f32], block: usize) -> S::V {
                let at = block * self.at.hidden + self.at.unit;
                debug_assert!(at + self.at.lanes <= v.len());
                self.read(s, v.as_ptr().wrapping_add(at))
            }
        })+
    };
}
places!(Forth Back);

/// Methods that read a place which there is where the condition holds.
macro_rules! reads {
    ($($(#[$doc:meta])* $place:ident: $has:expr;)+) => {
        $($(#[$doc])*
        #[inline(always)]
        pub(crate) fn $place<S: Simd>(&self, s: S) -> S::V {
            assert!($has, "the cell has no such place");
            self.read(s, self.at.$place.cast::<f32>())
        })+
    };
}

/// Those that write one.
macro_rules! writes {
    ($($name:ident, $place:ident: $has:expr;)+) => {
        $(#[inline(always)]
        pub(crate) fn $name<S: Simd>(&self, s: S, v: S::V) {
            assert!($has, "the cell has no such place");
            self.write(s, self.at.$place, v);
        })+
    };
}

impl<C: Epilogue> Forth<C> {
    /// The places, where a cell may read and write as it likes.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are good for so many floats, which
    ///    nobody else writes, and of what is written here nobody else reads: `h_prev`, `h_seen`
    ///    and `h`; `gates`, where they are kept, at each of `GATES` blocks, `hidden` floats
    ///    apart; `s_prev` and `s` where the cell has `CELLS`;
    /// 2. `input` is so for as many blocks where the sums are `APART`, and `extra` where there
    ///    is one and gates are kept or a second product reads it;
    /// 3. the cell has been checked for `hidden` units, of which the last here is one.
    #[inline(always)]
    pub(crate) unsafe fn new(at: ForthAt) -> Self {
        Self { at, cell: PhantomData }
    }

    /// The places of the cell whose h is projected: its h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> Forth<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::APART && !I::CARRIES);
        Forth { at: ForthAt { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// Whether gates and extra blocks are kept.
    #[inline(always)]
    pub(crate) fn keeps(&self) -> bool {
        self.at.gates.is_some()
    }

    /// Keeps the first `count` gates, if any are.
    #[inline(always)]
    pub(crate) fn keep<S: Simd>(&self, s: S, gates: &[S::V; MOST_SUMS], count: usize) {
        let Some(to) = self.at.gates else { return };
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.write(s, self.block(to.as_ptr(), gate, C::GATES), gates[gate]);
            }
        }
    }

    /// Keeps a gate, if they are.
    #[inline(always)]
    pub(crate) fn keep_one<S: Simd>(&self, s: S, gate: usize, v: S::V) {
        if let Some(gates) = self.at.gates {
            self.write(s, self.block(gates.as_ptr(), gate, C::GATES), v);
        }
    }

    /// The input's part of a gate, for sums that are apart from it.
    #[inline(always)]
    pub(crate) fn input<S: Simd>(&self, s: S, gate: usize) -> S::V {
        assert!(C::APART, "the sums are on top of the input's part");
        self.read(s, self.block(self.at.input.cast_mut(), gate, C::GATES))
    }

    /// Leaves what a second product reads, or keeps it, if gates are kept.
    #[inline(always)]
    pub(crate) fn set_extra<S: Simd>(&self, s: S, v: S::V) {
        if self.keeps() || C::SECOND.is_some() || C::PROJECTS {
            self.write(s, self.block(self.at.extra, 0, C::EXTRA), v);
        }
    }

    reads! {
        /// h₋.
        h_prev: true;
        /// h₋ as the products see it.
        h_seen: true;
        /// What the first product has left where h will be.
        h: true;
        /// s₋.
        s_prev: C::CELLS;
    }
    writes! {
        set_h, h: true;
        set_s, s: C::CELLS;
    }
}

impl<C: Epilogue> Back<C> {
    /// The places, where a cell may read and write as it likes.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are good for so many floats, which
    ///    nobody else writes, and of what is written here nobody else reads: `gates` at each of
    ///    `GATES` blocks, `hidden` floats apart; `h_prev`, `h_seen` and `h`; `mask` and
    ///    `s_made` where they are there; `s_prev` and `ds` where the cell has `CELLS`;
    /// 2. `extra` is where the cell has `EXTRA`, and `dh` where it `CARRIES` a part;
    /// 3. the cell has been checked for `hidden` units, of which the last here is one.
    #[inline(always)]
    pub(crate) unsafe fn new(at: BackAt) -> Self {
        Self { at, cell: PhantomData }
    }

    /// The places of the cell whose h is projected: its h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> Back<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::APART && !I::CARRIES);
        Back { at: BackAt { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// What was kept of a gate.
    #[inline(always)]
    pub(crate) fn gate<S: Simd>(&self, s: S, gate: usize) -> S::V {
        self.read(s, self.block(self.at.gates, gate, C::GATES))
    }

    /// Leaves the first `count` gates' ∂L/∂z where the gates were.
    #[inline(always)]
    pub(crate) fn leave<S: Simd>(&self, s: S, dz: &[S::V; MOST_SUMS], count: usize) {
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.leave_one(s, gate, dz[gate]);
            }
        }
    }

    /// Leaves one.
    #[inline(always)]
    pub(crate) fn leave_one<S: Simd>(&self, s: S, gate: usize, dz: S::V) {
        self.write(s, self.block(self.at.gates, gate, C::GATES), dz);
    }

    /// The gradient by h₋ of one by what the products saw of it.
    #[inline(always)]
    pub(crate) fn masked<S: Simd>(&self, s: S, d: S::V) -> S::V {
        match self.at.mask {
            None => d,
            Some(mask) => s.mul(d, self.read(s, mask.as_ptr().cast_const())),
        }
    }

    /// Leaves s as the cell made it, if anybody asks.
    #[inline(always)]
    pub(crate) fn set_s_made<S: Simd>(&self, s: S, v: S::V) {
        if let Some(place) = self.at.s_made {
            self.write(s, place.as_ptr(), v);
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
        /// s₋.
        s_prev: C::CELLS;
        /// What has been carried of ∂L/∂h to the step before.
        dh: C::CARRIES;
        /// ∂L/∂s.
        ds: C::CELLS;
    }
    writes! {
        set_extra, extra: C::EXTRA > 0;
        set_dh, dh: C::CARRIES;
        set_ds, ds: C::CELLS;
    }
}
