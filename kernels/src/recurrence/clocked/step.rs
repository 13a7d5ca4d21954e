//! The steps of a clocked pass, as pointers that have been checked. Each step has an element-wise
//! part for all groups, and then a product for each group that moves. The product is a `Step` as in
//! the other passes, and has one type in both directions, so that it is compiled once.

use super::clock::{Clock, Group};
use super::product::{self, Product};
use super::rows::MoveRows;
use crate::cells::{Activations, Phi};
use crate::each::each;
use crate::gemm::layout::{Span, cut, lhs_len};
use crate::gemm::rhs::PackedMatrix;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::recurrence::pass::{PartTask, packing, part, whole};
use crate::recurrence::step::Step;
use crate::rows::{Rows, RowsMut};
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tuning::EDGE_PARTS;
use std::ops::{Deref, Range};

/// A checked pass. Either each part of the batch goes through all steps on its own, or each step
/// has one phase for its element-wise part and two for each group: one packs the left operand of
/// the group's product, and one sweeps. The phases of a group that does not move are empty.
pub(super) struct Work<'a, F>(Operands<'a, F>);

/// The operands of a pass.
pub(super) struct Operands<'a, F> {
    pub clock: Clock<'a>,
    /// The schedule for which z and the states have rows.
    pub schedule: MoveRows<'a>,
    /// The steps of the schedule that are taken.
    pub stretch: Range<usize>,
    pub hidden: usize,
    pub phi: F,
    pub weights: &'a [PackedMatrix],
    pub z: *mut f32,
    pub ends: Ends,
    pub scratch: *mut f32,
    /// The number of parts of the batch, or 0: see [`parts`](crate::recurrence::pass::parts).
    pub parts: usize,
}

/// A phase of a step that belongs to a group.
#[derive(Clone, Copy, Debug)]
struct GroupPhase {
    /// The index of the group.
    group: usize,
    /// The half of the group's product: 0 packs, 1 sweeps.
    half: usize,
}

/// What only one direction reads and writes.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    Forward { before: Rows, h: RowsMut },
    Backward { h: Rows, dy: Option<Rows>, dh: *mut f32 },
}

impl<'a, F> Deref for Work<'a, F> {
    type Target = Operands<'a, F>;
    #[inline(always)]
    fn deref(&self) -> &Operands<'a, F> {
        &self.0
    }
}

// SAFETY: tasks write disjoint parts of what the pointers point to, which is nobody else's, as
// `new` has been promised: a group's units, a part of the batch, or a part of the scratch.
unsafe impl<F: Sync> Sync for Work<'_, F> {}

impl<'a, F: Phi + From<Activations>> Work<'a, F> {
    /// Makes a pass with these operands.
    ///
    /// # Safety
    /// They are what `ClockedForward::run` and `ClockedBackward::run` require of slices, and for as
    /// long as it is used
    ///
    /// 1. `before` and h backward, `dy` and, forward, z are readable, and nobody writes them;
    /// 2. h forward, `dh`, z backward and the scratch are readable and writable, and nobody else's;
    /// 3. the weights are packed for the instruction set that the pass runs on.
    pub(super) unsafe fn new(operands: Operands<'a, F>) -> Self {
        Self(operands)
    }

    #[inline(always)]
    fn groups(&self) -> &'a [Group] {
        self.clock.groups
    }

    /// Returns the first row of a step among those of all steps.
    #[inline(always)]
    fn start(&self, step: usize) -> usize {
        self.schedule.schedule().start(step)
    }

    /// Returns the number of rows of a step, B where the sequences have the same length.
    #[inline(always)]
    fn count(&self, step: usize) -> usize {
        self.schedule.schedule().count(step)
    }

    /// Returns the `index`th step that is taken.
    #[inline(always)]
    fn step(&self, index: usize) -> usize {
        match self.ends {
            Ends::Forward { .. } => self.stretch.start + index,
            Ends::Backward { .. } => self.stretch.end - 1 - index,
        }
    }

    /// Returns where z of a group begins for a step at which the group moves.
    #[inline(always)]
    fn z_of(&self, group: usize, step: usize) -> *mut f32 {
        let steps = self.schedule.schedule().steps();
        let mut first = self.schedule.floats(&self.clock, group, step);
        for before in 0..group {
            first += self.schedule.floats(&self.clock, before, steps);
        }
        self.z.wrapping_add(first)
    }

    /// Returns the states before a step: `before` for the first step, rows of `h` for the others.
    #[inline(always)]
    fn before(&self, step: usize, before: Rows, h: RowsMut) -> Rows {
        match step {
            0 => before,
            _ => h.from(self.start(step - 1), 0).as_rows(),
        }
    }

    /// Returns the product of a group in the `index`th step, if the group moves there.
    #[inline(always)]
    fn product(&self, index: usize, group: usize) -> Option<Product<'a, F>> {
        let step = self.step(index);
        if !self.clock.moves_at(group, step) {
            return None;
        }
        let Group { units, first, .. } = self.groups()[group];
        let z = self.z_of(group, step);
        let z = Rows::new(z, units);
        let (rows, start, to, phi) = match self.ends {
            Ends::Forward { before, h } => {
                let rows = self.before(step, before, h).from(0, first);
                let to = h.from(self.start(step), first);
                (rows, z, to, self.phi)
            }
            Ends::Backward { dh, .. } => {
                let to = RowsMut::new(dh, self.hidden).from(0, first);
                (z, to.as_rows(), to, Activations::Identity.into())
            }
        };
        let scratch = RowsMut::new(self.scratch, lhs_len(1, self.hidden));
        let (batch, weights) = (self.count(step), &self.weights[group]);
        let operands = product::Operands { batch, weights, rows, start, to, phi, scratch };
        // SAFETY: what `Product::new` requires is promised to `Work::new`.
        // 1. The weights are packed for the instruction set, and `run` has verified that their
        //    depths and outputs are the group's.
        // 2. A state has H units in each row, of which the group reads those from its first on. The
        //    group's z has its units.
        // 3. Only the group itself writes its units.
        // 4. The scratch has room for rows of H.
        Some(unsafe { Product::new(operands) })
    }

    /// Returns the tasks of the element-wise phase of a step: none forward if all groups move.
    #[inline(always)]
    fn edges(&self, index: usize) -> usize {
        let step = self.step(index);
        let all = (0..self.groups().len()).all(|group| self.clock.moves_at(group, step));
        match self.ends {
            Ends::Forward { .. } if all => 0,
            _ => self.count(step).min(EDGE_PARTS),
        }
    }

    /// Whether a group's product sweeps backwards. The direction alternates from move to move, so
    /// that a move first reads what the one before has left in the cache.
    #[inline(always)]
    fn backwards_in(&self, index: usize, group: usize) -> bool {
        !self.clock.moves(group, self.step(index)).is_multiple_of(2)
    }

    /// Returns the number of phases of a step.
    #[inline(always)]
    fn phases_of_step(&self) -> usize {
        1 + 2 * self.groups().len()
    }

    /// Returns the index of the step to which a phase belongs, and its group phase, or `None` for
    /// the element-wise phase.
    #[inline(always)]
    fn place(&self, phase: usize) -> (usize, Option<GroupPhase>) {
        let (index, phase) = (phase / self.phases_of_step(), phase % self.phases_of_step());
        let part = phase.checked_sub(1);
        (index, part.map(|part| GroupPhase { group: part / 2, half: part % 2 }))
    }
}

// SAFETY: the numbers of phases and tasks follow from the clock and the steps, which do not change.
// A task writes its part of the packed operands, its units of its group, or, where the batch is
// split, its own rows.
unsafe impl<F: Phi + From<Activations>> Phases for Work<'_, F> {
    #[inline(always)]
    fn phases(&self) -> usize {
        let steps = self.stretch.len();
        if self.parts > 0 { steps.min(1) } else { self.phases_of_step() * steps }
    }

    #[inline(always)]
    fn tasks(&self, phase: usize) -> usize {
        if self.parts > 0 {
            return self.parts;
        }
        match self.place(phase) {
            (index, None) => self.edges(index),
            (index, Some(GroupPhase { group, half })) => {
                self.product(index, group).map_or(0, |product| match half {
                    0 => packing(&product),
                    _ => self.weights[group].groups(),
                })
            }
        }
    }

    #[inline(always)]
    fn backwards(&self, phase: usize) -> bool {
        if self.parts > 0 {
            return false;
        }
        match self.place(phase) {
            (index, Some(GroupPhase { group, half: 1 })) => self.backwards_in(index, group),
            _ => false,
        }
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, phase: usize, task: usize) {
        if self.parts == 0 {
            match self.place(phase) {
                (index, None) => {
                    let rows = cut(self.count(self.step(index)), self.edges(index), task);
                    // SAFETY: the rows are some of the step, and no other task has them.
                    simd.call(unsafe { Edge::new(self, index, rows) });
                }
                (index, Some(GroupPhase { group, half })) => {
                    if let Some(product) = self.product(index, group) {
                        let backwards = self.backwards_in(index, group);
                        part(simd, &product, PartTask { part: half, task, backwards });
                    }
                }
            }
            return;
        }
        let mine = self.schedule.schedule().part(&self.stretch, self.parts, task);
        for index in 0..self.stretch.len() {
            // Rows of this part that the step has, which may be all, some or none.
            let end = mine.end().min(self.count(self.step(index)));
            if mine.first >= end {
                continue;
            }
            let rows = Span { first: mine.first, len: end - mine.first };
            // SAFETY: the rows are some of the step, and no other task has them.
            simd.call(unsafe { Edge::new(self, index, rows) });
            for group in 0..self.groups().len() {
                if let Some(product) = self.product(index, group) {
                    let product = Step::rows(product, rows.first, rows.len);
                    whole(simd, &product, self.backwards_in(index, group));
                }
            }
        }
    }
}

/// The kernel for the element-wise part of a step, for some rows. Forward it copies the groups that
/// do not move. Backward it computes dz of the groups that moved and sets their ∂L/∂h to zero, and
/// adds dy to ∂L/∂h of the others.
struct Edge<'a, 'b, F> {
    work: &'b Work<'a, F>,
    index: usize,
    rows: Span,
}

impl<'a, 'b, F> Edge<'a, 'b, F> {
    /// # Safety
    /// The step is one of the stretch and has the rows, and nobody else has them.
    #[inline(always)]
    unsafe fn new(work: &'b Work<'a, F>, index: usize, rows: Span) -> Self {
        Self { work, index, rows }
    }
}

impl<F: Phi + From<Activations>> Kernel for Edge<'_, '_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { work, index, rows } = self;
        let step = work.step(index);
        for group in 0..work.groups().len() {
            let Group { units, first, .. } = work.groups()[group];
            let moves = work.clock.moves_at(group, step);
            for row in rows.first..rows.end() {
                let in_schedule = work.start(step) + row;
                // SAFETY: `Work::new` has been promised the states of these rows and units, and z
                // of these rows for each group that moves.
                unsafe {
                    match work.ends {
                        Ends::Forward { before, h } => {
                            if !moves {
                                let before = work.before(step, before, h).at(row, first);
                                copy(simd, before, h.at(in_schedule, first), units);
                            }
                        }
                        Ends::Backward { h, dy, dh } => {
                            let dy = dy.map(|dy| dy.at(in_schedule, first));
                            let dh = RowsMut::new(dh, work.hidden).at(row, first);
                            if moves {
                                let dz = work.z_of(group, step).add(row * units);
                                let h = h.at(in_schedule, first);
                                moved(simd, work.phi, h, dy, Gradients { dh, dz }, units);
                            } else if let Some(dy) = dy {
                                stayed(simd, dy, dh, units);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// `from` is readable and `to` is writable for `units` floats.
#[inline(always)]
unsafe fn copy<S: Simd>(simd: S, from: *const f32, to: *mut f32, units: usize) {
    each!(S, units, |at, lanes| {
        // SAFETY: `each!` gives places of the units.
        unsafe { store_lanes(simd, to.add(at), load_lanes(simd, from.add(at), lanes), lanes) };
    });
}

/// The gradients of a row of a group.
#[derive(Clone, Copy)]
struct Gradients {
    /// ∂L/∂h.
    dh: *mut f32,
    /// ∂L/∂z.
    dz: *mut f32,
}

/// Computes dz from ∂L/∂h, and sets ∂L/∂h to zero. The part from outside, `dy`, is added last, as
/// in every pass.
///
/// # Safety
/// All are readable for `units` floats, and `dh` and `dz` are writable.
#[inline(always)]
unsafe fn moved<S: Simd>(
    simd: S,
    phi: impl Phi,
    h: *const f32,
    dy: Option<*const f32>,
    Gradients { dh, dz }: Gradients,
    units: usize,
) {
    each!(S, units, |at, lanes| {
        // SAFETY: `each!` gives places of the units.
        unsafe {
            let mut gradient = load_lanes(simd, dh.add(at), lanes);
            if let Some(dy) = dy {
                gradient = simd.add(gradient, load_lanes(simd, dy.add(at), lanes));
            }
            let h = load_lanes(simd, h.add(at), lanes);
            let gradient = phi.candidate_gradient(simd, gradient, h);
            store_lanes(simd, dz.add(at), gradient, lanes);
            store_lanes(simd, dh.add(at), simd.zero(), lanes);
        }
    });
}

/// Adds `dy` to ∂L/∂h.
///
/// # Safety
/// Both are readable for `units` floats, and `dh` is writable.
#[inline(always)]
unsafe fn stayed<S: Simd>(simd: S, dy: *const f32, dh: *mut f32, units: usize) {
    each!(S, units, |at, lanes| {
        // SAFETY: `each!` gives places of the units.
        unsafe {
            let (gradient, dy) =
                (load_lanes(simd, dh.add(at), lanes), load_lanes(simd, dy.add(at), lanes));
            store_lanes(simd, dh.add(at), simd.add(gradient, dy), lanes);
        }
    });
}
