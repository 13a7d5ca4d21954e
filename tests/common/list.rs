//! A list of sequences, each of its own length: what is drawn for it, and passes over it.

use super::{Given, Layout, Subject, assert_bits};
use bptt::{Accumulate, InputSize, Model, Noise, Schedule, State, Workspace};
use bptt_reference::sample::uniform;

/// What one sequence is given: inputs, ∂L/∂y, the state before its first step, and the gradient by
/// the state after its last.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
    pub state: State,
    pub dlast: State,
}

/// The results of one sequence.
#[derive(Clone, Debug)]
pub struct Own {
    /// None where a budget keeps no outputs.
    pub y: Option<Vec<f32>>,
    pub last: State,
    pub dx: Vec<f32>,
    pub dstate: State,
}

impl Own {
    #[track_caller]
    pub fn assert_same(&self, what: &str, expected: &Self) {
        if let (Some(given), Some(expected)) = (&self.y, &expected.y) {
            assert_bits(&format!("y, {what}"), given, expected);
        }
        let (last, dstate) = (expected.last.as_slice(), expected.dstate.as_slice());
        assert_bits(&format!("last state, {what}"), self.last.as_slice(), last);
        assert_bits(&format!("dx, {what}"), &self.dx, &expected.dx);
        assert_bits(&format!("dstate, {what}"), self.dstate.as_slice(), dstate);
    }
}

/// Sequences of these lengths, all of whose numbers are drawn evenly from [−1, 1), after `start`
/// steps.
pub fn draw_list(subject: &Subject, lengths: &[usize], seed: u64, start: u64) -> Vec<Sequence> {
    let (inputs, outputs) = (subject.input_size(), subject.output_size());
    let zero = subject.network().state(1).unwrap();
    let of = |(number, &len): (usize, &usize)| {
        let draw =
            |k: u64, len| uniform(seed.wrapping_add(1_000_000 * k + number as u64), len, 1.0);
        let state = |k| {
            let mut state = zero.clone();
            state.as_mut_slice().copy_from_slice(&draw(k, zero.as_slice().len()));
            state.set_step(start).unwrap();
            state
        };
        let (x, dy) = (draw(1, len * inputs), draw(2, len * outputs));
        Sequence { x, dy, state: state(3), dlast: state(4) }
    };
    lengths.iter().enumerate().map(of).collect()
}

/// The features of a row of the inputs.
pub fn features_of(model: &Model) -> usize {
    let InputSize::Features(inputs) = model.input() else { unreachable!("no embeddings here") };
    inputs
}

/// The lengths of the sequences.
pub fn lengths_of(model: &Model, sequences: &[Sequence]) -> Vec<usize> {
    let inputs = features_of(model);
    sequences.iter().map(|sequence| sequence.x.len() / inputs).collect()
}

/// A state of all sequences, which have taken as many steps as the first one.
pub fn joined<'a>(model: &Model, states: impl ExactSizeIterator<Item = &'a State>) -> State {
    let mut all = model.state(states.len()).unwrap();
    for (n, one) in states.enumerate() {
        if n == 0 {
            all.set_step(one.step()).unwrap();
        }
        all.set_sequence(n, one).unwrap();
    }
    all
}

/// Runs forward and backward over the sequences in a workspace that is planned for their lengths in
/// this layout. Padding that is given is NaN, and that of results must be 0.
pub fn run_list(
    (model, workspace): (&Model, &mut Workspace),
    layout: Layout,
    sequences: &[Sequence],
    accumulate: Accumulate,
) -> Vec<Own> {
    let inputs = features_of(model);
    let (outputs, lengths) = (model.output_size(), lengths_of(model, sequences));
    workspace.set_state(&joined(model, sequences.iter().map(|s| &s.state))).unwrap();
    let dlast = joined(model, sequences.iter().map(|s| &s.dlast));
    workspace.set_last_gradient(Some(&dlast)).unwrap();
    let all = |of: fn(&Sequence) -> &Vec<f32>, width: usize| {
        let parts: Vec<_> = sequences.iter().map(|sequence| of(sequence).clone()).collect();
        layout.joined(&parts, width, f32::NAN)
    };
    let (x, dy) = (all(|s| &s.x, inputs), all(|s| &s.dy, outputs));
    // A workspace whose budget divides the pass keeps no outputs.
    let y = model.forward(workspace, &x).ok().map(<[f32]>::to_vec);
    match y {
        Some(_) => model.backward(workspace, &x, &Given(&dy), accumulate),
        None => model.gradients(workspace, &x, &Given(&dy), accumulate),
    }
    .unwrap();
    let (last, dstate) = (workspace.last_state().unwrap(), workspace.state_gradients().unwrap());
    let dx = workspace.input_gradients().unwrap();
    let mut is_padding = vec![true; layout.schedule(&lengths).given_rows()];
    for (n, &len) in lengths.iter().enumerate() {
        (0..len).for_each(|step| is_padding[layout.row(&lengths, n, step)] = false);
    }
    for row in (0..is_padding.len()).filter(|&row| is_padding[row]) {
        let is_zero = |all: &[f32], width| all[row * width..][..width].iter().all(|v| *v == 0.0);
        assert!(y.as_ref().is_none_or(|y| is_zero(y, outputs)), "y of padding, row {row}");
        assert!(is_zero(dx, inputs), "dx of padding, row {row}");
    }
    let own = (0..sequences.len()).map(|n| Own {
        y: y.as_ref().map(|y| layout.of(y, &lengths, n, outputs)),
        last: last.sequence(n).unwrap(),
        dx: layout.of(dx, &lengths, n, inputs),
        dstate: dstate.sequence(n).unwrap(),
    });
    own.collect()
}

/// The results of a sequence alone, and the gradients of the parameters. A sequence without a step
/// keeps its state and the gradient by it.
pub fn run_alone(model: &mut Model, sequence: &Sequence, noise: Noise) -> (Own, Vec<f32>) {
    let steps = lengths_of(model, std::slice::from_ref(sequence))[0];
    if steps == 0 {
        let Sequence { state, dlast, .. } = sequence.clone();
        let own = Own { y: Some(Vec::new()), last: state, dx: Vec::new(), dstate: dlast };
        return (own, vec![0.0; model.manifest().len()]);
    }
    let training = model.training(Schedule::dense(steps, 1));
    let mut workspace = training.with_input_gradients().with_state_gradients().workspace().unwrap();
    workspace.set_noise(noise);
    let (layout, one) = (Layout::TimeMajor(steps), std::slice::from_ref(sequence));
    let own = run_list((model, &mut workspace), layout, one, Accumulate::No).remove(0);
    (own, workspace.gradients().as_slice().to_vec())
}
