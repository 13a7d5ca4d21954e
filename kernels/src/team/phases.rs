//! The trait [`Phases`]: work for a team, cut into phases of tasks. Must not know who runs a task.

use crate::simd::Simd;

/// A computation in phases, one after another; the tasks of one phase are independent.
///
/// # Safety
/// The implementor promises that
///
/// 1. [`phases`](Self::phases) and [`tasks`](Self::tasks) return the same numbers whenever they are
///    called while the work runs, and a phase has fewer than 2³⁶ tasks;
/// 2. tasks of one phase may run at the same time on different threads: no task reads or writes
///    memory that another task of the phase writes.
pub(crate) unsafe trait Phases: Sync {
    fn phases(&self) -> usize;
    fn tasks(&self, phase: usize) -> usize;

    /// Whether each thread takes its tasks from the last to the first. That is faster where this
    /// phase best begins with the data that the phase before used last, which is still in the
    /// cache.
    fn backwards(&self, _phase: usize) -> bool {
        false
    }

    /// Does `task` of `phase`, as thread number `thread` of the pass.
    ///
    /// # Safety
    /// The caller promises that
    ///
    /// 1. the memory that the work points to is valid and nobody else's, for as long as the work
    ///    runs;
    /// 2. each task of each phase is done once, after all tasks of all earlier phases;
    /// 3. `thread` is below [`Pass::threads`](super::Pass::threads), and no two threads have the
    ///    same number.
    unsafe fn run<S: Simd>(&self, simd: S, thread: usize, phase: usize, task: usize);
}
