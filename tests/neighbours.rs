//! Passes on several threads beside other work in the same pool: they do not keep others' jobs
//! waiting, and workspaces that are gone leave nothing behind.

use bptt::{Lstm, Model, Network, Runtime, Schedule, Workspace};
use bptt_kernels::team::set_cores;
use rand::{SeedableRng, rngs::StdRng};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, mpsc};
use std::time::{Duration, Instant};

/// The tests share the global pool, so they take turns.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static POOL: Once = Once::new();
    POOL.call_once(|| {
        rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
        // Lets there be helpers for every thread of the pool, however many cores there are.
        set_cores(8);
    });
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A model of an LSTM whose passes may have `threads` threads.
fn model(inputs: usize, hidden: usize, threads: usize) -> Model {
    let network = Network::new(Lstm::new(inputs, hidden).unwrap());
    let runtime = Runtime::best().unwrap().threads(threads);
    network.init(&mut StdRng::seed_from_u64(1), runtime).unwrap()
}

/// Runs `load` again and again on each of `threads` threads, on a value made by `start`, until
/// `done` returns.
fn beside<T, R>(
    threads: usize,
    start: impl Fn() -> T + Sync,
    load: impl Fn(&mut T) + Sync,
    done: impl FnOnce() -> R,
) -> R {
    let (over, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = start();
                while !over.load(Ordering::Relaxed) {
                    load(&mut own);
                    begun.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while begun.load(Ordering::Relaxed) < 20 * threads {
            std::thread::sleep(Duration::from_millis(1));
        }
        let result = done();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Times that somebody else's jobs wait in the global pool, coming one by one.
fn waits() -> Vec<Duration> {
    let mut waits: Vec<_> = (0..30)
        .map(|_| {
            let (ran, wait) = mpsc::channel();
            let start = Instant::now();
            rayon::spawn(move || ran.send(start.elapsed()).unwrap());
            wait.recv_timeout(Duration::from_secs(60)).expect("the job never ran")
        })
        .collect();
    waits.sort();
    waits
}

/// Half of the jobs run at once, and none waits for as long as a person would notice. A helper
/// makes way only between passes, so in a slow build under a sanitizer, where passes take long,
/// some jobs wait. (The machine may have other work, so the last attempts are given more time.)
fn assert_short(waits: &[Duration], pass: Duration) {
    println!("waits: {waits:?}, beside passes of {pass:?}");
    let [half, last] = [waits[waits.len() / 2], waits[waits.len() - 1]];
    assert!(half < Duration::from_millis(50) + 20 * pass, "{waits:?}");
    assert!(last < Duration::from_secs(2) + 100 * pass, "{waits:?}");
}

/// Times `pass`, run alone, the second time it runs.
fn time(mut pass: impl FnMut()) -> Duration {
    pass();
    let start = Instant::now();
    pass();
    start.elapsed()
}

/// A service may make a workspace for each request.
fn request(model: &mut Model, x: &[f32]) {
    let mut workspace = model.training_workspace(Schedule::dense(50, 16)).unwrap();
    model.forward(&mut workspace, x).unwrap();
}

#[test]
fn jobs_beside_many_short_plans() {
    let _alone = alone();
    let (start, x) = (|| model(64, 64, 2), vec![0.5; 50 * 16 * 64]);
    let mut own = start();
    let pass = time(|| request(&mut own, &x));
    assert_short(&beside(4, start, |model| request(model, &x), waits), pass);
}

/// Several threads make and drop streams of one model.
#[test]
fn jobs_beside_many_short_streams() {
    let _alone = alone();
    let (model, x) = (model(64, 64, 2), vec![0.5; 50 * 16 * 64]);
    let start = || vec![0.0; 50 * 16 * 64];
    let request = |y: &mut Vec<f32>| model.stream(16).unwrap().forward(&x, y).unwrap();
    let mut own = start();
    let pass = time(|| request(&mut own));
    assert_short(&beside(4, start, request, waits), pass);
}

#[test]
fn jobs_beside_passes_back_to_back() {
    let _alone = alone();
    let x = vec![0.5; 50 * 16 * 64];
    // Three threads: as many helpers as the pool has threads.
    let start = || {
        let mut model = model(64, 64, 3);
        let workspace = model.training_workspace(Schedule::dense(50, 16)).unwrap();
        (model, workspace)
    };
    let pass = |(model, workspace): &mut (Model, Workspace)| {
        model.forward(workspace, &x).unwrap();
    };
    let mut own = start();
    let alone = time(|| pass(&mut own));
    assert_short(&beside(1, start, pass, waits), alone);
}

/// Passes that are called from within the pool put their helpers' jobs in the caller's own queue,
/// at which the other threads look first.
#[test]
fn jobs_beside_passes_within_the_pool() {
    let _alone = alone();
    let (mut model, x) = (model(64, 64, 2), vec![0.5; 50 * 16 * 64]);
    let pass = time(|| request(&mut model, &x));
    let over = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        scope.spawn(|| {
            rayon::scope(|pool| {
                pool.spawn(|_| {
                    let schedule = Schedule::dense(50, 16);
                    let mut workspace = model.training_workspace(&schedule).unwrap();
                    while !over.load(Ordering::Relaxed) {
                        model.forward(&mut workspace, &x).unwrap();
                    }
                });
            });
        });
        std::thread::sleep(Duration::from_millis(20));
        let waits = waits();
        over.store(true, Ordering::Relaxed);
        waits
    });
    assert_short(&waits, pass);
}

/// Pages of memory that this process has.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Many callers that make and drop workspaces, for one step and for many, do not take more and more
/// memory.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_flat_over_many_plans() {
    if std::env::var_os("EMULATED").is_some() {
        return println!("NOT run: a watched allocator keeps what is freed");
    }
    let _alone = alone();
    let x = vec![0.5; 200 * 4 * 8];
    let mut models: Vec<Model> = (0..16).map(|_| model(8, 32, 2)).collect();
    let mut plans = |count: usize| {
        std::thread::scope(|scope| {
            for (thread, model) in models.iter_mut().enumerate() {
                let x = &x;
                scope.spawn(move || {
                    for n in 0..count {
                        let steps = 1 + (n * 37 + thread * 11) % 200;
                        let schedule = Schedule::dense(steps, 4);
                        let mut workspace = model.training_workspace(&schedule).unwrap();
                        model.forward(&mut workspace, &x[..steps * 4 * 8]).unwrap();
                    }
                });
            }
        });
        resident()
    };
    let few = plans(400);
    let many = plans(1600);
    println!("resident pages: {few}, then {many}");
    // An allocator keeps some megabytes for threads that come and go. If the workspaces stayed,
    // they would be 300 KB each on average, and there are 25 600 of them. (A test of the kernels'
    // teams shows that no job and no post stays; those have some hundred bytes each.)
    assert!(many < 2 * few + 4096, "{few} pages, then {many}");
}
