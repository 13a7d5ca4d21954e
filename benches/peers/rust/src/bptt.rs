//! This crate: a stream for inference, a planned pass for training.

use crate::problem::{Contender, Fallible, Problem};
use bptt::{
    Arena, Cell, Gradients, Isa, Lstm, OutputGradients, Parameters, Plan, Purpose, Stream, Weights,
    Write,
};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { input, hidden, batch, steps, threads, train, u, w, b, x, dy } = problem;
    let isa = Isa::best()?;
    let lstm = Lstm::new(input, hidden)?;
    let mut parameters = lstm.parameters()?;
    for (to, from) in parameters.split_mut().into_iter().zip([u, w, b]) {
        to.copy_from_slice(&from);
    }
    if train {
        let plan = lstm.plan(steps, batch, isa)?.with_threads(threads)?;
        Ok(Box::new(Training {
            weights: lstm
                .pack(&parameters, Purpose::TrainingWithInputGradient, isa)?
                .with_threads(threads)?,
            arena: plan.allocate()?,
            gradients: lstm.parameters()?,
            dx: vec![0.0; x.len()],
            plan,
            parameters,
            x,
            dy,
        }))
    } else {
        Ok(Box::new(Inference {
            weights: lstm.pack(&parameters, Purpose::Inference, isa)?,
            stream: lstm.stream(batch, isa)?.with_threads(threads)?,
            y: vec![0.0; dy.len()],
            x,
        }))
    }
}

struct Inference {
    weights: Weights<Lstm>,
    stream: Stream<Lstm>,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Contender for Inference {
    fn pass(&mut self) -> Fallible<()> {
        self.stream.reset();
        Ok(self.stream.forward(&self.weights, &self.x, &mut self.y)?)
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        Ok(vec![("y", self.y.clone())])
    }
}

struct Training {
    parameters: Parameters<Lstm>,
    weights: Weights<Lstm>,
    plan: Plan<Lstm>,
    arena: Arena<Lstm>,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    gradients: Parameters<Lstm>,
}

impl Contender for Training {
    fn pass(&mut self) -> Fallible<()> {
        let Self { parameters, weights, plan, arena, x, dy, dx, gradients } = self;
        weights.update(parameters)?;
        plan.forward(weights, x, None, arena)?;
        let outputs = OutputGradients { dy: Some(dy), ..Default::default() };
        let gradients = Gradients { dx: Some(dx), ..Gradients::of(gradients, Write::Overwrite) };
        Ok(plan.backward(weights, x, outputs, arena, gradients)?)
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let [du, dw, db] = self.gradients.split_mut().map(|part| part.to_vec());
        let (y, dx) = (self.arena.hidden()?.to_vec(), self.dx.clone());
        Ok(vec![("y", y), ("du", du), ("dw", dw), ("db", db), ("dx", dx)])
    }
}
