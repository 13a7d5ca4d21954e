//! Packed weights, the rhs of products, in the order in which the register tile reads them.
//! Knows the layout of weights; must not know what the outputs are for.
//!
//! The columns of a packed matrix are the outputs of a product. Units are taken in blocks of one
//! vector, and the gates of a block stand side by side: `[block][gate][lane]`. Two vectors make
//! a panel, and four panels a group. (If a unit has three gates, three panels make a group, so
//! that no unit is split between groups.) The depth is cut into blocks as well, which gives
//! `[group][block of depth][panel][k][2][lane]`, the order in which a sweep reads. Edges are
//! padded with zeros, so a tile needs no mask.

mod columns;
mod fill;
#[cfg(test)]
mod tests;

use crate::format::Format;
use crate::gemm::layout::{DEPTH_BLOCK, PANEL};
use crate::gemm::tile::Product;
use crate::simd::Simd;
use crate::{AlignedBuffer, Isa, KernelError, checked_len};
pub(crate) use columns::{Columns, Place, Turn, columns, whole};

/// A weight matrix packed for one instruction set, from `depth` inputs to `gates × units`
/// outputs.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    isa: Isa,
    gates: usize,
    units: usize,
    depth: usize,
    /// Vectors of a full group. This and `groups` are stored because every step asks for them.
    whole: usize,
    /// Number of groups.
    groups: usize,
    format: Format,
    /// The packed values, stored in `format` although the buffer's type is f32.
    panels: AlignedBuffer,
    /// A scale for each column, padding included; empty if the format has no scales.
    scales: AlignedBuffer,
}

/// Returns the number of vectors of columns, with the padding to whole panels.
fn vecs(isa: Isa, gates: usize, units: usize) -> usize {
    (units.div_ceil(isa.lanes()) * gates).next_multiple_of(PANEL)
}

impl PackedMatrix {
    /// Allocates an f32 matrix from `depth` inputs to `gates × units` outputs, all zero.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where a dimension is 0, `TooLarge` where the matrix does not fit
    /// the address space, `OutOfMemory` where the allocator has no room for it.
    pub fn zeros(isa: Isa, gates: usize, units: usize, depth: usize) -> Result<Self, KernelError> {
        Self::zeros_as(Format::F32, isa, gates, units, depth)
    }

    /// Allocates a matrix as [`zeros`](Self::zeros) does, with values of `format`. Formats other
    /// than f32 are for weights that are packed by rows and used in forward passes.
    ///
    /// # Errors
    /// As for [`zeros`](Self::zeros).
    pub fn zeros_as(
        format: Format,
        isa: Isa,
        gates: usize,
        units: usize,
        depth: usize,
    ) -> Result<Self, KernelError> {
        for (what, given) in [("gates", gates), ("units", units), ("depth", depth)] {
            if given == 0 {
                return Err(KernelError::Dimension { what, given, expected: "1 or more".into() });
            }
        }
        let values = Self::len(isa, gates, units, depth)?;
        let panels = AlignedBuffer::try_new((values / size_of::<f32>()) * format.bytes())?;
        let scales = if format == Format::Int8 { values / depth } else { 0 };
        let scales = AlignedBuffer::try_new(scales)?;
        let whole = whole(gates);
        let groups = vecs(isa, gates, units).div_ceil(whole);
        Ok(Self { isa, gates, units, depth, whole, groups, format, panels, scales })
    }

    /// Returns the number of values, padding included, that a packed matrix of these dimensions
    /// has.
    ///
    /// # Errors
    /// [`KernelError::TooLarge`] where that many f32 do not fit the address space.
    pub fn len(isa: Isa, gates: usize, units: usize, depth: usize) -> Result<usize, KernelError> {
        let what = "packed weights";
        checked_len(what, &[units, gates])?;
        checked_len(what, &[vecs(isa, gates, units), isa.lanes(), depth])
    }

    /// Returns the instruction set that the matrix is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the number of inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Returns the number of outputs, `gates × units`.
    pub fn outputs(&self) -> usize {
        self.gates * self.units
    }

    /// Returns the format in which the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the index of the first value of a group's block of depth from term `first_k` on;
    /// `vecs` is the number of the group's vectors.
    #[inline(always)]
    pub(crate) fn block(&self, group: usize, vecs: usize, first_k: usize, lanes: usize) -> usize {
        lanes * (group * self.whole * self.depth + vecs.next_multiple_of(PANEL) * first_k)
    }

    /// Returns the address of the value at index [`block`](Self::block), whatever the format.
    ///
    /// # Safety
    /// The block lies in the matrix.
    #[inline(always)]
    pub(crate) unsafe fn block_start(
        &self,
        group: usize,
        vecs: usize,
        first_k: usize,
        lanes: usize,
    ) -> *const u8 {
        let values = self.block(group, vecs, first_k, lanes);
        // SAFETY: the block lies in the matrix, and the panels hold its values in `format`.
        unsafe { self.panels.as_ptr().cast::<u8>().add(values * self.format.bytes()) }
    }

    /// Returns the index of a group's first vector among all vectors of columns.
    #[inline(always)]
    pub(crate) fn first_vec(&self, group: usize) -> usize {
        group * self.whole
    }

    pub(crate) fn panels_mut(&mut self) -> &mut [f32] {
        &mut self.panels
    }

    pub(crate) fn scales_mut(&mut self) -> &mut [f32] {
        &mut self.scales
    }

    /// Returns the scales of a group's columns, or `None` if the format has no scales.
    #[inline(always)]
    pub(crate) fn scales(&self, group: usize, lanes: usize) -> Option<*const f32> {
        match self.format {
            Format::Int8 => Some(self.scales.as_ptr().wrapping_add(self.first_vec(group) * lanes)),
            _ => None,
        }
    }

    /// Returns the index of the first value of vector `vec` of a group, at the first term of the
    /// block of depth from `first_k` on.
    #[inline(always)]
    fn vector<S: Simd>(
        &self,
        group: usize,
        columns: &Columns,
        first_k: usize,
        vec: usize,
    ) -> usize {
        let terms = DEPTH_BLOCK.min(self.depth - first_k);
        let panel = (vec / PANEL * terms * PANEL + vec % PANEL) * S::LANES;
        self.block(group, columns.vecs, first_k, S::LANES) + panel
    }

    /// Returns the product of packed rows `a` with a group of f32 weights, for the block of depth
    /// from term `first_k` on; `a` points to the first row at that term.
    ///
    /// # Safety
    /// The place is one of the matrix, which is packed for vectors of `lanes` lanes, and `first_k`
    /// is less than the depth.
    #[inline(always)]
    pub(crate) unsafe fn product(
        &self,
        a: *const f32,
        Place { group, vecs, next }: Place,
        first_k: usize,
        lanes: usize,
    ) -> Product {
        debug_assert!(self.format == Format::F32);
        let depth = DEPTH_BLOCK.min(self.depth - first_k);
        // SAFETY: the block lies in the matrix, since its place and first_k do.
        let panels = unsafe { self.panels.as_ptr().add(self.block(group, vecs, first_k, lanes)) };
        let ahead = if first_k + depth < self.depth {
            panels.wrapping_add(lanes * vecs.next_multiple_of(PANEL) * depth)
        } else {
            self.panels.as_ptr().wrapping_add(lanes * next * self.whole * self.depth)
        };
        Product { a, panels, panel_stride: PANEL * lanes * depth, depth, ahead }
    }

    /// Returns an error unless the matrix is packed for `isa` and has these dimensions.
    #[inline(always)]
    pub(crate) fn check(
        &self,
        isa: Isa,
        gates: usize,
        units: usize,
        depth: usize,
    ) -> Result<(), KernelError> {
        if (self.isa, self.gates, self.units, self.depth) == (isa, gates, units, depth) {
            return Ok(());
        }
        Err(self.mismatch(isa, gates, units, depth))
    }

    #[cold]
    fn mismatch(&self, isa: Isa, gates: usize, units: usize, depth: usize) -> KernelError {
        let tell = |isa: Isa, gates: usize, units: usize, depth: usize| {
            format!("for {isa}, {gates} × {units} outputs of {depth} inputs")
        };
        let given = tell(self.isa, self.gates, self.units, self.depth);
        KernelError::Packing {
            given: format!("{given}, {:?}", self.format),
            expected: tell(isa, gates, units, depth),
        }
    }

    pub(crate) fn gates(&self) -> usize {
        self.gates
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Returns the multiply-adds that a row of the lhs takes, padding included.
    pub(crate) fn row_terms(&self) -> usize {
        self.panels.len() * size_of::<f32>() / self.format.bytes()
    }

    /// Returns the bytes of memory that the values and scales take.
    pub fn bytes(&self) -> usize {
        size_of::<f32>() * (self.panels.len() + self.scales.len())
    }

    /// Returns the columns of group `index`.
    #[inline(always)]
    pub(crate) fn columns(&self, index: usize, lanes: usize) -> Columns {
        columns(self.gates, self.units, index, lanes)
    }
}
