//! Drawn parameters, inputs and gradients of a pass, and parts of them.

use bptt::{Candidate, Lstm, LstmParameters, LstmState, OutputGradients};
use bptt_reference::sample::uniform;
use proptest::prelude::*;
use std::ops::Range;

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub inputs: usize,
    pub hidden: usize,
    pub batch: usize,
    pub steps: usize,
    pub candidate: Candidate,
}

/// Shapes from 1 to these sizes, with both candidates.
pub fn shapes(
    inputs: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
) -> impl Strategy<Value = Shape> {
    let candidate = prop_oneof![Just(Candidate::Tanh), Just(Candidate::Logistic)];
    (1..=inputs, 1..=hidden, 1..=batch, 1..=steps, candidate).prop_map(
        |(inputs, hidden, batch, steps, candidate)| Shape {
            inputs,
            hidden,
            batch,
            steps,
            candidate,
        },
    )
}

impl Shape {
    /// With the tanh candidate.
    pub fn new(inputs: usize, hidden: usize, batch: usize, steps: usize) -> Self {
        Self { inputs, hidden, batch, steps, candidate: Candidate::Tanh }
    }

    pub fn lstm(&self) -> Lstm {
        Lstm::new(self.inputs, self.hidden).unwrap().with_candidate(self.candidate)
    }

    /// Floats of a state.
    pub fn state(&self) -> usize {
        self.batch * self.hidden
    }
}

/// All that a pass is given.
#[derive(Clone, Debug)]
pub struct Data {
    pub shape: Shape,
    pub params: Vec<f32>,
    pub x: Vec<f32>,
    pub h0: Vec<f32>,
    pub s0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh_last: Vec<f32>,
    pub ds_last: Vec<f32>,
}

impl Data {
    /// Drawn evenly: parameters up to ±`weights`, cell states up to ±2, the rest up
    /// to ±1.
    pub fn draw(shape: Shape, seed: u64, weights: f32) -> Self {
        let draw = |k: u64, len, limit| uniform(seed.wrapping_add(k << 32), len, limit);
        let (state, states) = (shape.state(), shape.steps * shape.state());
        Self {
            shape,
            params: draw(1, shape.lstm().parameter_count(), weights),
            x: draw(2, shape.steps * shape.batch * shape.inputs, 1.0),
            h0: draw(3, state, 1.0),
            s0: draw(4, state, 2.0),
            dy: draw(5, states, 1.0),
            dh_last: draw(6, state, 1.0),
            ds_last: draw(7, state, 1.0),
        }
    }

    pub fn parameters(&self) -> LstmParameters {
        let mut parameters = self.shape.lstm().parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(&self.params);
        parameters
    }

    pub fn initial(&self) -> Option<LstmState<'_>> {
        Some(LstmState { h: &self.h0, s: &self.s0 })
    }

    pub fn outputs(&self) -> OutputGradients<'_> {
        OutputGradients {
            dy: Some(&self.dy),
            dh_last: Some(&self.dh_last),
            ds_last: Some(&self.ds_last),
        }
    }

    /// One sequence of the batch.
    pub fn sequence(&self, n: usize) -> Self {
        let Shape { inputs, hidden, batch, .. } = self.shape;
        let of = |values: &[f32], width| rows_of(values, width, batch, n);
        Self {
            shape: Shape { batch: 1, ..self.shape },
            params: self.params.clone(),
            x: of(&self.x, inputs),
            h0: of(&self.h0, hidden),
            s0: of(&self.s0, hidden),
            dy: of(&self.dy, hidden),
            dh_last: of(&self.dh_last, hidden),
            ds_last: of(&self.ds_last, hidden),
        }
    }

    /// A stretch of time. The states at its ends are those of the whole.
    pub fn stretch(&self, steps: Range<usize>) -> Self {
        let Shape { inputs, batch, .. } = self.shape;
        let of = |values: &[f32], width| values[steps.start * width..steps.end * width].to_vec();
        Self {
            shape: Shape { steps: steps.len(), ..self.shape },
            x: of(&self.x, batch * inputs),
            dy: of(&self.dy, self.shape.state()),
            ..self.clone()
        }
    }
}

/// The rows, `width` floats each, of sequence `n` in `values`, `[steps, batch, width]`.
pub fn rows_of(values: &[f32], width: usize, batch: usize, n: usize) -> Vec<f32> {
    values.chunks(width).skip(n).step_by(batch).flatten().copied().collect()
}
