//! Blocks within blocks, drawn at random, and their passes by hand: block by block, each as a network of
//! its own.

use super::{Alpha, Layout, Options, clockwork, gru, leaky, lstm, normed, skip, vanilla};
use bptt::blocks::Block;
use bptt::{
    Accumulate, Activation, Bidirectional, Candidate, DeepTransition, Delayed, Dense, Identity,
    InputSize, LayerNormalization, Model, Network, Parallel, Reset, Residual, Reversed, Runtime,
    Slstm, Stack, State, Window,
};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::Arc;

/// A block, which may hold others.
#[derive(Clone, Debug)]
pub enum Tree {
    Leaf(Arc<dyn Block>),
    Stack(Vec<Tree>),
    Parallel { children: Vec<Tree>, summed: bool },
    Bidirectional { both: Box<[Tree; 2]>, summed: bool },
    Residual(Box<Tree>),
    Reversed(Box<Tree>),
}

/// What a pass over sequences is given and gives. Rows are those of the caller's arrays, states are in
/// the order of their manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    pub parameters: Vec<f32>,
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
    pub state: Vec<f32>,
    pub dlast: Vec<f32>,
}

/// What a pass over sequences gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    pub y: Vec<f32>,
    pub last: Vec<f32>,
    pub dx: Vec<f32>,
    pub dstate: Vec<f32>,
    pub gradients: Vec<f32>,
}

/// Sequences of these lengths in a layout of the caller's arrays.
#[derive(Clone, Debug)]
pub struct Sequences {
    pub layout: Layout,
    pub lengths: Vec<usize>,
}

impl Sequences {
    /// Returns the rows of the caller's arrays, padding included.
    pub fn rows(&self) -> usize {
        self.layout.schedule(&self.lengths).given_rows()
    }

    /// Returns the rows with those of padding set to 0.
    fn without_padding(&self, mut rows: Vec<f32>) -> Vec<f32> {
        let mut is_padding = vec![true; self.rows()];
        for (n, &len) in self.lengths.iter().enumerate() {
            (0..len).for_each(|step| is_padding[self.layout.row(&self.lengths, n, step)] = false);
        }
        let width = rows.len() / self.rows();
        for (row, _) in is_padding.iter().enumerate().filter(|(_, padding)| **padding) {
            rows[row * width..][..width].fill(0.0);
        }
        rows
    }

    /// Returns the rows with each sequence reversed within its length. Padding stays.
    fn reversed(&self, rows: &[f32]) -> Vec<f32> {
        let (width, mut to) = (rows.len() / self.rows(), rows.to_vec());
        for (n, &len) in self.lengths.iter().enumerate() {
            for step in 0..len {
                let [row, mirror] =
                    [step, len - 1 - step].map(|step| self.layout.row(&self.lengths, n, step));
                to[mirror * width..][..width].copy_from_slice(&rows[row * width..][..width]);
            }
        }
        to
    }
}

impl Tree {
    /// Draws a block that reads `inputs` features and holds others down to the given depth.
    pub fn draw(rng: &mut StdRng, depth: usize, inputs: usize) -> Self {
        let kinds = if depth == 0 { 1 } else { 6 };
        match rng.random_range(0..kinds) {
            0 => Self::Leaf(leaf(rng, inputs)),
            1 => {
                let mut blocks = vec![Self::draw(rng, depth - 1, inputs)];
                for _ in 0..rng.random_range(0..3) {
                    let inputs = blocks[blocks.len() - 1].block().output_size();
                    blocks.push(Self::draw(rng, depth - 1, inputs));
                }
                Self::Stack(blocks)
            }
            2 => {
                let (summed, count) = (rng.random(), rng.random_range(1..4));
                let size = rng.random_range(1..5);
                let mut draw = || match summed {
                    true => Self::draw_to(rng, depth - 1, inputs, size),
                    false => Self::draw(rng, depth - 1, inputs),
                };
                Self::Parallel { children: (0..count).map(|_| draw()).collect(), summed }
            }
            3 => {
                let (summed, size) = (rng.random(), rng.random_range(1..5));
                let mut draw = || match summed {
                    true => Self::draw_to(rng, depth - 1, inputs, size),
                    false => Self::draw(rng, depth - 1, inputs),
                };
                Self::Bidirectional { both: Box::new([draw(), draw()]), summed }
            }
            4 => Self::Residual(Box::new(Self::draw_to(rng, depth - 1, inputs, inputs))),
            _ => Self::Reversed(Box::new(Self::draw(rng, depth - 1, inputs))),
        }
    }

    /// The same with `outputs` features.
    fn draw_to(rng: &mut StdRng, depth: usize, inputs: usize, outputs: usize) -> Self {
        let tree = Self::draw(rng, depth, inputs);
        let dense = Dense::new(tree.block().output_size(), outputs).unwrap();
        Self::Stack(vec![tree, Self::Leaf(Arc::new(dense))])
    }

    /// The block.
    pub fn block(&self) -> Arc<dyn Block> {
        match self {
            Self::Leaf(leaf) => leaf.clone(),
            Self::Stack(blocks) => {
                let mut blocks = blocks.iter().map(Self::block);
                let first = Stack::new(blocks.next().unwrap());
                Arc::new(blocks.fold(first, Stack::then))
            }
            Self::Parallel { children, summed } => {
                let mut blocks = children.iter().map(Self::block);
                let first = Parallel::new(blocks.next().unwrap());
                let all = blocks.fold(first, Parallel::with);
                Arc::new(if *summed { all.summed() } else { all })
            }
            Self::Bidirectional { both, summed } => {
                let both = Bidirectional::new(both[0].block(), both[1].block());
                Arc::new(if *summed { both.summed() } else { both })
            }
            Self::Residual(block) => Arc::new(Residual::new(block.block()).unwrap()),
            Self::Reversed(block) => Arc::new(Reversed::new(block.block())),
        }
    }

    /// Returns what a pass gives, from passes of the leaves alone, one after the other.
    pub fn by_hand(&self, runtime: Runtime, sequences: &Sequences, given: &Given) -> Results {
        match self {
            Self::Leaf(leaf) => run(&Network::new(leaf.clone()), runtime, sequences, given),
            Self::Stack(blocks) => {
                let parts = parts(blocks, sequences, given);
                // Forward without gradients first, since those of a block need those of the next.
                let mut xs = vec![given.x.clone()];
                for (block, part) in blocks.iter().zip(&parts) {
                    let x = xs[xs.len() - 1].clone();
                    let dy = vec![0.0; sequences.rows() * block.block().output_size()];
                    let part = Given { x, dy, ..part.clone() };
                    xs.push(block.by_hand(runtime, sequences, &part).y);
                }
                let (mut all, mut dy) = (Results::default(), given.dy.clone());
                for ((block, part), x) in blocks.iter().zip(parts).zip(&xs).rev() {
                    let part = Given { x: x.clone(), dy, ..part };
                    let own = block.by_hand(runtime, sequences, &part);
                    dy = own.dx.clone();
                    all.put_before(&own);
                }
                Results { y: xs[xs.len() - 1].clone(), dx: dy, ..all }
            }
            Self::Parallel { children, summed } => {
                let children: Vec<_> = children.iter().map(|child| (child, false)).collect();
                side_by_side(&children, *summed, runtime, sequences, given)
            }
            Self::Bidirectional { both, summed } => {
                let children = [(&both[0], false), (&both[1], true)];
                side_by_side(&children, *summed, runtime, sequences, given)
            }
            Self::Residual(block) => {
                let own = block.by_hand(runtime, sequences, given);
                let sum = |a: &[f32], b: &[f32]| {
                    let sums: Vec<_> = a.iter().zip(b).map(|(a, b)| a + b).collect();
                    sequences.without_padding(sums)
                };
                Results { y: sum(&given.x, &own.y), dx: sum(&given.dy, &own.dx), ..own }
            }
            Self::Reversed(block) => {
                side_by_side(&[(block, true)], false, runtime, sequences, given)
            }
        }
    }
}

/// A block that holds no others.
fn leaf(rng: &mut StdRng, inputs: usize) -> Arc<dyn Block> {
    let hidden = rng.random_range(1..9);
    let options = Options { peepholes: true, ..Options::NONE };
    match rng.random_range(0..18) {
        0 => Arc::new(lstm(Options::NONE, inputs, hidden)),
        1 => Arc::new(lstm(options, inputs, hidden)),
        2 => Arc::new(lstm(Options { projected: true, ..Options::NONE }, inputs, hidden)),
        3 => Arc::new(gru(Reset::After, Candidate::Tanh, inputs, hidden)),
        4 => Arc::new(Delayed::new(gru(Reset::Before, Candidate::Tanh, inputs, hidden)).unwrap()),
        5 => Arc::new(normed(gru(Reset::After, Candidate::Tanh, inputs, hidden))),
        6 => Arc::new(vanilla(Activation::Tanh, inputs, hidden)),
        7 => Arc::new(leaky(Activation::Tanh, Alpha::Learned, inputs, hidden)),
        8 => Arc::new(skip(Activation::Tanh, &[1, 3], inputs, hidden)),
        9 => Arc::new(clockwork(Activation::Tanh, &[1, 2], inputs, hidden)),
        10 => Arc::new(Identity::new(inputs).unwrap()),
        11 => Arc::new(LayerNormalization::new(inputs).unwrap()),
        12 => Arc::new(Dense::new(inputs, hidden).unwrap().with_activation(Activation::Tanh)),
        13 => Arc::new(Dense::new(inputs, hidden).unwrap()),
        14 => Arc::new(Window::new(inputs, rng.random_range(1..4)).unwrap()),
        15 => {
            let inner = gru(Reset::Before, Candidate::Tanh, inputs + hidden, 3);
            let dense = Dense::new(3, hidden).unwrap().with_activation(Activation::Tanh);
            Arc::new(DeepTransition::new(Stack::new(inner).then(dense)).unwrap())
        }
        16 => Arc::new(Slstm::new(inputs, 2 * hidden, 2).unwrap()),
        _ => {
            let dense = Dense::new(inputs + hidden, hidden).unwrap();
            let tanh = dense.with_activation(Activation::Tanh);
            Arc::new(DeepTransition::new(tanh).unwrap())
        }
    }
}

/// The part of each child in what all are given; x and ∂L/∂y are left out.
fn parts(children: &[Tree], sequences: &Sequences, given: &Given) -> Vec<Given> {
    let (mut parameters, mut states) = (0, 0);
    let of = |child: &Tree| {
        let network = Network::new(child.block());
        let count = network.manifest().unwrap().len();
        let floats = network.state(sequences.lengths.len()).unwrap().as_slice().len();
        let part = Given {
            parameters: given.parameters[parameters..][..count].to_vec(),
            state: given.state[states..][..floats].to_vec(),
            dlast: given.dlast[states..][..floats].to_vec(),
            ..Given::default()
        };
        (parameters, states) = (parameters + count, states + floats);
        part
    };
    children.iter().map(of).collect()
}

impl Results {
    /// Puts the state and the gradients of a block before those of the blocks after it.
    fn put_before(&mut self, block: &Self) {
        self.last.splice(0..0, block.last.iter().copied());
        self.dstate.splice(0..0, block.dstate.iter().copied());
        self.gradients.splice(0..0, block.gradients.iter().copied());
    }
}

/// The results of children that read the same input, of which some go through it in reverse.
fn side_by_side(
    children: &[(&Tree, bool)],
    summed: bool,
    runtime: Runtime,
    sequences: &Sequences,
    given: &Given,
) -> Results {
    let rows = sequences.rows();
    let trees: Vec<_> = children.iter().map(|(tree, _)| (*tree).clone()).collect();
    let widths: Vec<_> = trees.iter().map(|tree| tree.block().output_size()).collect();
    let width = given.dy.len() / rows;
    let (mut all, mut column) = (Results::default(), 0);
    let turned = |rows: &[f32], reversed: bool| match reversed {
        true => sequences.reversed(rows),
        false => rows.to_vec(),
    };
    all.y = vec![0.0; rows * width];
    let of_children = children.iter().zip(parts(&trees, sequences, given)).zip(widths);
    for (nth, ((&(tree, reversed), part), own)) in of_children.enumerate() {
        let dy = given.dy.chunks(width).flat_map(|dy| dy[column..][..own].to_vec());
        let dy = turned(&dy.collect::<Vec<_>>(), reversed);
        let part = Given { x: turned(&given.x, reversed), dy, ..part };
        let mut results = tree.by_hand(runtime, sequences, &part);
        results.y = turned(&results.y, reversed);
        results.dx = turned(&results.dx, reversed);
        for (y, of_child) in all.y.chunks_mut(width).zip(results.y.chunks(own)) {
            let to = y[column..][..own].iter_mut().zip(of_child);
            to.for_each(|(y, own)| *y = if summed && nth > 0 { *y + own } else { *own });
        }
        match nth {
            0 => all.dx = results.dx,
            _ => all.dx.iter_mut().zip(&results.dx).for_each(|(dx, own)| *dx += own),
        }
        all.last.extend(results.last);
        all.dstate.extend(results.dstate);
        all.gradients.extend(results.gradients);
        column += if summed { 0 } else { own };
    }
    all
}

/// The outputs and the last state of a pass for inference.
pub fn infer(
    network: &Network,
    runtime: Runtime,
    sequences: &Sequences,
    given: &Given,
) -> [Vec<f32>; 2] {
    let model = model_of(network, runtime, &given.parameters);
    let inference = model.inference(sequences.layout.schedule(&sequences.lengths));
    let bytes = inference.bytes().unwrap();
    let mut workspace = inference.workspace().unwrap();
    assert_eq!(workspace.bytes(), bytes);
    let mut state = model.state(sequences.lengths.len()).unwrap();
    state.as_mut_slice().copy_from_slice(&given.state);
    workspace.set_state(&state).unwrap();
    let y = model.forward(&mut workspace, &given.x).unwrap().to_vec();
    [y, workspace.last_state().unwrap().as_slice().to_vec()]
}

/// Runs a pass of a whole network.
pub fn run(network: &Network, runtime: Runtime, sequences: &Sequences, given: &Given) -> Results {
    let mut model = model_of(network, runtime, &given.parameters);
    let schedule = sequences.layout.schedule(&sequences.lengths);
    let training = model.training(schedule).with_state_gradients().with_input_gradients();
    let bytes = training.bytes().unwrap();
    let mut workspace = training.workspace().unwrap();
    assert_eq!(workspace.bytes(), bytes);
    let state = |values: &[f32]| -> State {
        let mut state = model.state(sequences.lengths.len()).unwrap();
        state.as_mut_slice().copy_from_slice(values);
        state
    };
    workspace.set_state(&state(&given.state)).unwrap();
    workspace.set_last_gradient(Some(&state(&given.dlast))).unwrap();
    let y = model.forward(&mut workspace, &given.x).unwrap().to_vec();
    let last = workspace.last_state().unwrap().as_slice().to_vec();
    let loss = super::Given(&given.dy);
    model.backward(&mut workspace, &given.x, &loss, Accumulate::No).unwrap();
    Results {
        y,
        last,
        dx: workspace.input_gradients().unwrap().to_vec(),
        dstate: workspace.state_gradients().unwrap().as_slice().to_vec(),
        gradients: workspace.gradients().as_slice().to_vec(),
    }
}

/// A model with these parameters.
pub fn model_of(network: &Network, runtime: Runtime, parameters: &[f32]) -> Model {
    let mut own = network.parameters().unwrap();
    own.as_mut_slice().copy_from_slice(parameters);
    network.model(own, runtime).unwrap()
}

/// Returns the features of a row of a block's input.
pub fn features(block: &dyn Block) -> usize {
    match block.input() {
        InputSize::Features(size) => size,
        InputSize::Tokens(_) => unreachable!("no embeddings here"),
    }
}
