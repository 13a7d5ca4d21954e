//! The instruction set and the threads of passes. Must not know what the passes compute.

use crate::error::check_threads;
use crate::{Error, Isa};
use bptt_kernels::team::Team;

/// The instruction set and the number of threads that passes run on.
///
/// Passes run on the calling thread alone unless more are [asked for](Self::threads).
///
/// ```
/// use bptt::Runtime;
///
/// let runtime = Runtime::best()?.threads(2);
/// println!("{} on {} threads", runtime.isa(), runtime.thread_count());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    isa: Isa,
    threads: usize,
}

impl Runtime {
    /// Returns a runtime of one thread with the best instruction set that the CPU has, or the one
    /// that the environment variable `BPTT_ISA` names.
    ///
    /// # Errors
    /// [`Error::Isa`] if `BPTT_ISA` names an instruction set that is unknown or that the CPU does
    /// not have.
    pub fn best() -> Result<Self, Error> {
        Ok(Self::new(Isa::best()?))
    }

    /// Returns a runtime of one thread with the instruction set `isa`.
    pub fn new(isa: Isa) -> Self {
        Self { isa, threads: 1 }
    }

    /// Lets passes use up to `threads` threads, 1 to 256: the calling thread, and helpers from the
    /// rayon pool that it belongs to, or from the global pool. With 1, the default, rayon is never
    /// called. Any other number is refused with [`Error::Value`] when a model is made with this
    /// runtime.
    ///
    /// Results have the same bits for any number of threads. A pass never waits for a helper that
    /// has not come: a busy pool makes a pass slower, but cannot stop it. Threads beyond the cores
    /// of the machine, or beyond the threads of the pool, are not used and cost only their scratch
    /// memory.
    ///
    /// A pass runs without helpers in these cases:
    ///
    /// - It would be over before they come: it has fewer than 2²⁰ multiply-adds, or fewer than 2¹⁹
    ///   while a helper is still awake.
    /// - It is a forward pass with fewer than 2²⁰ multiply-adds in each of the stretches, of some
    ///   192 rows, that it goes through one after the other.
    /// - Passes of about this size have been slower with helpers than alone, as happens while
    ///   another process uses the cores. To find out, three passes in some five hundred run alone,
    ///   or only one if a pass takes 10 ms or more.
    /// - The process was forked from one whose passes had helpers: the fork does not have the
    ///   threads of the pool.
    ///
    /// A helper stays awake during a pass and some tens of microseconds after it. When it has
    /// helped for 2 ms, it gives its thread back to the pool's other jobs at the end of the pass.
    /// Calling a helper allocates a rayon job, whereas a pass on one thread allocates nothing. A
    /// thread of the pool that waits for a job of its own, in `rayon::join` for example, may become
    /// a helper meanwhile; its own work then continues some milliseconds, or one pass, later.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Returns the instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns the largest number of threads that a pass may use.
    pub fn thread_count(&self) -> usize {
        self.threads
    }

    /// Returns the number of threads, or an error if it is not 1 to 256.
    pub(crate) fn checked_threads(&self) -> Result<usize, Error> {
        check_threads(self.threads)
    }

    /// Makes a team of this many threads.
    pub(crate) fn team(&self) -> Result<Team, Error> {
        Ok(Team::new(self.checked_threads()?)?)
    }
}
