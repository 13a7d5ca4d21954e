//! The layer after the cell, its loss, and softmax.

use super::Log;
use super::hash::Hash;
use crate::common::filled;
use bptt::{Accumulate, Isa, Purpose, Readout, ReadoutGradients, Reduction, Targets};
use bptt_kernels::softmax::{CrossEntropy, softmax};
use bptt_reference::sample::uniform;

/// Rows, inputs and outputs: one of each, edges of vectors, and blocks of rows and of depth.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 16, 1), (1, 3, 20), (5, 3, 5), (13, 20, 33), (200, 17, 150), (3, 300, 5)];

pub fn run(isa: Isa, log: &mut Log) {
    for (rows, inputs, outputs) in SHAPES {
        pass(isa, (rows, inputs, outputs), log);
    }
    for classes in [1, 2, 5, 16, 33, 150] {
        let logits = uniform(5, 3 * classes, 6.0);
        let mut shares = logits.clone();
        softmax(isa, classes, &mut shares).unwrap();
        let targets = [0, classes as u32 - 1, classes as u32 / 2];
        let mask = [true, classes % 2 == 0, true];
        let entropy = CrossEntropy::new(classes, &targets, Some(&mask)).unwrap();
        let mut gradient = logits.clone();
        let losses = [entropy.loss(isa, &logits), entropy.gradient(isa, 0.75, &mut gradient)];
        // The logarithm in it is the system's, in f64.
        let losses = losses.map(|loss| loss.unwrap() as f32);
        let hashes = vec![
            ("softmax", Hash::of(&[&shares])),
            ("loss", Hash::of(&[&losses])),
            ("gradient", Hash::of(&[&gradient])),
        ];
        log.add(&format!("softmax/{classes}"), isa, &hashes);
    }
}

fn pass(isa: Isa, (rows, inputs, outputs): (usize, usize, usize), log: &mut Log) {
    let readout = Readout::new(inputs, outputs).unwrap();
    let mut parameters = readout.parameters().unwrap();
    let values = uniform(1, readout.parameter_count(), 1.5 / (inputs as f32).sqrt());
    parameters.as_mut_slice().copy_from_slice(&values);
    let weights = readout.pack(&parameters, Purpose::TrainingWithInputGradient, isa).unwrap();
    let plan = readout.plan(rows, isa).unwrap();
    let mut arena = plan.allocate().unwrap();
    let h = uniform(2, rows * inputs, 1.0);
    let mut o = filled(rows * outputs);
    plan.forward(&weights, &h, &mut o, &mut arena).unwrap();

    let classes: Vec<u32> = (0..rows).map(|row| (row * 7 % outputs) as u32).collect();
    let mask: Vec<bool> = (0..rows).map(|row| row % 3 != 2).collect();
    let mut losses = Vec::new();
    let mut gradients = Vec::new();
    let mut to = readout.parameters().unwrap();
    to.as_mut_slice().copy_from_slice(&filled(readout.parameter_count()));
    for (mask, reduction, accumulate) in [
        (None, Reduction::Sum, Accumulate::No),
        (Some(&mask[..]), Reduction::Mean, Accumulate::Yes),
    ] {
        let targets = Targets { classes: &classes, mask, reduction };
        losses.push(plan.evaluate(&weights, &h, targets, &mut arena).unwrap() as f32);
        losses.push(plan.loss(&weights, &h, targets, &mut arena).unwrap() as f32);
        gradients.extend_from_slice(arena.output_gradients().unwrap());
        let mut dh = filled(h.len());
        let into = ReadoutGradients { parameters: &mut to, accumulate, dh: Some(&mut dh) };
        plan.backward(&weights, &h, &mut arena, into).unwrap();
        gradients.extend(dh);
    }
    let hashes = vec![
        ("outputs", Hash::of(&[&o])),
        ("loss", Hash::of(&[&losses])),
        ("backward", Hash::of(&[&gradients])),
        ("weights", Hash::of(&[to.as_slice()])),
    ];
    log.add(&format!("readout/R{rows}-I{inputs}-O{outputs}"), isa, &hashes);
}
