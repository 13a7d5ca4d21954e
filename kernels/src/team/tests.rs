//! The team by itself: every task is done once and in its phase, helpers come and leave, and panics
//! in tasks reach the caller.

use super::*;
use rayon::prelude::*;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Phases with the given numbers of tasks, which count how often each task was done.
struct Counted {
    tasks: Vec<usize>,
    done: Vec<Vec<AtomicUsize>>,
    /// Tasks that ran before all tasks of the phase before were done.
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

// SAFETY: the numbers do not change, and tasks write atomics.
unsafe impl Phases for Counted {
    fn phases(&self) -> usize {
        self.tasks.len()
    }

    fn tasks(&self, phase: usize) -> usize {
        self.tasks[phase]
    }

    fn backwards(&self, phase: usize) -> bool {
        phase % 3 == 1
    }

    unsafe fn run<S: Simd>(&self, _simd: S, thread: usize, phase: usize, task: usize) {
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
        let mut team = team(threads);
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

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// A team that counts on eight cores, whatever this machine has.
fn team(threads: usize) -> Team {
    set_cores(8);
    Team::new(threads).unwrap()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

fn meet(work: &Counted) {
    until("nobody came", || work.threads.lock().unwrap().len() == 2);
}

/// Two tasks that only two threads can finish: each task waits for the other.
fn meeting() -> Counted {
    Counted::new(vec![2], |work, _| meet(work))
}

/// Runs passes of two tasks, each of which waits for another thread, until one pass gets two
/// threads. It tries several passes, since a pass goes alone if the thread that holds the posts is
/// not running.
fn two_threads(team: &mut Team) {
    let came = (0..5).any(|_| {
        let work = Counted::new(vec![2], |work, _| {
            let start = Instant::now();
            while work.threads.lock().unwrap().len() < 2 && start.elapsed().as_secs() < 10 {
                std::thread::yield_now();
            }
        });
        team.pass(WORTH_CALLING, |pass| run(pass, &work));
        work.assert_done_once();
        work.threads.lock().unwrap().len() == 2
    });
    assert!(came, "nobody came");
}

#[test]
fn helpers_come() {
    pool(2).install(|| two_threads(&mut team(2)));
}

/// A helper stays a little longer than its pass, but not for good.
#[test]
fn helpers_leave() {
    let pool = pool(2);
    pool.install(|| {
        let crew = Crew::current();
        assert!(!crew.is_awake(), "there before it was called");
        two_threads(&mut team(2));
        until("it stays", || crew.jobs() == 0);
        assert!(!crew.is_awake());
    });
}

/// A pass ends with its closure, even if the `Pass` that was lent is forgotten.
#[test]
fn a_forgotten_pass_ends() {
    let pool = pool(2);
    pool.install(|| {
        let mut team = team(2);
        team.pass(WORTH_CALLING, |pass| {
            run(pass, &meeting());
            let _ = std::mem::ManuallyDrop::new(std::mem::replace(pass, Pass::serial()));
        });
        until("the helper spins", || Crew::current().jobs() == 0);
        two_threads(&mut team);
    });
}

/// A thread that waits within a pass may run the pool's other jobs, including this pass's own.
#[test]
fn rayon_within_a_pass() {
    for threads in [1, 2, 3] {
        pool(threads).install(|| {
            let mut team = team(3);
            for _ in 0..100 {
                let work = Counted::new(vec![5; 4], |_, _| ());
                team.pass(WORTH_CALLING, |pass| {
                    let doubled = (0..50).into_par_iter().map(|i| 2 * i).sum::<usize>();
                    assert_eq!(doubled, 2450);
                    run(pass, &work);
                    rayon::join(|| (), std::thread::yield_now);
                });
                work.assert_done_once();
            }
        });
    }
}

/// If the pool never gets to the jobs, they do not pile up for passes and plans that are gone.
#[test]
fn nothing_is_left_in_the_queue() {
    let pool = pool(2);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (started, blocked) = std::sync::mpsc::channel();
    pool.spawn(move || {
        started.send(()).unwrap();
        wait.recv().unwrap_err();
    });
    blocked.recv().unwrap();
    pool.install(move || {
        let crew = Crew::current();
        for _ in 0..100_000 {
            team(2).pass(WORTH_CALLING, |pass| run(pass, &Counted::new(vec![2], |_, _| ())));
            assert!(crew.jobs() <= 1 && crew.posts_len() <= 1);
        }
        assert_eq!(crew.jobs(), 1);
        drop(release);
        until("the job stays", || crew.jobs() == 0);
    });
}

/// A pass has no more threads than can be of use, and its work is shared among just these.
#[test]
fn no_more_threads_than_are_of_use() {
    pool(3).install(|| {
        let mut team = team(MAX_THREADS);
        assert_eq!(team.threads(), MAX_THREADS);
        assert_eq!(team.pass(WORTH_CALLING, |pass| pass.threads()), 3);
        assert_eq!(team.pass(WORTH_SHARING - 1, |pass| pass.threads()), 1);
    });
    pool(1).install(|| {
        assert_eq!(team(8).pass(WORTH_CALLING, |pass| pass.threads()), 1);
    });
}

/// A panic in a task on the caller's thread reaches the caller after every helper has left the
/// work, and the team can be used again.
#[test]
fn a_panic_reaches_the_caller() {
    let mut team = team(3);
    for _ in 0..20 {
        let work = Counted::new(vec![40; 3], |_, thread| assert!(thread > 0, "on purpose"));
        // If helpers have taken all tasks, nothing panics.
        let _ =
            catch_unwind(AssertUnwindSafe(|| team.pass(WORTH_CALLING, |pass| run(pass, &work))));
        drop(work);
        let work = Counted::new(vec![40; 3], |_, _| ());
        team.pass(WORTH_CALLING, |pass| run(pass, &work));
        work.assert_done_once();
    }
}

/// A panic in a task on a helper's thread reaches the caller too, and the pool's thread goes on.
#[test]
fn a_panic_of_a_helper_reaches_the_caller() {
    pool(2).install(|| {
        let mut team = team(2);
        for _ in 0..20 {
            let work = Counted::new(vec![2, 1, 2], |work, thread| {
                meet(work);
                assert_eq!(thread, 0, "on purpose");
            });
            let caught = catch_unwind(AssertUnwindSafe(|| {
                team.pass(WORTH_CALLING, |pass| run(pass, &work))
            }));
            assert!(caught.is_err());
            two_threads(&mut super::tests::team(2));
        }
    });
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

#[test]
fn two_pieces_of_work_are_done_once_and_return_what_they_compute() {
    for threads in [1, 2, 4] {
        let mut team = Team::new(threads).unwrap();
        for _ in 0..50 {
            let (mut left, mut right) = (0, 0);
            let both = team.pass(usize::MAX, |pass| {
                let add = |to: &mut usize, pass: &Pass<'_>| {
                    *to += 1;
                    pass.threads()
                };
                pass.join(|pass| add(&mut left, pass), |pass| add(&mut right, pass))
            });
            assert_eq!((both, left, right), ((1, 1), 1, 1));
        }
    }
}

#[test]
fn two_pieces_of_work_run_at_the_same_time() {
    if crew::cores() < 2 {
        println!("not tested: there is one core");
        return;
    }
    let mut team = Team::new(2).unwrap();
    // Each waits for the other to have begun, for a while: a helper may not have come at first.
    let begun = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let meets = |own: usize, round: usize| {
        begun[own].store(round, Ordering::SeqCst);
        let start = Instant::now();
        while begun[1 - own].load(Ordering::SeqCst) < round {
            if start.elapsed() > Duration::from_millis(100) {
                return false;
            }
        }
        true
    };
    let met = (1..100).any(|round| {
        let met = team.pass(usize::MAX, |pass| pass.join(|_| meets(0, round), |_| meets(1, round)));
        met == (true, true)
    });
    assert!(met);
}

#[test]
fn a_panic_in_one_of_two_pieces_reaches_the_caller() {
    for threads in [1, 2] {
        let mut team = Team::new(threads).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            team.pass(usize::MAX, |pass| pass.join(|_| (), |_| -> () { panic!("on purpose") }))
        }));
        assert!(panicked.is_err());
        assert_eq!(team.pass(usize::MAX, |pass| pass.join(|_| 1, |_| 2)), (1, 2));
    }
}
