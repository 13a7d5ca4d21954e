//! What a team's threads work on.

use crate::simd::Simd;

/// A computation in phases, which follow one another; the tasks of one phase are
/// independent.
///
/// # Safety
/// The implementor promises that
///
/// 1. [`phases`](Self::phases) and [`tasks`](Self::tasks) give the same numbers whenever they
///    are asked while the work runs, and a phase has less than 2³⁶ tasks;
/// 2. tasks of one phase may run at the same time on different threads: what one of them
///    writes no other one reads or writes.
pub(crate) unsafe trait Phases: Sync {
    fn phases(&self) -> usize;
    fn tasks(&self, phase: usize) -> usize;

    /// Whether each thread takes its tasks from the last to the first: what the phase
    /// before left in the cache is wanted first then.
    fn backwards(&self, _phase: usize) -> bool {
        false
    }

    /// Does a task, as thread `thread` of the pass.
    ///
    /// # Safety
    /// The caller promises that
    ///
    /// 1. what the work points to is there and nobody else's, for as long as it runs;
    /// 2. each task of each phase is done once, after those of all phases before;
    /// 3. `thread` is below [`Pass::threads`](super::Pass::threads), and no two threads have the same number.
    unsafe fn run<S: Simd>(&self, simd: S, thread: usize, phase: usize, task: usize);
}
