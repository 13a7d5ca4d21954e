//! The steps of a forward pass that has been checked, as pointers.

use crate::cells::{Epilogue, Forth, Geometry, MOST_SUMS};
use crate::fetch::{Fetches, When};
use crate::pack::{Columns, PackedMatrix};
use crate::recurrence::norm::Normalise;
use crate::recurrence::regularise::{After, Block, Zone};
use crate::recurrence::{self, Origin, Recurrent, Steps, Term, Units};
use crate::simd::Simd;
use crate::tile::{load_lanes, store_lanes};
use std::ptr::{null, null_mut};

/// Where the cell states of the steps after the first are.
#[derive(Clone, Copy)]
pub(super) enum SStep {
    /// So many floats further each.
    Along(usize),
    /// Here, and where the first step's is, in turns.
    Turns(*mut f32),
}

/// The steps of a checked pass.
pub(super) struct Pointers<'a, C> {
    pub steps: usize,
    pub s_step: SStep,
    pub first: Step<'a, C>,
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
        let (s_prev, s) = match self.s_step {
            SStep::Along(state) => match t {
                0 => (first.s_prev, first.s),
                _ => (
                    first.s.cast_const().wrapping_add((t - 1) * state),
                    first.s.wrapping_add(t * state),
                ),
            },
            SStep::Turns(_) if t.is_multiple_of(2) => (first.s_prev, first.s),
            SStep::Turns(other) => (first.s.cast_const(), other),
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
            s,
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
pub(in crate::recurrence) enum Input<'a> {
    Computed { z: *const f32, stride: usize },
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// The hidden states over time.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct History {
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

    /// The same for later rows, which begin so many floats further.
    #[inline(always)]
    fn from(self, floats: usize) -> Self {
        let (before, h) = (self.before.wrapping_add(floats), self.h.wrapping_add(floats));
        Self { before, h, ..self }
    }

    /// The present one.
    #[inline(always)]
    fn now(&self) -> *mut f32 {
        self.h.wrapping_add(self.t * self.state)
    }
}

/// Noise in a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct Noise {
    pub zone: Zone,
    /// The share that products see of the hidden states, null where that is all, and what
    /// that leaves.
    pub mask: *const f32,
    pub seen: History,
}

/// Normalisation in a pass: pointers to the first row of the first step.
pub(in crate::recurrence) struct NormAt {
    pub epsilon: f32,
    pub gain: *const f32,
    pub bias: *const f32,
    pub normal: *mut f32,
    pub normal_extra: *mut f32,
    pub inverse: *mut f32,
}

impl NormAt {
    /// b + γ ⊙ x̂ of some units, where x̂ is `normal` and the others begin.
    ///
    /// # Safety
    /// All are readable for them.
    #[inline(always)]
    unsafe fn scaled<S: Simd>(&self, s: S, normal: *const f32, at: usize, lanes: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let gain = load_lanes(s, self.gain.add(at), lanes);
            let bias = load_lanes(s, self.bias.add(at), lanes);
            s.mul_add(gain, load_lanes(s, normal, lanes), bias)
        }
    }
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Step<'a, C> {
    pub batch: usize,
    pub all: usize,
    pub hidden: usize,
    pub outputs: usize,
    pub cell: C,
    pub recurrent: Recurrent<'a>,
    pub input: Input<'a>,
    /// Where gates are kept; null where they are not.
    pub gates: *mut f32,
    pub extra: *mut f32,
    pub history: History,
    /// References, since a step is copied for each.
    pub noise: Option<&'a Noise>,
    pub norm: Option<&'a NormAt>,
    /// The place of the first row in the whole batch, of which there are `all`.
    pub first_row: usize,
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
            h_seen: self.seen().ago(1).wrapping_add(outputs),
            h: self.history.now().wrapping_add(outputs),
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
        }
    }

    /// The hidden states as the products see them.
    #[inline(always)]
    fn seen(&self) -> History {
        match self.noise {
            Some(noise) if !noise.mask.is_null() => {
                let seen = noise.seen.from(self.first_row * self.outputs);
                History { t: self.history.t, ..seen }
            }
            _ => self.history,
        }
    }

    /// The place of a row in what is kept of all steps, or of one.
    #[inline(always)]
    fn kept_row(&self, row: usize) -> usize {
        let step = if self.gates.is_null() { 0 } else { self.history.t * self.all };
        step + self.first_row + row
    }

    /// A gate's sums of a row, to be normalised.
    #[inline(always)]
    fn normal(&self, norm: &NormAt, row: usize, gate: usize) -> *mut f32 {
        norm.normal.wrapping_add((self.kept_row(row) * C::GATES + gate) * self.hidden)
    }

    /// Those of the last gate that are apart.
    #[inline(always)]
    fn normal_extra(&self, norm: &NormAt, row: usize) -> *mut f32 {
        norm.normal_extra.wrapping_add(self.kept_row(row) * self.hidden)
    }

    /// Leaves some units' sums to be normalised.
    ///
    /// # Safety
    /// As [`recurrence::Step::finish`].
    #[inline(always)]
    unsafe fn leave<S: Simd>(&self, s: S, norm: &NormAt, at: Units, z: [S::V; MOST_SUMS]) {
        let place = self.place(at);
        // SAFETY: the caller's; there is a block for each gate.
        unsafe {
            for gate in 0..MOST_SUMS {
                if gate >= C::SUMS {
                    continue;
                }
                let mut sum = z[gate];
                if const { C::APART } {
                    if gate == C::SUMS - 1 {
                        let extra = self.normal_extra(norm, at.row).add(at.first);
                        store_lanes(s, extra, sum, at.lanes);
                        sum = place.input(s, gate);
                    } else {
                        sum = s.add(place.input(s, gate), sum);
                    }
                }
                store_lanes(s, self.normal(norm, at.row, gate).add(at.first), sum, at.lanes);
            }
        }
    }

    /// Normalises the sums of a gate, or of the one that is apart.
    ///
    /// # Safety
    /// As [`recurrence::Step::end_row`].
    #[inline(always)]
    unsafe fn normalise<S: Simd>(&self, s: S, norm: &NormAt, row: usize, block: usize) {
        let norms = const { Geometry::new::<C>().norms };
        let apart = const { C::APART } && block == C::GATES;
        s.call(Normalise {
            row: if apart { self.normal_extra(norm, row) } else { self.normal(norm, row, block) },
            hidden: self.hidden,
            epsilon: norm.epsilon,
            inverse: norm.inverse.wrapping_add(self.kept_row(row) * norms + block),
        });
    }

    /// What noise makes of some units' states, of which h is complete or s.
    #[inline(always)]
    fn perturb<S: Simd>(&self, s: S, at: Block, has_h: bool, has_s: bool) {
        let Some(noise) = self.noise else { return };
        let masks = has_h && !noise.mask.is_null();
        let mask = noise.mask.wrapping_add(self.first_row * self.outputs);
        s.call(After {
            at,
            zone: noise.zone.from(self.history.t * self.all + self.first_row),
            h: if has_h { self.history.now() } else { null_mut() },
            h_prev: self.history.ago(1),
            outputs: self.outputs,
            s: if has_s { self.s } else { null_mut() },
            s_prev: self.s_prev,
            hidden: self.hidden,
            mask: if masks { mask } else { null() },
            seen: self.seen().now(),
        });
    }
}

impl<C: Epilogue> recurrence::Step for Step<'_, C> {
    const SUMS: usize = C::SUMS;
    const SHORT: bool = true;

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
        let rows = self.seen().ago(self.recurrent.delays[index]);
        Some(Term { rows, stride: self.outputs, weights: &self.recurrent.weights[index] })
    }

    #[inline(always)]
    fn origin(&self) -> Option<Origin> {
        match self.input {
            _ if const { C::APART } => None,
            // What is normalised has no bias.
            Input::Fused { .. } if self.norm.is_some() => None,
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
            history: self.history.from(outputs),
            first_row: self.first_row + row,
            s_prev: self.s_prev.wrapping_add(units),
            s: self.s.wrapping_add(units),
            scratch: self.scratch.wrapping_add(row * self.room),
            ..self
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, z: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            match self.norm {
                None => self.cell.forward(s, &self.place(at), z),
                Some(norm) => self.leave(s, norm, at, z),
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        self.noise.is_some()
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        let two = const { Geometry::new::<C>().is_double() };
        if (!two || C::CELLS) && self.norm.is_none() {
            self.perturb(s, at, !two, C::CELLS);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        self.norm.is_some()
    }

    /// Normalises the sums of the first product, and makes states of them.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        let Some(norm) = self.norm else { return };
        let (two, hidden) = (const { Geometry::new::<C>().is_double() }, self.hidden);
        let normal = self.normal(norm, row, 0);
        let extra = self.normal_extra(norm, row);
        // SAFETY: the caller's; there are blocks for each gate.
        unsafe {
            for gate in 0..C::GATES {
                if const { C::SECOND.is_none() } || C::SECOND != Some(gate) {
                    self.normalise(s, norm, row, gate);
                }
            }
            if const { C::APART } {
                self.normalise(s, norm, row, C::GATES);
            }
            for first in (0..hidden).step_by(S::LANES) {
                let lanes = S::LANES.min(hidden - first);
                let mut z = [s.zero(); MOST_SUMS];
                for gate in 0..MOST_SUMS {
                    if gate < C::GATES {
                        let at = gate * hidden + first;
                        z[gate] = norm.scaled(s, normal.add(at), at, lanes);
                    }
                }
                let mut apart = s.zero();
                if const { C::APART } {
                    let gain = norm.gain.add(C::GATES * hidden + first);
                    let gain = load_lanes(s, gain, lanes);
                    apart = s.mul(gain, load_lanes(s, extra.add(first), lanes));
                }
                let place = self.place(Units { row, first, lanes });
                self.cell.forward_normed(s, &place, z, apart);
            }
        }
        if self.noise.is_some() && (!two || C::CELLS) {
            self.perturb(s, Block { row, rows: 1, first: 0, end: hidden }, !two, C::CELLS);
        }
    }
}

/// The second stage of a step: a product of the extra block.
#[derive(Clone, Copy)]
pub(in crate::recurrence) struct Second<'a, C> {
    pub step: Step<'a, C>,
    pub weights: &'a PackedMatrix,
}

impl<C: Epilogue> recurrence::Step for Second<'_, C> {
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
        Self { step: recurrence::Step::rows(self.step, row, rows), ..self }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, [sum, ..]: [S::V; MOST_SUMS]) {
        // SAFETY: the caller's.
        unsafe {
            let place = self.step.place(at);
            if const { C::PROJECTS } {
                store_lanes(s, place.h, sum, at.lanes);
            } else if let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) {
                let normal = self.step.normal(norm, at.row, gate);
                store_lanes(s, normal.add(at.first), sum, at.lanes);
            } else {
                self.step.cell.second(s, &place, sum);
            }
        }
    }

    #[inline(always)]
    fn is_noisy(&self) -> bool {
        recurrence::Step::is_noisy(&self.step)
    }

    #[inline(always)]
    fn complete<S: Simd>(&self, s: S, at: Block) {
        if !recurrence::Step::ends_with_rows(self) {
            self.step.perturb(s, at, true, false);
        }
    }

    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        C::SECOND.is_some() && self.step.norm.is_some()
    }

    /// Normalises the second product's sums, and makes states of them.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, s: S, row: usize) {
        let (Some(norm), Some(gate)) = (self.step.norm, C::SECOND) else { return };
        let hidden = self.step.hidden;
        let normal = self.step.normal(norm, row, gate);
        // SAFETY: the caller's; there is a block for the gate.
        unsafe {
            self.step.normalise(s, norm, row, gate);
            for first in (0..hidden).step_by(S::LANES) {
                let lanes = S::LANES.min(hidden - first);
                let sum = norm.scaled(s, normal.add(first), gate * hidden + first, lanes);
                let place = self.step.place(Units { row, first, lanes });
                self.step.cell.second(s, &place, sum);
            }
        }
        self.step.perturb(s, Block { row, rows: 1, first: 0, end: hidden }, true, false);
    }
}
