//! What a pass knows of a cell, and what a cell knows of a pass: constants, and the places
//! of some units.

use crate::KernelError;
use crate::simd::Simd;
use crate::tile::{load_lanes, store_lanes};

/// The most sums that a unit has.
pub(crate) const MOST_SUMS: usize = 4;

/// The sums of a step and what becomes of them.
///
/// H are the units, `z = b + U x + W h₋`, in as many blocks of H as there are gates. A
/// step is one product, whose sums [`forward`](Self::forward) finishes, or two, of which
/// the second is of what the first has left in the extra block.
///
/// The constants and places are all that the passes know of a cell.
pub(crate) trait Epilogue: Copy + Sync {
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
    ///
    /// # Safety
    /// The places are those of units that [`check`](Self::check) was told of.
    unsafe fn forward<S: Simd>(&self, s: S, at: &Forth, z: [S::V; MOST_SUMS]);

    /// States of some units from all gates' sums with their biases, where these have been
    /// normalised, and, of recurrent sums that are apart, the last one's without.
    ///
    /// # Safety
    /// As [`forward`](Self::forward).
    #[inline(always)]
    unsafe fn forward_normed<S: Simd>(&self, s: S, at: &Forth, z: [S::V; MOST_SUMS], _apart: S::V) {
        // SAFETY: the caller's.
        unsafe { self.forward(s, at, z) };
    }

    /// What the second product's sum makes of them.
    ///
    /// # Safety
    /// As [`forward`](Self::forward).
    #[inline(always)]
    unsafe fn second<S: Simd>(&self, _s: S, _at: &Forth, _z: S::V) {}

    /// Gradients of some units from their ∂L/∂h, or from that of what is projected.
    ///
    /// # Safety
    /// As [`forward`](Self::forward).
    unsafe fn backward<S: Simd>(&self, s: S, at: &Back, dh: S::V);

    /// The same from the gradient of the extra block.
    ///
    /// # Safety
    /// As [`forward`](Self::forward).
    #[inline(always)]
    unsafe fn second_backward<S: Simd>(&self, _s: S, _at: &Back, _d: S::V) {}
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

/// Where some units of a row are, forward: each place is that of the first of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forth {
    /// How many lanes are units.
    pub(crate) lanes: usize,
    /// The first of them.
    pub(crate) unit: usize,
    /// Floats from a block to the next.
    pub(crate) hidden: usize,
    /// The input's part of the gates, for sums that are apart from it.
    pub(crate) input: *const f32,
    /// The gates; null where they are not kept.
    pub(crate) gates: *mut f32,
    pub(crate) extra: *mut f32,
    pub(crate) h_prev: *const f32,
    /// h₋ as the products see it.
    pub(crate) h_seen: *const f32,
    pub(crate) h: *mut f32,
    pub(crate) s_prev: *const f32,
    pub(crate) s: *mut f32,
}

/// Where they are backward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    pub(crate) lanes: usize,
    pub(crate) unit: usize,
    pub(crate) hidden: usize,
    /// The gates, to become ∂L/∂z.
    pub(crate) gates: *mut f32,
    pub(crate) extra: *mut f32,
    pub(crate) h_prev: *const f32,
    /// h₋ as the products saw it, and the share that they saw of it; null where it was all.
    pub(crate) h_seen: *const f32,
    pub(crate) mask: *const f32,
    pub(crate) h: *const f32,
    pub(crate) s_prev: *const f32,
    /// Where s goes as the cell made it, before zoneout; null where nobody asks.
    pub(crate) s_made: *mut f32,
    /// What is carried of ∂L/∂h to the step before, and ∂L/∂s.
    pub(crate) dh: *mut f32,
    pub(crate) ds: *mut f32,
}

/// What both kinds of places can do.
macro_rules! places {
    ($($place:ident)+) => {
        $(impl $place {
            /// Reads the units' values.
            ///
            /// # Safety
            /// The place is readable for them.
            #[inline(always)]
            pub(crate) unsafe fn load<S: Simd>(&self, s: S, place: *const f32) -> S::V {
                // SAFETY: the caller's.
                unsafe { load_lanes(s, place, self.lanes) }
            }

            /// Writes them.
            ///
            /// # Safety
            /// The place is writable for them.
            #[inline(always)]
            pub(crate) unsafe fn store<S: Simd>(&self, s: S, place: *mut f32, v: S::V) {
                // SAFETY: the caller's.
                unsafe { store_lanes(s, place, v, self.lanes) };
            }

            /// The units' values of a block of one of the cell's own vectors.
            ///
            /// # Safety
            /// It has the block.
            #[inline(always)]
            pub(crate) unsafe fn vector<S: Simd>(&self, s: S, v: &[f32], block: usize) -> S::V {
                // SAFETY: the caller's.
                unsafe { self.load(s, v.as_ptr().add(block * self.hidden + self.unit)) }
            }
        })+
    };
}
places!(Forth Back);

impl Forth {
    /// Whether gates and extra blocks are kept.
    #[inline(always)]
    pub(crate) fn keeps(&self) -> bool {
        !self.gates.is_null()
    }

    /// Keeps the first `count` gates, if any are.
    ///
    /// # Safety
    /// As [`Epilogue::forward`]; there are so many.
    #[inline(always)]
    pub(crate) unsafe fn keep<S: Simd>(&self, s: S, gates: &[S::V; MOST_SUMS], count: usize) {
        if !self.keeps() {
            return;
        }
        for gate in 0..MOST_SUMS {
            if gate < count {
                // SAFETY: the caller's.
                unsafe { self.keep_one(s, gate, gates[gate]) };
            }
        }
    }

    /// Keeps a gate where they are kept.
    ///
    /// # Safety
    /// As [`Epilogue::forward`]; there is such a gate, and they are kept.
    #[inline(always)]
    pub(crate) unsafe fn keep_one<S: Simd>(&self, s: S, gate: usize, v: S::V) {
        // SAFETY: the caller's.
        unsafe { self.store(s, self.gates.add(gate * self.hidden), v) };
    }

    /// The input's part of a gate, for sums that are apart from it.
    ///
    /// # Safety
    /// As [`Epilogue::forward`]; there is such a gate.
    #[inline(always)]
    pub(crate) unsafe fn input<S: Simd>(&self, s: S, gate: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { self.load(s, self.input.add(gate * self.hidden)) }
    }
}

impl Back {
    /// What was kept of a gate.
    ///
    /// # Safety
    /// As [`Epilogue::backward`]; there is such a gate.
    #[inline(always)]
    pub(crate) unsafe fn gate<S: Simd>(&self, s: S, gate: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { self.load(s, self.gates.add(gate * self.hidden)) }
    }

    /// Leaves the first `count` gates' ∂L/∂z where the gates were.
    ///
    /// # Safety
    /// As [`Epilogue::backward`]; there are so many.
    #[inline(always)]
    pub(crate) unsafe fn leave<S: Simd>(&self, s: S, dz: &[S::V; MOST_SUMS], count: usize) {
        for gate in 0..MOST_SUMS {
            if gate < count {
                // SAFETY: the caller's.
                unsafe { self.leave_one(s, gate, dz[gate]) };
            }
        }
    }

    /// Leaves one.
    ///
    /// # Safety
    /// As [`Epilogue::backward`]; there is such a gate.
    #[inline(always)]
    pub(crate) unsafe fn leave_one<S: Simd>(&self, s: S, gate: usize, dz: S::V) {
        // SAFETY: the caller's.
        unsafe { self.store(s, self.gates.add(gate * self.hidden), dz) };
    }
}
