//! Weights, laid out as the tile reads them.
//!
//! The columns of a packed matrix are the outputs of a product. The gates of a
//! block of units (one vector of them) stand side by side,
//! `[block][gate][lane]`; two vectors make a panel, four panels a group, and the
//! depth is cut into blocks: `[group][block of depth][panel][k][2][lane]`, which
//! is the order in which a sweep reads. Edges are padded with zeros, so a tile
//! never needs a mask.

use crate::error::check_len;
use crate::tile::{DEPTH_BLOCK, Fetch, GROUP, Grid, PANEL, Product};
use crate::{AlignedBuffer, Isa, KernelError, checked_len};

/// A weight matrix packed for one instruction set: `depth` inputs to
/// `gates × units` outputs.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    isa: Isa,
    gates: usize,
    units: usize,
    depth: usize,
    panels: AlignedBuffer,
}

/// The columns of one group: for each of its vectors where it goes in a row of
/// the result, and how many of its lanes are real.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub vecs: usize,
    pub offset: [usize; GROUP],
    pub lanes: [usize; GROUP],
    /// Whether every lane of every vector is real.
    pub whole: bool,
    /// From a group's offsets to those of the one that comes after it; wraps.
    advance: usize,
}

impl Columns {
    /// The same columns in a sweep to and fro: backwards, the group before comes after.
    #[inline(always)]
    pub(crate) fn swept(self, backwards: bool) -> Self {
        if backwards { Self { advance: self.advance.wrapping_neg(), ..self } } else { self }
    }

    /// Rows of a result, `stride` floats apart, in these columns.
    #[inline(always)]
    pub(crate) fn grid(&self, start: *mut f32, stride: usize) -> Grid {
        Grid { start, stride, offset: self.offset }
    }

    /// Rows to be fetched in these columns, every `every`th vector.
    #[inline(always)]
    pub(crate) fn fetch(&self, start: *const f32, stride: usize, every: usize) -> Fetch {
        Fetch { start, stride, offset: self.offset, advance: self.advance, every }
    }
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
        for (what, given) in [("gates", gates), ("units", units), ("depth", depth)] {
            if given == 0 {
                return Err(KernelError::Dimension { what, given, expected: "1 or more".into() });
            }
        }
        let panels = AlignedBuffer::try_new(Self::len(isa, gates, units, depth)?)?;
        Ok(Self { isa, gates, units, depth, panels })
    }

    /// The floats that such a matrix takes when packed.
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

    /// Packs `weights`, `[gates · units, depth]` row-major: each output's weights
    /// are a row, `y = A · weightsᵀ`.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `weights` is not `outputs × depth` long.
    pub fn pack_rows(&mut self, weights: &[f32]) -> Result<(), KernelError> {
        check_len("weights", weights.len(), self.outputs() * self.depth)?;
        let (lanes, depth) = (self.isa.lanes(), self.depth);
        for group in 0..self.groups() {
            let columns = self.columns(group, lanes);
            for first_k in (0..depth).step_by(DEPTH_BLOCK) {
                let terms = DEPTH_BLOCK.min(depth - first_k);
                let start = self.block(group, columns.vecs, first_k);
                let block = &mut self.panels[start..][..columns.vecs * lanes * terms];
                for vec in 0..columns.vecs {
                    let panel = vec / PANEL * PANEL * lanes * terms + vec % PANEL * lanes;
                    let row = |lane: usize| {
                        &weights[(columns.offset[vec] + lane) * depth + first_k..][..terms]
                    };
                    let real = columns.lanes[vec];
                    // Four rows at a time: a transposition by whole quarters of a
                    // line, where single floats would cost a store each.
                    for lane in (0..real - real % 4).step_by(4) {
                        let rows = [row(lane), row(lane + 1), row(lane + 2), row(lane + 3)];
                        let target = block[panel + lane..].chunks_mut(PANEL * lanes);
                        for (k, to) in target.take(terms).enumerate() {
                            to[..4].copy_from_slice(&rows.map(|row| row[k]));
                        }
                    }
                    for lane in real - real % 4..real {
                        let target = block[panel + lane..].iter_mut().step_by(PANEL * lanes);
                        target.zip(row(lane)).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Packs `weights`, `[depth, units]` row-major: `y = A · weights`. For one
    /// gate only.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `weights` is not `outputs × depth` long.
    pub fn pack_columns(&mut self, weights: &[f32]) -> Result<(), KernelError> {
        check_len("weights", weights.len(), self.outputs() * self.depth)?;
        check_len("gates", self.gates, 1)?;
        let (units, depth, panel) = (self.units, self.depth, PANEL * self.isa.lanes());
        for group in 0..self.groups() {
            let columns = self.columns(group, self.isa.lanes());
            for first_k in (0..depth).step_by(DEPTH_BLOCK) {
                let terms = DEPTH_BLOCK.min(depth - first_k);
                let start = self.block(group, columns.vecs, first_k);
                let block = &mut self.panels[start..][..columns.vecs * self.isa.lanes() * terms];
                for (p, target) in block.chunks_exact_mut(panel * terms).enumerate() {
                    let column = columns.offset[p * PANEL];
                    let real = panel.min(units - column);
                    for (k, to) in target.chunks_exact_mut(panel).enumerate() {
                        let from = &weights[(first_k + k) * units + column..];
                        to[..real].copy_from_slice(&from[..real]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the block of depth that starts at `first_k` begins.
    fn block(&self, group: usize, vecs: usize, first_k: usize) -> usize {
        self.isa.lanes() * (group * GROUP * self.depth + vecs * first_k)
    }

    /// The product of `a` with group `group`, for the block of depth from
    /// `first_k`; `a` starts at its first row and at that k.
    ///
    /// # Safety
    /// `group` and `first_k` lie in the matrix.
    #[inline(always)]
    pub(crate) unsafe fn product(
        &self,
        a: *const f32,
        group: usize,
        columns: &Columns,
        first_k: usize,
        lanes: usize,
        next_group: usize,
    ) -> Product {
        let depth = DEPTH_BLOCK.min(self.depth - first_k);
        let start = lanes * (group * GROUP * self.depth + columns.vecs * first_k);
        // SAFETY: the caller's.
        let panels = unsafe { self.panels.as_ptr().add(start) };
        let ahead = if first_k + depth < self.depth {
            panels.wrapping_add(lanes * columns.vecs * depth)
        } else {
            self.panels.as_ptr().wrapping_add(lanes * next_group * GROUP * self.depth)
        };
        Product { a, panels, panel_stride: PANEL * lanes * depth, depth, ahead }
    }

    /// `Ok` where the matrix is packed for `isa` with these dimensions.
    pub(crate) fn check(
        &self,
        isa: Isa,
        gates: usize,
        units: usize,
        depth: usize,
    ) -> Result<(), KernelError> {
        let tell = |isa: Isa, gates: usize, units: usize, depth: usize| {
            format!("for {isa}, {gates} × {units} outputs of {depth} inputs")
        };
        if (self.isa, self.gates, self.units, self.depth) == (isa, gates, units, depth) {
            return Ok(());
        }
        Err(KernelError::Packing {
            given: tell(self.isa, self.gates, self.units, self.depth),
            expected: tell(isa, gates, units, depth),
        })
    }

    pub(crate) fn gates(&self) -> usize {
        self.gates
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    pub(crate) fn groups(&self) -> usize {
        vecs(self.isa, self.gates, self.units).div_ceil(GROUP)
    }

    /// The columns of group `index`.
    #[inline(always)]
    pub(crate) fn columns(&self, index: usize, lanes: usize) -> Columns {
        columns(self.gates, self.units, index, lanes)
    }
}

/// The columns of group `index` of `gates × units` columns.
#[inline(always)]
pub(crate) fn columns(gates: usize, units: usize, index: usize, lanes: usize) -> Columns {
    let first = index * GROUP;
    let total = (units.div_ceil(lanes) * gates).next_multiple_of(PANEL);
    let mut columns = Columns {
        vecs: GROUP.min(total - first),
        offset: [0; GROUP],
        lanes: [0; GROUP],
        whole: true,
        advance: GROUP / gates * lanes,
    };
    for v in 0..columns.vecs {
        let (block, gate) = ((first + v) / gates, (first + v) % gates);
        let unit = (block * lanes).min(units);
        columns.offset[v] = gate * units + unit;
        columns.lanes[v] = lanes.min(units - unit);
        columns.whole &= columns.lanes[v] == lanes;
    }
    columns
}
