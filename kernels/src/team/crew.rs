//! Helpers: jobs in a rayon pool that look for a pass with a free seat, help for as long as that
//! pass is on, wait a little for the next one, and leave. Knows pools; must not know what a pass
//! computes.
//!
//! All teams that are called in one pool share its crew. A crew never has more jobs in the pool,
//! waiting or running, than there are useful helpers: one less than there are cores, and no more
//! than the pool has threads. A job belongs to no team: if the pool gets to it late, it serves
//! whichever pass is on by then, or ends at once. So nothing stays queued for a plan that is gone,
//! and many callers with many plans together have one crew.
//!
//! Others use the pool too. A helper that has stayed for [`STAY`] leaves at the end of its pass,
//! and the next pass calls it again; in between, the pool's thread can run other jobs.

use super::shared::{Seat, Shared, Waiting};
use std::cell::{Cell, OnceCell};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// How long a helper without a pass waits for one: about as long as waking a thread takes.
const LINGER: Duration = Duration::from_micros(50);
/// How long a helper goes from pass to pass before it makes way for the pool's other jobs.
const STAY: Duration = Duration::from_millis(2);

/// How often a caller tries to post its pass before it works alone; all tries together take a few
/// microseconds.
const TRIES: usize = 64;

/// The number of cores given to [`set_cores`], or 0 if there is none.
static CORES: AtomicUsize = AtomicUsize::new(0);

/// Sets how many cores passes count on in this process from now on, in place of the number that the
/// machine reports. No pass has more threads than `cores`, even if its team may have more.
pub fn set_cores(cores: usize) {
    CORES.store(cores.max(1), Ordering::Relaxed);
}

/// The number of cores that passes count on.
pub(super) fn cores() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    match CORES.load(Ordering::Relaxed) {
        0 => *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
        set => set,
    }
}

/// Whether this process was forked from one that has called helpers. The forked process has none of
/// the pool's threads, and a lock that one of them held stays locked, so its passes run on the
/// caller alone and do not touch rayon.
pub(super) fn is_forked() -> bool {
    static FIRST: AtomicU32 = AtomicU32::new(0);
    let this = std::process::id();
    let first = FIRST.load(Ordering::Relaxed);
    if first == 0 {
        // If two threads come here first at the same time, both store the same value.
        FIRST.store(this, Ordering::Relaxed);
    }
    first != 0 && first != this
}

/// The helpers of one pool.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// Teams whose passes want helpers. Teams whose pass is over are removed when the next one
    /// posts.
    posts: Mutex<Vec<Arc<Shared>>>,
    /// The number of posts so far, so that a waiting helper looks at `posts` only after a new one.
    posted: AtomicUsize,
    /// Jobs in the pool: those that wait to run, and helpers.
    jobs: AtomicUsize,
    /// Helpers that have no pass at the moment.
    free: AtomicUsize,
}

thread_local! {
    /// The crew of the pool that this thread belongs to.
    static CREW: OnceCell<Arc<Crew>> = const { OnceCell::new() };
    /// Whether this thread is in a pass, as its caller or as a helper.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// When this thread stopped being a helper because it had stayed for [`STAY`].
    static LEFT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Marks this thread as being in a pass for as long as this guard lives.
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
    /// The crew of the pool that the calling thread belongs to, or of the global pool.
    pub(super) fn current() -> Arc<Self> {
        static GLOBAL: OnceLock<Arc<Crew>> = OnceLock::new();
        if rayon::current_thread_index().is_some() {
            CREW.with(|crew| Arc::clone(crew.get_or_init(Arc::default)))
        } else {
            Arc::clone(GLOBAL.get_or_init(Arc::default))
        }
    }

    /// The most helpers that can come. A caller that is itself a thread of the pool can only get
    /// the other threads.
    pub(super) fn capacity() -> usize {
        let others = match rayon::current_thread_index() {
            Some(_) => rayon::current_num_threads() - 1,
            None => rayon::current_num_threads(),
        };
        others.min(cores() - 1)
    }

    /// Whether some helper is awake and has no pass.
    pub(super) fn is_awake(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    /// Jobs in the pool.
    #[cfg(all(test, not(loom)))]
    pub(super) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Teams in the list of posts, including those whose pass is over.
    #[cfg(all(test, not(loom)))]
    pub(super) fn posts_len(&self) -> usize {
        self.posts.lock().unwrap().len()
    }

    /// Offers the seats of the team's pass to `helpers` helpers; the pool can supply `capacity`.
    pub(super) fn call(self: &Arc<Self>, shared: &Arc<Shared>, helpers: usize, capacity: usize) {
        // A helper that comes from the pass before holds this lock for some nanoseconds while it
        // looks at the posts. A thread that holds it for longer is not running; then this pass goes
        // on alone.
        let posts = || self.posts().inspect_err(|_| spin_loop()).ok();
        let Some(mut posts) = (0..TRIES).find_map(|_| posts()) else { return };
        posts.retain(|post| post.is_on() && !Arc::ptr_eq(post, shared));
        posts.push(Arc::clone(shared));
        drop(posts);
        // A helper that leaves at this moment is either no longer counted in `free`, or sees this
        // post: each side writes its own counter before it reads the other's.
        self.posted.fetch_add(1, Ordering::SeqCst);
        for _ in self.free.load(Ordering::SeqCst)..helpers {
            if !self.hire(capacity) {
                break;
            }
        }
    }

    /// Puts one more job in the pool if it has fewer than `capacity`; returns whether it did.
    fn hire(self: &Arc<Self>, capacity: usize) -> bool {
        let more = |jobs| if jobs < capacity { Some(jobs + 1) } else { None };
        let hires = self.jobs.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok();
        if hires {
            let job = Job { crew: Arc::clone(self), capacity };
            rayon::spawn(move || serve(job));
        }
        hires
    }

    /// Helps in one pass after another, until none has come for [`LINGER`] or this helper has
    /// stayed for [`STAY`]. Returns the number of posts it has seen.
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

    /// The posts, or [`Locked`] if another thread is looking at them.
    fn posts(&self) -> Result<MutexGuard<'_, Vec<Arc<Shared>>>, Locked> {
        match self.posts.try_lock() {
            Ok(posts) => Ok(posts),
            Err(TryLockError::Poisoned(posts)) => Ok(posts.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Locked),
        }
    }

    /// Takes a seat in a pass that has one free.
    fn seat(&self) -> Result<Option<(Arc<Shared>, Seat)>, Locked> {
        let posts = self.posts()?;
        let seat = |shared: &Arc<Shared>| Some((Arc::clone(shared), shared.take_seat()?));
        Ok(posts.iter().rev().find_map(seat))
    }
}

/// What a helper does, from beginning to end.
fn serve(job: Job) {
    // A pool's thread that waits for something may run other jobs of the pool meanwhile, so this
    // job may run on a thread that is in a pass. The caller of a pass cannot be its own helper, and
    // a helper cannot help twice.
    if BUSY.get() {
        return;
    }
    let _busy = Busy::new();
    if LEFT.take().is_some_and(|left| left.elapsed() < STAY) {
        // Without this, the thread would return to its caller's jobs before it looks at jobs from
        // outside the pool. The job that runs here may take long, or call a pass.
        rayon::yield_now();
    }
    CREW.with(|of_pool| drop(of_pool.set(Arc::clone(&job.crew))));
    let seen = job.crew.help();
    // A pass that began after the last look at the posts counted on this helper.
    let Job { crew, capacity } = &job;
    let (crew, capacity) = (Arc::clone(crew), *capacity);
    drop(job);
    if crew.posted.load(Ordering::SeqCst) != seen {
        crew.hire(capacity);
    }
}

/// Another thread is looking at the posts.
struct Locked;

/// A job in the pool. Dropping it takes it off the count, even if it never ran.
struct Job {
    crew: Arc<Crew>,
    /// The most jobs that the pool can have.
    capacity: usize,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.crew.jobs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a helper as having no pass, for as long as this guard lives.
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
