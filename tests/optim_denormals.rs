//! Denormal gradients, moments and logits count as zero and cost no extra time, and the caller's
//! own denormals stay.

mod common;

use bptt::{
    Accumulate, Adam, Dense, Isa, Network, Runtime, Schedule, Sgd, SoftmaxCrossEntropy,
    clip_elements, clip_global_norm,
};
use bptt_kernels::softmax::{CrossEntropy, softmax};
use common::{isas, say};
use rand::{SeedableRng, rngs::SmallRng};
use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

const LEN: usize = 4099;

fn sgd() -> Sgd {
    Sgd::new(0.5).with_momentum(0.5).unwrap()
}

fn denormal() -> f32 {
    black_box(f32::MIN_POSITIVE) * black_box(0.5)
}

#[test]
fn moments_become_zero_and_our_own_denormals_stay() {
    for &isa in isas() {
        let (mut theta, gradients) = (vec![1.0; LEN], vec![1e-21; LEN]);
        let mut adam = Adam::new(1e-3);
        let mut sgd = sgd();
        adam.step(isa, &mut theta, &gradients).unwrap();
        sgd.step(isa, &mut theta, &vec![1e-37; LEN]).unwrap();
        // 10⁻⁴⁵ is denormal, 10⁻²² is not.
        assert!(adam.second_moment().iter().all(|&v| v == 0.0), "on {isa}");
        assert!(adam.first_moment().iter().all(|&m| m.is_normal()), "on {isa}");
        assert!(sgd.velocity().iter().all(|&v| v.is_normal()), "on {isa}");
        // The moments of a parameter that had no gradient for a long time.
        let zeros = vec![0.0; LEN];
        for _ in 0..2000 {
            adam.step(isa, &mut theta, &zeros).unwrap();
            sgd.step(isa, &mut theta, &zeros).unwrap();
            assert!(adam.first_moment().iter().all(|m| !m.is_subnormal()), "on {isa}");
            assert!(sgd.velocity().iter().all(|v| !v.is_subnormal()), "on {isa}");
        }
        assert!(adam.first_moment().iter().chain(sgd.velocity()).all(|&m| m == 0.0), "on {isa}");
        assert!(denormal().is_subnormal());
    }
}

#[test]
fn gradients_are_clipped_to_zero() {
    let mut gradients = [denormal(), 3.0, -denormal()];
    assert_eq!(clip_global_norm(&mut [&mut gradients], 1.0), Ok(3.0));
    assert_eq!(gradients, [0.0, 1.0, 0.0]);
    assert_eq!(clip_global_norm(&mut [&mut [denormal(); 9]], 1.0), Ok(0.0));
    // Scaled down so that they are denormal.
    let mut gradients = [1e20, f32::MIN_POSITIVE];
    clip_global_norm(&mut [&mut gradients], 1.0).unwrap();
    assert_eq!(gradients, [1.0, 0.0]);
    let mut gradients = [denormal(), 3.0];
    clip_elements(&mut gradients, 1.0).unwrap();
    assert_eq!(gradients[1], 1.0);
    assert!(denormal().is_subnormal());
}

#[test]
fn probabilities_become_zero() {
    for &isa in isas() {
        let mut y = vec![-95.0; 40];
        y[7] = 0.0;
        softmax(isa, 40, &mut y).unwrap();
        assert!(
            y.iter().enumerate().all(|(k, &y)| y == if k == 7 { 1.0 } else { 0.0 }),
            "on {isa}"
        );
        // The gradient's scale makes normal probabilities denormal.
        let mut o = vec![-80.0; 40];
        o[7] = 0.0;
        let entropy = CrossEntropy::new(40, &[7], None).unwrap();
        entropy.gradient(isa, 1e-5, &mut o).unwrap();
        assert!(o.iter().all(|o| !o.is_subnormal()), "{o:?} on {isa}");
        assert!(denormal().is_subnormal());
    }
}

/// The fastest of several runs, each of which begins with `start`.
fn best<T>(mut start: impl FnMut() -> T, mut run: impl FnMut(&mut T)) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..300 {
        let mut state = start();
        let began = Instant::now();
        run(&mut state);
        best = best.min(began.elapsed());
    }
    best
}

/// Asserts that `time` is about the same for usual numbers and for denormal ones. The two are
/// measured one after the other, so other work on the machine may slow one of them. Denormals would
/// slow theirs every time, so one good measurement of ten is enough.
#[track_caller]
fn assert_as_fast(what: &str, isa: Isa, time: impl Fn(f32) -> Duration, [usual, small]: [f32; 2]) {
    let mut last = [Duration::ZERO; 2];
    for _ in 0..10 {
        last = [time(usual), time(small)];
        let [usual, small] = last;
        println!("{what} on {isa}: {usual:?}, of denormals {small:?}");
        if small < usual * 5 / 4 {
            return;
        }
    }
    let [usual, small] = last;
    panic!("{what} on {isa}: {small:?} where {usual:?} is usual");
}

#[test]
fn nothing_gets_slower() {
    if std::env::var_os("EMULATED").is_some() {
        say("NOT timed: an emulated CPU has other slow operations, an instrumented pass others");
        return;
    }
    for &isa in isas() {
        // In the order of the gradients; v is denormal from the first step on.
        let adam = |g: f32| {
            let gradients = vec![g; LEN];
            let start = || {
                let (mut adam, mut theta) = (Adam::new(1e-3), vec![1.0; LEN]);
                // Makes the optimiser allocate its moments, and leaves them zero.
                adam.step(isa, &mut theta, &[0.0; LEN]).unwrap();
                (adam, theta)
            };
            best(start, |(adam, theta)| {
                for _ in 0..4 {
                    adam.step(isa, theta, &gradients).unwrap();
                }
            })
        };
        assert_as_fast("Adam", isa, adam, [0.1, 1e-21]);
        let sgd = |g: f32| {
            let gradients = vec![g; LEN];
            let start = || {
                let (mut sgd, mut theta) = (sgd(), vec![1.0; LEN]);
                sgd.step(isa, &mut theta, &[0.0; LEN]).unwrap();
                (sgd, theta)
            };
            best(start, |(sgd, theta)| {
                for _ in 0..4 {
                    sgd.step(isa, theta, &gradients).unwrap();
                }
            })
        };
        assert_as_fast("SGD", isa, sgd, [0.1, denormal()]);

        // One class is far above all others, so their probabilities are denormal (e⁻⁹⁰).
        let rows = 64;
        let targets = vec![3; rows];
        let entropy = CrossEntropy::new(64, &targets, None).unwrap();
        let loss = |low: f32| {
            let mut o = vec![low; 64 * rows];
            o.iter_mut().step_by(64).for_each(|o| *o = 0.0);
            best(
                || o.clone(),
                |o| {
                    let _ = entropy.gradient(isa, 1.0, o).unwrap();
                },
            )
        };
        assert_as_fast("cross-entropy", isa, loss, [-1.0, -90.0]);

        let network = Network::new(Dense::new(32, 64).unwrap());
        let mut rng = SmallRng::seed_from_u64(1);
        let mut model = network.init(&mut rng, Runtime::new(isa)).unwrap();
        let workspace = model.training_workspace(Schedule::dense(rows, 1)).unwrap();
        let workspace = RefCell::new(workspace);
        let dense = |x: f32| {
            let (x, loss) = (vec![x; rows * 32], SoftmaxCrossEntropy::mean(&targets));
            let start = || workspace.borrow_mut();
            best(start, |workspace| {
                model.forward(workspace, &x).unwrap();
                model.backward(workspace, &x, &loss, Accumulate::No).unwrap();
            })
        };
        assert_as_fast("a dense layer's gradients", isa, dense, [0.1, denormal()]);
    }
    let clip = |g: f32| {
        let start = || vec![g; LEN];
        best(start, |gradients| {
            let _ = clip_global_norm(&mut [gradients], 1.0).unwrap();
        })
    };
    assert_as_fast("clipping", Isa::best().unwrap(), clip, [0.1, denormal()]);
}
