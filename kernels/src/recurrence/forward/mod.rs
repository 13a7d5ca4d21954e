//! Forward passes, step by step: the cell turns the sum of the input's part, `b + U x`, and the
//! products of earlier states with W into new states.

mod first;
mod noise;
mod norm;
mod second;
mod step;
mod steps;
#[cfg(test)]
mod tests;

pub(super) use second::Second;
pub(super) use step::{History, Input, Operands, Step};

use super::dims::{Dims, Recurrent};
use super::noise::{Dropout, Zoneout, ZoneoutAt};
use super::norm::Norm;
use super::pass::{StepPhases, parts};
use crate::cells::{Cell, Epilogue, Geometry, with_cell};
use crate::error::{check_len, check_room, checked_sum};
use crate::gemm::lhs;
use crate::gemm::rhs::PackedMatrix;
use crate::rows::{Rows, RowsMut};
use crate::team::Pass;
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;
use std::ptr::{NonNull, dangling, dangling_mut};
use step::{Masked, Noise, NormAt};
use steps::{CellStep, Pointers};

/// Where the input's part of the G gates comes from, and whether the gates are kept.
#[derive(Debug)]
pub enum Gates<'a> {
    /// For training: the slice holds `b + U x`, and the pass replaces it with the gates,
    /// `[τ, B, G, H]`.
    Keep(&'a mut [f32]),
    /// For inference: the gates are not stored.
    Discard {
        /// `b + U x` of the rows of the stretch alone, `[rows, stride]`, where the first GH floats of
        /// a row are `[G, H]`.
        z: &'a [f32],
        /// Floats from one row to the next, GH or more.
        stride: usize,
    },
    /// For inference: the product with the input is computed as part of the step, and nothing is
    /// stored. Only for cells whose [`Geometry::fuses`] is true.
    Fused {
        /// The input, `[τ, B, I]`.
        x: &'a [f32],
        /// U packed by rows, with G gates.
        input: &'a PackedMatrix,
        /// b, `[G, H]`.
        bias: &'a [f32],
    },
}

/// Where the cell states are stored.
#[derive(Debug)]
pub enum CellStates<'a> {
    /// The cell has no cell state.
    None,
    /// The states of all steps are kept.
    Keep {
        /// The state before the first step, `[B, H]`.
        c0: &'a [f32],
        /// The state after each step, `[τ, B, H]`.
        c: &'a mut [f32],
    },
    /// One state, `[B, H]`, which each step replaces. Not with zoneout, which also needs the state
    /// before the step.
    InPlace(&'a mut [f32]),
    /// Two buffers in which the steps store the state in turns.
    InTurns {
        /// The state before the first step and after an even number of steps, `[B, H]`.
        c: &'a mut [f32],
        /// The state after an odd number of steps, `[B, H]`.
        other: &'a mut [f32],
    },
}

/// A forward pass over a stretch of time.
///
/// With one sequence of many units, reading the weights takes most of the time.
/// `cargo run --release --example rnnbench -- --hidden 512 --input 512 --batch 32` measures a pass
/// with the input's product.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The schedule of τ steps of B sequences, and the sizes H and R.
    pub dims: Dims<'a>,
    /// The steps of the schedule that this pass takes.
    pub stretch: Range<usize>,
    /// The cell.
    pub cell: Cell<'a>,
    /// The recurrent weights, packed by rows. Each matrix has the cell's [`sums`](Geometry::sums)
    /// blocks of H outputs, from R inputs. The second product has H outputs from H inputs or, if
    /// the cell projects, R outputs from H inputs.
    pub recurrent: Recurrent<'a>,
    /// The input's part, and whether the gates are kept.
    pub gates: Gates<'a>,
    /// The extra blocks that are kept beside the gates: `[τ, B, E, H]` if gates are kept; else
    /// `[B, E, H]`, of one step, if a second product reads them; else empty.
    pub extra: &'a mut [f32],
    /// The hidden states before the schedule's first step, the oldest first, `[D, B, R]`.
    pub h0: &'a [f32],
    /// The hidden states after each step, `[τ, B, R]`. Those before the stretch are read.
    pub h: &'a mut [f32],
    /// Floats from one row of `h` to the next, R or more.
    pub h_stride: usize,
    /// The cell states.
    pub cells: CellStates<'a>,
    /// Zoneout: units that keep their state from the step before.
    pub zoneout: Option<Zoneout<'a>>,
    /// Dropout of the hidden states that the recurrent products see.
    pub dropout: Option<Dropout<'a>>,
    /// Layer normalisation of the sums.
    pub norm: Option<Norm<'a>>,
    /// Scratch of [`forward_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// Returns the floats of scratch that a [`Forward`] with `delays` delays needs. `input` is the
/// depth of the product with the input if that is part of the step, else 0.
///
/// # Errors
/// [`KernelError::TooLarge`] if the result does not fit the address space.
#[inline]
pub fn forward_scratch_len(
    geometry: &Geometry,
    dims: Dims<'_>,
    delays: usize,
    input: usize,
) -> Result<usize, KernelError> {
    dims.sequences("scratch", room(geometry, dims, delays, input)?)
}

/// Returns the floats of scratch for one row.
#[inline]
fn room(
    geometry: &Geometry,
    dims: Dims<'_>,
    delays: usize,
    input: usize,
) -> Result<usize, KernelError> {
    let first = checked_len("scratch", &[delays, lhs::checked_len(1, dims.outputs)?])?;
    let second = if geometry.is_double() { lhs::checked_len(1, dims.hidden)? } else { 0 };
    Ok(second.max(checked_sum("scratch", &[first, lhs::checked_len(1, input)?])?))
}

impl Forward<'_> {
    /// Runs the pass. The order of each sum is fixed: a sequence gives the same bits alone and in a
    /// batch, in one call and in several.
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
        // A slice that is both read and written has one pointer for both: a pointer that was made
        // for reading becomes invalid when another one is made for writing.
        let (c0, c, c_step) = match &mut self.cells {
            CellStates::None => (dangling(), dangling_mut(), CellStep::InPlace),
            CellStates::Keep { c0, c } => (c0.as_ptr(), c.as_mut_ptr(), CellStep::Along),
            CellStates::InPlace(c) => {
                let c = c.as_mut_ptr();
                (c.cast_const(), c, CellStep::InPlace)
            }
            CellStates::InTurns { c, other } => {
                let c = c.as_mut_ptr();
                (c.cast_const(), other.as_mut_ptr(), CellStep::Turns(c))
            }
        };
        let (input, gates) = match &mut self.gates {
            Gates::Keep(z) => {
                let (z, stride) = (z.as_mut_ptr(), C::GATES * dims.hidden);
                (Input::Computed(Rows::new(z, stride)), NonNull::new(z))
            }
            Gates::Discard { z, stride } => (Input::Computed(Rows::new(z.as_ptr(), *stride)), None),
            Gates::Fused { x, input, bias } => {
                let x = Rows::new(x.as_ptr(), input.depth());
                (Input::Fused { x, weights: input, bias: bias.as_ptr() }, None)
            }
        };
        let history = History {
            before: Rows::new(self.h0.as_ptr(), dims.outputs),
            h: RowsMut::new(self.h.as_mut_ptr(), self.h_stride),
            depth: self.recurrent.history(),
            schedule: dims.schedule,
        };
        let masked = self.dropout.as_mut().map(|Dropout { mask, before, seen }| Masked {
            mask: mask.as_ptr(),
            seen: History {
                before: Rows::new(before.as_ptr(), dims.outputs),
                h: RowsMut::new(seen.as_mut_ptr(), dims.outputs),
                ..history
            },
        });
        let noisy = self.zoneout.is_some() || masked.is_some();
        let noise = Noise { zoneout: ZoneoutAt::new(self.zoneout), masked };
        let norm = self.norm.as_mut().map(|norm| NormAt {
            epsilon: norm.epsilon,
            gain: norm.gain.as_ptr(),
            bias: norm.bias.as_ptr(),
            normal: norm.normal.as_mut_ptr(),
            normal_extra: norm.normal_extra.as_mut_ptr(),
            inverse: norm.inverse.as_mut_ptr(),
        });
        let first = Operands {
            batch: dims.batch(),
            hidden: dims.hidden,
            outputs: dims.outputs,
            cell,
            recurrent: self.recurrent,
            input,
            gates,
            extra: self.extra.as_mut_ptr(),
            t: 0,
            h_prev: history.ago(0, 1),
            h: history.of(0),
            history: &history,
            noise: noisy.then_some(&noise),
            norm: norm.as_ref(),
            first_row: 0,
            c_prev: c0,
            c,
            scratch: self.scratch.as_mut_ptr(),
            room,
        };
        let parts = parts(pass.threads(), dims.schedule, &self.stretch, &self.recurrent);
        // SAFETY: `check` has verified that all slices fit the dimensions and the cell, and that
        // the weights are packed for them; they are borrowed until the pass is over.
        let steps = unsafe { Pointers::new(self.stretch, c_step, first) };
        // SAFETY: as above.
        unsafe { pass.run(isa, &StepPhases { steps, parts }) };
    }

    /// Checks all operands, and returns the floats of scratch for one row.
    fn check(&self, isa: Isa) -> Result<usize, KernelError> {
        let (dims, cell) = (self.dims, self.cell.geometry());
        let Dims { hidden, outputs, .. } = dims;
        let gates = checked_len("gates", &[cell.gates, hidden])?;
        self.recurrent.check()?;
        for weights in self.recurrent.weights {
            weights.check(isa, cell.sums, hidden, outputs)?;
        }
        self.recurrent.check_second(isa, cell.second_product(hidden, outputs))?;
        if !cell.projects {
            check_len("outputs", outputs, hidden)?;
        }
        self.cell.check(hidden)?;
        dims.check_stretch(&self.stretch)?;
        let before =
            checked_len("h0", &[self.recurrent.history(), dims.sequences("h0", outputs)?])?;
        check_len("h0", self.h0.len(), before)?;
        dims.check_rows("h", self.h.len(), outputs, self.h_stride)?;
        let extra = match self.gates {
            Gates::Keep(_) => dims.rows("extra", cell.extra, hidden)?,
            _ if cell.is_double() => checked_len("extra", &[dims.batch(), cell.extra, hidden])?,
            _ => 0,
        };
        check_len("extra", self.extra.len(), extra)?;
        let mut input_depth = 0;
        match &self.gates {
            Gates::Keep(kept) => {
                check_len("gates", kept.len(), dims.rows("gates", cell.gates, hidden)?)?;
            }
            Gates::Discard { z, stride } => {
                check_room("stride", *stride, gates)?;
                let expected = dims.schedule.floats_in("gates", &self.stretch, *stride)?;
                check_len("gates", z.len(), expected)?;
            }
            Gates::Fused { .. } if !cell.fuses => {
                return Err(KernelError::Packing {
                    given: "the input's weights, as part of the step".into(),
                    expected: "the input's part, for this cell".into(),
                });
            }
            Gates::Fused { x, input, bias } => {
                input_depth = input.depth();
                input.check(isa, cell.gates, hidden, input_depth)?;
                check_len("x", x.len(), dims.rows("x", 1, input_depth)?)?;
                check_len("bias", bias.len(), gates)?;
            }
        }
        let state = if cell.cells { dims.sequences("c", hidden)? } else { 0 };
        match &self.cells {
            CellStates::None => check_len("c", 0, state)?,
            CellStates::Keep { c0, c } => {
                check_len("c0", c0.len(), state)?;
                check_len("c", c.len(), dims.rows("c", usize::from(cell.cells), hidden)?)?;
            }
            CellStates::InPlace(_) if cell.cells && self.zoneout.is_some() => {
                let (given, expected) = (1, "2, in turns, for zoneout".into());
                return Err(KernelError::Dimension { what: "cell states", given, expected });
            }
            CellStates::InPlace(c) => check_len("c", c.len(), state)?,
            // The sequences would end in one buffer or the other, by their lengths.
            CellStates::InTurns { .. } if !dims.schedule.is_dense() => {
                let (what, given) = ("buffers of cell states", 2);
                let expected = "all states, for sequences of different lengths".into();
                return Err(KernelError::Dimension { what, given, expected });
            }
            CellStates::InTurns { c, other } => {
                check_len("c", c.len(), state)?;
                check_len("other", other.len(), state)?;
            }
        }
        if let Some(norm) = &self.norm {
            norm.check(&cell, dims, matches!(self.gates, Gates::Keep(_)))?;
        }
        self.zoneout.map_or(Ok(()), |zoneout| zoneout.check(dims))?;
        let history = self.recurrent.history();
        self.dropout.as_ref().map_or(Ok(()), |dropout| dropout.check(dims, history))?;
        let delays = self.recurrent.delays.len();
        let expected = forward_scratch_len(&cell, dims, delays, input_depth)?;
        check_room("scratch", self.scratch.len(), expected)?;
        room(&cell, dims, delays, input_depth)
    }
}
