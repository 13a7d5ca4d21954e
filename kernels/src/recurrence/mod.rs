//! Passes over time: in each step products with packed weights, whose sums a cell turns
//! into states while they are at hand. Knows steps, rows, groups of units and threads;
//! must not know a cell's equations, which are those of [`cells`](crate::cells).

mod backward;
mod clocked;
mod forward;
mod norm;
mod regularise;
mod row;
mod single;
mod sweep;

pub use backward::{Backward, Kept, backward_scratch_len};
pub use clocked::{Clock, ClockedBackward, ClockedForward, Group, clocked_scratch_len};
pub use forward::{CellStates, Forward, Gates, forward_scratch_len};
pub use norm::{Norm, NormBack};
pub use regularise::{Dropout, Zoneout};
pub use single::{Single, single_room};

use crate::cells::MOST_SUMS;
use crate::error::check_len;
use crate::fetch::Fetches;
use crate::left;
use crate::pack::{Columns, PackedMatrix};
use crate::simd::{Kernel, Simd};
use crate::team::Phases;
use crate::tile;
use crate::{Isa, KernelError, checked_len};
use regularise::Block;
use row::Row;
use sweep::{Pack, Sweep};
use tile::Grid;

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Time steps, τ.
    pub steps: usize,
    /// Sequences side by side, B.
    pub batch: usize,
    /// Units, H.
    pub hidden: usize,
    /// Floats of a hidden state, R: H where it is not projected.
    pub outputs: usize,
}

impl Dims {
    /// Floats of `width` for each sequence.
    #[inline]
    fn rows(self, what: &'static str, width: usize) -> Result<usize, KernelError> {
        checked_len(what, &[self.batch, width])
    }

    /// Floats of so many blocks of `width` for each step and sequence.
    #[inline]
    fn all(self, what: &'static str, blocks: usize, width: usize) -> Result<usize, KernelError> {
        checked_len(what, &[self.steps, self.batch, blocks, width])
    }
}

/// The recurrent weights of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Recurrent<'a> {
    /// The weights of each product: forward one for each delay, backward as many for each
    /// as [`Geometry::back`](crate::cells::Geometry) says.
    pub weights: &'a [PackedMatrix],
    /// For each product how many steps lie between the states that it connects, the
    /// longest delay first, which is also how many states a pass begins from, D.
    pub delays: &'a [usize],
    /// The weights of a second product in a step.
    pub second: Option<&'a PackedMatrix>,
}

impl<'a> Recurrent<'a> {
    /// One product with the state of the step before.
    pub fn of(weights: &'a PackedMatrix) -> Self {
        Self { weights: std::slice::from_ref(weights), delays: &[1], second: None }
    }

    /// D.
    fn history(&self) -> usize {
        self.delays[0]
    }

    /// `Ok` where there are products, with a delay each, in their order.
    fn check(&self) -> Result<(), KernelError> {
        check_len("delays", self.delays.len(), self.weights.len())?;
        let sorted = self.delays.is_sorted_by(|a, b| a >= b);
        match self.delays.last() {
            Some(1..) if sorted => Ok(()),
            _ => Err(KernelError::Dimension {
                what: "delays",
                given: self.delays.last().copied().unwrap_or(0),
                expected: "1 or more, the longest first".into(),
            }),
        }
    }

    /// `Ok` where the second product's weights are there if there is one, and fit.
    #[inline]
    fn check_second(&self, isa: Isa, sizes: Option<(usize, usize)>) -> Result<(), KernelError> {
        match (self.second, sizes) {
            (Some(second), Some((units, depth))) => second.check(isa, 1, units, depth),
            (None, None) => Ok(()),
            (given, _) => Err(KernelError::Packing {
                given: format!("{} second products", usize::from(given.is_some())),
                expected: format!("{} of them", usize::from(sizes.is_some())),
            }),
        }
    }
}

/// A product of a step.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// The left operand: for each row of the batch one of the weights' depth.
    pub rows: *const f32,
    /// Floats from one row to the next.
    pub stride: usize,
    pub weights: &'a PackedMatrix,
}

/// Where a step's sums start: for each row of the batch one laid out as the weights'
/// outputs.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub start: *const f32,
    /// Floats from one row to the next; 0 where all start from the same.
    pub stride: usize,
}

/// Some units of a row, a vector of them or less.
#[derive(Clone, Copy)]
pub(crate) struct Units {
    pub row: usize,
    pub first: usize,
    /// How many lanes are units.
    pub lanes: usize,
}

/// One step over some rows, as pointers that have been checked.
pub(crate) trait Step: Copy {
    /// Sums of a unit; a group has whole units.
    const SUMS: usize;
    /// Whether a batch of one with few units has a kernel of its own, where the sums stay in
    /// registers: that is code for each cell.
    const SHORT: bool = false;

    fn batch(&self) -> usize;
    /// The weights whose outputs are swept; they are [`SUMS`](Self::SUMS) for each unit.
    fn weights(&self) -> &PackedMatrix;
    /// The most products of a step.
    fn terms(&self) -> usize;
    /// The products, with weights of the same outputs, in the order in which they are
    /// summed; without one the sums are what they start from.
    fn term(&self, index: usize) -> Option<Term<'_>>;
    /// Where the sums start, or zero.
    fn origin(&self) -> Option<Origin>;
    /// Room for the left operands, packed: one after the other, each [`left::len`] long.
    fn scratch(&self) -> *mut f32;
    /// What to fetch of the rows from `row` in these columns.
    fn fetches(&self, columns: &Columns, row: usize) -> Fetches;
    /// The step of some of the rows, with room that no others use.
    fn rows(self, row: usize, rows: usize) -> Self;

    /// Makes of the sums of some units what the cell makes of them.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind, of which the units are some.
    unsafe fn finish<S: Simd>(&self, s: S, at: Units, sums: [S::V; MOST_SUMS]);

    /// Whether there is something to be seen to before the cell and after it.
    #[inline(always)]
    fn is_noisy(&self) -> bool {
        false
    }

    /// Sees to the sums of a block of units, a vector each, before the cell has them.
    #[inline(always)]
    fn prepare<S: Simd>(&self, _s: S, _at: Block, _sums: Grid) {}

    /// Sees to what the cell has made.
    #[inline(always)]
    fn complete<S: Simd>(&self, _s: S, _at: Block) {}

    /// Whether a stage ends with a kernel for each row, which needs all of its units.
    #[inline(always)]
    fn ends_with_rows(&self) -> bool {
        false
    }

    /// That kernel.
    ///
    /// # Safety
    /// As [`finish`](Self::finish), of all units of a row.
    #[inline(always)]
    unsafe fn end_row<S: Simd>(&self, _s: S, _row: usize) {}
}

/// The steps of a pass, in the order in which they are taken. A step has one stage or
/// two: sweeps of their own, of which the second needs all units of the first.
pub(crate) trait Steps: Sync {
    type First: Step;
    type Second: Step;
    /// Whether there are second stages.
    const TWO: bool;

    fn count(&self) -> usize;
    fn first(&self, index: usize) -> Self::First;
    fn second(&self, index: usize) -> Option<Self::Second>;
}

/// A checked pass. Either parts of the batch go through all steps each on its own, or in
/// each stage the left operands are packed, in parts, and then the groups of units are
/// swept.
pub(crate) struct Passage<T> {
    pub steps: T,
    /// Parts of the batch, or 0: see [`parts`].
    pub parts: usize,
}

impl<T: Steps> Passage<T> {
    /// Of each stage one packs, one sweeps, and one, if there is something for it, goes over
    /// rows.
    const PHASES: usize = if T::TWO { 6 } else { 3 };
}

impl<T: Steps> Phases for Passage<T> {
    fn phases(&self) -> usize {
        let steps = self.steps.count();
        if self.parts > 0 { steps.min(1) } else { Self::PHASES * steps }
    }

    #[inline(always)]
    fn tasks(&self, phase: usize) -> usize {
        if self.parts > 0 {
            return self.parts;
        }
        let index = phase / Self::PHASES;
        match phase % Self::PHASES {
            part @ 0..3 => tasks(&self.steps.first(index), part),
            part => self.steps.second(index).map_or(0, |step| tasks(&step, part - 3)),
        }
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 3 == 1 && phase / Self::PHASES % 2 == 1
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, s: S, _thread: usize, phase: usize, task: usize) {
        if self.parts == 0 {
            let index = phase / Self::PHASES;
            let at = (phase % 3, task, self.backwards(phase));
            if phase % Self::PHASES < 3 {
                part(s, &self.steps.first(index), at);
            } else if const { T::TWO }
                && let Some(step) = self.steps.second(index)
            {
                part(s, &step, at);
            }
            return;
        }
        for index in 0..self.steps.count() {
            let step = self.steps.first(index);
            let (row, rows) = tile::cut(step.batch(), self.parts, task);
            whole(s, &step.rows(row, rows), index % 2 == 1);
            if const { T::TWO }
                && let Some(step) = self.steps.second(index)
            {
                whole(s, &step.rows(row, rows), index % 2 == 1);
            }
        }
    }
}

/// The tasks of a part of a stage.
#[inline(always)]
fn tasks(step: &impl Step, part: usize) -> usize {
    match part {
        0 => packing(step),
        1 => step.weights().groups(),
        _ if step.ends_with_rows() => step.batch(),
        _ => 0,
    }
}

/// A task of a stage: a part of packing it, a group, or a row.
#[inline(always)]
fn part<S: Simd>(s: S, step: &impl Step, (part, task, backwards): (usize, usize, bool)) {
    match part {
        0 => s.call(Pack { step, part: task }),
        1 => sweep(s, step, task, backwards),
        _ => s.call(End { step, row: task }),
    }
}

/// All of a stage.
#[inline(always)]
fn whole<S: Simd>(s: S, step: &impl Step, backwards: bool) {
    for part in 0..packing(step) {
        s.call(Pack { step, part });
    }
    let groups = step.weights().groups();
    for group in 0..groups {
        let group = if backwards { groups - 1 - group } else { group };
        sweep(s, step, group, backwards);
    }
    if step.ends_with_rows() {
        for row in 0..step.batch() {
            s.call(End { step, row });
        }
    }
}

/// The end of a stage for a row.
struct End<'a, T> {
    step: &'a T,
    row: usize,
}

impl<T: Step> Kernel for End<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: whoever makes a step vouches for its operands; the row is of the batch.
        unsafe { self.step.end_row(s, self.row) };
    }
}

/// Tasks of packing a step's left operands. A single row lies as it would be packed.
#[inline(always)]
fn packing(step: &impl Step) -> usize {
    let any = (0..step.terms()).any(|index| step.term(index).is_some());
    if any { left::batch_parts(step.batch()) } else { 0 }
}

/// The sums of one group of units, and what becomes of them.
#[inline(always)]
fn sweep<S: Simd, T: Step>(s: S, step: &T, group: usize, backwards: bool) {
    if step.batch() == 1 {
        s.call(Row { step, group, backwards });
    } else {
        s.call(Sweep { step, group, backwards });
    }
}

/// Bytes of weights up to which a core keeps them in its own cache over the steps.
const OWN_CACHE: usize = 1 << 20;
/// Rows below which a thread's tiles are too flat to be fast.
const OWN_ROWS: usize = 6;
/// Multiply-adds that take about as long as threads take to meet.
const WORTH_MEETING: usize = 1 << 17;

/// In how many parts the batch goes through all steps, each part on its own: rows do not
/// know of each other, so threads that split them meet once, not in every step. 0 where
/// the units of each step are split instead: all threads then read a part of the weights
/// each, where splitting rows has each read them all.
#[inline]
fn parts(threads: usize, dims: Dims, recurrent: &Recurrent<'_>) -> usize {
    if threads == 1 {
        return 1;
    }
    let all = || recurrent.weights.iter().chain(recurrent.second);
    // Other sizes than those of slices, which may be larger than a word of 32 bits.
    let sum = |sum: usize, part| sum.saturating_add(part);
    let step = dims.batch.saturating_mul(all().map(PackedMatrix::row_terms).fold(0, sum));
    let bytes = all().map(PackedMatrix::bytes).fold(0, sum);
    let rows_alone = dims.batch >= threads * OWN_ROWS && bytes <= OWN_CACHE;
    match rows_alone {
        true if step.saturating_mul(dims.steps) >= WORTH_MEETING => threads,
        false if step >= WORTH_MEETING => 0,
        _ => 1,
    }
}
