//! Forward passes, step by step: the input's part, `b + U x`, plus the products of the
//! states before, finished by the cell.

use super::{Dims, Origin, Passage, Recurrent, Steps, Term, Units, parts};
use crate::cells::{Cell, Epilogue, Forth, Geometry, MOST_SUMS, with_cell};
use crate::error::{check_len, check_room};
use crate::fetch::{Fetches, When};
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::simd::Simd;
use crate::team::Pass;
use crate::tile::store_lanes;
use crate::{Isa, KernelError, checked_len};
use std::ptr::null_mut;

/// Where the input's part of the G gates comes from, and whether the gates stay.
#[derive(Debug)]
pub enum Gates<'a> {
    /// `b + U x` goes in and the gates come out, `[τ, B, G, H]`: training.
    Keep(&'a mut [f32]),
    /// The gates are not stored.
    Discard {
        /// `b + U x`, `[τ, B, stride]`, of which the first are `[G, H]`.
        z: &'a [f32],
        /// Floats from one row to the next, GH or more.
        stride: usize,
    },
    /// The product with the input is part of the step; nothing is stored. Only where a
    /// step is one product of all gates, whose sums go on from the input's.
    Fused {
        /// `[τ, B, I]`.
        x: &'a [f32],
        /// U packed by rows, with G gates.
        input: &'a PackedMatrix,
        /// b, `[G, H]`.
        bias: &'a [f32],
    },
}

/// Where the cell states are.
#[derive(Debug)]
pub enum CellStates<'a> {
    /// There are none.
    None,
    /// Every state stays.
    Keep {
        /// The state before the first step, `[B, H]`.
        s0: &'a [f32],
        /// The state after each, `[τ, B, H]`.
        s: &'a mut [f32],
    },
    /// One state, `[B, H]`, carried from step to step.
    InPlace(&'a mut [f32]),
}

/// A forward pass over a stretch of time.
///
/// Measured on one core (Zen 5, AVX-512, FMA peak 285 GFLOP/s) for an LSTM, with the
/// input's product: 0.91 of the peak for H 512, B 32, 0.91 for H 1024, B 64, 0.73 for H 64,
/// B 32; one sequence of 256 units or more is bound by reading the weights, at 0.91 or more
/// of what that allows.
/// `cargo run --release --example rnnbench -- --hidden 512 --input 512 --batch 32`.
#[derive(Debug)]
pub struct Forward<'a> {
    /// τ, B, H and R.
    pub dims: Dims,
    /// The cell.
    pub cell: Cell<'a>,
    /// The recurrent weights, packed by rows: each for the cell's sums of H, from R; the
    /// second for one of H, from H, or, where the cell projects, of R, from H.
    pub recurrent: Recurrent<'a>,
    /// The input's part.
    pub gates: Gates<'a>,
    /// What is kept beside the gates: `[τ, B, E, H]` with them, and without them one
    /// step's, `[B, E, H]`, where a second product reads it, or else none.
    pub extra: &'a mut [f32],
    /// The hidden states before the first step, oldest first, `[D, B, R]`.
    pub h0: &'a [f32],
    /// The hidden state after each, `[τ, B, R]`.
    pub h: &'a mut [f32],
    /// The cell states.
    pub cells: CellStates<'a>,
    /// [`forward_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// Floats of scratch that a [`Forward`] with so many delays needs; `input` is the depth of
/// a product with the input that is part of the step, or 0.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
#[inline]
pub fn forward_scratch_len(
    geometry: &Geometry,
    dims: Dims,
    delays: usize,
    input: usize,
) -> Result<usize, KernelError> {
    checked_len("scratch", &[dims.batch, room(geometry, dims, delays, input)?])
}

/// Floats of scratch for a row.
#[inline]
fn room(
    geometry: &Geometry,
    dims: Dims,
    delays: usize,
    input: usize,
) -> Result<usize, KernelError> {
    let first = checked_len("scratch", &[delays, left::checked_len(1, dims.outputs)?])?;
    let second = if geometry.is_double() { left::checked_len(1, dims.hidden)? } else { 0 };
    Ok(second.max(first + left::checked_len(1, input)?))
}

impl Forward<'_> {
    /// Runs the pass. Sums have one order: a sequence gives the same bits alone
    /// and in a batch, in one call and in several.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let room = self.check(isa)?;
        with_cell!(self.cell, |cell| self.run_checked(cell, room, isa, pass));
        Ok(())
    }

    fn run_checked<C: Epilogue>(mut self, cell: C, room: usize, isa: Isa, pass: &mut Pass<'_>) {
        let dims = self.dims;
        let (s0, s, s_step) = match &mut self.cells {
            CellStates::None => (std::ptr::null(), null_mut(), 0),
            CellStates::Keep { s0, s } => (s0.as_ptr(), s.as_mut_ptr(), dims.batch * dims.hidden),
            CellStates::InPlace(s) => (s.as_ptr(), s.as_mut_ptr(), 0),
        };
        let (input, gates) = match &mut self.gates {
            Gates::Keep(z) => {
                let stride = C::GATES * dims.hidden;
                (Input::Computed { z: z.as_ptr(), stride }, z.as_mut_ptr())
            }
            Gates::Discard { z, stride } => {
                (Input::Computed { z: z.as_ptr(), stride: *stride }, null_mut())
            }
            Gates::Fused { x, input, bias } => {
                (Input::Fused { x: x.as_ptr(), weights: input, bias: bias.as_ptr() }, null_mut())
            }
        };
        let first = Step {
            batch: dims.batch,
            hidden: dims.hidden,
            outputs: dims.outputs,
            cell,
            recurrent: self.recurrent,
            input,
            gates,
            extra: self.extra.as_mut_ptr(),
            history: History {
                before: self.h0.as_ptr(),
                h: self.h.as_mut_ptr(),
                depth: self.recurrent.history(),
                state: dims.batch * dims.outputs,
                t: 0,
            },
            s_prev: s0,
            s,
            scratch: self.scratch.as_mut_ptr(),
            room,
        };
        let parts = parts(pass.threads(), dims, &self.recurrent);
        let steps = Pointers { steps: dims.steps, s_step, first };
        // SAFETY: `check` has seen that all slices fit, and they were borrowed for this call.
        unsafe { pass.run(isa, &Passage { steps, parts }) };
    }

    /// Checks all of it, and gives the floats of scratch for a row.
    fn check(&self, isa: Isa) -> Result<usize, KernelError> {
        let (dims, cell) = (self.dims, self.cell.geometry());
        let Dims { hidden, outputs, .. } = dims;
        let gates = cell.gates * hidden;
        self.recurrent.check()?;
        for weights in self.recurrent.weights {
            weights.check(isa, cell.sums, hidden, outputs)?;
        }
        self.recurrent.check_second(isa, cell.second_product(hidden, outputs))?;
        if !cell.projects {
            check_len("outputs", outputs, hidden)?;
        }
        self.cell.check(hidden)?;
        let before = checked_len("h0", &[self.recurrent.history(), dims.rows("h0", outputs)?])?;
        check_len("h0", self.h0.len(), before)?;
        check_len("h", self.h.len(), dims.all("h", 1, outputs)?)?;
        let extra = match self.gates {
            Gates::Keep(_) => dims.all("extra", cell.extra, hidden)?,
            _ if cell.is_double() => dims.rows("extra", cell.extra * hidden)?,
            _ => 0,
        };
        check_len("extra", self.extra.len(), extra)?;
        let mut input_depth = 0;
        match &self.gates {
            Gates::Keep(kept) => {
                check_len("gates", kept.len(), dims.all("gates", cell.gates, hidden)?)?;
            }
            Gates::Discard { z, stride } => {
                check_room("stride", *stride, gates)?;
                check_len("gates", z.len(), dims.all("gates", 1, *stride)?)?;
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
                check_len("x", x.len(), dims.all("x", 1, input_depth)?)?;
                check_len("bias", bias.len(), gates)?;
            }
        }
        let state = if cell.cells { dims.rows("s", hidden)? } else { 0 };
        match &self.cells {
            CellStates::None => check_len("s", 0, state)?,
            CellStates::Keep { s0, s } => {
                check_len("s0", s0.len(), state)?;
                check_len("s", s.len(), checked_len("s", &[dims.steps, state])?)?;
            }
            CellStates::InPlace(s) => check_len("s", s.len(), state)?,
        }
        let delays = self.recurrent.delays.len();
        let expected = forward_scratch_len(&cell, dims, delays, input_depth)?;
        check_room("scratch", self.scratch.len(), expected)?;
        room(&cell, dims, delays, input_depth)
    }
}

/// The steps of a checked pass.
struct Pointers<'a, C> {
    steps: usize,
    /// Floats from one step's cell state to the next's.
    s_step: usize,
    first: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn first(&self, t: usize) -> Step<'a, C> {
        let first = self.first;
        let units = first.batch * first.hidden;
        let s_prev = match t {
            0 => first.s_prev,
            _ => first.s.cast_const().wrapping_add((t - 1) * self.s_step),
        };
        let kept = usize::from(!first.gates.is_null());
        Step {
            input: match first.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(t * first.batch * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    let x = x.wrapping_add(t * first.batch * weights.depth());
                    Input::Fused { x, weights, bias }
                }
            },
            gates: first.gates.wrapping_add(kept * t * C::GATES * units),
            extra: first.extra.wrapping_add(kept * t * C::EXTRA * units),
            history: History { t, ..first.history },
            s_prev,
            s: first.s.wrapping_add(t * self.s_step),
            ..first
        }
    }

    #[inline(always)]
    fn second(&self, t: usize) -> Option<Second<'a, C>> {
        let step = self.first(t);
        step.recurrent.second.map(|weights| Second { step, weights })
    }
}

/// Where the input's part of the gates comes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Computed { z: *const f32, stride: usize },
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// The hidden states over time.
#[derive(Clone, Copy)]
pub(super) struct History {
    /// Those before the first step.
    pub before: *const f32,
    /// Those of the steps.
    pub h: *mut f32,
    /// How many there are before the first step.
    pub depth: usize,
    /// Floats of one.
    pub state: usize,
    /// The present step, from 0.
    pub t: usize,
}

impl History {
    /// The state so many steps before the present one.
    #[inline(always)]
    fn ago(&self, delay: usize) -> *const f32 {
        if self.t >= delay {
            self.h.cast_const().wrapping_add((self.t - delay) * self.state)
        } else {
            self.before.wrapping_add((self.depth + self.t - delay) * self.state)
        }
    }

    /// The present one.
    #[inline(always)]
    fn now(&self) -> *mut f32 {
        self.h.wrapping_add(self.t * self.state)
    }
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(super) struct Step<'a, C> {
    pub batch: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are kept; null where they are not.
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub history: History,
    pub s_prev: *const f32,
    pub s: *mut f32,
    /// Room for the rows of the products' left operands, so many floats for each.
    pub scratch: *mut f32,
    pub room: usize,
}

impl<C: Epilogue> Step<'_, C> {
    #[inline(always)]
    fn place(&self, Units { row, first, lanes }: Units) -> Forth {
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
        let gates = row * C::GATES * self.hidden + first;
        Forth {
            lanes,
            unit: first,
            hidden: self.hidden,
            input: match self.input {
                Input::Computed { z, stride } => z.wrapping_add(row * stride + first),
                Input::Fused { .. } => std::ptr::null(),
            },
            gates: if self.gates.is_null() { null_mut() } else { self.gates.wrapping_add(gates) },
            extra: self.extra.wrapping_add(row * C::EXTRA * self.hidden + first),
            h_prev: self.history.ago(1).wrapping_add(outputs),
            h: self.history.now().wrapping_add(outputs),
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
        }
    }
}

impl<C: Epilogue> super::Step for Step<'_, C> {
    const SUMS: usize = C::SUMS;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.batch
    }

    #[inline(always)]
    fn weights(&self) -> &PackedMatrix {
        &self.recurrent.weights[0]
    }

    #[inline(always)]
    fn terms(&self) -> usize {
        1 + self.recurrent.weights.len()
    }

    #[inline(always)]
    fn term(&self, index: usize) -> Option<Term<'_>> {
        let Some(index) = index.checked_sub(1) else {
            let Input::Fused { x, weights, .. } = self.input else { return None };
            return Some(Term { rows: x, stride: weights.depth(), weights });
        };
        let rows = self.history.ago(self.recurrent.delays[index]);
        Some(Term { rows, stride: self.outputs, weights: &self.recurrent.weights[index] })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match self.input {
            _ if const { C::APART } => None,
            Input::Computed { z, stride } => Some(Origin { start: z, stride }),
            Input::Fused { bias, .. } => Some(Origin { start: bias, stride: 0 }),
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if let Input::Computed { z, stride } = self.input {
            let z = z.wrapping_add(row * stride);
            let when = if const { C::APART } { When::After } else { When::Start };
            fetches.push(columns.fetch(z, stride, 1, when));
        }
        // What is kept goes to memory that no step has touched before.
        let kept = !self.gates.is_null();
        for (wanted, state, stride) in [
            (C::CELLS, self.s_prev, self.hidden),
            (C::CARRIES, self.history.ago(1), self.outputs),
            (C::CELLS && kept, self.s.cast_const(), self.hidden),
            (C::EXTRA > 0 && kept, self.extra.cast_const(), C::EXTRA * self.hidden),
            (!C::PROJECTS && kept, self.history.now().cast_const(), self.outputs),
        ] {
            if wanted {
                let state = state.wrapping_add(row * stride);
                fetches.push(columns.fetch(state, stride, C::SUMS, When::After));
            }
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        let (units, outputs) = (row * self.hidden, row * self.outputs);
        Step {
            batch: rows,
            input: match self.input {
                Input::Computed { z, stride } => {
                    Input::Computed { z: z.wrapping_add(row * stride), stride }
                }
                Input::Fused { x, weights, bias } => {
                    Input::Fused { x: x.wrapping_add(row * weights.depth()), weights, bias }
                }
            },
            gates: match self.gates.is_null() {
                true => null_mut(),
                false => self.gates.wrapping_add(C::GATES * units),
            },
            extra: self.extra.wrapping_add(C::EXTRA * units),
            history: History {
                before: self.history.before.wrapping_add(outputs),
                h: self.history.h.wrapping_add(outputs),
                ..self.history
            },
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
            scratch: self.scratch.wrapping_add(row * self.room),
            ..self
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, z: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe { self.cell.forward(s, &self.place(at), z) };
    }
}

/// The second stage of a step: a product of the extra block.
#[derive(Clone, Copy)]
pub(super) struct Second<'a, C> {
    pub step: Step<'a, C>,
    pub weights: &'a PackedMatrix,
}

impl<C: Epilogue> super::Step for Second<'_, C> {
    const SUMS: usize = 1;

    #[inline(always)]
    fn batch(&self) -> usize {
        self.step.batch
    }

    #[inline(always)]
    fn weights(&self) -> &PackedMatrix {
        self.weights
    }

    #[inline(always)]
    fn terms(&self) -> usize {
        1
    }

    #[inline(always)]
    fn term(&self, _index: usize) -> Option<Term<'_>> {
        let stride = C::EXTRA * self.step.hidden;
        Some(Term { rows: self.step.extra, stride, weights: self.weights })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match (C::SECOND, self.step.input) {
            (Some(gate), Input::Computed { z, stride }) => {
                Some(Origin { start: z.wrapping_add(gate * self.step.hidden), stride })
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        let outputs = self.step.outputs;
        if let Some(Origin { start, stride }) = self.origin() {
            let z = start.wrapping_add(row * stride);
            fetches.push(columns.fetch(z, stride, 1, When::Start));
            let before = self.step.history.ago(1).wrapping_add(row * outputs);
            fetches.push(columns.fetch(before, outputs, 1, When::After));
        }
        let now = self.step.history.now().wrapping_add(row * outputs);
        fetches.push(columns.fetch(now, outputs, 1, When::After));
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: super::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [sum, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                store_lanes(s, place.h, sum, at.lanes);
            } else {
                self.step.cell.second(s, &place, sum);
            }
        }
    }
}
