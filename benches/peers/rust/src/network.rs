//! This crate's networks of layers, one upon another, in one direction or both: a stream infers where it
//! can, and a workspace does everything else.

use crate::bptt::{Given, Inference};
use crate::problem::{Cell, Contender, Fallible, Mode, read};
use bptt::{
    Accumulate, Bidirectional, Error, Gru, Layer, Lstm, Model, Network, Parameters, Recurrent,
    Reset, Runtime, Schedule, Vanilla, Workspace, blocks::Block,
};
use serde::Deserialize;
use std::path::PathBuf;

/// The request that sets a network.
#[derive(Deserialize)]
pub struct Setup {
    cell: Cell,
    dir: PathBuf,
    layers: usize,
    directions: usize,
    input: usize,
    hidden: usize,
    /// What a layer's outputs are projected to in each direction, if they are.
    output: Option<usize>,
    batch: usize,
    steps: usize,
    /// Of each sequence; empty where all have T steps.
    #[serde(default)]
    lengths: Vec<usize>,
    mode: Mode,
    threads: usize,
}

pub fn prepare(setup: Setup) -> Fallible<Box<dyn Contender>> {
    let Setup { ref dir, input, hidden, output, directions, batch, steps, threads, .. } = setup;
    let train = setup.mode == Mode::Train;
    let network = network(&setup)?;
    let mut parameters = network.parameters()?;
    let names = fill(&setup, &mut parameters)?;
    let mut model = network.model(parameters, Runtime::best()?.threads(threads))?;
    let load = |name: &str, width: usize| read(&dir.join(name), steps * batch * width);
    let (x, width) = (load("x.bin", input)?, directions * output.unwrap_or(hidden));
    if !train && directions == 1 && setup.lengths.is_empty() {
        let y = vec![0.0; steps * batch * width];
        return Ok(Box::new(Inference { stream: model.stream(batch)?, x, y }));
    }
    let dy = if train { Some(load("dy.bin", width)?) } else { None };
    let ragged = Ragged { lengths: setup.lengths, steps, width };
    let (schedule, x, dy) = if ragged.lengths.is_empty() {
        (Schedule::dense(steps, batch), x, dy)
    } else {
        let packed = |values: Vec<f32>| ragged.packed(&values);
        (Schedule::packed(&ragged.lengths)?, packed(x), dy.map(packed))
    };
    let workspace = match train {
        true => model.training_workspace(schedule)?,
        false => model.inference_workspace(schedule)?,
    };
    Ok(Box::new(Passes { model, workspace, x, dy, names, ragged }))
}

fn network(setup: &Setup) -> Fallible<Network> {
    let Setup { layers, directions, input, hidden, output, .. } = *setup;
    let mut network = None;
    let mut width = input;
    for _ in 0..layers {
        let layer = layer(setup.cell, width, hidden, output)?;
        width = directions * output.unwrap_or(hidden);
        network = Some(if directions == 1 {
            upon(network, layer)
        } else {
            upon(network, Bidirectional::new(layer.clone(), layer))
        });
    }
    network.ok_or_else(|| "has no layer".into())
}

fn layer(cell: Cell, input: usize, hidden: usize, output: Option<usize>) -> Fallible<Recurrent> {
    Ok(match (cell, output) {
        (Cell::Lstm, None) => Lstm::new(input, hidden)?.recurrent(),
        (Cell::Lstm, Some(output)) => {
            Lstm::new(input, hidden)?.with_projection(output)?.recurrent()
        }
        (_, Some(_)) => return Err("only an LSTM has a projection".into()),
        (Cell::Gru, None) => Gru::new(input, hidden, Reset::After)?.recurrent(),
        (Cell::Vanilla, None) => Vanilla::new(input, hidden, bptt::Activation::Tanh)?.recurrent(),
    })
}

fn upon(network: Option<Network>, block: impl Block) -> Network {
    match network {
        Some(network) => network.then(block),
        None => Network::new(block),
    }
}

/// Fills the parameters from their files. Returns their names, each after that of its gradient.
fn fill(setup: &Setup, parameters: &mut Parameters) -> Fallible<Vec<(String, String)>> {
    let mut parts = vec![("u", "weight_ih"), ("w", "weight_hh"), ("b", "bias")];
    if setup.cell == Cell::Gru {
        parts.push(("b_hn", "bias_hn"));
    }
    if setup.output.is_some() {
        parts.push(("p", "weight_hr"));
    }
    let directions: &[_] = if setup.directions == 1 {
        &[("", "")]
    } else {
        &[("", "forward."), ("_reverse", "reverse.")]
    };
    let mut names = Vec::new();
    for layer in 0..setup.layers {
        for (suffix, direction) in directions {
            for (part, tensor) in &parts {
                let (file, name) =
                    (format!("{part}_l{layer}{suffix}"), format!("{layer}.{direction}{tensor}"));
                let values = parameters.tensor_mut(&name)?;
                values
                    .copy_from_slice(&read(&setup.dir.join(format!("{file}.bin")), values.len())?);
                names.push((format!("d{file}"), name));
            }
        }
    }
    Ok(names)
}

struct Passes {
    model: Model,
    workspace: Workspace,
    x: Vec<f32>,
    /// In training.
    dy: Option<Vec<f32>>,
    /// Of the gradients and their parameters.
    names: Vec<(String, String)>,
    ragged: Ragged,
}

impl Contender for Passes {
    fn pass(&mut self) -> Fallible<()> {
        let Self { model, workspace, x, dy, .. } = self;
        if let Some(dy) = dy {
            model.change(|_| Ok::<(), Error>(()))?;
            model.gradients(workspace, &*x, &Given(dy), Accumulate::No)?;
        } else {
            model.forward(workspace, &*x)?;
        }
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&str, Vec<f32>)>> {
        let Self { model, workspace, x, dy, names, ragged } = self;
        let mut results = Vec::new();
        if dy.is_some() {
            for (gradient, name) in names {
                results.push((&**gradient, workspace.gradients().tensor(name)?.to_vec()));
            }
        }
        // A backward pass does not leave it.
        let y = model.forward(workspace, &*x)?;
        let y = if ragged.lengths.is_empty() { y.to_vec() } else { ragged.padded(y) };
        results.push(("y", y));
        Ok(results)
    }
}

/// Sequences of different lengths: none where all have the same.
struct Ragged {
    lengths: Vec<usize>,
    steps: usize,
    /// Of the outputs.
    width: usize,
}

impl Ragged {
    /// The places of all rows of `[T, B]` that are no padding, one sequence after another.
    fn places(&self) -> impl Iterator<Item = usize> {
        let batch = self.lengths.len();
        let sequences = self.lengths.iter().enumerate();
        sequences.flat_map(move |(n, &length)| (0..length).map(move |step| step * batch + n))
    }

    /// One sequence after another, of rows `[T, B]` of any width.
    fn packed(&self, values: &[f32]) -> Vec<f32> {
        let width = values.len() / (self.steps * self.lengths.len());
        self.places().flat_map(|row| &values[row * width..][..width]).copied().collect()
    }

    /// The outputs in rows `[T, B]`, with zeros after the ends.
    fn padded(&self, packed: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.steps * self.lengths.len() * self.width];
        for (row, from) in self.places().zip(packed.chunks(self.width)) {
            values[row * self.width..][..self.width].copy_from_slice(from);
        }
        values
    }
}
