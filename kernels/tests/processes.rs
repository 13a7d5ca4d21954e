//! How threads affect a program apart from its results: it may fork, and it uses no processor time
//! when it has nothing to do.

#![cfg(target_os = "linux")]

use bptt_kernels::gemm::{Gemm, Start, team_scratch_len};
use bptt_kernels::team::{Pass, Team, set_cores};
use bptt_kernels::{Isa, PackedMatrix};
use std::time::{Duration, Instant};

const ROWS: usize = 400;
const DEPTH: usize = 100;
const OUTPUTS: usize = 100;

/// A product that is long enough for helpers.
struct Product {
    isa: Isa,
    a: Vec<f32>,
    weights: PackedMatrix,
    scratch: Vec<f32>,
}

impl Product {
    fn new() -> Self {
        set_cores(2);
        let isa = Isa::available()[0];
        let mut weights = PackedMatrix::zeros(isa, 1, OUTPUTS, DEPTH).unwrap();
        let w: Vec<f32> = (0..OUTPUTS * DEPTH).map(|i| (i % 7) as f32 - 3.0).collect();
        weights.pack_rows(&w, &mut Pass::serial()).unwrap();
        let a = (0..ROWS * DEPTH).map(|i| (i % 5) as f32 - 2.0).collect();
        let scratch = vec![0.0; team_scratch_len(2, ROWS, DEPTH).unwrap()];
        Self { isa, a, weights, scratch }
    }

    fn run(&mut self, team: &mut Team) -> Vec<f32> {
        let Self { isa, a, weights, scratch } = self;
        let mut c = vec![0.0; ROWS * OUTPUTS];
        team.pass(ROWS * DEPTH * OUTPUTS, |pass| {
            let (start, c) = (Start::Zero, &mut c[..]);
            Gemm { rows: ROWS, a, weights, start, c, stride: OUTPUTS, scratch }.run(*isa, pass)
        })
        .unwrap();
        c
    }
}

/// Runs `child` in a forked process, which has to end within the given time.
fn ends_in_a_child(child: impl FnOnce() -> bool) {
    // SAFETY: the child computes, allocates, and leaves by `_exit`; the allocator of the C
    // library is usable in it.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: this ends the child at once; it must not clean up anything of the parent's.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: the process is a child of this one, and the status is written to a local.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
            0 if start.elapsed() > Duration::from_secs(30) => {
                // SAFETY: as above.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                panic!("the child hangs");
            }
            0 => std::thread::sleep(Duration::from_millis(1)),
            _ => return assert_eq!(status, 0, "the child's status"),
        }
    }
}

/// The child has only the caller's thread, and everything that the helpers left in memory; its
/// passes run without helpers. The process forks right after a pass, when a helper is awake, and
/// again later.
#[test]
fn a_forked_child_runs_passes() {
    let mut product = Product::new();
    let mut team = Team::new(2).unwrap();
    for round in 0..40 {
        let expected = product.run(&mut team);
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(round));
        }
        ends_in_a_child(|| {
            let same = (0..20).all(|_| product.run(&mut team) == expected);
            let mut team = Team::new(2).unwrap();
            same && product.run(&mut team) == expected
        });
    }
}

/// Processor time of this process, all threads together.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a local.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs in a process of its own, without other tests.
#[test]
fn an_idle_program_is_idle() {
    let program = std::env::current_exe().unwrap();
    let test = ["--exact", "idle_child", "--ignored", "--nocapture"];
    let output = std::process::Command::new(program).args(test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "started by an_idle_program_is_idle"]
fn idle_child() {
    let mut product = Product::new();
    let mut team = Team::new(2).unwrap();
    let mut used = Vec::new();
    for _ in 0..10 {
        for _ in 0..20 {
            product.run(&mut team);
        }
        std::thread::sleep(Duration::from_millis(10));
        let before = processor_time();
        std::thread::sleep(Duration::from_millis(100));
        used.push(processor_time() - before);
    }
    used.sort();
    println!("in a tenth of a second of idleness: {used:?}");
    // Waking up from the sleep takes some time too.
    assert!(used[used.len() / 2] < Duration::from_micros(500), "{used:?}");
}
