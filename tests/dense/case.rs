//! Passes over one shape, and their expected results.

use crate::common::Seen;
use bptt::{
    Accumulate, Dense, Isa, Loss, Model, Network, Runtime, Schedule, SoftmaxCrossEntropy, Workspace,
};
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::compare::{UNIT_ROUNDOFF, gamma};
use bptt_reference::readout::{self as reference, Reduction};
use bptt_reference::{Bounded, Number, sample};
use std::iter::once;

const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64;

/// What the outputs should have been.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    pub classes: &'a [u32],
    pub mask: Option<&'a [bool]>,
    pub reduction: Reduction,
}

impl<'a> Targets<'a> {
    pub fn loss(self) -> SoftmaxCrossEntropy<'a> {
        let loss = match self.reduction {
            Reduction::Sum => SoftmaxCrossEntropy::sum(self.classes),
            Reduction::Mean => SoftmaxCrossEntropy::mean(self.classes),
        };
        match self.mask {
            Some(mask) => loss.with_mask(mask),
            None => loss,
        }
    }
}

/// The results of a loss and a backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    pub loss: f64,
    pub d_o: Vec<f32>,
    pub dx: Vec<f32>,
    pub gradients: Vec<f32>,
}

/// Everything that a pass over one shape needs.
pub struct Case {
    pub model: Model,
    pub workspace: Workspace,
    pub x: Vec<f32>,
    pub classes: Vec<u32>,
    pub mask: Vec<bool>,
    /// Rows, inputs and outputs.
    pub shape: (usize, usize, usize),
}

impl Case {
    pub fn new(isa: Isa, shape: (usize, usize, usize), seed: u64) -> Self {
        Self::with_threads(isa, shape, seed, 1)
    }

    pub fn with_threads(isa: Isa, shape: (usize, usize, usize), seed: u64, threads: usize) -> Self {
        let (rows, inputs, outputs) = shape;
        let network = Network::new(Dense::new(inputs, outputs).unwrap());
        let mut parameters = network.parameters().unwrap();
        let len = parameters.as_slice().len();
        let values = sample::uniform(seed, len, 2.0 / (inputs as f32).sqrt());
        parameters.as_mut_slice().copy_from_slice(&values);
        let mut model = network.model(parameters, Runtime::new(isa).threads(threads)).unwrap();
        let training = model.training(Schedule::dense(rows, 1)).with_input_gradients();
        let workspace = training.workspace().unwrap();
        let draws = sample::uniform(seed + 2, rows, 1.0);
        Self {
            model,
            workspace,
            x: sample::uniform(seed + 1, rows * inputs, 1.0),
            classes: draws.iter().map(|x| ((x + 1.0) / 2.0 * outputs as f32) as u32).collect(),
            mask: draws.iter().map(|x| (x * 64.0).fract().abs() > 0.3).collect(),
            shape,
        }
    }

    pub fn targets(&self, masked: bool, reduction: Reduction) -> Targets<'_> {
        Targets { classes: &self.classes, mask: masked.then_some(&self.mask), reduction }
    }

    pub fn outputs(&mut self) -> Vec<f32> {
        self.model.forward(&mut self.workspace, &self.x).unwrap().to_vec()
    }

    /// The cross-entropy of the outputs and its gradients, which overwrite NaN.
    pub fn pass(&mut self, masked: bool, reduction: Reduction) -> Pass {
        let (classes, mask) = (self.classes.clone(), self.mask.clone());
        let targets = Targets { classes: &classes, mask: masked.then_some(&mask), reduction };
        self.workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
        self.gradients(&targets.loss(), Accumulate::No)
    }

    /// Another loss and its gradients.
    pub fn gradients(&mut self, loss: &dyn Loss, accumulate: Accumulate) -> Pass {
        let Self { model, workspace, x, .. } = self;
        let seen = Seen::new(loss);
        let loss = model.gradients(workspace, &*x, &seen, accumulate).unwrap();
        Pass {
            loss,
            d_o: seen.d_o.take(),
            dx: workspace.input_gradients().unwrap().to_vec(),
            gradients: workspace.gradients().as_slice().to_vec(),
        }
    }

    fn reference(&self) -> reference::Readout {
        let (_, hidden_size, output_size) = self.shape;
        reference::Readout { hidden_size, output_size }
    }

    pub fn check(&mut self) {
        let params = exact(self.model.parameters().as_slice());
        let x = exact(&self.x);
        let o = self.outputs();
        assert_within("o", &o, &self.reference().forward(&params, &x));
        for masked in [false, true] {
            for reduction in [Reduction::Sum, Reduction::Mean] {
                let pass = self.pass(masked, reduction);
                let expected = expected_loss(&o, self.shape.2, self.targets(masked, reduction));
                assert_within("do", &pass.d_o, &expected.d_o);
                let error = (pass.loss - expected.loss.value).abs();
                assert!(error <= expected.loss.bound, "{}: {:?}", pass.loss, expected.loss);
                if masked && reduction == Reduction::Mean {
                    self.check_backward(&params, &x, &pass.d_o);
                }
            }
        }
        self.check_backward(&params, &x, &sample::uniform(7, o.len(), 1.0));
    }

    /// Gradients from a given ∂L/∂o.
    fn check_backward(&mut self, params: &[Bounded], x: &[Bounded], d_o: &[f32]) {
        let (rows, inputs, outputs) = self.shape;
        let given = |y: &mut [f32]| {
            y.copy_from_slice(d_o);
            0.0
        };
        let d_o = exact(d_o);
        let expected = self.reference().backward(params, x, &d_o);
        self.workspace.gradients_mut().as_mut_slice().fill(f32::NAN);
        let Pass { dx, gradients, .. } = self.gradients(&given, Accumulate::No);
        assert_within("dx", &dx, &expected.dh);
        assert_within("gradients", &gradients, &expected.params);

        let before = sample::uniform(8, gradients.len(), 1.0);
        self.workspace.gradients_mut().as_mut_slice().copy_from_slice(&before);
        let again = self.gradients(&given, Accumulate::Yes);
        assert_eq!(again.dx, dx);
        let one = Bounded::one();
        let added = |at: usize, terms: &dyn Fn(usize) -> (Bounded, Bounded)| {
            let start = (Bounded::exact(before[at].into()), one);
            Bounded::dot(once(start).chain((0..rows).map(terms)))
        };
        let mut expected = Vec::new();
        for at in 0..outputs * inputs {
            let (k, j) = (at / inputs, at % inputs);
            expected.push(added(at, &|row| (d_o[row * outputs + k], x[row * inputs + j])));
        }
        for k in 0..outputs {
            expected.push(added(outputs * inputs + k, &|row| (d_o[row * outputs + k], one)));
        }
        assert_within("accumulated", &again.gradients, &expected);
    }
}

/// The expected value of a loss, and its gradient.
pub struct Expected {
    pub loss: Bounded,
    pub d_o: Vec<Bounded>,
}

/// A loss and its gradient from f32 outputs, with bounds for exponentials that are off by up to 2
/// ULP.
pub fn expected_loss(o: &[f32], outputs: usize, targets: Targets<'_>) -> Expected {
    let u = UNIT_ROUNDOFF;
    let reduction = targets.reduction;
    let classes: Vec<usize> = targets.classes.iter().map(|&y| y as usize).collect();
    let wide = sample::widen(o);
    let exact = reference::softmax_cross_entropy(&wide, &classes, targets.mask, reduction);
    let counts = |row: usize| targets.mask.is_none_or(|mask| mask[row]);
    let counted = (0..classes.len()).filter(|&row| counts(row)).count();
    let scale = match reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / counted.max(1) as f64,
    };
    let (mut loss_bound, mut d_o) = (1e-12 * exact.value.abs(), Vec::new());
    for (row, o) in wide.chunks(outputs).enumerate() {
        if !counts(row) {
            d_o.extend(vec![Bounded::zero(); outputs]);
            continue;
        }
        let max = o.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // o − max is rounded once; the exponential is 2 ULP off, each at most 2u.
        let e: Vec<f64> = o.iter().map(|o| (o - max).exp()).collect();
        let factor = |o: f64| (u * (o - max).abs()).exp() * (1.0 + 4.0 * u);
        let sum: f64 = e.iter().sum();
        let passed_on: f64 =
            o.iter().zip(&e).map(|(&o, e)| e * (factor(o) - 1.0) + UNDERFLOW).sum();
        let off = (passed_on * (1.0 + gamma(outputs)) + gamma(outputs) * sum) / sum;
        loss_bound +=
            scale * (-(-off).ln_1p() + 1e-15 * (sum.ln() + (o[classes[row]] - max).abs()));
        for (k, (&o, e)) in o.iter().zip(&e).enumerate() {
            let value = exact.d_o[row * outputs + k];
            // The scale, its quotient by the sum, and the product round once each.
            let share = factor(o) * (1.0 + gamma(3)) / (1.0 - off) - 1.0;
            let mut bound = scale * e / sum * share + 4.0 * UNDERFLOW;
            if k == classes[row] {
                bound += u * scale + u * (value.abs() + bound + u * scale);
            }
            d_o.push(Bounded { value, bound: bound * (1.0 + 1e-6) });
        }
    }
    Expected { loss: Bounded { value: exact.value, bound: loss_bound * (1.0 + 1e-6) }, d_o }
}
