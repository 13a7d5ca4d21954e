//! This crate: a stream for inference, passes in a workspace for training and for sequences of
//! different lengths.

use crate::problem::{self, Contender, Fallible, Problem};
use bptt::{
    Accumulate, Activation, Error, Gru, Layer, Loss, Lstm, Model, Network, Outputs, Reset, Runtime,
    Schedule, State, Stream, TargetRows, Vanilla, Workspace,
};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { cell, input, hidden, .. } = problem;
    match cell {
        problem::Cell::Lstm => ready(Lstm::new(input, hidden)?, problem),
        problem::Cell::Gru => ready(Gru::new(input, hidden, Reset::After)?, problem),
        problem::Cell::Vanilla => ready(Vanilla::new(input, hidden, Activation::Tanh)?, problem),
    }
}

fn ready(layer: impl Layer, problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { batch, steps, lengths, threads, train, u, w, b, b_hn, x, dy, .. } = problem;
    let network = Network::new(layer.recurrent());
    let mut parameters = network.parameters()?;
    let given = [("weight_ih", u), ("weight_hh", w), ("bias", b), ("bias_hn", b_hn)];
    for (name, values) in given.into_iter().filter(|(_, values)| !values.is_empty()) {
        parameters.tensor_mut(&format!("0.{name}"))?.copy_from_slice(&values);
    }
    let mut model = network.model(parameters, Runtime::best()?.threads(threads))?;
    Ok(match (train, lengths.is_empty()) {
        (false, true) => {
            Box::new(Inference { stream: model.stream(batch)?, y: vec![0.0; dy.len()], x })
        }
        (true, true) => {
            let training = model.training(Schedule::dense(steps, batch)).with_input_gradients();
            Box::new(Training { workspace: training.workspace()?, model, x, dy })
        }
        (_, false) => {
            let schedule = Schedule::padded(&lengths, steps)?;
            let workspace = match train {
                true => model.training(&schedule).with_input_gradients().workspace()?,
                false => model.inference_workspace(&schedule)?,
            };
            Box::new(Ragged { workspace, model, x, dy: train.then_some(dy), last: None })
        }
    })
}

pub struct Inference {
    pub stream: Stream,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
}

impl Contender for Inference {
    fn pass(&mut self) -> Fallible<()> {
        self.stream.reset();
        Ok(self.stream.forward(&self.x, &mut self.y)?)
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        Ok(vec![("y", self.y.clone())])
    }
}

struct Training {
    model: Model,
    workspace: Workspace,
    x: Vec<f32>,
    dy: Vec<f32>,
}

impl Contender for Training {
    fn pass(&mut self) -> Fallible<()> {
        let Self { model, workspace, x, dy } = self;
        model.change(|_| Ok::<(), Error>(()))?;
        model.forward(workspace, &*x)?;
        let loss = |y: &mut [f32]| {
            y.copy_from_slice(dy);
            0.0
        };
        model.backward(workspace, &*x, &loss, Accumulate::No)?;
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let mut results = gradients(&self.workspace)?;
        results.push(("y", self.workspace.activations("0.y")?.to_vec()));
        Ok(results)
    }
}

/// Of all parameters and x.
fn gradients(workspace: &Workspace) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
    let all = workspace.gradients();
    let named = [("du", "weight_ih"), ("dw", "weight_hh"), ("db", "bias"), ("db_hn", "bias_hn")];
    let mut gradients = vec![("dx", workspace.input_gradients()?.to_vec())];
    for (name, tensor) in named {
        if let Ok(values) = all.tensor(&format!("0.{tensor}")) {
            gradients.push((name, values.to_vec()));
        }
    }
    Ok(gradients)
}

/// Sequences of different lengths.
struct Ragged {
    model: Model,
    workspace: Workspace,
    x: Vec<f32>,
    /// In training.
    dy: Option<Vec<f32>>,
    last: Option<State>,
}

impl Contender for Ragged {
    fn pass(&mut self) -> Fallible<()> {
        let Self { model, workspace, x, dy, last } = self;
        if dy.is_some() {
            model.change(|_| Ok::<(), Error>(()))?;
        }
        model.forward(workspace, &*x)?;
        *last = Some(workspace.last_state()?);
        if let Some(dy) = dy {
            model.backward(workspace, &*x, &Given(dy), Accumulate::No)?;
        }
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let mut results = if self.dy.is_some() { gradients(&self.workspace)? } else { Vec::new() };
        let last = self.last.as_ref().ok_or("no pass yet")?;
        results.push(("h_n", last.tensor("0.h")?.to_vec()));
        // In the order of the caller's rows, which a backward pass does not leave.
        results.push(("y", self.model.forward(&mut self.workspace, &self.x)?.to_vec()));
        Ok(results)
    }
}

/// A loss whose gradient is given, in the order of the caller's rows.
pub struct Given<'a>(pub &'a [f32]);

impl Loss for Given<'_> {
    fn check(&self, targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        let (given, expected) = (self.0.len(), targets.given() * size);
        if given == expected { Ok(()) } else { Err(Error::Length { what: "dy", given, expected }) }
    }

    fn value(&self, _: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        Ok(outputs.loss_so_far)
    }

    fn gradient(&self, _: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let Outputs { y, size, targets, loss_so_far } = outputs;
        for (row, y) in y.chunks_mut(size).enumerate() {
            y.copy_from_slice(&self.0[targets.target(row) * size..][..size]);
        }
        Ok(loss_so_far)
    }
}
