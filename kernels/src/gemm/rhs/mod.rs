//! Weights, laid out as the tile reads them.
//!
//! The columns of a packed matrix are the outputs of a product. The gates of a
//! block of units (one vector of them) stand side by side,
//! `[block][gate][lane]`; two vectors make a panel, four panels a group (three, where
//! a unit has three gates, so that a group has whole units), and the depth is cut into
//! blocks: `[group][block of depth][panel][k][2][lane]`, which
//! is the order in which a sweep reads. Edges are padded with zeros, so a tile
//! never needs a mask.

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

/// A weight matrix packed for one instruction set: `depth` inputs to
/// `gates × units` outputs.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    isa: Isa,
    gates: usize,
    units: usize,
    depth: usize,
    /// Vectors of a whole group, and groups: a step asks too often to reckon them anew.
    whole: usize,
    groups: usize,
    format: Format,
    /// Values of the format, whatever the buffer's type.
    panels: AlignedBuffer,
    /// One for each column, padding included, where the format has scales.
    scales: AlignedBuffer,
}

/// Vectors of columns, padding to whole panels included.
fn vecs(isa: Isa, gates: usize, units: usize) -> usize {
    (units.div_ceil(isa.lanes()) * gates).next_multiple_of(PANEL)
}

impl PackedMatrix {
    /// Room for `depth` inputs to `gates × units` outputs, all zero.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where a dimension is 0, `TooLarge` or
    /// `OutOfMemory` where there is no such room.
    pub fn zeros(isa: Isa, gates: usize, units: usize, depth: usize) -> Result<Self, KernelError> {
        Self::zeros_as(Format::F32, isa, gates, units, depth)
    }

    /// [`zeros`](Self::zeros) of another format, for weights that are packed by rows and
    /// meet forward passes.
    ///
    /// # Errors
    /// As [`zeros`](Self::zeros).
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

    /// The values that such a matrix has when packed.
    ///
    /// # Errors
    /// [`KernelError::TooLarge`] where that does not fit the address space.
    pub fn len(isa: Isa, gates: usize, units: usize, depth: usize) -> Result<usize, KernelError> {
        let what = "packed weights";
        checked_len(what, &[units, gates])?;
        checked_len(what, &[vecs(isa, gates, units), isa.lanes(), depth])
    }

    /// The instruction set that it was packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs: `gates × units`.
    pub fn outputs(&self) -> usize {
        self.gates * self.units
    }

    /// How its values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where a group's block of depth from `first_k` begins.
    #[inline(always)]
    pub(crate) fn block(&self, group: usize, vecs: usize, first_k: usize, lanes: usize) -> usize {
        lanes * (group * self.whole * self.depth + vecs.next_multiple_of(PANEL) * first_k)
    }

    /// The same as an address, in a matrix of any format.
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
        // SAFETY: the block lies in the matrix, whose panels have its values in its format.
        unsafe { self.panels.as_ptr().cast::<u8>().add(values * self.format.bytes()) }
    }

    /// The first vector of a group.
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

    /// The scales of a group's columns, if the format has some.
    #[inline(always)]
    pub(crate) fn scales(&self, group: usize, lanes: usize) -> Option<*const f32> {
        match self.format {
            Format::Int8 => Some(self.scales.as_ptr().wrapping_add(self.first_vec(group) * lanes)),
            _ => None,
        }
    }

    /// Where vector `vec` of a group at the first term of its block from `first_k` lies.
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

    /// The product of `a` with a group of f32 for the block of depth from `first_k`; `a`
    /// starts at its first row and at that k.
    ///
    /// # Safety
    /// The place is of the matrix, whose lanes are so many, and first_k below the depth.
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
        // SAFETY: the block lies in the matrix, as its place and first_k do.
        let panels = unsafe { self.panels.as_ptr().add(self.block(group, vecs, first_k, lanes)) };
        let ahead = if first_k + depth < self.depth {
            panels.wrapping_add(lanes * vecs.next_multiple_of(PANEL) * depth)
        } else {
            self.panels.as_ptr().wrapping_add(lanes * next * self.whole * self.depth)
        };
        Product { a, panels, panel_stride: PANEL * lanes * depth, depth, ahead }
    }

    /// `Ok` where the matrix is packed for `isa` with these dimensions.
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

    /// The multiply-adds of a row, those with padding too.
    pub(crate) fn row_terms(&self) -> usize {
        self.panels.len() * size_of::<f32>() / self.format.bytes()
    }

    /// The bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of::<f32>() * (self.panels.len() + self.scales.len())
    }

    /// The columns of group `index`.
    #[inline(always)]
    pub(crate) fn columns(&self, index: usize, lanes: usize) -> Columns {
        columns(self.gates, self.units, index, lanes)
    }
}
