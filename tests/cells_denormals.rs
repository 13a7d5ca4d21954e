//! A state that decays becomes zero instead of denormal, no step of it takes longer than another,
//! and the caller's own denormals stay.

mod common;

use bptt::{Isa, Lstm, Model, Network, Runtime, Stream};
use common::{isas, say};
use std::hint::black_box;
use std::time::{Duration, Instant};

const HIDDEN: usize = 64;
const BATCH: usize = 8;

/// A cell that ignores its input, outputs half of its state, and halves the state in each step.
fn halving(isa: Isa, threads: usize) -> Model {
    let network = Network::new(Lstm::new(1, HIDDEN).unwrap());
    let mut parameters = network.parameters().unwrap();
    parameters.tensor_mut("0.bias").unwrap()[..HIDDEN].fill(-200.0);
    // Without flushing, the products with the state's last values would be slow.
    parameters.tensor_mut("0.weight_hh").unwrap().fill(1e-3);
    network.model(parameters, Runtime::new(isa).threads(threads)).unwrap()
}

fn stream(model: &Model, c: f32) -> Stream {
    let (mut stream, mut state) = (model.stream(BATCH).unwrap(), model.state(BATCH).unwrap());
    state.tensor_mut("0.c").unwrap().fill(c);
    stream.set_state(&state).unwrap();
    stream
}

fn denormal_of_our_own() -> f32 {
    black_box(f32::MIN_POSITIVE) * black_box(0.5)
}

#[test]
fn a_decaying_state_becomes_zero_and_our_own_denormals_stay() {
    for &isa in isas() {
        for threads in [1, 2] {
            let mut stream = stream(&halving(isa, threads), 1.0);
            let mut y = [f32::NAN; BATCH * HIDDEN];
            let mut seen_small = false;
            for step in 0..200 {
                stream.step(&[0.0; BATCH], &mut y).unwrap();
                let state = stream.state().unwrap();
                let c = state.tensor("0.c").unwrap();
                for &value in c.iter().chain(&y) {
                    assert!(!value.is_subnormal(), "{value:e} after step {step} on {isa}");
                }
                seen_small |= c[0] != 0.0 && c[0] < 1e-37;
            }
            assert!(seen_small, "the state went past the smallest numbers");
            let state = stream.state().unwrap();
            assert_eq!(state.tensor("0.c").unwrap(), [0.0; BATCH * HIDDEN]);
            assert_ne!(denormal_of_our_own(), 0.0);
        }
    }
}

/// The fastest of several runs of steps from a state.
fn time(model: &Model, c: f32) -> Duration {
    let mut best = Duration::MAX;
    let mut y = [0.0; BATCH * HIDDEN];
    for _ in 0..200 {
        let mut stream = stream(model, c);
        let start = Instant::now();
        for _ in 0..16 {
            stream.step(&[0.0; BATCH], &mut y).unwrap();
        }
        best = best.min(start.elapsed());
    }
    best
}

/// Times the steps in which everything would be denormal, and the same steps from a state of 1.
#[test]
fn a_decaying_sequence_does_not_get_slower() {
    if std::env::var_os("EMULATED").is_some() {
        say("NOT timed: an emulated CPU has other slow operations, an instrumented pass others");
        return;
    }
    for &isa in isas() {
        let model = halving(isa, 1);
        // Other work on the machine may slow either time once; denormals would slow theirs every
        // time.
        let as_fast = (0..10).any(|_| {
            let from = |c| time(&model, c);
            let (usual, decayed) = (from(1.0), from(f32::MIN_POSITIVE));
            println!("16 steps on {isa}: {usual:?} from 1, {decayed:?} from the smallest normal");
            decayed < usual * 3 / 2
        });
        assert!(as_fast, "denormal steps take longer on {isa}");
    }
}
