//! States of single sequences, in a state, a stream and a workspace: each sequence goes on as it
//! would alone, whatever was done to the others.

#[path = "../common/mod.rs"]
mod common;
mod files;
mod refusals;

use bptt::{
    Activation, ClockGroup, Clockwork, Dense, Isa, Lstm, Model, Network, Reversed, Runtime,
    Schedule, State,
};
use bptt_reference::sample::uniform;
use common::{Kind, Subject, assert_bits, filled, isas};

const BATCH: usize = 3;

fn drawn_model(network: &Network, isa: Isa) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.4);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa)).unwrap()
}

fn drawn(model: &Model, batch: usize, seed: u64) -> State {
    let mut state = model.state(batch).unwrap();
    let values = uniform(seed, state.as_slice().len(), 1.0);
    state.as_mut_slice().copy_from_slice(&values);
    state
}

/// The values of sequence `n`, by the shapes of the tensors.
fn by_hand(all: &State, n: usize) -> Vec<f32> {
    let mut own = Vec::new();
    for tensor in all.manifest().tensors() {
        let [.., batch, width] = *tensor.shape() else { panic!("{:?}", tensor.shape()) };
        let rows = all.as_slice()[tensor.range()].chunks(width);
        own.extend(rows.skip(n).step_by(batch).flatten());
    }
    own
}

fn subjects() -> impl Iterator<Item = Subject> {
    let sized = |(nth, kind)| Subject { kind, inputs: 1 + nth % 3, hidden: 5 + 4 * (nth % 3) };
    Kind::kernels().into_iter().enumerate().map(sized)
}

fn is_clocked(subject: &Subject) -> bool {
    matches!(subject.kind, Kind::Clockwork(..))
}

/// The inputs `[steps, B, width]` of sequence `n` alone.
fn own(x: &[f32], n: usize, width: usize) -> Vec<f32> {
    x.chunks(width).skip(n).step_by(BATCH).flatten().copied().collect()
}

/// Sequences that were read, reset, set and reordered go on in a stream as each would alone.
#[test]
fn each_sequence_of_a_stream_goes_on_as_alone() {
    for subject in subjects() {
        for &isa in isas() {
            let model = drawn_model(&subject.network(), isa);
            let (inputs, outputs) = (subject.input_size(), subject.output_size());
            let x = uniform(7, 9 * BATCH * inputs, 1.0);
            let mut all = model.stream(BATCH).unwrap();
            let mut alone: Vec<_> = (0..BATCH).map(|_| model.stream(1).unwrap()).collect();
            let mut stashed = None;
            for (part, x) in x.chunks(3 * BATCH * inputs).enumerate() {
                match part {
                    1 if is_clocked(&subject) => {}
                    1 => {
                        stashed = Some(all.sequence_state(1).unwrap());
                        all.reset_sequence(1).unwrap();
                        alone[1].reset();
                    }
                    2 => {
                        if let Some(stashed) = &stashed {
                            all.set_sequence_state(0, stashed).unwrap();
                            alone[0].set_state(stashed).unwrap();
                        }
                        all.reorder_state(&[2, 0, 2]).unwrap();
                        let states: Vec<_> = alone.iter().map(|s| s.state().unwrap()).collect();
                        for (stream, old) in alone.iter_mut().zip([2, 0, 2]) {
                            stream.set_state(&states[old]).unwrap();
                        }
                    }
                    _ => {}
                }
                let mut y = filled(3 * BATCH * outputs);
                all.forward(x, &mut y).unwrap();
                for (n, stream) in alone.iter_mut().enumerate() {
                    let what = format!("{subject:?}, sequence {n}, part {part}");
                    let mut expected = filled(3 * outputs);
                    stream.forward(&own(x, n, inputs), &mut expected).unwrap();
                    assert_bits(&what, &own(&y, n, outputs), &expected);
                    let state = all.sequence_state(n).unwrap();
                    assert_bits(&what, state.as_slice(), stream.state_slice());
                    assert_eq!((state.batch(), state.step()), (1, all.state().unwrap().step()));
                }
            }
        }
    }
}

/// In a state, with the values found by the tensors' shapes.
#[test]
fn single_sequences_of_a_state() {
    for subject in subjects() {
        let model = drawn_model(&subject.network(), isas()[0]);
        let mut all = drawn(&model, 4, 2);
        all.set_step(8).unwrap();
        let before: Vec<_> = (0..4).map(|n| by_hand(&all, n)).collect();
        let expect = |all: &State, expected: [&[f32]; 4]| {
            for (n, expected) in expected.into_iter().enumerate() {
                assert_bits(&format!("{subject:?}, sequence {n}"), &by_hand(all, n), expected);
                let one = all.sequence(n).unwrap();
                assert_bits(&format!("{subject:?}, read {n}"), one.as_slice(), expected);
                assert_eq!(*one.manifest(), *model.state(1).unwrap().manifest());
            }
        };
        let [a, b, c, d] = &before[..] else { unreachable!("four sequences") };
        expect(&all, [a, b, c, d]);
        all.reorder(&[0, 1, 2, 3]).unwrap();
        expect(&all, [a, b, c, d]);
        all.reorder(&[1, 2, 0, 3]).unwrap();
        expect(&all, [b, c, a, d]);
        all.reorder(&[0, 3, 3, 2]).unwrap();
        expect(&all, [b, d, d, a]);
        let mut one = drawn(&model, 1, 3);
        one.set_step(8).unwrap();
        all.set_sequence(2, &one).unwrap();
        expect(&all, [b, d, one.as_slice(), a]);
        if !is_clocked(&subject) {
            all.reset_sequence(3).unwrap();
            expect(&all, [b, d, one.as_slice(), &vec![0.0; a.len()]]);
        }
        assert_eq!((all.batch(), all.step()), (4, 8));
        let same = one.broadcast(4).unwrap();
        expect(&same, [one.as_slice(); 4]);
        assert_eq!((same.batch(), same.step()), (4, 8));
        assert_eq!(one.broadcast(1).unwrap(), one);
    }
}

/// Sequences of different lengths are counted in the order of the caller.
#[test]
fn single_sequences_of_a_workspace() {
    let lengths = [3, 0, 5, 2];
    let schedules = [
        Schedule::padded(&lengths, 6).unwrap(),
        Schedule::batch_first(&lengths, 6).unwrap(),
        Schedule::packed(&lengths).unwrap(),
        Schedule::dense(4, 4),
    ];
    for subject in subjects() {
        for &isa in isas() {
            for schedule in &schedules {
                if is_clocked(&subject) && *schedule != schedules[3] {
                    continue;
                }
                let network = subject.network().then(Dense::new(subject.output_size(), 2).unwrap());
                let network = network.then(Reversed::new(Lstm::new(2, 3).unwrap()));
                let mut model = drawn_model(&network, isa);
                let x = uniform(7, schedule.given_rows() * subject.input_size(), 1.0);
                let mut workspace = model.training_workspace(schedule).unwrap();
                let start = drawn(&model, 4, 2);
                for n in 0..4 {
                    workspace.set_sequence_state(n, &start.sequence(n).unwrap()).unwrap();
                    assert_eq!(workspace.sequence_state(n), start.sequence(n));
                }
                let mut expect = |workspace: &mut bptt::Workspace, start: &State| {
                    let y = model.forward(workspace, &x).unwrap().to_vec();
                    let last = workspace.last_state().unwrap();
                    for n in 0..4 {
                        assert_eq!(workspace.last_sequence_state(n), last.sequence(n));
                    }
                    let mut other = model.training_workspace(schedule).unwrap();
                    other.set_state(start).unwrap();
                    let what = format!("{subject:?}, {schedule:?}");
                    assert_bits(&what, &y, model.forward(&mut other, &x).unwrap());
                    assert_eq!(last, other.last_state().unwrap());
                    last
                };
                let last = expect(&mut workspace, &start);
                workspace.carry_state().unwrap();
                assert_eq!(workspace.sequence_state(2), last.sequence(2));
                let mut next = last.clone();
                next.reorder(&[3, 0, 3, 2]).unwrap();
                workspace.reorder_state(&[3, 0, 3, 2]).unwrap();
                if !is_clocked(&subject) {
                    next.reset_sequence(0).unwrap();
                    workspace.reset_sequence(0).unwrap();
                }
                expect(&mut workspace, &next);
            }
        }
    }
}

fn clockwork() -> Clockwork {
    let groups = [2, 3].map(|period| ClockGroup { units: 2, period });
    Clockwork::new(2, Activation::Tanh, &groups).unwrap()
}
