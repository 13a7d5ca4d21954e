//! The LSTM that this crate's own benchmark compares with: matrixmultiply and scalar
//! activations.

#[path = "../../../unfused/mod.rs"]
mod parts;

use crate::problem::{Cell, Contender, Fallible, Problem};
use parts::{Shape, Unfused};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    problem.expect_one_length()?;
    let Problem { cell, input, hidden, batch, steps, threads, train, .. } = problem;
    if cell != Cell::Lstm {
        return Err("is an LSTM only".into());
    }
    if threads > 1 {
        return Err("runs on one thread only".into());
    }
    Ok(Box::new(Parts {
        unfused: Unfused::new(Shape { input, hidden, batch, steps }),
        parameters: [problem.u, problem.w, problem.b].concat(),
        state: batch * hidden,
        train,
        x: problem.x,
        dy: problem.dy,
    }))
}

struct Parts {
    unfused: Unfused,
    parameters: Vec<f32>,
    /// The length of one step's states.
    state: usize,
    train: bool,
    x: Vec<f32>,
    dy: Vec<f32>,
}

impl Contender for Parts {
    fn pass(&mut self) -> Fallible<()> {
        self.unfused.forward(&self.parameters, &self.x)?;
        if self.train {
            self.unfused.backward(&self.parameters, &self.x, &self.dy)?;
        }
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let mut results = vec![("y", self.unfused.h[self.state..].to_vec())];
        if self.train {
            let [du, dw, db] = self.unfused.gradients.clone();
            results.extend([("du", du), ("dw", dw), ("db", db), ("dx", self.unfused.dx.clone())]);
        }
        Ok(results)
    }
}
