//! Networks of blocks within blocks, drawn with their schedules: they take the bytes that were declared,
//! and have the bits of their leaves run one by one, on any number of threads, under any budget, in
//! inference and in a stream.
#![no_main]

use bptt::blocks::Block;
use bptt::{Accumulate, Isa, Network, Runtime, Schedule};
use bptt_fuzz::common::Layout;
use bptt_fuzz::common::tree::{Given, Results, Sequences, Tree, infer, model_of, run};
use bptt_fuzz::{Bytes, assert_same};
use libfuzzer_sys::fuzz_target;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    let seed = (0..8).fold(0, |seed, _| seed << 8 | u64::from(bytes.byte()));
    let mut rng = StdRng::seed_from_u64(seed);
    let (inputs, depth) = (bytes.size(5), bytes.below(4));
    let tree = Tree::draw(&mut rng, depth, inputs);
    let isas = Isa::available();
    let isa = isas[usize::from(bytes.byte()) % isas.len()];
    let sequences = sequences(&mut bytes);
    let network = Network::new(tree.block());
    let given = draw(&mut rng, &network, &sequences, inputs);

    let whole = run(&network, Runtime::new(isa), &sequences, &given);
    same("by hand", isa, &whole, &tree.by_hand(Runtime::new(isa), &sequences, &given));
    let threads = bytes.size(3);
    same(
        "threads",
        isa,
        &run(&network, Runtime::new(isa).threads(threads), &sequences, &given),
        &whole,
    );
    let [y, last] = infer(&network, Runtime::new(isa).threads(threads), &sequences, &given);
    assert_same("y, inference", isa, &y, &whole.y);
    assert_same("last, inference", isa, &last, &whole.last);
    if tree.block().is_causal() {
        stream(isa, &network, &sequences, &given, &whole);
        budget(&mut bytes, isa, &network, &sequences, &given);
    }
});

fn sequences(bytes: &mut Bytes<'_>) -> Sequences {
    let mut lengths: Vec<usize> = (0..bytes.size(4)).map(|_| bytes.below(6)).collect();
    lengths[0] += 1;
    let longest = lengths.iter().copied().max().unwrap();
    let layout = match bytes.byte() % 4 {
        0 => Layout::Packed,
        1 => Layout::BatchFirst(longest + 1),
        2 => Layout::TimeMajor(longest),
        _ => {
            lengths.fill(longest);
            Layout::TimeMajor(longest)
        }
    };
    Sequences { layout, lengths }
}

fn draw(rng: &mut StdRng, network: &Network, sequences: &Sequences, inputs: usize) -> Given {
    let (rows, batch) = (sequences.rows(), sequences.lengths.len());
    let state = network.state(batch).unwrap().as_slice().len();
    let mut draw = |len| (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
    Given {
        parameters: draw(network.manifest().unwrap().len()),
        x: draw(rows * inputs),
        dy: draw(rows * network.output_size()),
        state: draw(state),
        dlast: draw(state),
    }
}

fn same(what: &str, isa: Isa, given: &Results, expected: &Results) {
    assert_same(&format!("y, {what}"), isa, &given.y, &expected.y);
    assert_same(&format!("last, {what}"), isa, &given.last, &expected.last);
    assert_same(&format!("dx, {what}"), isa, &given.dx, &expected.dx);
    assert_same(&format!("dstate, {what}"), isa, &given.dstate, &expected.dstate);
    assert_same(&format!("gradients, {what}"), isa, &given.gradients, &expected.gradients);
}

/// A stream of the first sequence alone.
fn stream(isa: Isa, network: &Network, sequences: &Sequences, given: &Given, whole: &Results) {
    let (layout, lengths) = (sequences.layout, &sequences.lengths);
    let model = model_of(network, Runtime::new(isa), &given.parameters);
    let mut all = model.state(lengths.len()).unwrap();
    all.as_mut_slice().copy_from_slice(&given.state);
    let mut stream = model.stream(1).unwrap();
    stream.set_state(&all.sequence(0).unwrap()).unwrap();
    let inputs = given.x.len() / sequences.rows();
    let x = layout.of(&given.x, lengths, 0, inputs);
    let expected = layout.of(&whole.y, lengths, 0, network.output_size());
    let mut y = vec![0.0; expected.len()];
    let (first, rest) = y.split_at_mut(network.output_size());
    stream.step(&x[..inputs], first).unwrap();
    stream.forward(&x[inputs..], rest).unwrap();
    assert_same("a stream", isa, &y, &expected);
}

/// Gradients under a budget that divides the pass, if there is one.
fn budget(
    bytes: &mut Bytes<'_>,
    isa: Isa,
    network: &Network,
    sequences: &Sequences,
    given: &Given,
) {
    let schedule: Schedule = sequences.layout.schedule(&sequences.lengths);
    let mut model = model_of(network, Runtime::new(isa), &given.parameters);
    let mut whole = model.training_workspace(&schedule).unwrap();
    let loss = bptt_fuzz::common::Given(&given.dy);
    model.gradients(&mut whole, &given.x, &loss, Accumulate::No).unwrap();
    let budget = whole.bytes() * bytes.size(100) / 100;
    let Ok(mut small) = model.training(&schedule).with_budget(budget).workspace() else { return };
    assert!(small.bytes() <= budget);
    model.gradients(&mut small, &given.x, &loss, Accumulate::No).unwrap();
    assert_same("a budget", isa, small.gradients().as_slice(), whole.gradients().as_slice());
}
