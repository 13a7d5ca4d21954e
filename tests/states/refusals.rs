//! Calls that do not fit the state say so and leave it as it was.

use crate::common::{isas, value};
use crate::{clockwork, drawn, drawn_model};
use bptt::blocks::{Block, Config, Pass, Plan};
use bptt::{
    Accumulate, Dense, Error, InputSize, Lstm, Manifest, Network, Reversed, Schedule, State,
};

/// A backward pass would read the state that its forward pass began from.
#[test]
fn no_backward_pass_after_the_state_has_changed() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = drawn_model(&network, isas()[0]);
    let mut workspace = model.training_workspace(Schedule::dense(2, 2)).unwrap();
    assert!(matches!(workspace.last_sequence_state(0), Err(Error::Order { .. })));
    let one = model.state(1).unwrap();
    for change in 0..3 {
        model.forward(&mut workspace, &[0.5; 8]).unwrap();
        match change {
            0 => workspace.set_sequence_state(0, &one),
            1 => workspace.reset_sequence(0),
            _ => workspace.reorder_state(&[1, 0]),
        }
        .unwrap();
        let loss = |_: &mut [f32]| 0.0;
        let error = model.backward(&mut workspace, &[0.5; 8], &loss, Accumulate::No);
        assert!(matches!(error, Err(Error::Order { call: "backward", .. })), "{error:?}");
    }
}

/// All sequences of a network with a clock have taken the same number of steps; in others the
/// number of a sequence that joins does not matter.
#[test]
fn a_sequence_with_another_number_of_steps() {
    let refused = |step: &str, others: u64| {
        value("step", step, format!("{others}, as of the other sequences, since a block reads it"))
    };
    for block in [Network::new(clockwork()), Network::new(Reversed::new(clockwork()))] {
        assert!(block.blocks().next().unwrap().reads_step());
        let mut model = drawn_model(&block.then(Dense::new(4, 2).unwrap()), isas()[0]);
        let mut all = drawn(&model, 2, 2);
        all.set_step(5).unwrap();
        let (before, one) = (all.clone(), drawn(&model, 1, 3));
        assert_eq!(all.set_sequence(1, &one), Err(refused("0", 5)));
        assert_eq!(all.reset_sequence(1), Err(refused("0", 5)));
        assert_eq!(all, before);
        let mut workspace = model.training_workspace(Schedule::dense(3, 2)).unwrap();
        workspace.set_state(&all).unwrap();
        assert_eq!(workspace.set_sequence_state(1, &one), Err(refused("0", 5)));
        assert_eq!(workspace.reset_sequence(1), Err(refused("0", 5)));
        assert_eq!(workspace.sequence_state(1), all.sequence(1));
        let mut same = one.clone();
        same.set_step(5).unwrap();
        workspace.set_sequence_state(1, &same).unwrap();
        assert_eq!(workspace.sequence_state(1), Ok(same));
        // Alone, a sequence brings its number along.
        let mut alone = drawn(&model, 1, 4);
        alone.set_step(7).unwrap();
        let mut other = one.clone();
        other.set_sequence(0, &alone).unwrap();
        assert_eq!(other, alone);
        other.reset_sequence(0).unwrap();
        assert_eq!(other, model.state(1).unwrap());
    }
    let model = drawn_model(&Network::new(clockwork()), isas()[0]);
    let mut stream = model.stream(2).unwrap();
    stream.step(&[0.5; 4], &mut [0.0; 8]).unwrap();
    let before = stream.state().unwrap();
    assert_eq!(stream.set_sequence_state(1, &drawn(&model, 1, 3)), Err(refused("0", 1)));
    assert_eq!(stream.reset_sequence(1), Err(refused("0", 1)));
    assert_eq!(stream.state().unwrap(), before);
}

/// Each refusal says what was given and what was expected, and leaves the state as it was.
#[test]
fn what_does_not_fit_is_refused() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = drawn_model(&network, isas()[0]);
    let wrong = drawn_model(&Network::new(Lstm::new(2, 4).unwrap()), isas()[0]);
    let (mut all, one) = (drawn(&model, 3, 2), drawn(&model, 1, 3));
    let (before, all_of_wrong) = (all.clone(), wrong.state(1).unwrap());
    let mut stream = model.stream(3).unwrap();
    stream.set_state(&all).unwrap();
    let mut workspace = model.training_workspace(Schedule::packed(&[2, 1, 2]).unwrap()).unwrap();
    workspace.set_state(&all).unwrap();

    let no_sequence = |n: &str| value("sequence", n, "below 3, the number of sequences");
    assert_eq!(all.sequence(3), Err(no_sequence("3")));
    assert_eq!(stream.sequence_state(3), Err(no_sequence("3")));
    assert_eq!(workspace.sequence_state(3), Err(no_sequence("3")));
    let mut all_refuse = |expected: &str, n: usize, one: &State| {
        let error = all.set_sequence(n, one).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(stream.set_sequence_state(n, one), Err(error.clone()));
        assert_eq!(workspace.set_sequence_state(n, one), Err(error));
    };
    all_refuse("sequence is 7, expected below 3, the number of sequences", 7, &one);
    all_refuse(
        "state of a sequence: made for 0.h [1, 4], 0.c [1, 4], expected 0.h [1, 3], 0.c [1, 3]",
        0,
        &all_of_wrong,
    );
    let expected = "state of a sequence: made for 3 sequences, expected 1 sequence";
    all_refuse(expected, 0, &before);
    assert_eq!(all.reset_sequence(3), Err(no_sequence("3")));
    assert_eq!(stream.reset_sequence(3), Err(no_sequence("3")));
    assert_eq!(workspace.reset_sequence(3), Err(no_sequence("3")));
    for (order, expected) in [
        (&[0, 1][..], "order has 2 elements, expected 3"),
        (&[1, 0, 5], "sequence is 5, expected below 3, the number of sequences"),
    ] {
        let error = all.reorder(order).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(stream.reorder_state(order), Err(error.clone()));
        assert_eq!(workspace.reorder_state(order), Err(error));
    }
    assert_eq!(all.broadcast(2), Err(value("number of sequences", "3", "1")));
    assert_eq!(one.broadcast(0), Err(value("batch", "0", "1 or more")));

    assert_eq!(all, before);
    assert_eq!(stream.state().unwrap(), before);
    for n in 0..3 {
        assert_eq!(workspace.sequence_state(n), before.sequence(n));
    }
}

/// A block whose state has no place for each sequence.
#[derive(Debug)]
struct Shared;

impl Block for Shared {
    fn config(&self) -> Config {
        Config::new("Shared")
    }
    fn input(&self) -> InputSize {
        InputSize::Features(1)
    }
    fn output_size(&self) -> usize {
        1
    }
    fn state(&self, _: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("count", &[5])
    }
    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Dense::new(1, 1)?.plan(plan)
    }
}

#[test]
fn a_state_that_sequences_share_has_no_single_ones() {
    let mut state = Network::new(Shared).state(2).unwrap();
    let text = "state: made for 0.count [5], expected [2, …] or […, 2, …], the batch last but one";
    assert_eq!(state.sequence(0).unwrap_err().to_string(), text);
    assert_eq!(state.reset_sequence(0).unwrap_err().to_string(), text);
    assert_eq!(state.reorder(&[1, 0]).unwrap_err().to_string(), text);
}
