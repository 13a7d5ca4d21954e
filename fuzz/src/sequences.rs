//! Passes over sequences of drawn lengths, in a network of drawn layers, laid out in any way.

use crate::common::{Kind, Layout, Subject, joined};
use crate::{Bytes, assert_same};
use bptt::{
    Accumulate, Activation, Dense, Embedding, Gru, Input, InputSize, Isa, Loss, Lstm, Model,
    Network, Noise, Padding, Regularisation, Reset, Runtime, Schedule, Skip, SoftmaxCrossEntropy,
    SquaredError, State, Training, Workspace,
};
use bptt_reference::sample::uniform;

/// What is drawn for one sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Features of each step, or its token, a whole number.
    pub x: Vec<f32>,
    /// Numbers for each output of a step, or the step's class, a whole number, or −1 where the loss
    /// does not count the step.
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
    /// Nothing where the input is tokens.
    pub dx: Vec<f32>,
    pub dstate: State,
}

/// What the targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Of squared errors.
    Numbers,
    /// Of the cross-entropy.
    Classes,
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
    /// The numbers of a step's input: 1 where it is a token.
    pub inputs: usize,
    pub targets: Targets,
    pub isa: Isa,
    pub threads: usize,
    pub noisy: bool,
    /// Whether sequences may begin anew in the middle.
    pub has_resets: bool,
    pub sequences: Vec<Sequence>,
    pub arrangement: Arrangement,
}

/// A layer of any kind, sometimes after an embedding, sometimes before another layer, and sometimes
/// with a dense block at the end. Says too whether it has noise, and whether it may have resets.
fn network(bytes: &mut Bytes<'_>) -> (Network, bool, bool) {
    let subject = Subject { kind: bytes.kind(), inputs: bytes.size(9), hidden: bytes.size(20) };
    let is_clocked = matches!(subject.kind, Kind::Clockwork(..));
    let noisy = bytes.byte().is_multiple_of(3) && subject.kind.takes_noise();
    let noise = match noisy {
        true => {
            let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
            // A gradient that is carried over several steps has been masked already, so its bits
            // differ.
            let dropout = if subject.equations().delays()[0] == 1 { 0.25 } else { 0.0 };
            let noise = Regularisation::none().with_dropout(dropout).unwrap();
            noise.with_zoneout(0.3, cell).unwrap()
        }
        false => Regularisation::none(),
    };
    let mut network = match bytes.byte() % 3 {
        0 => {
            let embedding = Embedding::new(bytes.size(12), subject.input_size()).unwrap();
            subject.network_after(&Network::new(embedding), noise)
        }
        _ => subject.network_with(noise),
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
    (network, noisy, !is_clocked)
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
        let (network, noisy, has_resets) = network(bytes);
        let (inputs, tokens) = match network.input() {
            InputSize::Features(inputs) => (inputs, None),
            InputSize::Tokens(tokens) => (1, Some(tokens)),
        };
        let targets = match bytes.byte() % 3 {
            0 => Targets::Classes,
            _ => Targets::Numbers,
        };
        let lengths = lengths(bytes);
        let longest = lengths.iter().copied().max().unwrap();
        let are_equal = longest > 0 && lengths.iter().all(|&len| len == longest);
        let arrangement = match are_equal && bytes.byte().is_multiple_of(2) {
            true => Arrangement::dense(longest),
            false => arrangement(bytes, longest),
        };
        let sequences = Vec::new();
        let mut case = Self {
            network,
            inputs,
            targets,
            isa,
            threads,
            noisy,
            has_resets,
            sequences,
            arrangement,
        };
        let model = case.model();
        // Which units of a clockwork move depends on how many steps there have been.
        let (seed, start) = (bytes.below(1 << 15) as u64, bytes.size(7) as u64 - 1);
        let drawn = (0u64..).zip(&lengths).map(|(n, &len)| {
            let draw = |k: u64, len| uniform(seed + 1000 * k + 50_000 * n, len, 1.0);
            let state = |k: u64| {
                let mut state = model.state(1).unwrap();
                let len = state.as_slice().len();
                state.as_mut_slice().copy_from_slice(&draw(k, len));
                state.set_step(start).unwrap();
                state
            };
            // Whole numbers from 0 to below `count`.
            let whole = |all: Vec<f32>, count: usize| -> Vec<f32> {
                all.iter().map(|x| ((x + 1.0) / 2.0 * count as f32).floor()).collect()
            };
            let x = match tokens {
                Some(tokens) => whole(draw(1, len), tokens),
                None => draw(1, len * inputs),
            };
            let outputs = model.output_size();
            let targets = match targets {
                Targets::Numbers => draw(2, len * outputs),
                Targets::Classes => {
                    whole(draw(2, len), outputs + 1).iter().map(|class| class - 1.0).collect()
                }
            };
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

/// Runs forward and backward over `sequences`, with numbers in the padding that would be found out,
/// and gradients added to those that were `before`, if there are any.
pub fn run(
    (model, workspace, targets): (&Model, &mut Workspace, Targets),
    sequences: &[Sequence],
    arrangement: Arrangement,
    before: Option<&[f32]>,
) -> Results {
    let (inputs, is_tokens) = match model.input() {
        InputSize::Features(inputs) => (inputs, false),
        InputSize::Tokens(_) => (1, true),
    };
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
    // No token and no class is so large.
    let whole = |x: &f32| if x.is_nan() { u32::MAX } else { x.max(0.0) as u32 };
    let x = all(|s| &s.x, inputs);
    let tokens: Vec<u32> = x.iter().map(whole).collect();
    let x = if is_tokens { Input::Tokens(&tokens) } else { Input::Features(&x) };
    let numbers = match targets {
        Targets::Numbers => all(|s| &s.targets, outputs),
        Targets::Classes => all(|s| &s.targets, 1),
    };
    let classes: Vec<u32> = numbers.iter().map(whole).collect();
    let mask: Vec<bool> = numbers.iter().map(|&class| class != -1.0).collect();
    let (squares, entropy);
    let loss: &dyn Loss = match targets {
        Targets::Numbers => {
            squares = SquaredError::sum(&numbers);
            &squares
        }
        Targets::Classes => {
            entropy = SoftmaxCrossEntropy::sum(&classes).with_mask(&mask);
            &entropy
        }
    };
    let accumulate = match before {
        Some(before) => {
            workspace.gradients_mut().as_mut_slice().copy_from_slice(before);
            Accumulate::Yes
        }
        None => Accumulate::No,
    };
    let y = model.forward(workspace, x).ok().map(<[f32]>::to_vec);
    let loss = match &y {
        Some(y) => {
            assert_padding(arrangement, &lengths, y, outputs);
            model.backward(workspace, x, loss, accumulate)
        }
        None => model.gradients(workspace, x, loss, accumulate),
    };
    let (last, dstate) = (workspace.last_state().unwrap(), workspace.state_gradients().unwrap());
    let dx = match is_tokens {
        true => None,
        false => Some(workspace.input_gradients().unwrap()),
    };
    if let Some(dx) = dx {
        let kept: usize = lengths.iter().sum();
        assert!(dx.iter().filter(|&&dx| dx != 0.0).count() <= kept * inputs, "dx of padding");
    }
    let own = (0..sequences.len()).map(|n| Own {
        y: y.as_ref().map(|y| layout.of(y, &lengths, n, outputs)),
        last: last.sequence(n).unwrap(),
        dx: dx.map_or(Vec::new(), |dx| layout.of(dx, &lengths, n, inputs)),
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

/// Passes with all gradients that the network has.
pub fn training<'a>(model: &'a mut Model, schedule: &Schedule) -> Training<'a> {
    let has_features = matches!(model.input(), InputSize::Features(_));
    let training = model.training(schedule).with_state_gradients();
    if has_features { training.with_input_gradients() } else { training }
}

/// A workspace for them.
pub fn workspace(model: &mut Model, schedule: &Schedule) -> Workspace {
    training(model, schedule).workspace().unwrap()
}
