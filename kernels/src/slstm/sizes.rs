//! The sizes of a step of an sLSTM, how its parts are cut among threads, and the kind of its forget
//! gate. Must not know what a step computes.

use crate::error::check_room;
use crate::simd::Simd;
use crate::team::Phases;
use crate::{KernelError, checked_len};

/// About how many units a task computes: enough for a task to be worth handing out.
const TASK: usize = 1024;

/// What the sum of a forget gate, a, makes of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlstmForget {
    /// f = exp(a).
    Exponential,
    /// f = σ(a).
    Logistic,
}

/// The sizes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlstmSizes {
    /// Sequences, B.
    pub batch: usize,
    /// Rows of the step: it is one of the first so many sequences.
    pub rows: usize,
    /// Heads, K.
    pub heads: usize,
    /// Units in a head, D. There are H = K D units.
    pub units: usize,
}

impl SlstmSizes {
    /// Returns an error unless there are at least as many sequences as rows, and the floats of a step
    /// fit the address space. Returns H.
    pub(super) fn check(&self) -> Result<usize, KernelError> {
        let Self { batch, rows, heads, units } = *self;
        check_room("batch", batch, rows)?;
        checked_len("gates", &[batch, 4, heads, units])?;
        Ok(heads * units)
    }
}

/// A computation on the units of a head in a row.
///
/// # Safety
/// The implementor promises that [`head`](Self::head) writes nothing that it reads or writes for
/// another row or another head.
pub(super) unsafe trait HeadKernel: Sync {
    /// Computes the units of head `head` in row `row`.
    ///
    /// # Safety
    /// The row and the head are below the numbers for which the kernel's memory was checked, and that
    /// memory is valid and nobody else's.
    unsafe fn head<S: Simd>(&self, simd: S, row: usize, head: usize);
}

/// The heads of all rows, in tasks of several.
pub(super) struct Tasks<'a, K> {
    kernel: &'a K,
    sizes: SlstmSizes,
    /// Heads of a task.
    of_task: usize,
}

impl<'a, K: HeadKernel> Tasks<'a, K> {
    pub(super) fn new(kernel: &'a K, sizes: SlstmSizes) -> Self {
        Self { kernel, sizes, of_task: (TASK / sizes.units.max(1)).max(1) }
    }
}

// SAFETY: the number of tasks follows from the sizes; tasks have heads of rows of their own, and the
// kernel promises that these do not touch each other.
unsafe impl<K: HeadKernel> Phases for Tasks<'_, K> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        (self.sizes.rows * self.sizes.heads).div_ceil(self.of_task)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let SlstmSizes { rows, heads, .. } = self.sizes;
        let first = task * self.of_task;
        for at in first..(rows * heads).min(first + self.of_task) {
            // SAFETY: the row and the head are below their numbers; whoever made the tasks lends the
            // memory.
            unsafe { self.kernel.head(simd, at / heads, at % heads) };
        }
    }
}
