//! Passes over one shape, and what they should give.

use bptt::{
    Accumulate, Isa, Purpose, Readout, ReadoutArena, ReadoutGradients, ReadoutParameters,
    ReadoutPlan, ReadoutWeights, Reduction, Targets,
};
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::compare::{UNIT_ROUNDOFF, gamma};
use bptt_reference::{Bounded, Number, readout as reference, sample};
use std::iter::once;

const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64;

/// What a pass over one shape needs.
pub struct Case {
    pub readout: Readout,
    pub parameters: ReadoutParameters,
    pub h: Vec<f32>,
    pub classes: Vec<u32>,
    pub mask: Vec<bool>,
    pub weights: ReadoutWeights,
    pub plan: ReadoutPlan,
    pub arena: ReadoutArena,
}

impl Case {
    pub fn new(isa: Isa, (rows, inputs, outputs): (usize, usize, usize), seed: u64) -> Self {
        let readout = Readout::new(inputs, outputs).unwrap();
        let mut parameters = readout.parameters().unwrap();
        let values = sample::uniform(seed, readout.parameter_count(), 2.0 / (inputs as f32).sqrt());
        parameters.as_mut_slice().copy_from_slice(&values);
        let weights = readout.pack(&parameters, Purpose::TrainingWithInputGradient, isa).unwrap();
        let plan = readout.plan(rows, isa).unwrap();
        let draws = sample::uniform(seed + 2, rows, 1.0);
        Case {
            readout,
            parameters,
            h: sample::uniform(seed + 1, rows * inputs, 1.0),
            classes: draws.iter().map(|x| ((x + 1.0) / 2.0 * outputs as f32) as u32).collect(),
            mask: draws.iter().map(|x| (x * 64.0).fract().abs() > 0.3).collect(),
            weights,
            arena: plan.allocate().unwrap(),
            plan,
        }
    }

    pub fn targets(&self, masked: bool, reduction: Reduction) -> Targets<'_> {
        Targets { classes: &self.classes, mask: masked.then_some(&self.mask), reduction }
    }

    pub fn outputs(&mut self) -> Vec<f32> {
        let mut o = vec![f32::NAN; self.plan.rows() * self.readout.output_size()];
        self.plan.forward(&self.weights, &self.h, &mut o, &mut self.arena).unwrap();
        o
    }

    /// The loss and ∂L/∂o.
    pub fn loss(&mut self, masked: bool, reduction: Reduction) -> (f64, Vec<f32>) {
        let targets =
            Targets { classes: &self.classes, mask: masked.then_some(&self.mask), reduction };
        let loss = self.plan.loss(&self.weights, &self.h, targets, &mut self.arena).unwrap();
        (loss, self.arena.output_gradients().unwrap().to_vec())
    }

    pub fn backward(
        &mut self,
        gradients: &mut ReadoutParameters,
        accumulate: Accumulate,
    ) -> Vec<f32> {
        let mut dh = vec![f32::NAN; self.h.len()];
        let to = ReadoutGradients { parameters: gradients, accumulate, dh: Some(&mut dh) };
        self.plan.backward(&self.weights, &self.h, &mut self.arena, to).unwrap();
        dh
    }

    fn reference(&self) -> reference::Readout {
        reference::Readout {
            hidden_size: self.readout.input_size(),
            output_size: self.readout.output_size(),
        }
    }

    pub fn check(&mut self) {
        let params = exact(self.parameters.as_slice());
        let h = exact(&self.h);
        let o = self.outputs();
        assert_within("o", &o, &self.reference().forward(&params, &h));
        for masked in [false, true] {
            for reduction in [Reduction::Sum, Reduction::Mean] {
                let (loss, d_o) = self.loss(masked, reduction);
                let outputs = self.readout.output_size();
                let expected = expected_loss(&o, outputs, self.targets(masked, reduction));
                assert_within("do", &d_o, &expected.d_o);
                let error = (loss - expected.loss.value).abs();
                assert!(error <= expected.loss.bound, "{loss}: {:?}", expected.loss);
            }
        }
        self.check_backward(&params, &h);
        let d_o = sample::uniform(7, o.len(), 1.0);
        self.arena.output_gradients_mut().copy_from_slice(&d_o);
        self.check_backward(&params, &h);
    }

    /// From the ∂L/∂o that the arena holds.
    fn check_backward(&mut self, params: &[Bounded], h: &[Bounded]) {
        let (rows, outputs) = (self.plan.rows(), self.readout.output_size());
        let inputs = self.readout.input_size();
        let d_o = exact(self.arena.output_gradients().unwrap());
        let expected = self.reference().backward(params, h, &d_o);
        let mut gradients = self.readout.parameters().unwrap();
        gradients.as_mut_slice().fill(f32::NAN);
        let dh = self.backward(&mut gradients, Accumulate::No);
        assert_within("dh", &dh, &expected.dh);
        assert_within("gradients", gradients.as_slice(), &expected.params);

        let before = sample::uniform(8, gradients.as_slice().len(), 1.0);
        gradients.as_mut_slice().copy_from_slice(&before);
        assert_eq!(self.backward(&mut gradients, Accumulate::Yes), dh);
        let one = Bounded::one();
        let added = |at: usize, terms: &dyn Fn(usize) -> (Bounded, Bounded)| {
            let start = (Bounded::exact(before[at].into()), one);
            Bounded::dot(once(start).chain((0..rows).map(terms)))
        };
        let mut expected = Vec::new();
        for at in 0..outputs * inputs {
            let (k, j) = (at / inputs, at % inputs);
            expected.push(added(at, &|row| (d_o[row * outputs + k], h[row * inputs + j])));
        }
        for k in 0..outputs {
            expected.push(added(outputs * inputs + k, &|row| (d_o[row * outputs + k], one)));
        }
        assert_within("accumulated", gradients.as_slice(), &expected);
    }
}

pub struct Loss {
    pub loss: Bounded,
    pub d_o: Vec<Bounded>,
}

/// A loss and its gradient from f32 outputs, with bounds for exponentials of 2 ULP.
pub fn expected_loss(o: &[f32], outputs: usize, targets: Targets<'_>) -> Loss {
    let u = UNIT_ROUNDOFF;
    let reduction = match targets.reduction {
        Reduction::Sum => reference::Reduction::Sum,
        Reduction::Mean => reference::Reduction::Mean,
    };
    let classes: Vec<usize> = targets.classes.iter().map(|&y| y as usize).collect();
    let wide = sample::widen(o);
    let exact = reference::softmax_cross_entropy(&wide, &classes, targets.mask, reduction);
    let counts = |row: usize| targets.mask.is_none_or(|mask| mask[row]);
    let counted = (0..classes.len()).filter(|&row| counts(row)).count();
    let scale = match reduction {
        reference::Reduction::Sum => 1.0,
        reference::Reduction::Mean => 1.0 / counted.max(1) as f64,
    };
    let (mut loss_bound, mut d_o) = (1e-12 * exact.value.abs(), Vec::new());
    for (row, o) in wide.chunks(outputs).enumerate() {
        if !counts(row) {
            d_o.extend(vec![Bounded::zero(); outputs]);
            continue;
        }
        let max = o.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // o − max is rounded, the exponential is 2 ULP, each at most 2u, off.
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
    Loss { loss: Bounded { value: exact.value, bound: loss_bound * (1.0 + 1e-6) }, d_o }
}
