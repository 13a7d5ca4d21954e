//! The LSTM forward, step by step:
//! `i, f, o = σ(z)`, `g = φ(z)`, `s = f ⊙ s₋ + i ⊙ g`, `h = o ⊙ tanh(s)`, where
//! `z` is the input's part, `b + U x`, plus `W h₋` (Goodfellow et al.,
//! equations 10.40 to 10.44).

use super::{Activations, Dims, GATES, after, forward_scratch_len, parts, sum};
use crate::error::{check_len, check_room};
use crate::fetch::When;
use crate::left;
use crate::pack::PackedMatrix;
use crate::scratch::{self, row_blocks};
use crate::simd::{Kernel, Simd};
use crate::team::{Pass, Phases};
use crate::tile::{self, GROUP, Sums, load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// Where the input's part of the gates comes from, and whether the gates stay.
#[derive(Debug)]
pub enum Gates<'a> {
    /// `b + U x` goes in and the gates come out, `[τ, B, 4, H]`: training.
    Keep(&'a mut [f32]),
    /// `b + U x`, `[τ, B, 4, H]`; the gates are not stored.
    Discard(&'a [f32]),
    /// The product with the input is part of the step; nothing is stored.
    Fused {
        /// `[τ, B, I]`.
        x: &'a [f32],
        /// U packed by rows, with 4 gates.
        input: &'a PackedMatrix,
        /// b, `[4, H]`.
        bias: &'a [f32],
    },
}

/// Where the cell states are.
#[derive(Debug)]
pub enum Cells<'a> {
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
#[derive(Debug)]
pub struct Forward<'a> {
    /// τ, B and H.
    pub dims: Dims,
    /// The non-linearities.
    pub activations: Activations,
    /// W packed by rows, with 4 gates.
    pub recurrent: &'a PackedMatrix,
    /// The input's part.
    pub gates: Gates<'a>,
    /// The hidden state before the first step, `[B, H]`.
    pub h0: &'a [f32],
    /// The hidden state after each, `[τ, B, H]`.
    pub h: &'a mut [f32],
    /// The cell states.
    pub cells: Cells<'a>,
    /// [`forward_scratch_len`](super::forward_scratch_len) floats or more.
    pub scratch: &'a mut [f32],
}

impl Forward<'_> {
    /// Runs the pass. Sums have one order: a sequence gives the same bits alone
    /// and in a batch, in one call and in several.
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are
    /// packed for something else; nothing is written then.
    pub fn run(mut self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let dims = self.dims;
        let state = dims.state()?;
        self.recurrent.check(isa, GATES, dims.hidden, dims.hidden)?;
        check_len("h0", self.h0.len(), state)?;
        check_len("h", self.h.len(), dims.states()?)?;
        match &self.gates {
            Gates::Keep(gates) => check_len("gates", gates.len(), dims.gates()?)?,
            Gates::Discard(gates) => check_len("gates", gates.len(), dims.gates()?)?,
            Gates::Fused { x, input, bias } => {
                input.check(isa, GATES, dims.hidden, input.depth())?;
                let rows = [dims.steps, dims.batch, input.depth()];
                check_len("x", x.len(), crate::checked_len("x", &rows)?)?;
                check_len("bias", bias.len(), GATES * dims.hidden)?;
            }
        }
        match &self.cells {
            Cells::Keep { s0, s } => {
                check_len("s0", s0.len(), state)?;
                check_len("s", s.len(), dims.states()?)?;
            }
            Cells::InPlace(s) => check_len("s", s.len(), state)?,
        }
        let input = match &self.gates {
            Gates::Fused { input, .. } => input.depth(),
            _ => 0,
        };
        let expected = forward_scratch_len(dims.batch, dims.hidden, input)?;
        check_room("scratch", self.scratch.len(), expected)?;
        let (s0, s, s_step) = match &mut self.cells {
            Cells::Keep { s0, s } => (s0.as_ptr(), s.as_mut_ptr(), state),
            Cells::InPlace(s) => (s.as_ptr(), s.as_mut_ptr(), 0),
        };
        let (input, stored) = match &mut self.gates {
            Gates::Keep(z) => (Input::Computed(z.as_ptr()), Some(z.as_mut_ptr())),
            Gates::Discard(z) => (Input::Computed(z.as_ptr()), None),
            Gates::Fused { x, input, bias } => {
                (Input::Fused { x: x.as_ptr(), weights: input, bias: bias.as_ptr() }, None)
            }
        };
        let first = Step {
            batch: dims.batch,
            hidden: dims.hidden,
            activations: self.activations,
            recurrent: self.recurrent,
            input,
            stored,
            h_prev: self.h0.as_ptr(),
            h: self.h.as_mut_ptr(),
            s_prev: s0,
            s,
            scratch: self.scratch.as_mut_ptr(),
        };
        let parts = parts(pass.threads(), dims, self.recurrent);
        // SAFETY: all slices were borrowed for this call.
        unsafe { pass.run(isa, &Work { steps: dims.steps, parts, s_step, first }) };
        Ok(())
    }
}

/// A checked pass. Either parts of the batch go through all steps each on its own, or
/// in each step the left operands are packed, in parts, and then the groups of units
/// are swept.
struct Work<'a> {
    steps: usize,
    /// Parts of the batch, or 0.
    parts: usize,
    /// Floats from one step's cell state to the next's.
    s_step: usize,
    first: Step<'a>,
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which nobody else
// has meanwhile: a group's units, a part of the batch, or a part of the scratch.
unsafe impl Sync for Work<'_> {}

impl<'a> Work<'a> {
    /// Step `t`: its rows.
    #[inline(always)]
    fn step(&self, t: usize) -> Step<'a> {
        let first = self.first;
        let state = first.batch * first.hidden;
        let (h, s) = (t * state, t * self.s_step);
        let before = |rows: usize, zeroth: *const f32, kept: *mut f32| match t {
            0 => zeroth,
            _ => kept.cast_const().wrapping_add((t - 1) * rows),
        };
        Step {
            input: match first.input {
                Input::Computed(z) => Input::Computed(z.wrapping_add(t * GATES * state)),
                Input::Fused { x, weights, bias } => {
                    let x = x.wrapping_add(t * first.batch * weights.depth());
                    Input::Fused { x, weights, bias }
                }
            },
            stored: first.stored.map(|gates| gates.wrapping_add(t * GATES * state)),
            h_prev: before(state, first.h_prev, first.h),
            h: first.h.wrapping_add(h),
            s_prev: before(self.s_step, first.s_prev, first.s),
            s: first.s.wrapping_add(s),
            ..first
        }
    }
}

impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        if self.parts > 0 { self.steps.min(1) } else { 2 * self.steps }
    }

    fn tasks(&self, phase: usize) -> usize {
        match (self.parts, phase % 2) {
            (0, 0) => left::batch_parts(self.first.batch),
            (0, _) => self.first.recurrent.groups(),
            (parts, _) => parts,
        }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 4 == 3
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, phase: usize, task: usize) {
        // SAFETY: `Forward::run` has checked every slice against the dimensions, and
        // each t is a step.
        unsafe {
            if self.parts == 0 {
                let step = self.step(phase / 2);
                match phase % 2 {
                    0 => step.pack(s, task),
                    _ => step.sweep(s, task, self.backwards(phase)),
                }
                return;
            }
            let (row, rows) = tile::cut(self.first.batch, self.parts, task);
            for t in 0..self.steps {
                let step = self.step(t).rows(row, rows);
                for part in 0..left::batch_parts(rows) {
                    step.pack(s, part);
                }
                let groups = step.recurrent.groups();
                for group in 0..groups {
                    let backwards = t % 2 == 1;
                    let group = if backwards { groups - 1 - group } else { group };
                    step.sweep(s, group, backwards);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Input<'a> {
    Computed(*const f32),
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
struct Step<'a> {
    batch: usize,
    hidden: usize,
    activations: Activations,
    recurrent: &'a PackedMatrix,
    input: Input<'a>,
    stored: Option<*mut f32>,
    h_prev: *const f32,
    h: *mut f32,
    s_prev: *const f32,
    s: *mut f32,
    /// Room for the rows of `h_prev` and `x`.
    scratch: *mut f32,
}

impl<'a> Step<'a> {
    /// Some of its rows.
    #[inline(always)]
    fn rows(self, row: usize, rows: usize) -> Step<'a> {
        let (gates, state) = (row * GATES * self.hidden, row * self.hidden);
        let (input, depth) = match self.input {
            Input::Computed(z) => (Input::Computed(z.wrapping_add(gates)), 0),
            Input::Fused { x, weights, bias } => {
                let x = x.wrapping_add(row * weights.depth());
                (Input::Fused { x, weights, bias }, weights.depth())
            }
        };
        let scratch = left::len(row, self.hidden) + left::len(row, depth);
        Step {
            batch: rows,
            input,
            stored: self.stored.map(|stored| stored.wrapping_add(gates)),
            h_prev: self.h_prev.wrapping_add(state),
            h: self.h.wrapping_add(state),
            s_prev: self.s_prev.wrapping_add(state),
            s: self.s.wrapping_add(state),
            scratch: self.scratch.wrapping_add(scratch),
            ..self
        }
    }

    /// Packs a part of the left operands.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, s: S, part: usize) {
        s.call(Pack { step: self, part });
    }

    /// The gates and states of one group of units.
    ///
    /// # Safety
    /// As [`pack`](Self::pack), which has been done; the group is one of the weights'.
    #[inline(always)]
    unsafe fn sweep<S: Simd>(&self, s: S, group: usize, backwards: bool) {
        if self.batch > 1 {
            s.call(Sweep { step: self, group, backwards });
            return;
        }
        let after = after(group, self.recurrent.groups(), backwards);
        // A group has the gates of one vector of units or of two.
        if self.hidden - group * (GROUP / GATES * S::LANES) > S::LANES {
            s.call(Row::<GROUP> { step: self, group, after });
        } else {
            s.call(Row::<GATES> { step: self, group, after });
        }
    }
}

/// [`Step::pack`].
struct Pack<'a> {
    step: &'a Step<'a>,
    part: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, part } = self;
        let (batch, hidden) = (step.batch, step.hidden);
        // SAFETY: the caller's of `Step::pack`: `scratch` has room for the rows of h
        // and of x.
        unsafe {
            left::pack_batch(s, step.h_prev, batch, hidden, step.scratch, part);
            if let Input::Fused { x, weights, .. } = step.input {
                let to = step.scratch.add(left::len(batch, hidden));
                left::pack_batch(s, x, batch, weights.depth(), to, part);
            }
        }
    }
}

/// [`Step::sweep`] of one row: its sums stay in the registers until its units are done.
struct Row<'a, const V: usize> {
    step: &'a Step<'a>,
    group: usize,
    after: usize,
}

impl<const V: usize> Kernel for Row<'_, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, after } = self;
        let hidden = step.hidden;
        let first = group * (GROUP / GATES * S::LANES);
        // Whatever V is, a loop over two vectors of units is one that the compiler
        // may leave rolled; the sums must be indexed by constants.
        let (second, place) = (first + S::LANES, (group, after));
        let lanes = [S::LANES.min(hidden - first), S::LANES.min(hidden.saturating_sub(second))];
        let start = match step.input {
            Input::Computed(z) => z,
            Input::Fused { bias, .. } => bias,
        };
        let mut z = [[s.zero(); V]; 1];
        // SAFETY: the caller's of `Step::sweep`; a row lies as it would be packed.
        unsafe {
            for v in 0..V {
                let at = start.add(v % GATES * hidden + first + v / GATES * S::LANES);
                z[0][v] = load_lanes(s, at, lanes[v / GATES]);
            }
            if let Input::Fused { x, weights, .. } = step.input {
                weights.multiply_row(s, x, place, &mut z);
            }
            step.recurrent.multiply_row(s, step.h_prev, place, &mut z);
            cell(s, step, 0, first, lanes[0], [z[0][0], z[0][1], z[0][2], z[0][3]]);
            if V > GATES {
                let z = [z[0][V - 4], z[0][V - 3], z[0][V - 2], z[0][V - 1]];
                cell(s, step, 0, second, lanes[1], z);
            }
        }
    }
}

/// [`Step::sweep`] of several rows.
struct Sweep<'a> {
    step: &'a Step<'a>,
    group: usize,
    backwards: bool,
}

impl Kernel for Sweep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, backwards } = self;
        let hidden = step.hidden;
        let mut z = scratch::For::<S>::new();
        let packed = step.scratch.cast_const();
        let (h_prev, x) = (packed, packed.wrapping_add(left::len(step.batch, hidden)));
        let place = (group, after(group, step.recurrent.groups(), backwards));
        let columns = step.recurrent.columns(group, S::LANES).swept(backwards);
        for (row, rows) in row_blocks(step.batch) {
            // SAFETY: the caller's of `Step::sweep`: the rows lie in the batch, so in every
            // operand; the group is one of both matrices.
            unsafe {
                let (start, stride) = match step.input {
                    Input::Computed(z) => (z.add(row * GATES * hidden), GATES * hidden),
                    Input::Fused { bias, .. } => (bias, 0),
                };
                let to = z.grid();
                let from = Some(columns.grid(start.cast_mut(), stride));
                let mut sums = Sums { from, to, lanes: columns.lanes, whole: columns.whole };
                let units = |start: *const f32| {
                    columns.fetch(start.wrapping_add(row * hidden), hidden, GATES, When::After)
                };
                // What is kept goes to memory that no step has touched before.
                let fetches = [
                    columns.fetch(start, stride, 1, When::Start),
                    units(step.s_prev),
                    units(step.s),
                    units(step.h),
                ];
                let fetches = &fetches[..if step.stored.is_some() { 4 } else { 2 }];
                let state = (h_prev.add(left::len(row, hidden)), step.recurrent);
                let inputs = match step.input {
                    Input::Computed(_) => [None, Some(state)],
                    Input::Fused { weights, .. } => {
                        [Some((x.add(left::len(row, weights.depth())), weights)), Some(state)]
                    }
                };
                for (a, weights) in inputs.into_iter().flatten() {
                    sum(s, rows, a, weights, place, sums, fetches);
                    sums = sums.resumed();
                }
                for vec in (0..columns.vecs).step_by(GATES) {
                    let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                    for r in 0..rows {
                        let z = [
                            z.get(r, vec),
                            z.get(r, vec + 1),
                            z.get(r, vec + 2),
                            z.get(r, vec + 3),
                        ];
                        cell(s, step, row + r, unit, lanes, z);
                    }
                }
            }
        }
    }
}

/// Finishes a vector of units of a row from the gates' four sums.
///
/// # Safety
/// The row and its `lanes` units from `unit` lie in the operands of `step`.
#[inline(always)]
unsafe fn cell<S: Simd>(
    s: S,
    step: &Step<'_>,
    row: usize,
    unit: usize,
    lanes: usize,
    z: [S::V; GATES],
) {
    let act = step.activations;
    let at = row * step.hidden + unit;
    // SAFETY: the caller's.
    unsafe {
        let i = act.gate(s, z[0]);
        let f = act.gate(s, z[1]);
        let g = act.candidate(s, z[2]);
        let o = act.gate(s, z[3]);
        let s_prev = load_lanes(s, step.s_prev.add(at), lanes);
        let state = s.mul_add(f, s_prev, s.mul(i, g));
        let h = s.mul(o, act.cell(s, state));
        store_lanes(s, step.s.add(at), state, lanes);
        store_lanes(s, step.h.add(at), h, lanes);
        if let Some(gates) = step.stored {
            let gates = gates.add(row * GATES * step.hidden + unit);
            store_lanes(s, gates, i, lanes);
            store_lanes(s, gates.add(step.hidden), f, lanes);
            store_lanes(s, gates.add(2 * step.hidden), g, lanes);
            store_lanes(s, gates.add(3 * step.hidden), o, lanes);
        }
    }
}
