//! The state that the threads of one pass share: the gate through which helpers enter while there
//! is work, the current phase, and the shares of its tasks. Knows orderings of memory; must not
//! know what a task is, nor where helpers come from.
//!
//! A pass has a number. A helper takes a seat in it; the seat gives the thread its number for as
//! long as that pass is on, and allows it through the gate as often as the caller opens it. Three
//! rules keep the work that the caller lends alive while somebody uses it:
//!
//! 1. the work is written while the gate is closed and nobody is inside;
//! 2. a helper that has gone through the gate reads whether the pass of its seat is still the one
//!    that is on, and goes back out without touching the work if it is not;
//! 3. the caller closes the gate, and waits until nobody is inside, before the work ends.

use super::Phases;
use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, pause, yield_now};
use crate::Isa;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work whose type has been erased.
#[derive(Clone, Copy)]
pub(super) struct Job {
    /// Does tasks of `work` until there are none left.
    ///
    /// The caller of this function promises that `work` points to a value of the type that the
    /// function was made for, and that the value stays alive meanwhile.
    pub run: unsafe fn(work: *const (), &Shared, Isa, usize),
    pub work: *const (),
    pub isa: Isa,
}

/// A value on a cache line of its own, so that threads that use neighbouring values do not slow
/// each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Line<T>(pub T);

/// The state that the threads of a team share.
pub(super) struct Shared {
    /// The number of the pass that is on, or 0.
    on: AtomicU64,
    /// The number of a pass, times `SEATS`, plus its next free seat.
    seats: AtomicU64,
    /// The threads of the pass that is on, including the caller.
    threads: AtomicUsize,
    /// Whether a helper's task has panicked in the current work.
    panicked: AtomicBool,
    /// Three values in one word: [`OPEN`] while there is work, how many helpers are inside, and the
    /// number of the work.
    gate: Line<AtomicU64>,
    /// The work; the rules at the head of this file say who may touch it and when.
    job: UnsafeCell<Option<Job>>,
    /// The current phase, or [`NO_PHASE`].
    pub phase: Line<AtomicUsize>,
    /// How many tasks of the current phase are done.
    pub done: Line<AtomicUsize>,
    /// One word for each thread's share: the phase, and the next task that nobody has taken.
    shares: Box<[Line<AtomicU64>]>,
}

// SAFETY: `job` is the only field that is not Sync by itself; rules 1 to 3 order its
// accesses. It points to a value that implements `Phases`, which is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("threads", &self.most()).finish_non_exhaustive()
    }
}

const OPEN: u64 = 1;
const INSIDE: u64 = 2;
/// The number of the work is stored in the gate's bits from this one up.
const NUMBER: u64 = 1 << 32;
/// The number of the pass is stored in the bits of `seats` from this one up; no team has this many
/// threads.
const SEATS: u64 = 1 << 16;
/// The phase is stored in a share's bits from this one up. No phase has this many tasks: one byte
/// for each would take 64 GiB.
const TASKS: u64 = 1 << 36;
/// The phase is stored modulo this, in the bits above the task.
const PHASES: u64 = 1 << 28;
pub(super) const NO_PHASE: usize = usize::MAX;

/// A place in a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seat {
    /// The number of the pass.
    pub pass: u64,
    /// The thread's number in the pass, from 1.
    pub id: usize,
}

impl Shared {
    /// State for passes of at most `threads` threads.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            on: AtomicU64::new(0),
            seats: AtomicU64::new(0),
            threads: AtomicUsize::new(threads),
            panicked: AtomicBool::new(false),
            gate: Line(AtomicU64::new(0)),
            job: UnsafeCell::new(None),
            phase: Line(AtomicUsize::new(NO_PHASE)),
            done: Line(AtomicUsize::new(0)),
            shares: (0..threads).map(|_| Line(AtomicU64::new(0))).collect(),
        }
    }

    /// The most threads that a pass can have.
    pub(super) fn most(&self) -> usize {
        self.shares.len()
    }

    /// The threads of the pass that is on.
    #[inline]
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// Begins a pass of `threads` threads, at most [`most`](Self::most). `number` is larger than
    /// the numbers of all passes before.
    pub(super) fn begin_pass(&self, number: u64, threads: usize) {
        debug_assert!(threads <= self.most() && (threads as u64) < SEATS);
        self.threads.store(threads, Ordering::Relaxed);
        self.seats.store(number.wrapping_mul(SEATS) | 1, Ordering::Relaxed);
        self.on.store(number, Ordering::Release);
    }

    /// Ends the pass, so that helpers leave.
    pub(super) fn end_pass(&self) {
        self.on.store(0, Ordering::Release);
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed) != 0
    }

    /// Takes a seat in the pass that is on, if one is free.
    pub(super) fn take_seat(&self) -> Option<Seat> {
        let pass = self.on.load(Ordering::Acquire);
        let mut seats = self.seats.load(Ordering::Relaxed);
        loop {
            let id = (seats % SEATS) as usize;
            if pass == 0 || seats / SEATS != pass % (u64::MAX / SEATS + 1) || id >= self.threads() {
                return None;
            }
            match self.seats.compare_exchange_weak(
                seats,
                seats + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Seat { pass, id }),
                Err(now) => seats = now,
            }
        }
    }

    /// Helps for as long as the pass of `seat` is on.
    pub(super) fn help(&self, seat: Seat) {
        let mut last = None;
        let mut waiting = Waiting::new();
        while self.on.load(Ordering::Acquire) == seat.pass {
            match self.enter(last) {
                Some(number) => {
                    let _inside = Inside(self);
                    // Rule 2. The gate was opened after the pass had begun, so this load reads the
                    // number of that pass or of a later one.
                    if self.on.load(Ordering::Relaxed) == seat.pass {
                        self.work(seat.id);
                    }
                    last = Some(number);
                    waiting = Waiting::new();
                }
                None => waiting.turn(),
            }
        }
    }

    /// Does tasks of the current work. The calling thread is inside the gate.
    fn work(&self, id: usize) {
        // SAFETY: the gate was open and this thread is inside: by rule 1 the job has been
        // written, and nobody writes it before this thread has left.
        let job = self.job.with(|job| unsafe { *job });
        let Job { run, work, isa } = job.expect("an open gate has work");
        // SAFETY: `open` was given a `run` for the type of `work`, and by rule 3 the value that
        // `work` points to stays alive until this thread has left.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { run(work, self, isa, id) }));
        if result.is_err() {
            // The task will never be done, so this phase would never end. Without a phase the
            // other threads stop, the caller too, and then the caller panics.
            self.panicked.store(true, Ordering::Relaxed);
            self.phase.0.store(NO_PHASE, Ordering::Release);
        }
    }

    /// Enters the gate and returns the number of the work, unless the gate is closed or the
    /// number is `last`, the work that this helper has done already.
    fn enter(&self, last: Option<u64>) -> Option<u64> {
        let mut gate = self.gate.0.load(Ordering::Relaxed);
        loop {
            let number = gate / NUMBER;
            if gate & OPEN == 0 || Some(number) == last {
                return None;
            }
            let inside = gate + INSIDE;
            match self.gate.0.compare_exchange_weak(
                gate,
                inside,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(number),
                Err(now) => gate = now,
            }
        }
    }

    /// Lends `work` to the helpers until [`close`](Self::close).
    ///
    /// # Safety
    /// `job.run` was made for the type that `job.work` points to, and `*job.work` stays alive until
    /// `close` has returned. Every `open` is followed by `close` before the next `open`, on the
    /// same thread.
    pub(super) unsafe fn open<P: Phases>(&self, work: &P, job: Job) {
        // SAFETY: rule 1: the gate is closed and nobody is inside, since by this function's
        // contract the last `open` was followed by a `close`.
        self.job.with_mut(|place| unsafe { *place = Some(job) });
        self.panicked.store(false, Ordering::Relaxed);
        self.begin(work, 0);
        // The number wraps around. If it equals a helper's last one again, that helper only
        // misses one work.
        let number = (self.gate.0.load(Ordering::Relaxed) / NUMBER).wrapping_add(1);
        self.gate.0.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::Release);
    }

    /// Closes the gate, waits until nobody is inside, and returns whether all tasks that helpers
    /// began were finished.
    pub(super) fn close(&self) -> bool {
        // Helpers inside leave when they find no phase.
        self.phase.0.store(NO_PHASE, Ordering::Release);
        let mut gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut waiting = Waiting::new();
        while gate % NUMBER / INSIDE != 0 {
            waiting.turn();
            gate = self.gate.0.load(Ordering::Acquire);
        }
        !self.panicked.load(Ordering::Relaxed)
    }

    /// Begins `phase`, or the first phase after it that has tasks.
    pub(super) fn begin<P: Phases>(&self, work: &P, mut phase: usize) {
        while phase < work.phases() && work.tasks(phase) == 0 {
            phase += 1;
        }
        if phase >= work.phases() {
            self.phase.0.store(NO_PHASE, Ordering::Release);
            return;
        }
        let tasks = work.tasks(phase);
        debug_assert!((tasks as u64) < TASKS);
        self.done.0.store(0, Ordering::Relaxed);
        for (id, share) in self.shares[..self.threads()].iter().enumerate() {
            share.0.store(place(phase, self.start(id, tasks)), Ordering::Release);
        }
        self.phase.0.store(phase, Ordering::Release);
    }

    /// The first task in the share of thread `id`, of a phase with `tasks` tasks.
    fn start(&self, id: usize, tasks: usize) -> usize {
        // Below 2³⁶ tasks and 2¹⁶ threads the product does not overflow.
        (tasks as u64 * id as u64 / self.threads() as u64) as usize
    }

    /// Takes a task of `phase`, from the thread's own share if it has any left.
    pub(super) fn take(
        &self,
        phase: usize,
        id: usize,
        tasks: usize,
        backwards: bool,
    ) -> Option<usize> {
        let threads = self.threads();
        (0..threads).find_map(|i| {
            let of = (id + i) % threads;
            let (share, end) = (&self.shares[of].0, self.start(of + 1, tasks));
            let mut next = share.load(Ordering::Relaxed);
            // A share whose word names another phase has no tasks of this one left.
            while next / TASKS == phase as u64 % PHASES && (next % TASKS) < end as u64 {
                match share.compare_exchange_weak(
                    next,
                    next + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        let task = (next % TASKS) as usize;
                        let mirrored = self.start(of, tasks) + end - 1 - task;
                        return Some(if backwards { mirrored } else { task });
                    }
                    Err(now) => next = now,
                }
            }
            None
        })
    }
}

/// A helper inside the gate. Dropping this takes it outside.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.gate.0.fetch_sub(INSIDE, Ordering::Release);
    }
}

/// A phase and a task in one word.
fn place(phase: usize, task: usize) -> u64 {
    phase as u64 % PHASES * TASKS + task as u64
}

/// How often a waiting thread keeps its core before it begins to yield: a few microseconds.
const SPINS: u32 = if cfg!(any(miri, loom)) { 0 } else { 128 };

/// Waits in turns. The first [`SPINS`] turns keep the core; after them each turn lets other threads
/// have it.
pub(super) struct Waiting {
    turns: u32,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { turns: 0 }
    }

    #[inline(never)]
    pub(super) fn turn(&mut self) {
        self.turns = self.turns.saturating_add(1);
        if self.turns < SPINS { pause() } else { yield_now() }
    }
}
