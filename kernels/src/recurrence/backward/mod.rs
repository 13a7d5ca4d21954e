//! Back-propagation through time, step by step from the last: ∂L/∂h of a step is the part that the
//! caller gives plus `dz W` of the steps after it, and the cell turns it into its own dz.

mod first;
mod noise;
mod norm;
mod second;
mod step;
mod steps;

use super::dims::{Dims, Recurrent};
use super::noise::{Zoneout, ZoneoutAt};
use super::norm::NormBack;
use super::pass::{StepPhases, parts};
use crate::cells::{Cell, Epilogue, Geometry, SecondProduct, with_cell};
use crate::error::{check_len, check_room, checked_sum};
use crate::gemm::lhs;
use crate::rows::Rows;
use crate::team::Pass;
use crate::{Isa, KernelError, checked_len};
use std::ptr::NonNull;
use step::{History, KeptAt, Masked, Noise, NormAt, Operands};
use steps::Pointers;

/// A backward pass over a stretch of time, last step first.
///
/// `cargo run --release --example rnnbench -- --mode train --hidden 512 --input 512 --batch 32`
/// measures it as part of a training step.
#[derive(Debug)]
pub struct Backward<'a> {
    /// The schedule of τ steps of B sequences, and the sizes H and R.
    pub dims: Dims<'a>,
    /// The cell, as in the forward pass.
    pub cell: Cell<'a>,
    /// The recurrent weights, packed by columns. Each matrix has R outputs from the blocks of its
    /// operand, a [`BackwardLhs`](crate::cells::BackwardLhs) of the cell. The second product has H
    /// outputs from H inputs or, if the cell projects, from R inputs.
    pub recurrent: Recurrent<'a>,
    /// The gates of the forward pass, `[τ, B, G, H]`, which the pass replaces with ∂L/∂z, the
    /// gradients of the pre-activations.
    pub gates: &'a mut [f32],
    /// The extra blocks of the forward pass, `[τ, B, E, H]`, which the pass replaces with the
    /// cell's further gradients, if it has any.
    pub extra: &'a mut [f32],
    /// The hidden states before the first step, the oldest first, `[D, B, R]`.
    pub h0: &'a [f32],
    /// The hidden states after each step, `[τ, B, R]`.
    pub h: &'a [f32],
    /// Floats from one row of `h` to the next, R or more.
    pub h_stride: usize,
    /// The cell state before the first step, `[B, H]`; empty if the cell has none.
    pub c0: &'a [f32],
    /// The cell states after each step, `[τ, B, H]`; empty if the cell has none.
    pub c: &'a [f32],
    /// ∂L/∂h of each step from outside, `[τ, B, R]`; `None` is zero.
    pub dy: Option<&'a [f32]>,
    /// Floats from one row of `dy` to the next, R or more.
    pub dy_stride: usize,
    /// ∂L/∂h of the last D steps of each sequence, `[D, B, R]`, to which the pass adds `dy`. Step t,
    /// counted from 0, is at index t mod D. The pass replaces it with ∂L/∂h of the D states before
    /// the first step, the oldest first.
    pub dh: &'a mut [f32],
    /// ∂L/∂c of the last step, `[B, H]`, which the pass replaces with ∂L/∂c₀; empty if the cell has
    /// no cell state.
    pub dc: &'a mut [f32],
    /// Output: if the cell projects, ∂L/∂h of each step with all its parts, `[τ, B, R]`; else
    /// empty.
    pub dh_all: &'a mut [f32],
    /// The zoneout of the forward pass, and room for what it carries.
    pub zoneout: Option<ZoneoutBack<'a>>,
    /// The dropout of the forward pass.
    pub dropout: Option<DropoutBack<'a>>,
    /// Output: the cell states as the cell computed them, before zoneout, `[τ, B, H]`, for cells
    /// whose own weights see them (peepholes). Nothing is stored if it is empty.
    pub c_made: &'a mut [f32],
    /// The layer normalisation of the forward pass.
    pub norm: Option<NormBack<'a>>,
    /// Scratch of [`backward_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// The zoneout of a backward pass.
#[derive(Debug)]
pub struct ZoneoutBack<'a> {
    /// The zoneout of the forward pass, with its keys.
    pub zoneout: Zoneout<'a>,
    /// Scratch for the part of ∂L/∂h that zoneout leaves to the step before, `[B, R]`.
    pub dh_kept: &'a mut [f32],
    /// Scratch for the part of ∂L/∂c that zoneout leaves to the step before, `[B, H]`; empty if the
    /// cell has no cell state.
    pub dc_kept: &'a mut [f32],
}

/// The dropout of a backward pass, with the slices of the forward pass: see
/// [`Dropout`](super::Dropout).
#[derive(Clone, Copy, Debug)]
pub struct DropoutBack<'a> {
    /// The mask, `[B, R]`.
    pub mask: &'a [f32],
    /// `mask ⊙ h` of the states before the first step, `[D, B, R]`.
    pub before: &'a [f32],
    /// `mask ⊙ h` of the state after each step, `[τ, B, R]`.
    pub seen: &'a [f32],
}

/// Returns the floats of scratch that a [`Backward`] with `delays` delays needs.
///
/// # Errors
/// [`KernelError::TooLarge`] if the result does not fit the address space.
pub fn backward_scratch_len(
    geometry: &Geometry,
    dims: Dims<'_>,
    delays: usize,
) -> Result<usize, KernelError> {
    dims.sequences("scratch", room(geometry, dims, delays)?)
}

/// Returns the floats of scratch for one row.
fn room(geometry: &Geometry, dims: Dims<'_>, delays: usize) -> Result<usize, KernelError> {
    let mut first = 0;
    for source in geometry.back {
        let rows = checked_len("scratch", &[source.blocks(), dims.hidden])?;
        first = checked_sum("scratch", &[first, lhs::checked_len(1, rows)?])?;
    }
    let second = match (geometry.projects, geometry.second) {
        (true, _) => lhs::checked_len(1, dims.outputs)?,
        (_, Some(_)) => lhs::checked_len(1, dims.hidden)?,
        _ => 0,
    };
    Ok(second.max(checked_len("scratch", &[delays, first])?))
}

impl Backward<'_> {
    /// Runs the pass.
    ///
    /// # Errors
    /// [`KernelError`] if a slice does not fit the dimensions or weights are packed for something
    /// else; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let room = self.check(isa)?;
        // Empty slices fit any number of steps.
        if self.dims.batch() == 0 {
            return Ok(());
        }
        with_cell!(self.cell, |cell| self.run_checked(cell, room, isa, pass));
        Ok(())
    }

    fn run_checked<C: Epilogue>(mut self, cell: C, room: usize, isa: Isa, pass: &mut Pass<'_>) {
        let dims = self.dims;
        let (zoneout, kept) = match &mut self.zoneout {
            None => (ZoneoutAt::OFF, None),
            Some(ZoneoutBack { zoneout, dh_kept, dc_kept }) => {
                let kept = KeptAt { dh: dh_kept.as_mut_ptr(), dc: dc_kept.as_mut_ptr() };
                (ZoneoutAt::new(Some(*zoneout)), Some(kept))
            }
        };
        let noisy = zoneout.on || self.dropout.is_some();
        let noise = Noise {
            zoneout,
            dy: self.dy.map(|dy| Rows::new(dy.as_ptr(), self.dy_stride)),
            kept,
            masked: self.dropout.map(|DropoutBack { mask, before, seen }| Masked {
                mask: mask.as_ptr(),
                seen: History { before: before.as_ptr(), h: seen.as_ptr(), stride: dims.outputs },
            }),
            c_made: (!self.c_made.is_empty()).then_some(self.c_made.as_mut_ptr()),
        };
        let norm = self.norm.as_mut().map(|norm| NormAt {
            gain: norm.gain.as_ptr(),
            normal: norm.normal.as_ptr(),
            normal_extra: norm.normal_extra.as_ptr(),
            inverse: norm.inverse.as_ptr(),
            da: norm.da.as_mut_ptr(),
            da_extra: norm.da_extra.as_mut_ptr(),
        });
        let last = Operands {
            batch: dims.batch(),
            schedule: &dims.schedule,
            hidden: dims.hidden,
            outputs: dims.outputs,
            cell,
            recurrent: self.recurrent,
            t: 0,
            ended: 0,
            is_last: false,
            start: 0,
            start_prev: 0,
            gates: self.gates.as_mut_ptr(),
            extra: self.extra.as_mut_ptr(),
            history: History {
                before: self.h0.as_ptr(),
                h: self.h.as_ptr(),
                stride: self.h_stride,
            },
            c0: self.c0.as_ptr(),
            c: self.c.as_ptr(),
            dh: self.dh.as_mut_ptr(),
            dc: self.dc.as_mut_ptr(),
            dy: self.dy.filter(|_| !noisy).map(|dy| NonNull::from(dy).cast()),
            dy_stride: self.dy_stride,
            dh_all: self.dh_all.as_mut_ptr(),
            noise: noisy.then_some(&noise),
            norm: norm.as_ref(),
            first_row: 0,
            scratch: self.scratch.as_mut_ptr(),
            room,
        };
        let parts = parts(pass.threads(), dims.schedule, &(0..dims.steps()), &self.recurrent);
        // SAFETY: `check` has verified that all slices fit the dimensions and the cell, and that
        // the weights are packed for them; they are borrowed until the pass is over.
        let steps = unsafe { Pointers::new(last) };
        // SAFETY: as above.
        unsafe { pass.run(isa, &StepPhases { steps, parts }) };
    }

    /// Checks all operands, and returns the floats of scratch for one row.
    fn check(&self, isa: Isa) -> Result<usize, KernelError> {
        let (dims, cell) = (self.dims, self.cell.geometry());
        let Dims { hidden, outputs, .. } = dims;
        self.recurrent.check()?;
        check_len("terms", self.recurrent.weights.len() % cell.back.len(), 0)?;
        for (weights, source) in self.recurrent.weights.iter().zip(cell.back.iter().cycle()) {
            let depth = checked_len("hidden", &[source.blocks(), hidden])?;
            weights.check(isa, 1, outputs, depth)?;
        }
        let second = cell.second_product(hidden, outputs).map(SecondProduct::turned);
        self.recurrent.check_second(isa, second)?;
        if !cell.projects {
            check_len("outputs", outputs, hidden)?;
        }
        self.cell.check(hidden)?;
        let (state, history) = (dims.sequences("h", outputs)?, self.recurrent.history());
        if cell.carries {
            check_len("states before the first step", history, 1)?;
        }
        let states = dims.rows("h", 1, outputs)?;
        let before = checked_len("dh", &[history, state])?;
        check_len("gates", self.gates.len(), dims.rows("gates", cell.gates, hidden)?)?;
        check_len("extra", self.extra.len(), dims.rows("extra", cell.extra, hidden)?)?;
        check_len("h0", self.h0.len(), before)?;
        dims.check_rows("h", self.h.len(), outputs, self.h_stride)?;
        check_len("dh", self.dh.len(), before)?;
        let cells = if cell.cells { dims.sequences("c", hidden)? } else { 0 };
        let made = dims.rows("c", usize::from(cell.cells), hidden)?;
        check_len("c0", self.c0.len(), cells)?;
        check_len("c", self.c.len(), made)?;
        check_len("dc", self.dc.len(), cells)?;
        check_len("dh_all", self.dh_all.len(), if cell.projects { states } else { 0 })?;
        if let Some(dy) = self.dy {
            dims.check_rows("dy", dy.len(), outputs, self.dy_stride)?;
        }
        if let Some(norm) = &self.norm {
            norm.check(&cell, dims)?;
        }
        if let Some(ZoneoutBack { zoneout, dh_kept, dc_kept }) = &self.zoneout {
            zoneout.check(dims)?;
            check_len("keys", zoneout.keys.map_or(0, <[u32]>::len), dims.rows("keys", 2, 1)?)?;
            check_len("dh_kept", dh_kept.len(), state)?;
            check_len("dc_kept", dc_kept.len(), cells)?;
        }
        if let Some(DropoutBack { mask, before: masked, seen }) = self.dropout {
            check_len("mask", mask.len(), state)?;
            check_len("before", masked.len(), before)?;
            check_len("seen", seen.len(), states)?;
        }
        if !self.c_made.is_empty() {
            check_len("c_made", self.c_made.len(), made)?;
        }
        let delays = self.recurrent.delays.len() / cell.back.len();
        let expected = backward_scratch_len(&cell, dims, delays)?;
        check_room("scratch", self.scratch.len(), expected)?;
        room(&cell, dims, delays)
    }
}
