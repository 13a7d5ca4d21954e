//! Types that threads may share are `Send` and `Sync`, and serve several threads at a time.

use bptt::blocks::{Block, Packed, Pass, Steps};
use bptt::{
    Adam, Dense, Error, Lstm, Manifest, Model, Network, Parameters, Runtime, Schedule, Sgd, State,
    Stream, Workspace,
};
use rand::{SeedableRng, rngs::StdRng};

fn shared<T: Send + Sync + ?Sized>() {}

#[test]
fn everything_is_send_and_sync() {
    shared::<Network>();
    shared::<Model>();
    shared::<Workspace>();
    shared::<Stream>();
    shared::<Parameters>();
    shared::<Manifest>();
    shared::<State>();
    shared::<Runtime>();
    shared::<Adam>();
    shared::<Sgd>();
    shared::<Error>();
    shared::<dyn Block>();
    shared::<dyn Packed>();
    shared::<dyn Pass>();
    shared::<dyn Steps>();
}

/// Several threads run streams and passes of one model, and each gets the results that one thread
/// gets alone.
#[test]
fn one_model_serves_many_threads() {
    let network = Network::new(Lstm::new(3, 20).unwrap()).then(Dense::new(20, 2).unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let mut model = network.init(&mut rng, Runtime::best().unwrap()).unwrap();
    let x: Vec<f32> = (0..30 * 3).map(|n| (n as f32 * 0.37).sin()).collect();
    let workspaces: Vec<Workspace> =
        (0..4).map(|_| model.training_workspace(Schedule::dense(30, 1)).unwrap()).collect();
    let model = &model;
    let mut expected = vec![0.0; 30 * 2];
    model.stream(1).unwrap().forward(&x, &mut expected).unwrap();
    std::thread::scope(|scope| {
        for mut workspace in workspaces {
            let (x, expected) = (&x, &expected);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(model.forward(&mut workspace, x).unwrap(), expected);
                    let mut y = vec![0.0; expected.len()];
                    let mut stream = model.stream(1).unwrap();
                    for (x, y) in x.chunks(3).zip(y.chunks_mut(2)) {
                        stream.step(x, y).unwrap();
                    }
                    assert_eq!(y, *expected);
                }
            });
        }
    });
}

/// A stream goes on with the parameters that its model had, even if the model changes or is
/// dropped.
#[test]
fn a_stream_keeps_its_parameters() {
    let network = Network::new(Lstm::new(1, 8).unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let mut model = network.init(&mut rng, Runtime::best().unwrap()).unwrap();
    let (mut stream, mut beside) = (model.stream(1).unwrap(), model.stream(1).unwrap());
    let (mut y, mut expected) = ([0.0; 8], [0.0; 8]);
    stream.step(&[0.5], &mut y).unwrap();
    beside.step(&[0.5], &mut expected).unwrap();
    model
        .change(|parameters| {
            parameters.as_mut_slice().fill(0.0);
            Ok::<(), Error>(())
        })
        .unwrap();
    stream.step(&[0.25], &mut y).unwrap();
    beside.step(&[0.25], &mut expected).unwrap();
    assert_eq!(y, expected);
    let mut changed = [1.0; 8];
    model.stream(1).unwrap().step(&[0.25], &mut changed).unwrap();
    assert_eq!(changed, [0.0; 8]);
}
