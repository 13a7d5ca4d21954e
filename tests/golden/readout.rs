//! The layer after the cell, its loss, and softmax.

use super::Log;
use super::hash::Hash;
use crate::common::{Seen, filled};
use bptt::{Accumulate, Dense, Isa, Network, Runtime, Schedule, SoftmaxCrossEntropy};
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
    let network = Network::new(Dense::new(inputs, outputs).unwrap());
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 1.5 / (inputs as f32).sqrt());
    parameters.as_mut_slice().copy_from_slice(&values);
    let mut model = network.model(parameters, Runtime::new(isa)).unwrap();
    let training = model.training(Schedule::dense(rows, 1)).with_input_gradients();
    let mut workspace = training.workspace().unwrap();
    let h = uniform(2, rows * inputs, 1.0);
    let o = model.forward(&mut workspace, &h).unwrap().to_vec();

    let classes: Vec<u32> = (0..rows).map(|row| (row * 7 % outputs) as u32).collect();
    let mask: Vec<bool> = (0..rows).map(|row| row % 3 != 2).collect();
    let mut losses = Vec::new();
    let mut gradients = Vec::new();
    let to = workspace.gradients_mut().as_mut_slice();
    to.copy_from_slice(&filled(to.len()));
    for (loss, accumulate) in [
        (SoftmaxCrossEntropy::sum(&classes), Accumulate::No),
        (SoftmaxCrossEntropy::mean(&classes).with_mask(&mask), Accumulate::Yes),
    ] {
        losses.push(model.evaluate(&mut workspace, &h, &loss).unwrap() as f32);
        let seen = Seen::new(&loss);
        losses.push(model.gradients(&mut workspace, &h, &seen, accumulate).unwrap() as f32);
        gradients.extend(seen.d_o.take());
        gradients.extend_from_slice(workspace.input_gradients().unwrap());
    }
    let hashes = vec![
        ("outputs", Hash::of(&[&o])),
        ("loss", Hash::of(&[&losses])),
        ("backward", Hash::of(&[&gradients])),
        ("weights", Hash::of(&[workspace.gradients().as_slice()])),
    ];
    log.add(&format!("readout/R{rows}-I{inputs}-O{outputs}"), isa, &hashes);
}
