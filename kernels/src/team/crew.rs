//! Helpers: jobs in a rayon pool that look for a pass with a free seat, help for as long as it
//! is on, wait a little for the next one, and leave. Knows pools; must not know what a pass
//! computes.
//!
//! All teams that are called in one pool share its crew, and a crew never has more jobs in the
//! pool, waiting or running, than helpers are of use: one less than there are cores, and no
//! more than the pool has threads. A job belongs to no team: one that the pool comes to late
//! serves whichever pass is on then, or ends at once. So nothing stays queued behind a plan
//! that is gone, and callers with many plans add up to one crew.
//!
//! Others use the pool too. When a helper has stayed for [`STAY`] it leaves at the end of the
//! pass, and the next one calls it anew: meanwhile the pool's thread takes what else there is.

use super::shared::{Seat, Shared, Waiting};
use std::cell::{Cell, OnceCell};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// How long a helper without a pass waits for one: about what it takes to wake a thread.
const LINGER: Duration = Duration::from_micros(50);
/// How long a helper goes on from pass to pass before it gives way to the pool's other work.
const STAY: Duration = Duration::from_millis(2);

/// How often a caller tries to post its pass, some microseconds in all.
const TRIES: usize = 64;

/// Cores that [`set_cores`] was given, or 0.
static CORES: AtomicUsize = AtomicUsize::new(0);

/// Sets how many cores passes count on, in this process from now on, where that is not what
/// the machine says. A pass has no more threads than that, however many it may have.
pub fn set_cores(cores: usize) {
    CORES.store(cores.max(1), Ordering::Relaxed);
}

/// Cores that passes count on.
pub(super) fn cores() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    match CORES.load(Ordering::Relaxed) {
        0 => *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
        set => set,
    }
}

/// Whether this process was forked from one that has called helpers. The pool's threads are not
/// in it, and a lock that one of them held stays locked, so passes go alone and leave rayon be.
pub(super) fn is_forked() -> bool {
    static FIRST: AtomicU32 = AtomicU32::new(0);
    let this = std::process::id();
    let first = FIRST.load(Ordering::Relaxed);
    if first == 0 {
        // Two threads that come first at a time store the same.
        FIRST.store(this, Ordering::Relaxed);
    }
    first != 0 && first != this
}

/// The helpers of a pool.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// Teams whose passes want helpers; those whose pass is over go when the next comes.
    posts: Mutex<Vec<Arc<Shared>>>,
    /// Counts the posts, so that who waits need not look into them in vain.
    posted: AtomicUsize,
    /// Jobs in the pool: those that nobody has come to, and helpers.
    jobs: AtomicUsize,
    /// Helpers without a pass.
    free: AtomicUsize,
}

thread_local! {
    /// The crew of the pool that this thread is of.
    static CREW: OnceCell<Arc<Crew>> = const { OnceCell::new() };
    /// Whether this thread is in a pass, as its caller or as a helper.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// When this thread left as a helper because it had stayed long enough.
    static LEFT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// This thread is in a pass for as long as this lives.
pub(super) struct Busy(bool);

impl Busy {
    pub(super) fn new() -> Self {
        Self(BUSY.replace(true))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

impl Crew {
    /// The crew of the pool that the calling thread is of, or of the global one.
    pub(super) fn current() -> Arc<Self> {
        static GLOBAL: OnceLock<Arc<Crew>> = OnceLock::new();
        if rayon::current_thread_index().is_some() {
            CREW.with(|crew| Arc::clone(crew.get_or_init(Arc::default)))
        } else {
            Arc::clone(GLOBAL.get_or_init(Arc::default))
        }
    }

    /// Helpers that can come at the most: to a caller in the pool from its other threads.
    pub(super) fn capacity() -> usize {
        let others = match rayon::current_thread_index() {
            Some(_) => rayon::current_num_threads() - 1,
            None => rayon::current_num_threads(),
        };
        others.min(cores() - 1)
    }

    /// Whether a helper is awake, without a pass.
    pub(super) fn is_awake(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    /// Jobs in the pool.
    #[cfg(all(test, not(loom)))]
    pub(super) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Teams that wait for helpers, or did.
    #[cfg(all(test, not(loom)))]
    pub(super) fn posts_len(&self) -> usize {
        self.posts.lock().unwrap().len()
    }

    /// Offers the seats of the team's pass to so many helpers, of so many that can be had.
    pub(super) fn call(self: &Arc<Self>, shared: &Arc<Shared>, helpers: usize, capacity: usize) {
        // A helper that comes from the pass before looks at the posts just now, for some
        // nanoseconds. A thread that holds the lock for longer is not running: then this pass goes
        // alone.
        let posts = || self.posts().inspect_err(|_| spin_loop()).ok();
        let Some(mut posts) = (0..TRIES).find_map(|_| posts()) else { return };
        posts.retain(|post| post.is_on() && !Arc::ptr_eq(post, shared));
        posts.push(Arc::clone(shared));
        drop(posts);
        // A helper that leaves meanwhile has either been counted here no more, or sees this post:
        // each writes before it reads what the other one writes.
        self.posted.fetch_add(1, Ordering::SeqCst);
        for _ in self.free.load(Ordering::SeqCst)..helpers {
            if !self.hire(capacity) {
                break;
            }
        }
    }

    /// One job more in the pool, if those are less than can be had.
    fn hire(self: &Arc<Self>, capacity: usize) -> bool {
        let more = |jobs| if jobs < capacity { Some(jobs + 1) } else { None };
        let hires = self.jobs.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok();
        if hires {
            let job = Job { crew: Arc::clone(self), capacity };
            rayon::spawn(move || serve(job));
        }
        hires
    }

    /// Helps from pass to pass, until there has been none for a while or others have waited for
    /// long enough; gives how many posts it has seen.
    fn help(&self) -> usize {
        let came = Instant::now();
        let mut free = Free::new(self);
        let (mut since, mut waiting, mut seen) = (came, Waiting::new(), None);
        loop {
            let posted = self.posted.load(Ordering::SeqCst);
            let found = if seen == Some(posted) { Ok(None) } else { self.seat() };
            match found {
                Ok(Some((shared, seat))) => {
                    drop(free);
                    shared.help(seat);
                    (since, waiting, seen) = (Instant::now(), Waiting::new(), None);
                    if since - came > STAY {
                        LEFT.set(Some(since));
                        return posted;
                    }
                    free = Free::new(self);
                }
                Ok(None) => {
                    seen = Some(posted);
                    waiting.turn();
                    if since.elapsed() > LINGER {
                        return posted;
                    }
                }
                Err(Locked) => waiting.turn(),
            }
        }
    }

    /// The posts, unless another thread is looking at them.
    fn posts(&self) -> Result<MutexGuard<'_, Vec<Arc<Shared>>>, Locked> {
        match self.posts.try_lock() {
            Ok(posts) => Ok(posts),
            Err(TryLockError::Poisoned(posts)) => Ok(posts.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Locked),
        }
    }

    /// A seat in a pass that has one left.
    fn seat(&self) -> Result<Option<(Arc<Shared>, Seat)>, Locked> {
        let posts = self.posts()?;
        let seat = |shared: &Arc<Shared>| Some((Arc::clone(shared), shared.take_seat()?));
        Ok(posts.iter().rev().find_map(seat))
    }
}

/// A helper's life.
fn serve(job: Job) {
    // A pool's thread comes to jobs where it waits for others, too. The caller of a pass
    // cannot be its own helper, and a helper is one already.
    if BUSY.get() {
        return;
    }
    let _busy = Busy::new();
    if LEFT.take().is_some_and(|left| left.elapsed() < STAY) {
        // This thread would come back to its caller's jobs before it looks at those from
        // outside the pool. What runs here may take long, or call a pass.
        rayon::yield_now();
    }
    CREW.with(|of_pool| drop(of_pool.set(Arc::clone(&job.crew))));
    let seen = job.crew.help();
    // A pass that began meanwhile counted on this helper.
    let Job { crew, capacity } = &job;
    let (crew, capacity) = (Arc::clone(crew), *capacity);
    drop(job);
    if crew.posted.load(Ordering::SeqCst) != seen {
        crew.hire(capacity);
    }
}

/// Another thread is looking at the posts.
struct Locked;

/// A job in the pool; dropped, it is none any more, also where it never ran.
struct Job {
    crew: Arc<Crew>,
    /// Jobs that the pool can have at the most.
    capacity: usize,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.crew.jobs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A helper without a pass, for as long as this lives.
struct Free<'a>(&'a Crew);

impl<'a> Free<'a> {
    fn new(crew: &'a Crew) -> Self {
        crew.free.fetch_add(1, Ordering::SeqCst);
        Self(crew)
    }
}

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_sub(1, Ordering::SeqCst);
    }
}
