//! This crate: a stream for inference, a planned pass for training.

use crate::problem::{self, Contender, Fallible, Problem};
use bptt::{
    Accumulate, Activation, Arena, Gradients, Gru, Isa, Layer, Lstm, OutputGradients, Parameters,
    Plan, Purpose, Reset, Stream, Vanilla, Weights,
};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { cell, input, hidden, .. } = problem;
    match cell {
        problem::Cell::Lstm => ready(Lstm::new(input, hidden)?, problem),
        problem::Cell::Gru => ready(Gru::new(input, hidden, Reset::After)?, problem),
        problem::Cell::Vanilla => ready(Vanilla::new(input, hidden, Activation::Tanh)?, problem),
    }
}

fn ready<C: Layer + 'static>(layer: C, problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { batch, steps, threads, train, u, w, b, b_hn, x, dy, .. } = problem;
    let isa = Isa::best()?;
    let mut parameters = layer.parameters()?;
    for (to, from) in parameters.split_mut().into_iter().zip([u, w, b, b_hn]) {
        to.copy_from_slice(&from);
    }
    if train {
        let plan = layer.plan(steps, batch, isa)?.with_threads(threads)?;
        Ok(Box::new(Training {
            weights: layer
                .pack(&parameters, Purpose::TrainingWithInputGradient, isa)?
                .with_threads(threads)?,
            arena: plan.allocate()?,
            gradients: layer.parameters()?,
            dx: vec![0.0; x.len()],
            plan,
            parameters,
            x,
            dy,
        }))
    } else {
        Ok(Box::new(Inference {
            weights: layer.pack(&parameters, Purpose::Inference, isa)?,
            stream: layer.stream(batch, isa)?.with_threads(threads)?,
            y: vec![0.0; dy.len()],
            x,
        }))
    }
}

struct Inference<C: Layer> {
    weights: Weights<C>,
    stream: Stream<C>,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl<C: Layer> Contender for Inference<C> {
    fn pass(&mut self) -> Fallible<()> {
        self.stream.reset();
        Ok(self.stream.forward(&self.weights, &self.x, &mut self.y)?)
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        Ok(vec![("y", self.y.clone())])
    }
}

struct Training<C: Layer> {
    parameters: Parameters<C>,
    weights: Weights<C>,
    plan: Plan<C>,
    arena: Arena<C>,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    gradients: Parameters<C>,
}

impl<C: Layer> Contender for Training<C> {
    fn pass(&mut self) -> Fallible<()> {
        let Self { parameters, weights, plan, arena, x, dy, dx, gradients } = self;
        weights.update(parameters)?;
        plan.forward(weights, x, None, arena)?;
        let outputs = OutputGradients { dy: Some(dy), ..Default::default() };
        let gradients = Gradients { dx: Some(dx), ..Gradients::of(gradients, Accumulate::No) };
        Ok(plan.backward(weights, x, outputs, arena, gradients)?)
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let [du, dw, db, db_hn, _] = self.gradients.split_mut().map(|part| part.to_vec());
        let (y, dx) = (self.arena.hidden()?.to_vec(), self.dx.clone());
        let mut results = vec![("y", y), ("du", du), ("dw", dw), ("db", db), ("dx", dx)];
        if !db_hn.is_empty() {
            results.push(("db_hn", db_hn));
        }
        Ok(results)
    }
}
