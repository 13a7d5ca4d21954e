//! A state that decays: it becomes zero instead of denormal, no step of it takes longer
//! than another, and the caller's own denormals stay.

mod common;

use bptt::{Isa, Layer, Lstm, LstmState, Parameters, Purpose, Stream, Weights};
use common::{isas, say};
use std::hint::black_box;
use std::time::{Duration, Instant};

const HIDDEN: usize = 64;
const BATCH: usize = 8;

/// A cell that takes nothing in, shows half of its state, and halves it each step.
fn halving() -> (Lstm, Parameters<Lstm>) {
    let lstm = Lstm::new(1, HIDDEN).unwrap();
    let mut parameters = lstm.parameters().unwrap();
    let [_, w, b, ..] = parameters.split_mut();
    b[..HIDDEN].fill(-200.0);
    // The products of the state's last values are what would be slow.
    w.fill(1e-3);
    (lstm, parameters)
}

fn stream(lstm: &Lstm, isa: Isa, c: f32, threads: usize) -> Stream<Lstm> {
    let mut stream = lstm.stream(BATCH, isa).unwrap().with_threads(threads).unwrap();
    let (h, c) = ([0.0; BATCH * HIDDEN], [c; BATCH * HIDDEN]);
    stream.set_state(LstmState { h: &h, c: &c }).unwrap();
    stream
}

fn denormal_of_our_own() -> f32 {
    black_box(f32::MIN_POSITIVE) * black_box(0.5)
}

#[test]
fn a_decaying_state_becomes_zero_and_our_own_denormals_stay() {
    let (lstm, parameters) = halving();
    for &isa in isas() {
        let weights = lstm.pack(&parameters, Purpose::Inference, isa).unwrap();
        for threads in [1, 2] {
            let mut stream = stream(&lstm, isa, 1.0, threads);
            let mut y = [f32::NAN; BATCH * HIDDEN];
            let mut seen_small = false;
            for step in 0..200 {
                stream.step(&weights, &[0.0; BATCH], &mut y).unwrap();
                for &value in stream.state().c.iter().chain(&y) {
                    assert!(!value.is_subnormal(), "{value:e} after step {step} on {isa}");
                }
                seen_small |= stream.state().c[0] != 0.0 && stream.state().c[0] < 1e-37;
            }
            assert!(seen_small, "the state went past the smallest numbers");
            assert_eq!(stream.state().c, [0.0; BATCH * HIDDEN]);
            assert_ne!(denormal_of_our_own(), 0.0);
        }
    }
}

/// The best of several spells of steps from a state.
fn time(lstm: &Lstm, weights: &Weights<Lstm>, isa: Isa, c: f32) -> Duration {
    let mut best = Duration::MAX;
    let mut y = [0.0; BATCH * HIDDEN];
    for _ in 0..200 {
        let mut stream = stream(lstm, isa, c, 1);
        let start = Instant::now();
        for _ in 0..16 {
            stream.step(weights, &[0.0; BATCH], &mut y).unwrap();
        }
        best = best.min(start.elapsed());
    }
    best
}

/// The steps in which everything would be denormal, against the same from 1.
#[test]
fn a_decaying_sequence_does_not_get_slower() {
    if std::env::var_os("EMULATED").is_some() {
        say("NOT timed: an emulated CPU has other slow operations, an instrumented pass others");
        return;
    }
    let (lstm, parameters) = halving();
    for &isa in isas() {
        let weights = lstm.pack(&parameters, Purpose::Inference, isa).unwrap();
        // Work beside this test may slow either; what denormals slow is slow every time.
        let as_fast = (0..10).any(|_| {
            let from = |c| time(&lstm, &weights, isa, c);
            let (usual, decayed) = (from(1.0), from(f32::MIN_POSITIVE));
            println!("16 steps on {isa}: {usual:?} from 1, {decayed:?} from the smallest normal");
            decayed < usual * 3 / 2
        });
        assert!(as_fast, "denormal steps take longer on {isa}");
    }
}
