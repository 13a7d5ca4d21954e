//! Drawn parameters, inputs and gradients of a pass, and parts of them.

use super::Subject;
use bptt::{Isa, Model, Noise, Parameters, Regularisation, Runtime, Schedule, State};
use bptt_reference::cells::{Inputs, Layer as ReferenceLayer};
use bptt_reference::noise;
use bptt_reference::sample::uniform;
use std::ops::Range;

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub inputs: usize,
    pub hidden: usize,
    pub batch: usize,
    pub steps: usize,
}

impl Shape {
    pub fn new(inputs: usize, hidden: usize, batch: usize, steps: usize) -> Self {
        Self { inputs, hidden, batch, steps }
    }
}

/// Everything that a pass is given.
#[derive(Clone, Debug)]
pub struct Data {
    pub layer: Subject,
    pub batch: usize,
    pub steps: usize,
    /// Steps that the sequences have taken before, which some cells count.
    pub first: u64,
    pub inputs: Inputs<Vec<f32>>,
    pub regularisation: Regularisation,
    pub noise: Noise,
}

impl Data {
    /// Data whose parts, in the order of the fields, are made by `draw` from a name and a length.
    pub fn made(
        layer: Subject,
        batch: usize,
        steps: usize,
        mut draw: impl FnMut(u64, usize) -> Vec<f32>,
    ) -> Self {
        let state = batch * layer.output_size();
        let line = layer.equations().history() * state;
        let cell = if layer.equations().has_state() { batch * layer.hidden_size() } else { 0 };
        let late = if layer.is_late() { batch * layer.input_size() } else { 0 };
        let inputs = Inputs {
            params: draw(1, layer.parameter_count()),
            x: draw(2, steps * batch * layer.input_size()),
            h0: draw(3, line),
            c0: draw(4, cell),
            dy: draw(5, steps * state),
            dh_last: draw(6, line),
            dc_last: draw(7, cell),
            x0: draw(8, late),
            dx_last: draw(9, late),
        };
        Self::with_inputs(layer, batch, steps, inputs)
    }

    /// Data made of its parts, without noise.
    pub fn with_inputs(
        layer: Subject,
        batch: usize,
        steps: usize,
        inputs: Inputs<Vec<f32>>,
    ) -> Self {
        let (regularisation, noise) = (Regularisation::none(), Noise::default());
        Self { layer, batch, steps, first: 0, inputs, regularisation, noise }
    }

    /// The same data with noise in the recurrence; each kind of noise occurs for half of all seeds.
    pub fn noisy(self, seed: u64) -> Self {
        if !self.layer.kind.takes_noise() {
            return self;
        }
        let [dropout, hidden, cell] = [1, 2, 4].map(|bit| (seed >> 17) & bit != 0);
        let rate = |has: bool, rate: f32| if has { rate } else { 0.0 };
        let cell = cell && self.layer.equations().has_state();
        let regularisation = Regularisation::none()
            .with_dropout(rate(dropout, 0.3))
            .and_then(|r| r.with_zoneout(rate(hidden, 0.4), rate(cell, 0.2)))
            .unwrap();
        let noise = Noise { seed, step: seed % 5, sequence: seed >> 31 };
        Self { regularisation, noise, ..self }
    }

    /// The source of the reference's noise.
    pub fn draw_noise(&self) -> noise::Draw {
        let (dropout, zoneout) = (self.regularisation.dropout(), self.regularisation.zoneout());
        let Noise { seed, step, sequence } = self.noise;
        noise::Draw { dropout, zoneout, seed, step, sequence }
    }

    /// The layer in the reference, with the noise of a training pass.
    pub fn reference(&self) -> ReferenceLayer {
        let (outputs, hidden) = (self.layer.output_size(), self.layer.hidden_size());
        let masks = self.draw_noise().masks(self.steps, self.batch, outputs, hidden);
        ReferenceLayer { masks, ..self.layer.reference() }
    }

    /// Data drawn evenly: parameters up to ±`weights`, cell states up to ±2, the rest up to ±1.
    pub fn draw(layer: Subject, batch: usize, steps: usize, seed: u64, weights: f32) -> Self {
        Self::made(layer, batch, steps, |k, len| {
            let limit = match k {
                1 => weights,
                4 => 2.0,
                _ => 1.0,
            };
            uniform(seed.wrapping_add(k << 32), len, limit)
        })
    }

    /// Another draw for the same layer and sizes.
    pub fn again(&self, seed: u64, weights: f32) -> Self {
        let (regularisation, noise) = (self.regularisation, self.noise);
        let other = Self::draw(self.layer, self.batch, self.steps, seed, weights);
        Self { regularisation, noise, ..other }
    }

    /// The same data after some earlier steps, if the cell counts them.
    pub fn begun(self, seed: u64) -> Self {
        Self { first: seed % 11, ..self }
    }

    /// The same for a shape, whose sizes are the layer's.
    pub fn of(layer: Subject, shape: Shape, seed: u64, weights: f32) -> Self {
        Self::draw(layer, shape.batch, shape.steps, seed, weights)
    }

    /// Floats of a hidden state.
    pub fn state(&self) -> usize {
        self.batch * self.layer.output_size()
    }

    /// Floats of a step's input.
    pub fn input(&self) -> usize {
        self.batch * self.layer.input_size()
    }

    pub fn parameters(&self) -> Parameters {
        self.layer.parameters(&self.inputs.params)
    }

    /// A model of the parameters, with the noise, on `threads` threads.
    pub fn model(&self, isa: Isa, threads: usize) -> Model {
        let network = self.layer.network_with(self.regularisation);
        network.model(self.parameters(), Runtime::new(isa).threads(threads)).unwrap()
    }

    pub fn schedule(&self) -> Schedule {
        Schedule::dense(self.steps, self.batch)
    }

    /// The state before the first step.
    pub fn initial(&self) -> State {
        let Inputs { h0, c0, x0, .. } = &self.inputs;
        self.layer.state(self.batch, h0, c0, x0, self.first)
    }

    /// The gradient by the state after the last step.
    pub fn last_gradient(&self) -> State {
        let Inputs { dh_last, dc_last, dx_last, .. } = &self.inputs;
        self.layer.state(self.batch, dh_last, dc_last, dx_last, 0)
    }

    /// A loss whose gradient by the outputs is the given one.
    pub fn loss(&self) -> impl Fn(&mut [f32]) -> f64 {
        |y: &mut [f32]| {
            y.copy_from_slice(&self.inputs.dy);
            0.0
        }
    }

    /// The data of one sequence of the batch.
    pub fn sequence(&self, n: usize) -> Self {
        let (layer, batch) = (self.layer, self.batch);
        let of = |values: &[f32], width| rows_of(values, width, batch, n);
        let (inputs, hidden) = (layer.input_size(), layer.hidden_size());
        let (outputs, given) = (layer.output_size(), &self.inputs);
        let inputs = Inputs {
            params: given.params.clone(),
            x: of(&given.x, inputs),
            h0: of(&given.h0, outputs),
            c0: of(&given.c0, hidden),
            dy: of(&given.dy, outputs),
            dh_last: of(&given.dh_last, outputs),
            dc_last: of(&given.dc_last, hidden),
            x0: of(&given.x0, inputs),
            dx_last: of(&given.dx_last, inputs),
        };
        let sequence = self.noise.sequence.wrapping_add(n as u64);
        let noise = Noise { sequence, ..self.noise };
        Self { layer, batch: 1, inputs, noise, ..*self }
    }

    /// The data of a stretch of time. The states at its ends, and the number of steps before it,
    /// are those of the whole.
    pub fn stretch(&self, steps: Range<usize>) -> Self {
        let of = |values: &[f32], width| values[steps.start * width..steps.end * width].to_vec();
        let inputs = Inputs {
            x: of(&self.inputs.x, self.input()),
            dy: of(&self.inputs.dy, self.state()),
            ..self.inputs.clone()
        };
        let noise = Noise { step: self.noise.step + steps.start as u64, ..self.noise };
        Self { layer: self.layer, steps: steps.len(), inputs, noise, ..*self }
    }
}

/// The rows of sequence `n`, `width` floats each, in `values`, `[steps, batch, width]`.
pub fn rows_of(values: &[f32], width: usize, batch: usize, n: usize) -> Vec<f32> {
    values.chunks(width).skip(n).step_by(batch).flatten().copied().collect()
}
