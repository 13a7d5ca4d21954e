//! Two pieces of work at the same time, each on one thread. Must not know what they compute.

use super::{Pass, Phases};
use crate::Isa;
use crate::simd::Simd;
use std::sync::{Mutex, PoisonError};

/// Work that runs once, with the threads that it may use.
type Work<'a> = dyn FnMut(&mut Pass<'_>) + Send + 'a;

/// Two pieces of work, each of which is one task.
struct Both<'a> {
    work: [Mutex<&'a mut Work<'a>>; 2],
}

// SAFETY: 1. The numbers are constants. 2. A task only uses the work of its number, behind a lock; the
// two pieces borrow nothing mutably that the other borrows, since both borrows live side by side.
unsafe impl Phases for Both<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        2
    }

    unsafe fn run<S: Simd>(&self, _simd: S, _thread: usize, _phase: usize, task: usize) {
        // A piece of work that panicked is not run again, so nobody sees what it left.
        let mut work = self.work[task].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut Pass::serial());
    }
}

impl Pass<'_> {
    /// Runs `first` and `second`, at the same time if another thread is there, and returns what both
    /// return. Each has one thread, so that neither waits for others from step to step.
    pub fn join<A: Send, B: Send>(
        &mut self,
        first: impl FnOnce(&mut Pass<'_>) -> A + Send,
        second: impl FnOnce(&mut Pass<'_>) -> B + Send,
    ) -> (A, B) {
        let (mut first, mut second) = (Some(first), Some(second));
        let (mut of_first, mut of_second) = (None, None);
        let mut run_first = |pass: &mut Pass<'_>| of_first = first.take().map(|work| work(pass));
        let mut run_second = |pass: &mut Pass<'_>| of_second = second.take().map(|work| work(pass));
        let both = Both { work: [Mutex::new(&mut run_first), Mutex::new(&mut run_second)] };
        // SAFETY: the tasks use only what their closures have borrowed, and the borrows last as long
        // as this call.
        unsafe { self.run(Isa::portable(), &both) };
        (of_first.expect("each task runs once"), of_second.expect("each task runs once"))
    }
}
