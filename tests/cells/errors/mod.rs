//! Every call that is refused: what the error says, and that nothing has been
//! written.

mod models;
mod order;
mod passes;
mod streams;

use crate::common::{Data, Kind, Snapshot, Subject, assert_mismatch, isas, value};
use bptt::{Dense, Embedding, Error, Init, Network, Runtime, Schedule, Workspace};
use rand::{SeedableRng, rngs::StdRng};

const SHAPE: (usize, usize, usize, usize) = (3, 5, 2, 4);

/// The tensors of a state of the layer of that shape, and of its parameters.
const STATE: &str = "0.h [2, 5], 0.c [2, 5]";
const PARAMETERS: &str = "0.weight_ih [20, 3], 0.weight_hh [20, 5], 0.bias [20]";

fn data() -> Data {
    let (inputs, hidden, batch, steps) = SHAPE;
    Data::draw(Subject { kind: Kind::LSTM, inputs, hidden }, batch, steps, 1, 0.5)
}

/// What a workspace that holds a pass shows of it, and the gradients that are in it.
fn contents(workspace: &Workspace) -> Snapshot {
    let left = |name| workspace.activations(name);
    let gates = left("0.gates").or_else(|_| left("0.preactivation_gradients"));
    Snapshot::of(&[
        gates.unwrap(),
        left("0.y").unwrap(),
        left("0.c").unwrap(),
        workspace.gradients().as_slice(),
        workspace.last_state().unwrap().as_slice(),
    ])
}

/// Sizes, schedules and runtimes that nothing can be made of.
#[test]
fn numbers_outside_their_range() {
    let none = |what: &'static str| value(what, "0", "1 or more");
    let too_large = |what| Error::TooLarge { what };
    assert_eq!(Dense::new(0, 1), Err(none("input_size")));
    assert_eq!(Dense::new(1, 0), Err(none("output_size")));
    assert_eq!(Embedding::new(0, 1).unwrap_err(), none("tokens"));
    assert_eq!(Embedding::new(1, 0).unwrap_err(), none("embedding_size"));
    assert_eq!(Dense::new(usize::MAX, 1), Err(too_large("the parameters")));
    assert_eq!(Dense::new(1 << 40, 1 << 30), Err(too_large("the parameters")));
    assert_eq!(Embedding::new(1 << 20, 1 << 50).unwrap_err(), too_large("the parameters"));
    let given = ((1usize << 32) + 1).to_string();
    assert_eq!(
        Embedding::new((1 << 32) + 1, 1).unwrap_err(),
        value("tokens", &given, "2³² or less")
    );

    let layer = data().layer.network();
    let init = |init, runtime| layer.init_with(init, &mut StdRng::seed_from_u64(1), runtime);
    for &isa in isas() {
        let runtime = Runtime::new(isa);
        for threads in [0, 257, usize::MAX] {
            let error = value("threads", &threads.to_string(), "1 to 256");
            let given = init(Init::Glorot, runtime.threads(threads)).map(drop);
            assert_eq!(given, Err(error.clone()));
            let given = layer.model(layer.parameters().unwrap(), runtime.threads(threads));
            assert_eq!(given.map(drop), Err(error));
        }
        for (limit, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
            let error = init(Init::Uniform { limit }, runtime).map(drop);
            assert_eq!(error, Err(value("limit", given, "finite, 0 or more")));
        }

        let mut model = init(Init::Glorot, runtime).unwrap();
        for (steps, batch, what) in [(0, 1, "steps"), (1, 0, "batch"), (0, 0, "steps")] {
            let training = model.training(Schedule::dense(steps, batch));
            assert_eq!(training.bytes(), Err(none(what)));
            assert_eq!(training.workspace().map(drop), Err(none(what)));
        }
        assert_eq!(model.state(0).map(drop), Err(none("batch")));
        assert_eq!(model.stream(0).map(drop), Err(none("batch")));

        // Sizes of which each fits the address space, and the product of both does not.
        let dense = Network::new(Dense::new(1, 64).unwrap());
        let dense = dense.model(dense.parameters().unwrap(), runtime).unwrap();
        assert_eq!(dense.stream(1 << 60).map(drop), Err(too_large("the stream")));
        let embedding = Network::new(Embedding::new(1, 64).unwrap());
        let mut embedding = embedding.model(embedding.parameters().unwrap(), runtime).unwrap();
        assert_eq!(embedding.stream(1 << 60).map(drop), Err(too_large("the stream")));
        let training = embedding.training(Schedule::dense(1 << 30, 1 << 30));
        assert_eq!(training.bytes(), Err(too_large("the workspace")));
        assert_eq!(model.state(1 << 62).map(drop), Err(too_large("the tensors")));
    }
}

/// Blocks of which one does not take what the one before it gives, in all that is made of them.
#[test]
fn blocks_that_do_not_fit() {
    let runtime = Runtime::best().unwrap();
    let refused = |network: Network, given: &str, expected: &str| {
        let check = |error: Error| assert_mismatch(error, "network", given, expected);
        check(network.manifest().unwrap_err());
        check(network.parameters().unwrap_err());
        check(network.state(1).unwrap_err());
        let mut rng = StdRng::seed_from_u64(1);
        check(network.init(&mut rng, runtime).unwrap_err());
        check(network.init_with(Init::Orthogonal, &mut rng, runtime).unwrap_err());
        let parameters = data().parameters();
        check(network.model(parameters, runtime).unwrap_err());
    };
    let layer = || data().layer.network();
    let dense = |inputs| Dense::new(inputs, 3).unwrap();
    let expected = "the input of block 1, Dense { input_size: 4, output_size: 3 }";
    refused(layer().then(dense(4)), "5 features of block 0, Lstm { input_size: 3", expected);
    let expected = "the input of block 2, Dense { input_size: 5, output_size: 3 }";
    refused(layer().then(dense(5)).then(dense(5)), "3 features of block 1, Dense", expected);
    let embedding = Embedding::new(5, 2).unwrap();
    let expected = "the input of block 1, Embedding { tokens: 5, embedding_size: 2 }";
    refused(layer().then(embedding), "5 features of block 0, Lstm", expected);
}
