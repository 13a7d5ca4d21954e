//! This crate: a stream for inference, passes in a workspace for training.

use crate::problem::{self, Contender, Fallible, Problem};
use bptt::{
    Accumulate, Activation, Error, Gru, Layer, Lstm, Model, Network, Reset, Runtime, Schedule,
    Stream, Vanilla, Workspace,
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
    let Problem { batch, steps, threads, train, u, w, b, b_hn, x, dy, .. } = problem;
    let network = Network::new(layer.recurrent());
    let mut parameters = network.parameters()?;
    let given = [("weight_ih", u), ("weight_hh", w), ("bias", b), ("bias_hn", b_hn)];
    for (name, values) in given.into_iter().filter(|(_, values)| !values.is_empty()) {
        parameters.tensor_mut(&format!("0.{name}"))?.copy_from_slice(&values);
    }
    let mut model = network.model(parameters, Runtime::best()?.threads(threads))?;
    if train {
        let training = model.training(Schedule::dense(steps, batch)).with_input_gradients();
        let workspace = training.workspace()?;
        Ok(Box::new(Training { workspace, model, x, dy }))
    } else {
        Ok(Box::new(Inference { stream: model.stream(batch)?, y: vec![0.0; dy.len()], x }))
    }
}

struct Inference {
    stream: Stream,
    x: Vec<f32>,
    y: Vec<f32>,
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
        let workspace = &self.workspace;
        let gradients = workspace.gradients();
        let named =
            [("du", "weight_ih"), ("dw", "weight_hh"), ("db", "bias"), ("db_hn", "bias_hn")];
        let mut results = vec![("y", workspace.activations("0.y")?.to_vec())];
        for (name, tensor) in named {
            if let Ok(values) = gradients.tensor(&format!("0.{tensor}")) {
                results.push((name, values.to_vec()));
            }
        }
        results.push(("dx", workspace.input_gradients()?.to_vec()));
        Ok(results)
    }
}
