//! Passes over sequences of drawn lengths, in a network of drawn layers, laid out in any way.

use crate::common::{Kind, Layout, Subject};
use crate::{Bytes, assert_same};
use bptt::{
    Accumulate, Activation, Dense, Gru, Isa, Lstm, Model, Network, Noise, Padding, Regularisation,
    Reset, Runtime, Schedule, Skip, SquaredError, State, Workspace,
};
use bptt_reference::sample::uniform;

/// What is drawn for one sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub x: Vec<f32>,
    pub targets: Vec<f32>,
    pub state: State,
    pub dlast: State,
    /// Its place in the noise.
    pub number: u64,
}

/// The results of a pass: those of each sequence, and those of all.
#[derive(Debug)]
pub struct Results {
    pub loss: f64,
    pub gradients: Vec<f32>,
    pub sequences: Vec<Own>,
}

/// The results of one sequence.
#[derive(Debug)]
pub struct Own {
    /// None where a budget keeps no outputs.
    pub y: Option<Vec<f32>>,
    pub last: State,
    pub dx: Vec<f32>,
    pub dstate: State,
}

/// How the sequences lie in the caller's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    pub layout: Layout,
    /// Whether the schedule is the one of sequences of the same length.
    pub dense: bool,
    pub padding: Padding,
}

impl Arrangement {
    /// Rows in the order of a step, with as many steps as the longest sequence has.
    pub fn dense(steps: usize) -> Self {
        Self { layout: Layout::TimeMajor(steps), dense: true, padding: Padding::Zeros }
    }

    pub fn schedule(self, lengths: &[usize]) -> Schedule {
        match (self.dense, self.layout) {
            (true, Layout::TimeMajor(steps)) => Schedule::dense(steps, lengths.len()),
            _ => self.layout.schedule(lengths).with_padding(self.padding),
        }
    }
}

/// A network, its sequences, and the machine.
#[derive(Debug)]
pub struct Case {
    pub network: Network,
    pub inputs: usize,
    pub isa: Isa,
    pub threads: usize,
    pub noisy: bool,
    pub sequences: Vec<Sequence>,
    pub arrangement: Arrangement,
}

/// A layer of any kind, sometimes another one after it, and sometimes a dense block at the end.
fn network(bytes: &mut Bytes<'_>) -> (Kind, usize, Network, bool) {
    let subject = Subject { kind: bytes.kind(), inputs: bytes.size(9), hidden: bytes.size(20) };
    let noisy = bytes.byte().is_multiple_of(3) && !matches!(subject.kind, Kind::Clockwork(..));
    let mut network = match noisy {
        true => {
            let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
            // A gradient that is carried over several steps has been masked already, so its bits
            // differ.
            let dropout = if subject.equations().delays()[0] == 1 { 0.25 } else { 0.0 };
            let noise = Regularisation::none().with_dropout(dropout).unwrap();
            subject.network_with(noise.with_zoneout(0.3, cell).unwrap())
        }
        false => subject.network(),
    };
    let (inputs, hidden) = (network.output_size(), bytes.size(12));
    network = match bytes.byte() % 6 {
        0 => network.then(Lstm::new(inputs, hidden).unwrap()),
        1 => network.then(Gru::new(inputs, hidden, Reset::Before).unwrap()),
        2 => network.then(Skip::new(inputs, hidden, Activation::Tanh, &[4, 1]).unwrap()),
        _ => network,
    };
    if bytes.byte().is_multiple_of(2) {
        let outputs = network.output_size();
        network = network.then(Dense::new(outputs, bytes.size(5)).unwrap());
    }
    (subject.kind, subject.inputs, network, noisy)
}

/// One to nine lengths: of any sequences, one long and many short ones, the same ones, or none.
fn lengths(bytes: &mut Bytes<'_>) -> Vec<usize> {
    let batch = bytes.size(9);
    let mut lengths: Vec<usize> = match bytes.byte() % 8 {
        0 => vec![0; batch],
        1 => vec![bytes.size(20); batch],
        2 | 3 => (0..batch).map(|_| bytes.size(3) - 1).collect(),
        _ => (0..batch).map(|_| bytes.size(17) - 1).collect(),
    };
    if bytes.byte().is_multiple_of(3) {
        lengths[bytes.byte() as usize % batch] = bytes.size(60);
    }
    lengths
}

/// The layout, of one kind of the four.
pub fn arrangement(bytes: &mut Bytes<'_>, longest: usize) -> Arrangement {
    let steps = longest + bytes.size(3) - 1;
    let layout = match bytes.byte() % 3 {
        0 => Layout::TimeMajor(steps),
        1 => Layout::BatchFirst(steps),
        _ => Layout::Packed,
    };
    let padding = match bytes.byte() % 2 {
        0 => Padding::Zeros,
        _ => Padding::LastOutput,
    };
    Arrangement { layout, dense: false, padding }
}

impl Case {
    pub fn draw(bytes: &mut Bytes<'_>) -> Self {
        let isa = Isa::available()[usize::from(bytes.byte()) % Isa::available().len()];
        let threads = bytes.size(2);
        let (kind, inputs, network, noisy) = network(bytes);
        let mut lengths = lengths(bytes);
        // A clockwork's units move at the same steps in all sequences, which have the same length.
        let is_clocked = matches!(kind, Kind::Clockwork(..));
        if is_clocked {
            let longest = lengths.iter().copied().max().unwrap().max(1);
            lengths.fill(longest);
        }
        let longest = lengths.iter().copied().max().unwrap();
        let are_equal = longest > 0 && lengths.iter().all(|&len| len == longest);
        let arrangement = match are_equal && (is_clocked || bytes.byte().is_multiple_of(2)) {
            true => Arrangement::dense(longest),
            false => arrangement(bytes, longest),
        };
        let mut case =
            Self { network, inputs, isa, threads, noisy, sequences: Vec::new(), arrangement };
        let model = case.model();
        let seed = bytes.below(1 << 15) as u64;
        let drawn = (0u64..).zip(&lengths).map(|(n, &len)| {
            let draw = |k: u64, len| uniform(seed + 1000 * k + 50_000 * n, len, 1.0);
            let state = |k: u64| {
                let mut state = model.state(1).unwrap();
                let len = state.as_slice().len();
                state.as_mut_slice().copy_from_slice(&draw(k, len));
                state
            };
            let (x, targets) = (draw(1, len * inputs), draw(2, len * model.output_size()));
            Sequence { x, targets, state: state(3), dlast: state(4), number: n }
        });
        case.sequences = drawn.collect();
        case
    }

    pub fn lengths(&self) -> Vec<usize> {
        lengths_of(&self.sequences, self.inputs)
    }

    pub fn model(&self) -> Model {
        let mut parameters = self.network.parameters().unwrap();
        let values = uniform(1, parameters.as_slice().len(), 0.4);
        parameters.as_mut_slice().copy_from_slice(&values);
        let runtime = Runtime::new(self.isa).threads(self.threads);
        self.network.model(parameters, runtime).unwrap()
    }
}

/// The lengths of these sequences.
pub fn lengths_of(sequences: &[Sequence], inputs: usize) -> Vec<usize> {
    sequences.iter().map(|sequence| sequence.x.len() / inputs).collect()
}

/// A state of all sequences.
fn joined<'a>(model: &Model, states: impl ExactSizeIterator<Item = &'a State>) -> State {
    let mut all = model.state(states.len()).unwrap();
    for (n, one) in states.enumerate() {
        if n == 0 {
            all.set_step(one.step()).unwrap();
        }
        all.set_sequence(n, one).unwrap();
    }
    all
}

/// Panics unless the rows of no sequence are as the schedule says.
fn assert_padding(arrangement: Arrangement, lengths: &[usize], y: &[f32], width: usize) {
    let (Layout::TimeMajor(steps) | Layout::BatchFirst(steps)) = arrangement.layout else { return };
    let row = |n, step| {
        let row = arrangement.layout.row(lengths, n, step);
        y[row * width..][..width].iter().map(|y| y.to_bits())
    };
    for (n, &len) in lengths.iter().enumerate() {
        for step in len..steps {
            let is_right = match arrangement.padding {
                Padding::LastOutput if len > 0 => row(n, step).eq(row(n, len - 1)),
                _ => row(n, step).all(|bits| bits == 0),
            };
            assert!(is_right, "sequence {n} of {lengths:?} at step {step}, {arrangement:?}");
        }
    }
}

/// Runs forward and backward over `sequences`, with NaN in the padding, and gradients added to
/// those that were `before`, if there are any.
pub fn run(
    (model, workspace): (&Model, &mut Workspace),
    sequences: &[Sequence],
    arrangement: Arrangement,
    before: Option<&[f32]>,
) -> Results {
    let bptt::InputSize::Features(inputs) = model.input() else { unreachable!("no embeddings") };
    let (outputs, layout) = (model.output_size(), arrangement.layout);
    let lengths = lengths_of(sequences, inputs);
    let state = joined(model, sequences.iter().map(|s| &s.state));
    workspace.set_state(&state).unwrap();
    let dlast = joined(model, sequences.iter().map(|s| &s.dlast));
    workspace.set_last_gradient(Some(&dlast)).unwrap();
    workspace.set_noise(Noise { seed: 7, step: state.step(), sequence: sequences[0].number });
    let all = |of: fn(&Sequence) -> &Vec<f32>, width| {
        let parts: Vec<_> = sequences.iter().map(|sequence| of(sequence).clone()).collect();
        layout.joined(&parts, width, f32::NAN)
    };
    let (x, targets) = (all(|s| &s.x, inputs), all(|s| &s.targets, outputs));
    let loss = SquaredError::sum(&targets);
    let accumulate = match before {
        Some(before) => {
            workspace.gradients_mut().as_mut_slice().copy_from_slice(before);
            Accumulate::Yes
        }
        None => Accumulate::No,
    };
    let y = model.forward(workspace, &x).ok().map(<[f32]>::to_vec);
    let loss = match &y {
        Some(y) => {
            assert_padding(arrangement, &lengths, y, outputs);
            model.backward(workspace, &x, &loss, accumulate)
        }
        None => model.gradients(workspace, &x, &loss, accumulate),
    };
    let (last, dstate) = (workspace.last_state().unwrap(), workspace.state_gradients().unwrap());
    let dx = workspace.input_gradients().unwrap();
    let kept: usize = lengths.iter().sum();
    assert!(dx.iter().filter(|&&dx| dx != 0.0).count() <= kept * inputs, "dx of padding");
    let own = (0..sequences.len()).map(|n| Own {
        y: y.as_ref().map(|y| layout.of(y, &lengths, n, outputs)),
        last: last.sequence(n).unwrap(),
        dx: layout.of(dx, &lengths, n, inputs),
        dstate: dstate.sequence(n).unwrap(),
    });
    let sequences = own.collect();
    Results { loss: loss.unwrap(), gradients: workspace.gradients().as_slice().to_vec(), sequences }
}

impl Own {
    /// Panics unless the results have the same bits.
    pub fn assert_same(&self, what: &str, isa: Isa, expected: &Self) {
        if let (Some(given), Some(expected)) = (&self.y, &expected.y) {
            assert_same(&format!("y, {what}"), isa, given, expected);
        }
        let states =
            [("last", &self.last, &expected.last), ("dstate", &self.dstate, &expected.dstate)];
        for (name, given, expected) in states {
            assert_same(&format!("{name}, {what}"), isa, given.as_slice(), expected.as_slice());
        }
        assert_same(&format!("dx, {what}"), isa, &self.dx, &expected.dx);
    }
}

/// A workspace for all gradients.
pub fn workspace(model: &mut Model, schedule: &Schedule) -> Workspace {
    let training = model.training(schedule).with_input_gradients().with_state_gradients();
    training.workspace().unwrap()
}
