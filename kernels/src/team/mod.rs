//! Threads for a pass: a caller who can do all of the work alone, and helpers from the rayon pool
//! who take some of its tasks while they are there. Knows phases and tasks; must not know what they
//! compute.
//!
//! A step takes microseconds, so no thread is woken for a single step: helpers come when a
//! [`Team::pass`] begins and stay until it ends (`crew`). The work is cut into phases of
//! independent tasks (`shared`). A thread first takes the tasks of its own share, which is the same
//! in each phase, so that the data they read stays in its cache; then it takes tasks from the
//! shares of others. The thread that finishes the last task of a phase opens the next phase. Nobody
//! waits for a helper who has not come: a pool that is busy, has one thread, or whose thread is the
//! caller makes a pass slower and never stops it. Where helpers do not make passes faster, because
//! others use the cores, the caller works alone (`pays`).
//!
//! Which thread does a task changes no bit: a task computes the same sums in the same order on
//! every thread.

mod crew;
mod join;
mod pays;
mod phases;
mod shared;
mod sync;

use crate::denormals::Flushed;
use crate::simd::{Kernel, Simd};
use crate::tuning::{WORTH_CALLING, WORTH_SHARING};
use crate::{Isa, KernelError};
use crew::{Busy, Crew};
use pays::{Mode, Pays};
use shared::{Job, NO_PHASE, Shared, Waiting};
use std::sync::Arc;
use std::time::Instant;
use sync::Ordering;

pub use crew::set_cores;
pub(crate) use phases::Phases;

/// The most threads that a team can have.
pub const MAX_THREADS: usize = 256;

/// The threads that passes run on.
#[derive(Debug)]
pub struct Team {
    threads: usize,
    many: Option<Box<Many>>,
}

/// State that only a team of several threads needs.
#[derive(Debug)]
struct Many {
    shared: Arc<Shared>,
    /// The number of the last pass.
    passes: u64,
    pays: Pays,
}

/// The clone has the same number of threads and shares nothing with the original.
impl Clone for Team {
    fn clone(&self) -> Self {
        Self::of(self.threads)
    }
}

impl Team {
    /// A team of the calling thread alone; it never calls rayon.
    pub fn serial() -> Self {
        Self::of(1)
    }

    /// A team of the calling thread and up to `threads` − 1 helpers, which come from the rayon pool
    /// in which a pass is called. It never uses more threads than there are cores.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] if `threads` is 0 or above [`MAX_THREADS`].
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        match threads {
            1..=MAX_THREADS => Ok(Self::of(threads)),
            given => {
                let expected = format!("1 to {MAX_THREADS}");
                Err(KernelError::Dimension { what: "threads", given, expected })
            }
        }
    }

    fn of(threads: usize) -> Self {
        // Finding the number of cores reads files; a team of one thread need not wait for that.
        let most = if threads == 1 { 1 } else { threads.min(crew::cores()) };
        let many =
            || Many { shared: Arc::new(Shared::new(most)), passes: 0, pays: Pays::default() };
        Self { threads, many: (most > 1).then(|| Box::new(many())) }
    }

    /// The most threads that work at a time, as given to [`new`](Self::new).
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether a pass of `work` multiply-adds is long enough for helpers.
    #[inline]
    pub fn helps(&self, work: usize) -> bool {
        self.many.is_some() && work >= WORTH_CALLING
    }

    /// Runs `pass`, with helpers for as long as it runs. No helpers are called if the pass would be
    /// done before they came (`work` is its length in multiply-adds), or if passes of about this
    /// length have been slower with helpers than without.
    #[inline]
    pub fn pass<R>(&mut self, work: usize, pass: impl FnOnce(&mut Pass<'_>) -> R) -> R {
        match &mut self.many {
            Some(many) if work >= WORTH_SHARING => many.pass(work, pass),
            _ => pass(&mut Pass::serial()),
        }
    }
}

impl Many {
    fn pass<R>(&mut self, work: usize, pass: impl FnOnce(&mut Pass<'_>) -> R) -> R {
        if crew::is_forked() {
            return pass(&mut Pass::serial());
        }
        let crew = Crew::current();
        let capacity = Crew::capacity();
        let helpers = capacity.min(self.shared.most() - 1);
        if helpers == 0 || work < WORTH_CALLING && !crew.is_awake() {
            return pass(&mut Pass::serial());
        }
        let mode = self.pays.next(work);
        let start = Instant::now();
        let result = match mode {
            Mode::Alone => pass(&mut Pass::serial()),
            Mode::Helped => {
                self.passes += 1;
                let _on = On::new(&self.shared, self.passes, 1 + helpers);
                let _busy = Busy::new();
                crew.call(&self.shared, helpers, capacity);
                pass(&mut Pass { shared: Some(&self.shared) })
            }
        };
        self.pays.took(work, mode, start.elapsed());
        result
    }
}

/// Keeps a pass on for as long as this guard lives, even if the [`Pass`] that was lent is
/// forgotten.
struct On<'a>(&'a Shared);

impl<'a> On<'a> {
    fn new(shared: &'a Shared, number: u64, threads: usize) -> Self {
        shared.begin_pass(number, threads);
        Self(shared)
    }
}

impl Drop for On<'_> {
    fn drop(&mut self) {
        self.0.end_pass();
    }
}

/// The threads of one pass, while it is on.
#[derive(Debug)]
pub struct Pass<'a> {
    shared: Option<&'a Shared>,
}

impl Pass<'_> {
    /// A pass on the calling thread alone.
    pub fn serial() -> Self {
        Self { shared: None }
    }

    /// The most threads that work at a time in this pass, at most [`Team::threads`].
    pub fn threads(&self) -> usize {
        self.shared.map_or(1, Shared::threads)
    }

    /// Does all phases of `work`, with denormals flushed to zero.
    ///
    /// # Safety
    /// The memory that `work` points to is valid and nobody else uses it.
    #[inline]
    pub(crate) unsafe fn run<P: Phases>(&mut self, isa: Isa, work: &P) {
        let _flushed = Flushed::new();
        let alone = match work.phases() {
            0 => return,
            1 => work.tasks(0) <= 1,
            _ => false,
        };
        let shared = match self.shared {
            Some(shared) if !alone => shared,
            _ => {
                isa.enter(Worker { work, shared: None, id: 0 });
                return;
            }
        };
        let job = Job { run: help_with::<P>, work: std::ptr::from_ref(work).cast(), isa };
        // SAFETY: `help_with::<P>` is for a `P`; `closing` closes the gate before the borrow of
        // `work` ends, even if a task panics.
        unsafe { shared.open(work, job) };
        let closing = Closing(shared);
        isa.enter(Worker { work, shared: Some(shared), id: 0 });
        assert!(closing.close(), "a helper panicked in its task");
    }
}

/// An open gate, which is closed when this guard is dropped.
struct Closing<'a>(&'a Shared);

impl Closing<'_> {
    /// Closes the gate and returns whether all tasks have been done.
    fn close(self) -> bool {
        let shared = self.0;
        std::mem::forget(self);
        shared.close()
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// # Safety
/// `work` is a `P` that outlives the call.
unsafe fn help_with<P: Phases>(work: *const (), shared: &Shared, isa: Isa, id: usize) {
    let _flushed = Flushed::new();
    // SAFETY: this function's contract.
    let work = unsafe { &*work.cast::<P>() };
    isa.enter(Worker { work, shared: Some(shared), id });
}

/// Which task of the work.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The phase that the task belongs to.
    phase: usize,
    /// The task's number in its phase.
    task: usize,
}

/// A thread that works on `work`.
struct Worker<'a, P> {
    work: &'a P,
    shared: Option<&'a Shared>,
    id: usize,
}

impl<P: Phases> Kernel for Worker<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut at = Place { phase: 0, task: 0 };
        while let Some(Place { phase, task }) = self.next(&mut at) {
            // SAFETY: the caller of `Pass::run` lends the memory that the work points to, and
            // helpers are inside the gate; `next` returns each task once, and those of a phase
            // only after all phases before are done; a thread has the number of its seat,
            // which is below the pass's threads and which no other thread has.
            unsafe { self.work.run(simd, self.id, phase, task) };
            self.finish(phase);
        }
    }
}

impl<P: Phases> Worker<'_, P> {
    /// The next task to do. `at` is how far a thread that works alone has come.
    #[inline(always)]
    fn next(&self, at: &mut Place) -> Option<Place> {
        if let Some(shared) = self.shared {
            return self.next_of(shared);
        }
        while at.phase < self.work.phases() && at.task == self.work.tasks(at.phase) {
            *at = Place { phase: at.phase + 1, task: 0 };
        }
        let Place { phase, task } = *at;
        if phase == self.work.phases() {
            return None;
        }
        at.task += 1;
        let mirrored = self.work.tasks(phase) - 1 - task;
        let task = if self.work.backwards(phase) { mirrored } else { task };
        Some(Place { phase, task })
    }

    /// The next task to do where several threads share the work.
    #[inline(never)]
    fn next_of(&self, shared: &Shared) -> Option<Place> {
        let mut waiting = Waiting::new();
        loop {
            let phase = shared.phase.0.load(Ordering::Acquire);
            if phase == NO_PHASE {
                return None;
            }
            let (tasks, backwards) = (self.work.tasks(phase), self.work.backwards(phase));
            if let Some(task) = shared.take(phase, self.id, tasks, backwards) {
                return Some(Place { phase, task });
            }
            waiting.turn();
        }
    }

    /// Counts a task as done. Whoever finishes the last task of a phase begins the next phase.
    #[inline(always)]
    fn finish(&self, phase: usize) {
        if let Some(shared) = self.shared {
            self.finish_of(shared, phase);
        }
    }

    #[inline(never)]
    fn finish_of(&self, shared: &Shared, phase: usize) {
        let done = shared.done.0.fetch_add(1, Ordering::AcqRel) + 1;
        if done == self.work.tasks(phase) {
            shared.begin(self.work, phase + 1);
        }
    }
}

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;
