//! The bytes of workspaces and streams are those that the documentation's formulas give.

use crate::common::{Data, Kind, Options, Shape, Subject, any_of, check, isas, shapes};
use crate::formulas::{self, Part, Pass, Sizes, lines};
use crate::once_set_up::{passes_allocate_nothing, streams_allocate_nothing};
use crate::{networks, with_layer};
use allocation_counter::{AllocationInfo, measure};
use bptt::{Error, Isa, Model, Network, Runtime, Schedule};
use proptest::prelude::*;

/// The most that a network's workspace or stream may allocate apart from its memory, whatever its
/// size.
#[derive(Debug, PartialEq)]
struct Beside {
    allocations: u64,
    bytes: u64,
    /// Bytes that are still allocated at the end.
    kept: i64,
}

/// The bytes of a workspace and of a stream.
fn beside(network: &Network, isa: Isa, (steps, batch): (usize, usize)) -> [Beside; 2] {
    let parameters = network.parameters().unwrap();
    let mut model = network.model(parameters, Runtime::new(isa)).unwrap();
    // The first workspace also packs the weights that backward passes read.
    model.training_workspace(Schedule::dense(1, 1)).unwrap();
    let gradients = measure(|| drop(std::hint::black_box(model.parameters().clone())));
    assert_eq!(gradients.count_total, 1);
    let less = |made: AllocationInfo, bytes: u64, buffers: u64| Beside {
        allocations: made.count_total - buffers,
        bytes: made.bytes_total - bytes,
        kept: made.bytes_current - bytes as i64,
    };
    let mut workspace = None;
    let plan = |model: &mut Model| model.training_workspace(Schedule::dense(steps, batch));
    let made = measure(|| workspace = Some(plan(&mut model).unwrap()));
    let bytes = workspace.as_ref().unwrap().bytes() as u64 + gradients.bytes_total;
    let of_workspace = less(made, bytes, 2);
    let mut stream = None;
    let made = measure(|| stream = Some(model.stream(batch).unwrap()));
    [of_workspace, less(made, stream.as_ref().unwrap().bytes() as u64, 1)]
}

/// The plans take little memory, which does not depend on the rows. The rest is one allocation, and
/// for a workspace a second one, the parameters' gradients.
fn memory_is_one_allocation(network: &Network, isa: Isa, steps: usize, batch: usize) {
    let given = beside(network, isa, (steps, batch));
    // A stream of one sequence also keeps the plan of its single step.
    let few = beside(network, isa, (1, batch.min(2)));
    assert_eq!(given, few, "{network:?}, {steps}, {batch} on {isa}");
    for planned in given {
        let most = 4096 * network.blocks().len() as i64;
        assert!((0..most).contains(&planned.kept), "{planned:?} of {network:?}");
    }
}

/// Compares workspaces with the formulas, on any number of threads.
fn workspaces_are_documented(
    network: &Network,
    parts: &[Part],
    (schedule, lengths): (&Schedule, &[usize]),
    isa: Isa,
) {
    let packed = *schedule != Schedule::dense(schedule.steps(), schedule.batch());
    let has_dx = !matches!(parts[0], Part::Embedding { .. });
    for threads in [1, 2, 5] {
        let parameters = network.parameters().unwrap();
        let mut model = network.model(parameters, Runtime::new(isa).threads(threads)).unwrap();
        let pass = Pass { lengths, packed, isa, threads };
        for has_dx in [false, has_dx] {
            let mut training = model.training(schedule);
            if has_dx {
                training = training.with_input_gradients().with_state_gradients();
            }
            let bytes = formulas::workspace(parts, pass, has_dx);
            assert_eq!(training.bytes().unwrap(), bytes, "{network:?}, {pass:?}");
            assert_eq!(training.workspace().unwrap().bytes(), bytes);
        }
        let batch = lengths.len();
        let bytes = formulas::stream(parts, batch, threads);
        assert_eq!(model.stream(batch).unwrap().bytes(), bytes, "{network:?}, {pass:?}");
    }
}

fn memory_is_documented(network: &Network, parts: &[Part], steps: usize, batch: usize) {
    for &isa in isas() {
        let sequences = (&Schedule::dense(steps, batch), &vec![steps; batch][..]);
        workspaces_are_documented(network, parts, sequences, isa);
        memory_is_one_allocation(network, isa, steps, batch);
    }
}

#[test]
fn memory_is_as_documented() {
    let case = (any_of(Kind::kernels()), shapes(300, 300, 300, 40));
    check(300, case, |(kind, shape)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let part = Part::Layer(Sizes::of(&layer));
            memory_is_documented(&layer.network(), &[part], shape.steps, shape.batch)
        });
    });
}

#[test]
fn memory_of_different_lengths_is_as_documented() {
    let lengths = proptest::collection::vec(0..60usize, 1..40);
    check(
        100,
        (any_of(Kind::kernels()), shapes(60, 60, 1, 1), lengths),
        |(kind, shape, lengths)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| for &isa in isas() {
                let sequences = (&Schedule::packed(&lengths).unwrap(), &lengths[..]);
                let part = Part::Layer(Sizes::of(&layer));
                workspaces_are_documented(&layer.network(), &[part], sequences, isa)
            });
        },
    );
}

#[test]
fn memory_of_networks_is_as_documented() {
    for (network, parts) in networks() {
        for (steps, batch) in [(1, 1), (20, 3), (3, 200)] {
            memory_is_documented(&network, &parts, steps, batch);
        }
    }
}

/// Passes whose elements are more than 32 bits count, and passes that no memory could hold.
#[test]
fn memory_of_long_passes_is_as_documented() {
    let layer = Subject { kind: Kind::LSTM, inputs: 500, hidden: 500 };
    let parts = [Part::Layer(Sizes::of(&layer))];
    for &isa in isas() {
        let mut model = layer.model(isa, &vec![0.0; layer.parameter_count()]);
        for batch in [1, 64, 1000] {
            let lengths = vec![20_758; batch];
            let pass = Pass { lengths: &lengths, packed: false, isa, threads: 1 };
            let bytes = model.training(Schedule::dense(20_758, batch)).bytes();
            assert_eq!(bytes, Ok(formulas::workspace(&parts, pass, false)), "{batch} on {isa}");
        }
        let training = model.training(Schedule::dense(usize::MAX / 2, 1));
        assert_eq!(training.bytes(), Err(Error::TooLarge { what: "the schedule" }));
        assert!(matches!(training.workspace(), Err(Error::TooLarge { .. })));
    }
}

/// Memory that noise adds; passes with noise allocate nothing.
#[test]
fn memory_of_noise_is_as_documented() {
    let case = (any_of(Kind::kernels()), shapes(40, 40, 40, 9), any::<u64>());
    check(160, case, |(kind, shape, seed)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let data = Data::of(layer, shape, seed, 0.3).noisy(seed);
            let (in_passes, in_streams) = floats_of_noise(&data, shape);
            for &isa in isas() {
                let (mut noisy, mut plain) =
                    (data.model(isa, 1), layer.model(isa, &data.inputs.params));
                let bytes = |model: &mut Model| model.training(data.schedule()).bytes().unwrap();
                assert_eq!(bytes(&mut noisy) - bytes(&mut plain), 4 * in_passes, "{data:?}");
                let bytes = |model: &Model| model.stream(data.batch).unwrap().bytes();
                assert_eq!(bytes(&noisy) - bytes(&plain), 4 * in_streams, "{data:?}");
                passes_allocate_nothing(&mut noisy, &data);
                streams_allocate_nothing(&data, isa);
            }
        });
    });
}

/// The floats that a layer's noise adds to a pass and to a stream.
fn floats_of_noise(data: &Data, shape: Shape) -> (usize, usize) {
    let (layer, [h, c]) = (&data.layer, data.regularisation.zoneout());
    let (rows, state) = (shape.steps * shape.batch, data.state());
    let cells = if layer.equations().has_state() { shape.batch * shape.hidden } else { 0 };
    let (mut in_passes, mut in_streams) = (0, 0);
    if data.regularisation.dropout() > 0.0 {
        let history = layer.equations().delays()[0];
        in_passes += lines(history * state) + lines(shape.steps * state) + lines(state);
    }
    if h > 0.0 || c > 0.0 {
        in_passes += lines(2 * rows) + lines(state) + lines(cells);
        in_streams += lines(cells);
    }
    let peepholes = |options: Options| options.peepholes;
    let sees_cells = match layer.kind.plain() {
        Kind::Lstm(options) | Kind::LateLstm(options) => peepholes(options),
        _ => false,
    };
    if sees_cells && c > 0.0 {
        in_passes += lines(rows * shape.hidden);
    }
    (in_passes, in_streams)
}

/// The documentation's table of floats per step and sequence, and of gradients by outputs and
/// inputs.
#[test]
fn a_workspace_grows_by_so_much_a_step() {
    for kind in Kind::all() {
        with_layer!(kind, (3, 32), |layer| for &isa in isas() {
            let mut model = layer.model(isa, &vec![0.0; layer.parameter_count()]);
            let mut bytes = |steps| {
                let training = model.training(Schedule::dense(steps, 16));
                let without = training.bytes().unwrap();
                [without, training.with_input_gradients().bytes().unwrap()]
            };
            // A multiple of all periods.
            let gradients = if layer.reads_output() { 60 * layer.output_size() } else { 0 };
            let floats = layer.floats_of_steps(60) + gradients;
            let (long, short) = (bytes(180), bytes(120));
            let dx = 60 * layer.input_size();
            assert_eq!(long[0] - short[0], 4 * 16 * floats, "{kind:?}");
            assert_eq!(long[1] - short[1], 4 * 16 * (floats + dx), "{kind:?}");
        });
    }
    let lstm = Subject { kind: Kind::LSTM, inputs: 3, hidden: 32 };
    assert_eq!(lstm.floats_of_steps(1), 6 * 32);
}

/// Gradients that are not asked for need no panels.
#[test]
fn weights_take_what_their_purpose_needs() {
    for kind in Kind::kernels() {
        with_layer!(kind, (40, 40), |layer| for &isa in isas() {
            let mut model = layer.model(isa, &vec![0.0; layer.parameter_count()]);
            let schedule = Schedule::dense(1, 1);
            let inference = model.packed_bytes();
            model.training_workspace(&schedule).unwrap();
            let training = model.packed_bytes();
            // The only weights that passes backward need for their own steps are those of W.
            let needs_more = !kind.is_scan();
            assert_eq!(inference < training, needs_more, "{kind:?} on {isa}");
            model.training(&schedule).with_input_gradients().workspace().unwrap();
            let all = model.packed_bytes();
            assert!(training < all, "{kind:?} on {isa}");
            // Weights that are packed already are not packed again.
            model.training_workspace(&schedule).unwrap();
            assert_eq!(model.packed_bytes(), all);
        });
    }
}
