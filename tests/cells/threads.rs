//! Passes on several threads have the bits of one thread, whatever their number and whoever comes,
//! and they end whatever the pool does.

use crate::common::{
    Data, Kind, Rig, Shape, Subject, any_of, assert_bits, assert_mismatch, assert_same, check,
    filled, isas, shapes, shared_out, value,
};
use crate::with_layer;
use bptt::{Isa, Regularisation, Runtime};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::mpsc;

const THREADS: [usize; 3] = [2, 3, 8];

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// The outputs of a stream: one step by itself, then the rest.
fn streamed(isa: Isa, data: &Data, threads: usize) -> Vec<f32> {
    let mut stream = data.model(isa, threads).stream(data.batch).unwrap();
    stream.set_state(&data.initial()).unwrap();
    let (input, state) = (data.input(), data.state());
    let mut y = filled(data.steps * state);
    let x = &data.inputs.x;
    stream.step(&x[..input], &mut y[..state]).unwrap();
    stream.forward(&x[input..], &mut y[state..]).unwrap();
    y
}

/// Compares passes and streams on each number of threads with those on one.
fn as_on_one_thread(data: &Data) {
    // Streams with the averages of noise, and without.
    let quiet = Data { regularisation: Regularisation::none(), ..data.clone() };
    for &isa in isas() {
        let expected = Rig::new(isa, data).run(data);
        let y = [data, &quiet].map(|data| streamed(isa, data, 1));
        for threads in THREADS {
            let mut rig = Rig::with_threads(isa, data, threads);
            // Twice: the second pass finds the helpers of the first.
            for _ in 0..2 {
                assert_same(&rig.run(data), &expected);
            }
            for (data, y) in [data, &quiet].into_iter().zip(&y) {
                assert_bits("y", &streamed(isa, data, threads), y);
            }
        }
    }
}

fn of_kind(kind: Kind, shape: Shape, seed: u64, weights: f32) {
    with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
        as_on_one_thread(&Data::of(layer, shape, seed, weights).begun(seed).noisy(seed))
    });
}

#[test]
fn any_number_of_threads() {
    let case = (any_of(Kind::kernels()), shapes(40, 70, 110, 12), any::<u64>());
    check(160, case, |(kind, shape, seed)| of_kind(kind, shape, seed, 0.5));
    let large = [(100, 270, 40, 3), (2, 17, 193, 20), (3, 270, 13, 9)];
    let long = (Kind::LSTM, (64, 200, 1, 100));
    for (kind, (inputs, hidden, batch, steps)) in shared_out(&large, 1).into_iter().chain([long]) {
        of_kind(kind, Shape::new(inputs, hidden, batch, steps), 2, 0.1);
    }
}

fn some_data() -> Data {
    Data::draw(Subject { kind: Kind::LSTM, inputs: 20, hidden: 150 }, 5, 12, 3, 0.3)
}

/// A pool of one thread, which is the caller, has no helpers; in a pool of more threads than cores
/// some come late.
#[test]
fn within_pools_of_one_thread_and_of_many() {
    for threads in [1, 2, 16] {
        pool(threads).install(|| as_on_one_thread(&some_data()));
    }
}

/// Passes side by side in the tasks of one pool, each of which calls for helpers while every thread
/// has a pass of its own.
#[test]
fn nested_in_the_tasks_of_a_pool() {
    pool(3).scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|_| as_on_one_thread(&some_data()));
        }
    });
}

/// The other threads of the caller's pool wait for an event that happens only after the pass.
#[test]
fn a_pool_that_never_comes() {
    let pool = pool(3);
    let (started, blocked) = mpsc::channel();
    let (release, wait): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<()>()).unzip();
    for wait in wait {
        let started = started.clone();
        pool.spawn(move || {
            started.send(()).unwrap();
            // Ends when its sender is dropped.
            wait.recv().unwrap_err();
        });
    }
    for _ in 0..2 {
        blocked.recv().unwrap();
    }
    pool.install(|| as_on_one_thread(&some_data()));
    drop(release);
}

#[test]
fn numbers_of_threads_that_are_refused() {
    let data = some_data();
    let network = data.layer.network();
    for &isa in isas() {
        for given in [0, 257, usize::MAX] {
            let (runtime, mut rng) = (Runtime::new(isa).threads(given), SmallRng::seed_from_u64(1));
            assert_eq!(runtime.thread_count(), given);
            let expected = value("threads", &given.to_string(), "1 to 256");
            assert_eq!(network.model(data.parameters(), runtime).unwrap_err(), expected);
            assert_eq!(network.init(&mut rng, runtime).unwrap_err(), expected);
        }
        let (mut one, two) = (Rig::new(isa, &data), data.model(isa, 2));
        assert_eq!((two.runtime().thread_count(), one.model.runtime().thread_count()), (2, 1));
        let error = two.forward(&mut one.workspace, &data.inputs.x).unwrap_err();
        assert_mismatch(error, "workspace", "threads 1", "threads 2");
        assert!(data.model(isa, 256).stream(1).is_ok());
    }
}
