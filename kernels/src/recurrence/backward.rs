//! Back-propagation through time, step by step from the last: ∂L/∂h of a step, the
//! caller's part plus `dz W` of the steps after, which the cell turns into its own dz.

use super::{Dims, Origin, Passage, Recurrent, Steps, Term, Units, parts};
use crate::cells::{Back, Cell, Epilogue, Geometry, MOST_SUMS, Source, with_cell};
use crate::error::{check_len, check_room};
use crate::fetch::{Fetches, When};
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::simd::Simd;
use crate::team::Pass;
use crate::tile::{load_lanes, store_lanes};
use crate::{Isa, KernelError, checked_len};

/// A backward pass over a stretch of time, last step first.
///
/// Measured on one core (Zen 5, AVX-512, FMA peak 285 GFLOP/s) as part of a training step
/// of an LSTM, with packing, the forward pass and all gradients: 0.86 of the peak for H 512,
/// B 32, 0.87 for H 1024, B 64, 0.75 for H 64, B 32, 0.48 for H 256, B 1.
/// `cargo run --release --example rnnbench -- --mode train --hidden 512 --input 512 --batch 32`.
#[derive(Debug)]
pub struct Backward<'a> {
    /// τ, B, H and R.
    pub dims: Dims,
    /// The cell, as in the forward pass.
    pub cell: Cell<'a>,
    /// The recurrent weights, packed by columns: to R outputs from what the cell's
    /// [`Source`]s say; the second from H outputs, or R where the cell projects, to H.
    pub recurrent: Recurrent<'a>,
    /// The forward pass's gates go in, the gradients of the pre-activations come
    /// out, `[τ, B, G, H]`.
    pub gates: &'a mut [f32],
    /// What the forward pass has kept beside them, `[τ, B, E, H]`.
    pub extra: &'a mut [f32],
    /// The hidden states before the first step and after each, `[D + τ, B, R]`.
    pub h: &'a [f32],
    /// The cell state before the first step and after each, `[τ + 1, B, H]`, or nothing.
    pub s: &'a [f32],
    /// ∂L/∂h of each step from outside, `[τ, B, R]`; none is zero.
    pub dy: Option<&'a [f32]>,
    /// ∂L/∂h of the last D steps goes in (beside `dy`), that of those before the first
    /// comes out, `[D, B, R]`.
    pub dh: &'a mut [f32],
    /// ∂L/∂s of the last step goes in, ∂L/∂s₀ comes out, `[B, H]`, or nothing.
    pub ds: &'a mut [f32],
    /// Where the cell projects, all of ∂L/∂h comes out, `[τ, B, R]`; else nothing.
    pub dh_all: &'a mut [f32],
    /// [`backward_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// Floats of scratch that a [`Backward`] with so many delays needs.
///
/// # Errors
/// [`KernelError::TooLarge`] where that does not fit the address space.
pub fn backward_scratch_len(
    geometry: &Geometry,
    dims: Dims,
    delays: usize,
) -> Result<usize, KernelError> {
    checked_len("scratch", &[dims.batch, room(geometry, dims, delays)?])
}

/// Floats of scratch for a row.
fn room(geometry: &Geometry, dims: Dims, delays: usize) -> Result<usize, KernelError> {
    let mut first = 0;
    for source in geometry.back {
        first += left::checked_len(1, checked_len("scratch", &[source.blocks(), dims.hidden])?)?;
    }
    let second = match (geometry.projects, geometry.second) {
        (true, _) => left::checked_len(1, dims.outputs)?,
        (_, Some(_)) => left::checked_len(1, dims.hidden)?,
        _ => 0,
    };
    Ok(second.max(checked_len("scratch", &[delays, first])?))
}

/// What a product of a step is of. With several delays they are all of the same.
#[inline(always)]
fn source<C: Epilogue>(term: usize) -> Source {
    if const { C::BACK.len() == 1 } { C::BACK[0] } else { C::BACK[term % C::BACK.len()] }
}

impl Backward<'_> {
    /// Runs the pass.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let room = self.check(isa)?;
        with_cell!(self.cell, |cell| self.run_checked(cell, room, isa, pass));
        Ok(())
    }

    fn run_checked<C: Epilogue>(self, cell: C, room: usize, isa: Isa, pass: &mut Pass<'_>) {
        let dims = self.dims;
        let last = Step {
            batch: dims.batch,
            hidden: dims.hidden,
            outputs: dims.outputs,
            cell,
            recurrent: self.recurrent,
            steps: dims.steps,
            t: 0,
            gates: self.gates.as_mut_ptr(),
            extra: self.extra.as_mut_ptr(),
            h: self.h.as_ptr(),
            s: self.s.as_ptr(),
            dh: self.dh.as_mut_ptr(),
            ds: self.ds.as_mut_ptr(),
            dy: self.dy.map(<[f32]>::as_ptr),
            dh_all: self.dh_all.as_mut_ptr(),
            all: dims.batch,
            scratch: self.scratch.as_mut_ptr(),
            room,
        };
        let parts = parts(pass.threads(), dims, &self.recurrent);
        let steps = Pointers { last };
        // SAFETY: `check` has seen that all slices fit, and they were borrowed for this call.
        unsafe { pass.run(isa, &Passage { steps, parts }) };
    }

    /// Checks all of it, and gives the floats of scratch for a row.
    fn check(&self, isa: Isa) -> Result<usize, KernelError> {
        let (dims, cell) = (self.dims, self.cell.geometry());
        let Dims { steps, hidden, outputs, .. } = dims;
        self.recurrent.check()?;
        check_len("terms", self.recurrent.weights.len() % cell.back.len(), 0)?;
        for (weights, source) in self.recurrent.weights.iter().zip(cell.back.iter().cycle()) {
            weights.check(isa, 1, outputs, source.blocks() * hidden)?;
        }
        let second = cell.second_product(hidden, outputs).map(|(units, depth)| (depth, units));
        self.recurrent.check_second(isa, second)?;
        if !cell.projects {
            check_len("outputs", outputs, hidden)?;
        }
        self.cell.check(hidden)?;
        let (state, history) = (dims.rows("h", outputs)?, self.recurrent.history());
        if cell.carries {
            check_len("states before the first step", history, 1)?;
        }
        let states = dims.all("h", 1, outputs)?;
        let before = checked_len("dh", &[history, state])?;
        check_len("gates", self.gates.len(), dims.all("gates", cell.gates, hidden)?)?;
        check_len("extra", self.extra.len(), dims.all("extra", cell.extra, hidden)?)?;
        check_len("h", self.h.len(), before + states)?;
        check_len("dh", self.dh.len(), before)?;
        let cells = if cell.cells { dims.rows("s", hidden)? } else { 0 };
        check_len("s", self.s.len(), checked_len("s", &[steps + 1, cells])?)?;
        check_len("ds", self.ds.len(), cells)?;
        check_len("dh_all", self.dh_all.len(), if cell.projects { states } else { 0 })?;
        if let Some(dy) = self.dy {
            check_len("dy", dy.len(), states)?;
        }
        let delays = self.recurrent.delays.len() / cell.back.len();
        let expected = backward_scratch_len(&cell, dims, delays)?;
        check_room("scratch", self.scratch.len(), expected)?;
        room(&cell, dims, delays)
    }
}

/// A checked pass: the steps from the last, and after them what is left, ∂L/∂h of the
/// states before the first step.
struct Pointers<'a, C> {
    last: Step<'a, C>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<C: Epilogue> Sync for Pointers<'_, C> {}

impl<'a, C: Epilogue> Steps for Pointers<'a, C> {
    type First = Step<'a, C>;
    type Second = Second<'a, C>;
    const TWO: bool = Geometry::new::<C>().is_double();

    fn count(&self) -> usize {
        match self.last.steps {
            0 => 0,
            steps => steps + self.last.recurrent.history(),
        }
    }

    #[inline(always)]
    fn first(&self, index: usize) -> Step<'a, C> {
        Step { t: self.last.steps as isize - index as isize, ..self.last }
    }

    #[inline(always)]
    fn second(&self, index: usize) -> Option<Second<'a, C>> {
        let step = self.first(index);
        let weights = step.recurrent.second?;
        (step.t > 0).then_some(Second { step, weights })
    }
}

/// One step: pointers to the first row of each operand at the first step.
#[derive(Clone, Copy)]
struct Step<'a, C> {
    batch: usize,
    hidden: usize,
    outputs: usize,
    cell: C,
    recurrent: Recurrent<'a>,
    steps: usize,
    /// The step, from 1; the states before the first step are those of 0 and below.
    t: isize,
    gates: *mut f32,
    extra: *mut f32,
    /// Of step 1 − D.
    h: *const f32,
    /// Of step 0.
    s: *const f32,
    dh: *mut f32,
    ds: *mut f32,
    dy: Option<*const f32>,
    dh_all: *mut f32,
    /// Rows of a step in memory, those of other parts of the batch among them.
    all: usize,
    /// Room for the rows of the products' left operands, so many floats for each.
    scratch: *mut f32,
    room: usize,
}

impl<C: Epilogue> Step<'_, C> {
    /// Floats from the first step to step `t` in what has `width` for each row, and its
    /// first at step `first`.
    #[inline(always)]
    fn offset(&self, t: isize, first: isize, width: usize) -> usize {
        (t - first) as usize * self.all * width
    }

    /// Where ∂L/∂h of a step comes in, of the last D in their order, or is carried.
    #[inline(always)]
    fn incoming(&self) -> *const f32 {
        if const { C::CARRIES } {
            return self.dh;
        }
        let place = self.t - 1 + self.recurrent.history() as isize - self.steps as isize;
        self.dh.wrapping_add(place as usize * self.all * self.outputs)
    }

    /// Where that of a state before the first step goes out. Of less than D steps some
    /// come in and go out again: later ones, whose place is taken, have been read.
    #[inline(always)]
    fn outgoing(&self) -> *mut f32 {
        let place = self.t - 1 + self.recurrent.history() as isize;
        self.dh.wrapping_add(place as usize * self.all * self.outputs)
    }

    #[inline(always)]
    fn place(&self, Units { row, first, lanes }: Units) -> Back {
        let t = self.t;
        let history = self.recurrent.history() as isize;
        let units = row * self.hidden + first;
        let outputs = row * self.outputs + first;
        let gates = row * C::GATES * self.hidden + first;
        let extra = row * C::EXTRA * self.hidden + first;
        let h = self.h.wrapping_add(self.offset(t, 1 - history, self.outputs) + outputs);
        let cells = self.all * self.hidden;
        let s = self.s.wrapping_add(self.offset(t, 0, self.hidden) + units);
        Back {
            lanes,
            unit: first,
            hidden: self.hidden,
            gates: self.gates.wrapping_add(self.offset(t, 1, C::GATES * self.hidden) + gates),
            extra: self.extra.wrapping_add(self.offset(t, 1, C::EXTRA * self.hidden) + extra),
            h_prev: h.wrapping_sub(self.all * self.outputs),
            h,
            s_prev: s.wrapping_sub(cells),
            s,
            dh: self.dh.wrapping_add(outputs),
            ds: self.ds.wrapping_add(units),
        }
    }

    /// What the cell's gradients read and write of the rows from `row`, every `every`th
    /// vector of these columns.
    #[inline(always)]
    fn fetch_cell(&self, fetches: &mut Fetches, columns: &Columns, row: usize) {
        let place = self.place(Units { row, first: 0, lanes: 0 });
        let stride = C::GATES * self.hidden;
        for gate in 0..C::GATES {
            let gate = place.gates.wrapping_add(gate * self.hidden);
            fetches.push(columns.fetch(gate, stride, 1, When::After));
        }
        if const { C::CELLS } {
            for state in [place.s, place.s_prev, place.ds.cast_const()] {
                fetches.push(columns.fetch(state, self.hidden, 1, When::After));
            }
        } else {
            let h = if const { C::CARRIES } { place.h_prev } else { place.h };
            fetches.push(columns.fetch(h, self.outputs, 1, When::After));
            if const { C::EXTRA > 0 } {
                let stride = C::EXTRA * self.hidden;
                fetches.push(columns.fetch(place.extra, stride, 1, When::After));
            }
        }
    }
}

impl<C: Epilogue> super::Step for Step<'_, C> {
    const SUMS: usize = 1;

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
        self.recurrent.weights.len()
    }

    /// The longest delay first: what lies in a later stretch of time is what that one's
    /// pass has begun the sum with.
    #[inline(always)]
    fn term(&self, index: usize) -> Option<Term<'_>> {
        let after = self.t + self.recurrent.delays[index] as isize;
        if after < 1 || after > self.steps as isize {
            return None;
        }
        let (rows, stride) = match source::<C>(index) {
            Source::Gates { first, .. } => {
                let stride = C::GATES * self.hidden;
                let gates = self.gates.wrapping_add(self.offset(after, 1, stride));
                (gates.wrapping_add(first * self.hidden), stride)
            }
            Source::Extra => {
                let stride = C::EXTRA * self.hidden;
                (self.extra.wrapping_add(self.offset(after, 1, stride)), stride)
            }
        };
        Some(Term { rows, stride, weights: &self.recurrent.weights[index] })
    }

    /// ∂L/∂h of the last steps goes on from what the caller gives, and that of all where
    /// a part is carried; of the others it is a sum alone.
    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        let last = self.t + self.recurrent.history() as isize > self.steps as isize;
        let given = last || const { C::CARRIES };
        if given { Some(Origin { start: self.incoming(), stride: self.outputs }) } else { None }
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.scratch
    }

    /// What a cell reads from far away: gates, states, and the gradients that are
    /// carried and come from outside.
    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if self.t < 1 {
            return fetches;
        }
        let at = self.offset(self.t, 1, self.outputs) + row * self.outputs;
        if const { C::PROJECTS } {
            let all = self.dh_all.wrapping_add(at);
            fetches.push(columns.fetch(all, self.outputs, 1, When::After));
        } else {
            self.fetch_cell(&mut fetches, columns, row);
        }
        if let Some(dy) = self.dy {
            fetches.push(columns.fetch(dy.wrapping_add(at), self.outputs, 1, When::After));
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        let (units, outputs) = (row * self.hidden, row * self.outputs);
        Step {
            batch: rows,
            gates: self.gates.wrapping_add(C::GATES * units),
            extra: self.extra.wrapping_add(C::EXTRA * units),
            h: self.h.wrapping_add(outputs),
            s: self.s.wrapping_add(units),
            dh: self.dh.wrapping_add(outputs),
            ds: self.ds.wrapping_add(units),
            dy: self.dy.map(|dy| dy.wrapping_add(outputs)),
            dh_all: self.dh_all.wrapping_add(outputs),
            scratch: self.scratch.wrapping_add(row * self.room),
            ..self
        }
    }

    /// The gradients of some units of a row, from their ∂L/∂h without `dy`; before the
    /// first step that is all there is.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [dh, ..]: [S::V; MOST_SUMS]) {
        let unit = at.row * self.outputs + at.first;
        // SAFETY: the caller's.
        unsafe {
            if self.t < 1 {
                store_lanes(s, self.outgoing().add(unit), dh, at.lanes);
                return;
            }
            let unit = self.offset(self.t, 1, self.outputs) + unit;
            // The part from outside comes last, so that a sequence cut in two gives
            // the bits of the whole: the sum over the step after is the same number
            // whether it stays in a register or is carried in `dh`.
            let dh = match self.dy {
                Some(dy) => s.add(dh, load_lanes(s, dy.add(unit), at.lanes)),
                None => dh,
            };
            if const { C::PROJECTS } {
                store_lanes(s, self.dh_all.add(unit), dh, at.lanes);
            } else {
                self.cell.backward(s, &self.place(at), dh);
            }
        }
    }
}

/// The second stage of a step: the gradient of the extra block.
#[derive(Clone, Copy)]
struct Second<'a, C> {
    step: Step<'a, C>,
    weights: &'a PackedMatrix,
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
        let step = &self.step;
        let (rows, stride) = match C::SECOND {
            Some(gate) => {
                let stride = C::GATES * step.hidden;
                let gates = step.gates.wrapping_add(step.offset(step.t, 1, stride));
                (gates.wrapping_add(gate * step.hidden), stride)
            }
            None => (step.dh_all.wrapping_add(step.offset(step.t, 1, step.outputs)), step.outputs),
        };
        Some(Term { rows, stride, weights: self.weights })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        None
    }

    #[inline(always)]
    fn scratch(&self) -> *mut f32 {
        self.step.scratch
    }

    #[inline(always)]
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches {
        let mut fetches = Fetches::none();
        if const { C::PROJECTS } {
            self.step.fetch_cell(&mut fetches, columns, row);
        }
        fetches
    }

    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Self {
        Self { step: super::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [d, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                self.step.cell.backward(s, &place, d);
            } else {
                self.step.cell.second_backward(s, &place, d);
            }
        }
    }
}
