//! What the LSTM allocates: nothing once set up, and before that as many bytes as
//! documented.

mod common;

use allocation_counter::measure;
use bptt::{Accumulate, Gradients, Isa, Layer, OutputGradients, Purpose, Readout, State};
use bptt_reference::cells::Cell as Equations;
use common::{
    Data, Kind, Options, Rig, Shape, Subject, any_of, check, filled, isas, lstm, shapes, shared_out,
};
use proptest::prelude::*;

/// Allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

/// The suite would pass with a counter that does not count.
#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 10]))), 1);
}

fn nothing_is_allocated<C: Subject>(data: &Data<C>) {
    let given = &data.inputs;
    for &isa in isas() {
        let Rig { plan, mut weights, mut arena } = Rig::new(isa, data);
        let (parameters, mut gradients) = (data.parameters(), data.parameters());
        let state = data.state();
        let mut dx = filled(given.x.len());
        let (mut dh0, mut dc0) = (filled(given.h0.len()), filled(given.c0.len()));
        let mut dx0 = filled(given.x0.len());
        let mut stream = data.layer.stream(data.batch, isa).unwrap();
        let mut y = filled(given.dy.len());
        let one = data.input();

        let forward = || plan.forward(&weights, &given.x, data.initial(), &mut arena).unwrap();
        assert_eq!(allocations(forward), 0, "forward");
        let backward = || {
            let gradients = Gradients {
                parameters: &mut gradients,
                accumulate: Accumulate::Yes,
                dx: Some(&mut dx),
                initial: Some(State::from_parts(&mut dh0[..], &mut dc0[..], &mut dx0[..])),
            };
            plan.backward(&weights, &given.x, data.outputs(), &mut arena, gradients).unwrap();
        };
        assert_eq!(allocations(backward), 0, "backward");
        assert_eq!(allocations(|| weights.update(&parameters).unwrap()), 0, "update");
        let step = || stream.step(&weights, &given.x[..one], &mut y[..state]).unwrap();
        assert_eq!(allocations(step), 0, "step");
        let forward = || stream.forward(&weights, &given.x, &mut y).unwrap();
        assert_eq!(allocations(forward), 0, "a stream's forward");
        let readout = Readout::new(data.layer.output_size(), 2).unwrap();
        let readout =
            readout.pack(&readout.parameters().unwrap(), Purpose::Inference, isa).unwrap();
        let mut o = filled(2 * data.batch);
        let predict = || stream.predict(&weights, &readout, &given.x[..one], &mut o).unwrap();
        assert_eq!(allocations(predict), 0, "predict");
        let state = || {
            stream.set_state(data.initial().unwrap()).unwrap();
            stream.reset();
        };
        assert_eq!(allocations(state), 0, "set_state and reset");
    }
}

#[test]
fn nothing_is_allocated_once_set_up() {
    for kind in Kind::kernels() {
        check(6, (shapes(40, 40, 100, 6), any::<u64>()), |(shape, seed)| {
            with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
                nothing_is_allocated(&Data::of(layer, shape, seed, 0.5))
            });
        });
    }
    for (kind, (inputs, hidden)) in shared_out(&[(300, 20), (17, 270)], 1) {
        with_layer!(kind, (inputs, hidden), |layer| {
            nothing_is_allocated(&Data::draw(layer, 70, 3, 1, 0.1))
        });
    }
}

/// Floats, rounded up to whole lines.
fn lines(floats: usize) -> usize {
    floats.next_multiple_of(16)
}

/// What the documentation's formulas are of.
struct Sizes {
    inputs: usize,
    hidden: usize,
    outputs: usize,
    gates: usize,
    extra: usize,
    cells: usize,
    projected: bool,
    /// Floats of an input that waits.
    late: usize,
    /// How many delays there are, and the longest.
    delays: (usize, usize),
    /// Blocks of H that the products of a stage are of, backward: each a row of its own.
    back: Vec<usize>,
    /// Whether there is a second stage, and whether the input is part of a step.
    double: bool,
    fuses: bool,
    /// Sums that are normalised: as many as gates, and those that are apart.
    normed: bool,
    apart: usize,
    /// Units and period of each group, where there are such.
    groups: Vec<(usize, usize)>,
}

/// Told from the layer's type and options, not by the crate.
fn sizes<C: Subject>(layer: &C, kind: Kind) -> Sizes {
    let (inputs, hidden, outputs) = (layer.input_size(), layer.hidden_size(), layer.output_size());
    let gates = layer.equations().gates();
    let normed = layer.epsilon().is_some();
    let kind = kind.plain();
    let projected = matches!(kind, Kind::Lstm(Options { projected: true, .. }));
    let (extra, double, fuses, back) = match kind {
        Kind::Gru(bptt::Reset::After, _) | Kind::LateGru(bptt::Reset::After, _) => {
            (1, false, false, vec![2, 1])
        }
        Kind::Gru(bptt::Reset::Before, _) | Kind::LateGru(bptt::Reset::Before, _) => {
            (1, true, false, vec![2])
        }
        Kind::Leaky(_, common::Alpha::Learned) => (1, false, true, vec![1]),
        _ => (usize::from(projected), projected, true, vec![gates]),
    };
    let cells = usize::from(layer.equations().has_state());
    let late = if layer.is_late() { inputs } else { 0 };
    let delays = match kind {
        Kind::Skip(_, delays) => (delays.len(), *delays.iter().max().unwrap()),
        _ => (1, 1),
    };
    let groups = match layer.equations() {
        Equations::Clockwork(_, groups) => groups,
        _ => Vec::new(),
    };
    Sizes {
        inputs,
        hidden,
        outputs,
        gates,
        extra,
        cells,
        projected,
        late,
        delays,
        back,
        double,
        fuses,
        normed,
        apart: layer.equations().norms() - gates,
        groups,
    }
}

/// Floats that groups keep in so many steps, and the shortest period above 1 with the units
/// from its group's first.
fn of_groups(of: &Sizes, steps: usize, batch: usize) -> (usize, Option<(usize, usize)>) {
    let kept = of.groups.iter().map(|&(units, period)| steps.div_ceil(period) * batch * units);
    let slow = of.groups.iter().position(|&(_, period)| period > 1);
    let read = |at: usize| of.groups[at..].iter().map(|&(units, _)| units).sum();
    (kept.sum(), slow.map(|at| (of.groups[at].1, read(at))))
}

/// The formula of `Plan`'s documentation for groups, in bytes.
fn documented_clocked_arena(of: &Sizes, shape: Shape, isa: Isa, threads: usize) -> usize {
    let Shape { batch, steps, .. } = shape;
    let &Sizes { inputs, hidden, .. } = of;
    let (kept, slow) = of_groups(of, steps, batch);
    let gathered = slow.map_or(0, |(period, read)| {
        let moves = steps.div_ceil(period).min((192 / batch).max(1));
        lines(moves * batch * inputs) + lines(moves * batch * read)
    });
    let regions =
        lines(kept) + lines((steps + 1) * batch * hidden) + lines(batch * hidden) + gathered;
    let widest = of.groups.iter().map(|group| group.0).max().unwrap();
    let products = (steps * batch).min(96 * threads) * lines(inputs.max(widest));
    let padded = |columns: usize| columns.div_ceil(2 * isa.lanes()) * 2 * isa.lanes();
    let sums = 256 * (padded(inputs) + padded(hidden)) + 24_576 * threads;
    4 * (regions + lines(products.max(batch * lines(hidden)).max(sums)))
}

/// The formula of `Stream`'s documentation for groups, in bytes.
fn documented_clocked_stream(of: &Sizes, shape: Shape, threads: usize) -> usize {
    let (batch, &Sizes { inputs, hidden, .. }) = (shape.batch, of);
    let steps = (192 / batch).max(1);
    let (kept, slow) = of_groups(of, steps, batch);
    let gathered = slow.filter(|_| batch < 16);
    let gathered = gathered.map_or(0, |(period, _)| steps.div_ceil(period) * batch * inputs);
    let products = (steps * batch).min(96 * threads) * lines(inputs);
    let scratch = products.max(batch * lines(hidden));
    4 * (2 * lines(batch * hidden) + lines(kept) + lines(gathered) + lines(scratch))
}

/// The formula of `Plan`'s documentation, in bytes.
fn documented_arena(of: &Sizes, shape: Shape, isa: Isa, threads: usize) -> usize {
    if !of.groups.is_empty() {
        return documented_clocked_arena(of, shape, isa, threads);
    }
    let Shape { batch, steps, .. } = shape;
    let &Sizes { inputs, hidden, outputs, gates, extra, cells, projected, .. } = of;
    let padded = |columns: usize| columns.div_ceil(2 * isa.lanes()) * 2 * isa.lanes();
    // A weight gradient's right operands are x, h and, with a second product, the extra block.
    let recurrent = if of.double { hidden.max(outputs) } else { outputs };
    let columns = padded(inputs) + padded(recurrent);
    let rows = steps * batch;
    let state = batch * outputs;
    let norm = |rows: usize, copies: usize| match of.normed {
        true => {
            let each = lines(gates * rows * hidden) + lines(of.apart * rows * hidden);
            copies * each + lines(rows * (gates + of.apart))
        }
        false => 0,
    };
    let regions = lines(gates * rows * hidden)
        + lines(extra * rows * hidden)
        + lines((steps + of.delays.1) * state)
        + cells * (lines((steps + 1) * batch * hidden) + lines(batch * hidden))
        + lines(of.delays.1 * state)
        + if projected { lines(rows * outputs) } else { 0 }
        + lines(2 * batch * of.late)
        + norm(rows, 2);
    let products = rows.min(96 * threads) * lines(inputs.max(gates * hidden));
    let back: usize = of.back.iter().map(|blocks| lines(blocks * hidden)).sum();
    let first = of.delays.0 * lines(outputs).max(back);
    let second = match (of.double, projected) {
        (false, _) => 0,
        (true, false) => lines(hidden),
        (true, true) => lines(hidden).max(lines(outputs)),
    };
    let scratch = products.max(batch * first.max(second));
    4 * (regions + lines(scratch.max(256 * columns + 24_576 * threads)))
}

/// The formula of `Stream`'s documentation, in bytes.
fn documented_stream(of: &Sizes, shape: Shape, threads: usize) -> usize {
    if !of.groups.is_empty() {
        return documented_clocked_stream(of, shape, threads);
    }
    let batch = shape.batch;
    let &Sizes { inputs, hidden, outputs, gates, extra, cells, .. } = of;
    let rows = batch.max(192 / batch * batch);
    let input = if of.fuses { lines(inputs) } else { 0 };
    let step =
        (of.delays.0 * lines(outputs) + input).max(if of.double { lines(hidden) } else { 0 });
    let scratch = (rows.min(96 * threads) * lines(inputs)).max(batch * step);
    let spread = if (gates * hidden) % 256 == 0 { 16 } else { 0 };
    let second = if of.double { lines(extra * batch * hidden) } else { 0 };
    let norm = match of.normed {
        true => {
            let each = lines(gates * batch * hidden) + lines(of.apart * batch * hidden);
            each + lines(batch * (gates + of.apart))
        }
        false => 0,
    };
    4 * (norm
        + lines(of.delays.1 * batch * outputs)
        + lines(batch * outputs)
        + cells * lines(batch * hidden)
        + second
        + lines(batch * of.late)
        + lines(rows * (gates * hidden + spread))
        + lines(scratch))
}

fn memory_is_documented<C: Subject>(layer: &C, kind: Kind, shape: Shape) {
    let of = sizes(layer, kind);
    for &isa in isas() {
        let plan = layer.plan(shape.steps, shape.batch, isa).unwrap();
        assert_eq!(plan.arena_bytes(), documented_arena(&of, shape, isa, 1), "{shape:?} on {isa}");
        let mut arena = None;
        let made = measure(|| arena = Some(plan.allocate().unwrap()));
        assert_eq!((made.count_total, made.bytes_total), (1, plan.arena_bytes() as u64));

        let mut stream = None;
        let made = measure(|| stream = Some(layer.stream(shape.batch, isa).unwrap()));
        let stream = stream.unwrap();
        let bytes = stream.bytes();
        assert_eq!(bytes, documented_stream(&of, shape, 1), "{shape:?} on {isa}");
        assert_eq!((made.count_total, made.bytes_total), (1, bytes as u64));

        for threads in [2, 5] {
            let plan = plan.clone().with_threads(threads).unwrap();
            assert_eq!(plan.arena_bytes(), documented_arena(&of, shape, isa, threads));
            let stream = stream.clone().with_threads(threads).unwrap();
            assert_eq!(stream.bytes(), documented_stream(&of, shape, threads));
        }
    }
}

#[test]
fn memory_is_as_documented() {
    let case = (any_of(Kind::kernels()), shapes(300, 300, 300, 40));
    check(300, case, |(kind, shape)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            memory_is_documented(&layer, kind, shape)
        });
    });
}

/// What noise adds, and passes with it that allocate nothing.
#[test]
fn memory_of_noise_is_as_documented() {
    let lines = |floats: usize| floats.next_multiple_of(16);
    let case = (any_of(Kind::kernels()), shapes(40, 40, 40, 9), any::<u64>());
    check(160, case, |(kind, shape, seed)| {
        with_layer!(kind, (shape.inputs, shape.hidden), |layer| {
            let data = Data::of(layer, shape, seed, 0.3).noisy(seed);
            let (regularisation, layer) = (data.regularisation, &data.layer);
            let (rows, state) = (data.steps * data.batch, data.state());
            let mut expected = 0;
            if regularisation.dropout() > 0.0 {
                let history = layer.equations().delays()[0];
                expected += lines((data.steps + history) * state) + lines(state);
            }
            let [h, c] = regularisation.zoneout();
            if h > 0.0 || c > 0.0 {
                let cells = if layer.equations().has_state() { layer.hidden_size() } else { 0 };
                expected += lines(2 * rows) + lines(state) + lines(data.batch * cells);
            }
            let peepholes = matches!(kind.plain(), Kind::Lstm(Options { peepholes: true, .. }));
            if peepholes && c > 0.0 {
                expected += lines(rows * layer.hidden_size());
            }
            for &isa in isas() {
                let plain = layer.plan(data.steps, data.batch, isa).unwrap();
                let plan = plain.clone().with_regularisation(regularisation).unwrap();
                assert_eq!(plan.arena_bytes() - plain.arena_bytes(), 4 * expected);
                assert_eq!(plan.regularisation(), regularisation);
                let Rig { plan, weights, mut arena } = Rig::new(isa, &data);
                let (x, noise) = (&data.inputs.x, data.noise);
                let pass = || plan.forward_with(&weights, x, None, noise, &mut arena).unwrap();
                assert_eq!(allocations(pass), 0);
            }
        });
    });
}

/// The table of floats per step and sequence.
#[test]
fn an_arena_grows_by_so_much_a_step() {
    for kind in Kind::all() {
        with_layer!(kind, (3, 32), |layer| for &isa in isas() {
            let bytes = |steps| layer.plan(steps, 16, isa).unwrap().arena_bytes();
            // As many as all periods divide.
            let floats = layer.floats_of_steps(60);
            assert_eq!(bytes(180) - bytes(120), 4 * 16 * floats, "{kind:?}");
        });
    }
    let lstm = lstm(Options::NONE, 3, 32);
    assert_eq!(lstm.floats_per_step(), 6 * 32);
}

/// Gradients that are not wanted need no panels.
#[test]
fn weights_take_what_their_purpose_needs() {
    for kind in Kind::kernels() {
        with_layer!(kind, (40, 40), |layer| for &isa in isas() {
            let parameters = layer.parameters().unwrap();
            let bytes = |purpose| {
                let weights = layer.pack(&parameters, purpose, isa).unwrap();
                weights.bytes()
            };
            let inference = bytes(Purpose::Inference);
            let training = bytes(Purpose::Training);
            assert!(inference < training, "{kind:?} on {isa}");
            assert!(training < bytes(Purpose::TrainingWithInputGradient), "{kind:?} on {isa}");
        });
    }
}

/// A pass with nothing but parameter gradients, as [`OutputGradients`] of nothing.
#[test]
fn optional_arguments_allocate_nothing_either() {
    for kind in Kind::kernels() {
        with_layer!(kind, (9, 20), |layer| {
            let data = Data::draw(layer, 5, 3, 1, 0.5);
            for &isa in isas() {
                let Rig { plan, weights, mut arena } = Rig::new(isa, &data);
                let (x, mut gradients) = (&data.inputs.x, data.parameters());
                let pass = || {
                    plan.forward(&weights, x, None, &mut arena).unwrap();
                    let gradients = Gradients::of(&mut gradients, Accumulate::No);
                    let outputs = OutputGradients::default();
                    plan.backward(&weights, x, outputs, &mut arena, gradients).unwrap();
                };
                assert_eq!(allocations(pass), 0, "{kind:?} on {isa}");
            }
        });
    }
}
