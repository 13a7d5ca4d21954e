//! The interface between passes and cells: the constants by which a pass knows a cell, and the
//! places through which a cell reads and writes its units. Must not know any cell's equations.

use crate::KernelError;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::Simd;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The maximum number of sums of a unit.
pub(crate) const MOST_SUMS: usize = 4;

/// The equations of a cell, which turn the sums of a step into states.
///
/// H is the number of units. The sums are `z = b + U x + W h₋`, one block of H for each gate. A
/// step is one product, whose sums [`forward`](Self::forward) finishes, or two products, of which
/// the second multiplies the extra block that the first stage has left.
///
/// The constants and the places are all that the passes know of a cell.
///
/// # Safety
/// The constants are checked where a cell is compiled, by [`Geometry::new`](super::Geometry), and
/// places are only read and written as far as the constants allow. An implementation has to promise
/// the rest:
///
/// 1. [`check`](Self::check) returns `Ok` only if the cell's own vectors have all of the blocks
///    that the other methods pass to [`ForwardUnits::vector`] and [`BackwardUnits::vector`], each
///    of `hidden` units;
/// 2. it returns the same whenever it is called.
pub(crate) unsafe trait Epilogue: Copy + Sync {
    /// Blocks of gates: outputs of the input's product, and values that are kept of each step until
    /// the backward pass replaces them with ∂L/∂z.
    const GATES: usize;
    /// Sums of each unit in the first product of a step: those of the first `SUMS` gates.
    const SUMS: usize = Self::GATES;
    /// Extra blocks that are kept of each step beside the gates.
    const EXTRA: usize = 0;
    /// Whether there is a cell state c beside h.
    const CELLS: bool = false;
    /// Whether the sums are those of the recurrent product alone, so that the cell itself adds the
    /// input's part.
    const SEPARATE_SUMS: bool = false;
    /// Whether h₋ enters the equations outside of the products too, so that a part of ∂L/∂h is
    /// carried from step to step.
    const CARRIES: bool = false;
    /// The gate at whose input part the sums of a second product, of the extra block, start.
    const SECOND: Option<usize> = None;
    /// Whether h is a second product, of the extra block.
    const PROJECTS: bool = false;
    /// Whether [`project`](Self::project) changes anything.
    const LIMITS: bool = false;
    /// Whether a step of a single row with few units has kernels of its own, in which the sums stay
    /// in registers. They are compiled for each cell.
    const SHORT: bool = true;
    /// The left operands of the products of a step backward, for each delay.
    const BACK: &'static [BackwardLhs] = &[BackwardLhs::Gates { first: 0, count: Self::GATES }];

    /// Checks that the cell's own vectors fit `_hidden` units.
    ///
    /// # Errors
    /// [`KernelError::Length`] if one of them has another length.
    fn check(&self, _hidden: usize) -> Result<(), KernelError> {
        Ok(())
    }

    /// Computes the states of some units from their sums `z`, one vector for each gate.
    fn forward<S: Simd>(&self, simd: S, at: &ForwardUnits<Self>, z: [S::V; MOST_SUMS]);

    /// Computes the states of some units from sums that have been normalised: `z` has the sums of
    /// all gates with their biases. If the cell has `SEPARATE_SUMS`, `z` of the last gate is its
    /// input's part, and `_recurrent` is its recurrent sum, without a bias.
    #[inline(always)]
    fn forward_normed<S: Simd>(
        &self,
        simd: S,
        at: &ForwardUnits<Self>,
        z: [S::V; MOST_SUMS],
        _recurrent: S::V,
    ) {
        self.forward(simd, at, z);
    }

    /// Completes the states of some units from `_z`, the sum of the second product.
    #[inline(always)]
    fn second<S: Simd>(&self, _simd: S, _at: &ForwardUnits<Self>, _z: S::V) {}

    /// Returns the hidden state of some features from `h`, the sum of the second product of a
    /// projection of this cell's h.
    #[inline(always)]
    fn project<S: Simd>(&self, _simd: S, h: S::V) -> S::V {
        h
    }

    /// Returns the gradient by what [`project`](Self::project) was given, from `dh`, ∂L/∂h of some
    /// features, and their hidden state `_h`, which the pass has kept.
    #[inline(always)]
    fn project_backward<S: Simd>(&self, _simd: S, dh: S::V, _h: S::V) -> S::V {
        dh
    }

    /// Computes ∂L/∂z of some units from `dh`: their ∂L/∂h or, if the cell projects, the gradient
    /// of the extra block.
    fn backward<S: Simd>(&self, simd: S, at: &BackwardUnits<Self>, dh: S::V);

    /// Completes the gradients of some units from `_d`, the gradient of the extra block.
    #[inline(always)]
    fn second_backward<S: Simd>(&self, _simd: S, _at: &BackwardUnits<Self>, _d: S::V) {}
}

/// A left operand of the products of a step backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackwardLhs {
    /// Some consecutive blocks of ∂L/∂z.
    Gates {
        /// The index of the first block.
        first: usize,
        /// The number of blocks.
        count: usize,
    },
    /// The extra block.
    Extra,
}

impl BackwardLhs {
    /// Returns the number of blocks of the operand.
    pub const fn blocks(self) -> usize {
        match self {
            Self::Gates { count, .. } => count,
            Self::Extra => 1,
        }
    }
}

/// The places of some units of a row in a forward pass. Each pointer is to the first of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardPointers {
    /// Lanes of a vector that hold units.
    pub lanes: usize,
    /// The index of the first unit.
    pub unit: usize,
    /// Floats from one block to the next, H.
    pub hidden: usize,
    /// The input's part of the gates, which a cell with `SEPARATE_SUMS` reads.
    pub input: *const f32,
    /// Where the gates are stored, if they are kept.
    pub gates: Option<NonNull<f32>>,
    pub extra: *mut f32,
    pub h_prev: *const f32,
    /// h₋ as the products see it, after dropout.
    pub h_seen: *const f32,
    pub h: *mut f32,
    pub c_prev: *const f32,
    pub c: *mut f32,
}

/// The places of some units of a row in a backward pass, as [`ForwardPointers`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackwardPointers {
    pub lanes: usize,
    pub unit: usize,
    pub hidden: usize,
    /// The gates, which the cell replaces with ∂L/∂z.
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub h_prev: *const f32,
    /// h₋ as the products saw it, after dropout.
    pub h_seen: *const f32,
    /// The dropout mask, if there is one.
    pub mask: Option<NonNull<f32>>,
    pub h: *const f32,
    pub c_prev: *const f32,
    /// Where the cell stores c as it computed it, before zoneout, if the caller asks for it.
    pub c_made: Option<NonNull<f32>>,
    /// The part of ∂L/∂h that is carried to the step before.
    pub dh: *mut f32,
    /// ∂L/∂c of this step, which the cell replaces with ∂L/∂c of the step before.
    pub dc: *mut f32,
}

/// The places of some units, as a cell `C` reads and writes them in a forward pass. Its methods
/// refuse a place that the constants of `C` do not name. That costs nothing, since the constants
/// are known when the code is compiled.
pub(crate) struct ForwardUnits<C> {
    at: ForwardPointers,
    cell: PhantomData<fn() -> C>,
}

/// The places of some units, as a cell `C` reads and writes them in a backward pass.
pub(crate) struct BackwardUnits<C> {
    at: BackwardPointers,
    cell: PhantomData<fn() -> C>,
}

/// Methods that both [`ForwardUnits`] and [`BackwardUnits`] have.
macro_rules! places {
    ($($place:ident)+) => {
        $(impl<C: Epilogue> $place<C> {
            /// Reads the units' values at `place`.
            #[inline(always)]
            fn read<S: Simd>(&self, simd: S, place: *const f32) -> S::V {
                // SAFETY: only this file calls it, with places that `new` has been promised to be
                // readable for `lanes` floats.
                unsafe { load_lanes(simd, place, self.at.lanes) }
            }

            /// Writes the units' values at `place`.
            #[inline(always)]
            fn write<S: Simd>(&self, simd: S, place: *mut f32, v: S::V) {
                // SAFETY: as for `read`, with places that are writable.
                unsafe { store_lanes(simd, place, v, self.at.lanes) };
            }

            /// Returns the place of a block, of which there are `blocks` with H floats each.
            #[inline(always)]
            fn block(&self, first: *mut f32, block: usize, blocks: usize) -> *mut f32 {
                assert!(block < blocks, "the cell has no such block");
                first.wrapping_add(block * self.at.hidden)
            }

            /// Reads the units' values from a block of `v`, one of the cell's own vectors.
            ///
            /// # Safety
            /// `v` has the block: [`Epilogue::check`] has been called for `hidden` units, as `new`
            /// has been promised, and has verified it.
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

/// Defines methods that read a place, and that panic unless the condition `$has` is true.
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

/// Defines methods that write a place, and that panic unless the condition `$has` is true.
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
    /// Makes the places of some units, which a cell may read and write in any order.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are valid for `lanes` floats, which nobody
    ///    else writes, and what is written here nobody else reads: `h_prev`, `h_seen` and `h`;
    ///    `gates`, if they are kept, at each of `GATES` blocks, `hidden` floats apart; `c_prev` and
    ///    `c` if the cell has `CELLS`;
    /// 2. `input` is valid in the same way for as many blocks if the cell has `SEPARATE_SUMS`, and
    ///    so is `extra` if the cell has `EXTRA` and gates are kept or a second product reads it;
    /// 3. the cell has been checked for `hidden` units, and the last unit here is one of them.
    #[inline(always)]
    pub(crate) unsafe fn new(at: ForwardPointers) -> Self {
        Self { at, cell: PhantomData }
    }

    /// Returns the places for the inner cell of a projection, whose h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> ForwardUnits<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::SEPARATE_SUMS && !I::CARRIES);
        ForwardUnits { at: ForwardPointers { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// Returns whether gates and extra blocks are kept.
    #[inline(always)]
    pub(crate) fn keeps(&self) -> bool {
        self.at.gates.is_some()
    }

    /// Stores the first `count` gates if gates are kept.
    #[inline(always)]
    pub(crate) fn store_gates<S: Simd>(&self, simd: S, gates: &[S::V; MOST_SUMS], count: usize) {
        let Some(to) = self.at.gates else { return };
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.write(simd, self.block(to.as_ptr(), gate, C::GATES), gates[gate]);
            }
        }
    }

    /// Stores one gate if gates are kept.
    #[inline(always)]
    pub(crate) fn store_gate<S: Simd>(&self, simd: S, gate: usize, v: S::V) {
        if let Some(gates) = self.at.gates {
            self.write(simd, self.block(gates.as_ptr(), gate, C::GATES), v);
        }
    }

    /// Reads the input's part of a gate. Only for cells with `SEPARATE_SUMS`.
    #[inline(always)]
    pub(crate) fn input<S: Simd>(&self, simd: S, gate: usize) -> S::V {
        assert!(C::SEPARATE_SUMS, "the sums are on top of the input's part");
        self.read(simd, self.block(self.at.input.cast_mut(), gate, C::GATES))
    }

    /// Stores the extra block if gates are kept or a second product reads it.
    #[inline(always)]
    pub(crate) fn set_extra<S: Simd>(&self, simd: S, v: S::V) {
        if self.keeps() || C::SECOND.is_some() || C::PROJECTS {
            self.write(simd, self.block(self.at.extra, 0, C::EXTRA), v);
        }
    }

    reads! {
        /// Reads h₋.
        h_prev: true;
        /// Reads h₋ as the products see it, after dropout.
        h_seen: true;
        /// Reads what the first stage has stored in the place of h.
        h: true;
        /// Reads c₋.
        c_prev: C::CELLS;
    }
    writes! {
        set_h, h: true;
        set_c, c: C::CELLS;
    }
}

impl<C: Epilogue> BackwardUnits<C> {
    /// Makes the places of some units, which a cell may read and write in any order.
    ///
    /// # Safety
    /// For as long as it is used:
    ///
    /// 1. `lanes` is at most a vector's, and all places are valid for `lanes` floats, which nobody
    ///    else writes, and what is written here nobody else reads: `gates` at each of `GATES`
    ///    blocks, `hidden` floats apart; `h_prev`, `h_seen` and `h`; `mask` and `c_made` if they
    ///    are `Some`; `c_prev` and `dc` if the cell has `CELLS`;
    /// 2. `extra` is valid in the same way if the cell has `EXTRA`, and `dh` if the cell `CARRIES`
    ///    a part of ∂L/∂h;
    /// 3. the cell has been checked for `hidden` units, and the last unit here is one of them.
    #[inline(always)]
    pub(crate) unsafe fn new(at: BackwardPointers) -> Self {
        Self { at, cell: PhantomData }
    }

    /// Returns the places for the inner cell of a projection, whose h is the extra block.
    #[inline(always)]
    pub(super) fn projected<I: Epilogue>(&self) -> BackwardUnits<I> {
        assert!(C::PROJECTS && I::GATES == C::GATES && I::CELLS == C::CELLS);
        assert!(I::EXTRA == 0 && !I::SEPARATE_SUMS && !I::CARRIES);
        BackwardUnits { at: BackwardPointers { h: self.at.extra, ..self.at }, cell: PhantomData }
    }

    /// Reads a gate as the forward pass has kept it.
    #[inline(always)]
    pub(crate) fn gate<S: Simd>(&self, simd: S, gate: usize) -> S::V {
        self.read(simd, self.block(self.at.gates, gate, C::GATES))
    }

    /// Stores ∂L/∂z of the first `count` gates, in the places of the gates.
    #[inline(always)]
    pub(crate) fn store_gradients<S: Simd>(&self, simd: S, dz: &[S::V; MOST_SUMS], count: usize) {
        for gate in 0..MOST_SUMS {
            if gate < count {
                self.store_gradient(simd, gate, dz[gate]);
            }
        }
    }

    /// Stores ∂L/∂z of one gate, in the place of the gate.
    #[inline(always)]
    pub(crate) fn store_gradient<S: Simd>(&self, simd: S, gate: usize, dz: S::V) {
        self.write(simd, self.block(self.at.gates, gate, C::GATES), dz);
    }

    /// Returns the gradient by h₋, given `d`, the gradient by h₋ as the products saw it:
    /// `mask ⊙ d`, or `d` without dropout.
    #[inline(always)]
    pub(crate) fn masked<S: Simd>(&self, simd: S, d: S::V) -> S::V {
        match self.at.mask {
            None => d,
            Some(mask) => simd.mul(d, self.read(simd, mask.as_ptr().cast_const())),
        }
    }

    /// Stores c as the cell computed it, before zoneout, if the caller asks for it.
    #[inline(always)]
    pub(crate) fn set_c_made<S: Simd>(&self, simd: S, v: S::V) {
        if let Some(place) = self.at.c_made {
            self.write(simd, place.as_ptr(), v);
        }
    }

    reads! {
        /// Reads the extra block as the forward pass has kept it.
        extra: C::EXTRA > 0;
        /// Reads h₋.
        h_prev: true;
        /// Reads h₋ as the products saw it, after dropout.
        h_seen: true;
        h: true;
        /// Reads c₋.
        c_prev: C::CELLS;
        /// Reads the part of ∂L/∂h that is carried to the step before.
        dh: C::CARRIES;
        /// Reads ∂L/∂c.
        dc: C::CELLS;
    }
    writes! {
        set_extra, extra: C::EXTRA > 0;
        set_dh, dh: C::CARRIES;
        set_dc, dc: C::CELLS;
    }
}
