//! What the threads of a team share: the gate that helpers come in by while there is
//! work, its phase, and the shares of a phase's tasks. Knows orderings of memory; must not
//! know what a task is.

use super::Phases;
use crate::Isa;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Work of a type that is forgotten.
#[derive(Clone, Copy)]
pub(super) struct Job {
    pub run: unsafe fn(*const (), &Shared, Isa, usize),
    pub work: *const (),
    pub isa: Isa,
}

/// A line of its own, so that threads do not take it from each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Line<T>(pub T);

/// What the threads of a team share.
pub(super) struct Shared {
    /// Whether a pass is on.
    pub on: AtomicBool,
    /// For each helper whether a job of its is queued or running.
    pub called: Box<[AtomicBool]>,
    /// [`OPEN`] while there is work, and above it the helpers inside and the number
    /// of the work.
    gate: Line<AtomicU64>,
    /// The work. Written while the gate is closed and nobody inside, read by those
    /// inside.
    job: UnsafeCell<Option<Job>>,
    /// The phase, or [`NO_PHASE`].
    pub phase: Line<AtomicUsize>,
    /// Its tasks that are done.
    pub done: Line<AtomicUsize>,
    /// For each thread's share the phase and the next task that nobody has taken.
    pub shares: Box<[Line<AtomicU64>]>,
}

// SAFETY: `job` is the only part that is not Sync by itself; the gate orders its
// accesses, see there. What it points to is `Phases`, which is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("threads", &self.shares.len()).finish_non_exhaustive()
    }
}

const OPEN: u64 = 1;
const INSIDE: u64 = 2;
const NUMBER: u64 = 1 << 32;
pub(super) const NO_PHASE: usize = usize::MAX;

impl Shared {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            on: AtomicBool::new(false),
            called: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            gate: Line::default(),
            job: UnsafeCell::new(None),
            phase: Line(AtomicUsize::new(NO_PHASE)),
            done: Line::default(),
            shares: (0..threads).map(|_| Line::default()).collect(),
        }
    }

    /// A helper's life.
    pub(super) fn help(&self, id: usize) {
        let mut last = 0;
        let mut spins = 0;
        // After a pass it stays awake for about as long as it takes to wake: the next one is
        // often just behind.
        while self.on.load(Ordering::Acquire) || spins < SPINS {
            match self.enter(last) {
                Some(number) => {
                    // SAFETY: inside, the job is written and stays.
                    let job = unsafe { (*self.job.get()).expect("open gates have work") };
                    // SAFETY: `Pass::run` does not return before the gate is closed
                    // and this helper has left, so the work is there.
                    unsafe { (job.run)(job.work, self, job.isa, id) };
                    self.gate.0.fetch_sub(INSIDE, Ordering::Release);
                    (last, spins) = (number, 0);
                }
                None => wait(&mut spins),
            }
        }
        self.called[id].store(false, Ordering::Release);
    }

    /// Whether a helper is there, or on its way.
    pub(super) fn is_attended(&self) -> bool {
        self.called.iter().any(|called| called.load(Ordering::Relaxed))
    }

    /// Goes in, unless the gate is closed or this work's number is `last`.
    fn enter(&self, last: u64) -> Option<u64> {
        let mut gate = self.gate.0.load(Ordering::Relaxed);
        loop {
            let number = gate / NUMBER;
            if gate & OPEN == 0 || number == last {
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

    pub(super) fn open<P: Phases>(&self, work: &P, job: Job) {
        // SAFETY: the gate is closed and nobody inside: `close` was called after the
        // last `open`, and only the holder of the team's `&mut` opens.
        unsafe { *self.job.get() = Some(job) };
        self.begin(work, 0);
        // The number wraps: a helper who takes it for the last one's misses one work.
        let number = (self.gate.0.load(Ordering::Relaxed) / NUMBER).wrapping_add(1);
        self.gate.0.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::Release);
    }

    pub(super) fn close(&self) {
        // Those inside who find no phase leave.
        self.phase.0.store(NO_PHASE, Ordering::Release);
        let mut gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while gate % NUMBER / INSIDE != 0 {
            wait(&mut spins);
            gate = self.gate.0.load(Ordering::Acquire);
        }
    }

    /// Begins `phase`, or the first after it that has tasks.
    pub(super) fn begin<P: Phases>(&self, work: &P, mut phase: usize) {
        while phase < work.phases() && work.tasks(phase) == 0 {
            phase += 1;
        }
        if phase >= work.phases() {
            self.phase.0.store(NO_PHASE, Ordering::Release);
            return;
        }
        let tasks = work.tasks(phase);
        self.done.0.store(0, Ordering::Relaxed);
        for (id, share) in self.shares.iter().enumerate() {
            share.0.store(place(phase, self.start(id, tasks)), Ordering::Release);
        }
        self.phase.0.store(phase, Ordering::Release);
    }

    /// Where a thread's share of so many tasks starts.
    fn start(&self, id: usize, tasks: usize) -> usize {
        tasks * id / self.shares.len()
    }

    /// Takes a task of the phase: of the thread's own share, or else of another's.
    pub(super) fn take(
        &self,
        phase: usize,
        id: usize,
        tasks: usize,
        backwards: bool,
    ) -> Option<usize> {
        let threads = self.shares.len();
        (0..threads).find_map(|i| {
            let of = (id + i) % threads;
            let (share, end) = (&self.shares[of].0, self.start(of + 1, tasks));
            let mut next = share.load(Ordering::Relaxed);
            // A share that is at another phase has none of this one left.
            while next / NUMBER == phase as u64 % NUMBER && (next % NUMBER) < end as u64 {
                match share.compare_exchange_weak(
                    next,
                    next + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        let task = (next % NUMBER) as usize;
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

/// A phase and a task in one word.
fn place(phase: usize, task: usize) -> u64 {
    phase as u64 % NUMBER * NUMBER + task as u64
}

/// Turns that a thread waits awake, some tens of microseconds.
const SPINS: u32 = 1 << 12;

/// Waits a little, and lets others have the core when it has been long.
#[inline(never)]
pub(super) fn wait(spins: &mut u32) {
    *spins = spins.saturating_add(1);
    if *spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}
