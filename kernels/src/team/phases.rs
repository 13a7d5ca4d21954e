//! What a team's threads work on.

use crate::simd::Simd;

/// A computation in phases, which follow one another; the tasks of one phase are
/// independent.
pub(crate) trait Phases: Sync {
    fn phases(&self) -> usize;
    fn tasks(&self, phase: usize) -> usize;

    /// Whether each thread takes its tasks from the last to the first: what the phase
    /// before left in the cache is wanted first then.
    fn backwards(&self, _phase: usize) -> bool {
        false
    }

    /// Does a task, as thread `thread` of the team.
    ///
    /// # Safety
    /// Each task is done once, after those of all phases before, and no two threads
    /// have the same number.
    unsafe fn run<S: Simd>(&self, s: S, thread: usize, phase: usize, task: usize);
}
