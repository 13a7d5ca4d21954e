//! Optimisers and clipping.

use super::Log;
use super::hash::Hash;
use bptt::{Adam, AdamConfig, Isa, Sgd, SgdConfig};
use bptt_kernels::optim;
use bptt_reference::sample::uniform;

/// Numbers of parameters: parts of vectors of each width, and several vectors.
const LENGTHS: [usize; 5] = [1, 5, 16, 37, 100];

const UPDATES: u64 = 4;

pub fn run(isa: Isa, log: &mut Log) {
    for len in LENGTHS {
        for momentum in [0.0, 0.9] {
            let config = SgdConfig { learning_rate: 0.1, momentum };
            let mut sgd = Sgd::with_config(config).unwrap();
            let parameters = updated(len, |parameters, gradients| {
                sgd.step(isa, parameters, gradients).unwrap();
            });
            let hashes = vec![
                ("parameters", Hash::of(&[&parameters])),
                ("velocity", Hash::of(&[sgd.velocity()])),
            ];
            log.add(&format!("sgd/momentum-{momentum}/{len}"), isa, &hashes);
        }
        let config = AdamConfig { beta1: 0.5, beta2: 0.75, epsilon: 1e-3, learning_rate: 0.1 };
        for (name, config) in [("usual", AdamConfig::default()), ("other", config)] {
            let mut adam = Adam::with_config(config).unwrap();
            let parameters = updated(len, |parameters, gradients| {
                adam.step(isa, parameters, gradients).unwrap();
            });
            let hashes = vec![
                ("parameters", Hash::of(&[&parameters])),
                ("moments", Hash::of(&[adam.first_moment(), adam.second_moment()])),
            ];
            log.add(&format!("adam/{name}/{len}"), isa, &hashes);
        }
        let gradients = uniform(9, len, 3.0);
        let (mut scaled, mut clamped) = (gradients.clone(), gradients.clone());
        let squares = optim::sum_of_squares(isa, &gradients);
        optim::scale(isa, &mut scaled, 1.0 / squares.sqrt());
        optim::clamp(isa, &mut clamped, 1.25);
        let hashes = vec![
            // A root of f64 is the same everywhere.
            ("norm", Hash::of(&[&[squares.sqrt() as f32]])),
            ("scaled", Hash::of(&[&scaled])),
            ("clamped", Hash::of(&[&clamped])),
        ];
        log.add(&format!("clip/{len}"), isa, &hashes);
    }
}

/// The parameters after some updates by drawn gradients.
fn updated(len: usize, mut step: impl FnMut(&mut [f32], &[f32])) -> Vec<f32> {
    let mut parameters = uniform(3, len, 1.0);
    for update in 0..UPDATES {
        step(&mut parameters, &uniform(4 + update, len, 10.0));
    }
    parameters
}
