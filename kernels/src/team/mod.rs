//! Threads for a pass: a caller who can do all of the work alone, and helpers from
//! the rayon pool who take tasks of it while they are there. Knows phases and
//! tasks; must not know what they compute.
//!
//! A step takes microseconds, so no thread is woken for one: helpers come when a
//! [`Team::pass`] begins, stay until it ends, and some tens of microseconds longer, should
//! the next one be just behind. Work is cut into phases of
//! independent tasks. A thread takes the tasks of its own share first, the same in
//! each phase, so that what they read stays in its cache, and then those of others.
//! Whoever finishes the last task of a phase opens the next. Nobody waits for a
//! helper who has not come: a pool that is busy, or of one thread, or whose thread
//! is the caller, makes a pass slower and never stops it.
//!
//! Which thread does a task changes no bit: a task is the same sums in the same
//! order, whoever does it.

mod phases;
mod shared;

pub(crate) use phases::Phases;

use crate::denormals::Flushed;
use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError};
use shared::{Job, NO_PHASE, Shared, wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most threads of a team.
pub const MAX_THREADS: usize = 256;

/// Multiply-adds below which a pass stays with its caller: a thread that sleeps takes
/// some 20 µs to come.
pub const WORTH_CALLING: usize = 1 << 20;
/// Those below which it does where the helpers are awake.
const WORTH_SHARING: usize = 1 << 19;

/// The threads that passes run on.
#[derive(Debug)]
pub struct Team {
    shared: Option<Arc<Shared>>,
}

/// A team of its own, of as many threads.
impl Clone for Team {
    fn clone(&self) -> Self {
        Self { shared: self.shared.as_ref().map(|_| Arc::new(Shared::new(self.threads()))) }
    }
}

impl Team {
    /// The calling thread alone; rayon is never called.
    pub fn serial() -> Self {
        Self { shared: None }
    }

    /// The calling thread and up to `threads` − 1 helpers from the rayon pool that
    /// a pass is called in.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where `threads` is 0 or above [`MAX_THREADS`].
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        match threads {
            1 => Ok(Self::serial()),
            2..=MAX_THREADS => Ok(Self { shared: Some(Arc::new(Shared::new(threads))) }),
            given => {
                let expected = format!("1 to {MAX_THREADS}");
                Err(KernelError::Dimension { what: "threads", given, expected })
            }
        }
    }

    /// The most threads that work at a time.
    pub fn threads(&self) -> usize {
        self.shared.as_ref().map_or(1, |shared| shared.shares.len())
    }

    /// Whether a pass of so many multiply-adds calls helpers.
    #[inline]
    pub fn helps(&self, work: usize) -> bool {
        self.shared.as_ref().is_some_and(|shared| {
            work >= WORTH_CALLING || work >= WORTH_SHARING && shared.is_attended()
        })
    }

    /// Calls the helpers for as long as `pass` runs, or none where its `work`, in
    /// multiply-adds, is done before they could be there.
    #[inline]
    pub fn pass<R>(&mut self, work: usize, pass: impl FnOnce(&mut Pass<'_>) -> R) -> R {
        if !self.helps(work) {
            return pass(&mut Pass::serial());
        }
        if let Some(shared) = &self.shared {
            shared.on.store(true, Ordering::Release);
            for id in 1..shared.shares.len() {
                // One job per helper at a time: where the pool has not come to the
                // last one yet, it will do for this pass.
                if !shared.called[id].swap(true, Ordering::AcqRel) {
                    let shared = Arc::clone(shared);
                    rayon::spawn(move || shared.help(id));
                }
            }
        }
        // Also where `pass` panics.
        let mut pass_on = Pass { shared: self.shared.as_deref() };
        pass(&mut pass_on)
    }
}

/// A team while a pass is on.
#[derive(Debug)]
pub struct Pass<'a> {
    shared: Option<&'a Shared>,
}

impl Drop for Pass<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.shared {
            shared.on.store(false, Ordering::Release);
        }
    }
}

impl Pass<'_> {
    /// The calling thread alone.
    pub fn serial() -> Self {
        Self { shared: None }
    }

    /// The most threads that work at a time.
    pub fn threads(&self) -> usize {
        self.shared.map_or(1, |shared| shared.shares.len())
    }

    /// Does all phases; denormals are zero in them.
    ///
    /// # Safety
    /// What `work` points to is there and is nobody else's.
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
        shared.open(work, job);
        // Closes the gate, and waits for those inside, also where a task panics.
        let _closing = Closing(shared);
        isa.enter(Worker { work, shared: Some(shared), id: 0 });
    }
}

struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// # Safety
/// `work` is a `P` that outlives the call.
unsafe fn help_with<P: Phases>(work: *const (), shared: &Shared, isa: Isa, id: usize) {
    let _flushed = Flushed::new();
    // SAFETY: the caller's.
    let work = unsafe { &*work.cast::<P>() };
    isa.enter(Worker { work, shared: Some(shared), id });
}

/// A thread at work.
struct Worker<'a, P> {
    work: &'a P,
    shared: Option<&'a Shared>,
    id: usize,
}

impl<P: Phases> Kernel for Worker<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut at = (0, 0);
        while let Some((phase, task)) = self.next(&mut at) {
            // SAFETY: `next` gives each task once, and those of a phase when the ones
            // before are done; each thread has its number.
            unsafe { self.work.run(s, self.id, phase, task) };
            self.finish(phase);
        }
    }
}

impl<P: Phases> Worker<'_, P> {
    /// The next task; `at` is where a thread alone has come to.
    #[inline(always)]
    fn next(&self, at: &mut (usize, usize)) -> Option<(usize, usize)> {
        if let Some(shared) = self.shared {
            return self.next_of(shared);
        }
        while at.0 < self.work.phases() && at.1 == self.work.tasks(at.0) {
            *at = (at.0 + 1, 0);
        }
        let (phase, task) = *at;
        if phase == self.work.phases() {
            return None;
        }
        at.1 += 1;
        let mirrored = self.work.tasks(phase) - 1 - task;
        Some((phase, if self.work.backwards(phase) { mirrored } else { task }))
    }

    /// The next task of a team's.
    #[inline(never)]
    fn next_of(&self, shared: &Shared) -> Option<(usize, usize)> {
        let mut spins = 0;
        loop {
            let phase = shared.phase.0.load(Ordering::Acquire);
            if phase == NO_PHASE {
                return None;
            }
            let (tasks, backwards) = (self.work.tasks(phase), self.work.backwards(phase));
            if let Some(task) = shared.take(phase, self.id, tasks, backwards) {
                return Some((phase, task));
            }
            wait(&mut spins);
        }
    }

    /// Counts a task as done; the last of a phase begins the next.
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

#[cfg(test)]
mod tests;
