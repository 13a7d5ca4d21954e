//! The team by itself: every task once and in its phase, helpers that come, and
//! tasks that panic.

use super::*;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Phases of so many tasks, which count how often each was done.
struct Counted {
    tasks: Vec<usize>,
    done: Vec<Vec<AtomicUsize>>,
    /// Tasks that ran before those of the phase before were done.
    early: AtomicUsize,
    threads: Mutex<HashSet<(usize, ThreadId)>>,
    what: fn(&Counted, usize),
}

impl Counted {
    fn new(tasks: Vec<usize>, what: fn(&Counted, usize)) -> Self {
        let done = tasks.iter().map(|&n| (0..n).map(|_| AtomicUsize::new(0)).collect()).collect();
        Self { tasks, done, early: AtomicUsize::new(0), threads: Mutex::default(), what }
    }

    fn assert_done_once(&self) {
        assert_eq!(self.early.load(Ordering::Relaxed), 0);
        assert!(self.done.iter().flatten().all(|done| done.load(Ordering::Relaxed) == 1));
    }
}

impl Phases for Counted {
    fn phases(&self) -> usize {
        self.tasks.len()
    }

    fn tasks(&self, phase: usize) -> usize {
        self.tasks[phase]
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 3 == 1
    }

    unsafe fn run<S: Simd>(&self, _s: S, thread: usize, phase: usize, task: usize) {
        self.threads.lock().unwrap().insert((thread, std::thread::current().id()));
        if phase > 0 && self.done[phase - 1].iter().any(|n| n.load(Ordering::Relaxed) == 0) {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        (self.what)(self, thread);
        self.done[phase][task].fetch_add(1, Ordering::Relaxed);
    }
}

fn run(pass: &mut Pass<'_>, work: &Counted) {
    // SAFETY: the work has no pointers.
    unsafe { pass.run(Isa::available()[0], work) };
}

#[test]
fn every_task_is_done_once_and_in_its_phase() {
    for threads in [1, 2, 3, 8] {
        let mut team = Team::new(threads).unwrap();
        for round in 0..200usize {
            let tasks = (0..20).map(|phase| (round * 7 + phase * 5) % 11).collect();
            let [first, second] =
                [tasks, vec![0, 0, round % 3, 0]].map(|tasks| Counted::new(tasks, |_, _| ()));
            team.pass(WORTH_CALLING, |pass| {
                run(pass, &first);
                run(pass, &second);
            });
            first.assert_done_once();
            second.assert_done_once();
            assert!(first.threads.lock().unwrap().iter().all(|&(thread, _)| thread < threads));
        }
        team.pass(WORTH_CALLING, |pass| run(pass, &Counted::new(vec![], |_, _| ())));
    }
}

/// Two tasks that can only be done by two threads: each waits for the other.
#[test]
fn helpers_come() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let work = Counted::new(vec![2], |work, _| {
        let start = Instant::now();
        while work.threads.lock().unwrap().len() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody came");
            std::thread::yield_now();
        }
    });
    pool.install(|| Team::new(2).unwrap().pass(WORTH_CALLING, |pass| run(pass, &work)));
    work.assert_done_once();
}

/// A helper stays a little longer than its pass, and not for good.
#[test]
fn helpers_leave() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let mut team = Team::new(2).unwrap();
    assert!(!team.helps(WORTH_SHARING), "attended before it was called");
    pool.install(|| team.pass(WORTH_CALLING, |pass| run(pass, &Counted::new(vec![2], |_, _| ()))));
    let start = Instant::now();
    while team.helps(WORTH_SHARING) {
        assert!(start.elapsed() < Duration::from_secs(60), "it stays");
        std::thread::yield_now();
    }
    assert!(team.helps(WORTH_CALLING));
}

/// A task that panics on the caller's thread reaches the caller, with nobody left in
/// the work, and the team goes on.
#[test]
fn a_panic_reaches_the_caller() {
    let mut team = Team::new(3).unwrap();
    for _ in 0..20 {
        let work = Counted::new(vec![40; 3], |_, thread| assert!(thread > 0, "on purpose"));
        // Where helpers have taken all tasks, nothing panics.
        let _ =
            catch_unwind(AssertUnwindSafe(|| team.pass(WORTH_CALLING, |pass| run(pass, &work))));
        drop(work);
        let work = Counted::new(vec![40; 3], |_, _| ());
        team.pass(WORTH_CALLING, |pass| run(pass, &work));
        work.assert_done_once();
    }
}

#[test]
fn numbers_of_threads() {
    assert_eq!(Team::new(1).unwrap().threads(), 1);
    assert_eq!(Team::new(MAX_THREADS).unwrap().clone().threads(), MAX_THREADS);
    for given in [0, MAX_THREADS + 1] {
        let error = Team::new(given).unwrap_err();
        assert_eq!(error.to_string(), format!("threads is {given}, expected 1 to 256"));
    }
}
