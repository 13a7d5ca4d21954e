//! Losses of a small network: gradients against differences in f64 through the whole network, and the
//! same bits whether the outputs come at once or in parts.

use crate::common::{Layout, assert_bits, isas};
use crate::kind::{Kind, Own};
use crate::placed::Placed;
use bptt::loss::Reduction::{Mean, MeanOverSequences};
use bptt::{Accumulate, Dense, Error, Isa, Lstm, Model, Network, Runtime};
use bptt_reference::finite::gradient_with_error;
use bptt_reference::lstm::Lstm as Reference;
use bptt_reference::sample::{uniform, widen};
use bptt_reference::{Activation, Readout};

const INPUTS: usize = 2;
const HIDDEN: usize = 3;

fn model(kind: Kind, isa: Isa, threads: usize) -> Model {
    let network = Network::new(Lstm::new(INPUTS, HIDDEN).unwrap())
        .then(Dense::new(HIDDEN, kind.outputs()).unwrap());
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.9);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa).threads(threads)).unwrap()
}

fn inputs(lengths: &[usize]) -> Vec<Vec<f32>> {
    (0..).zip(lengths).map(|(n, len)| uniform(50 + n, len * INPUTS, 1.0)).collect()
}

/// The outputs of each sequence in f64.
fn outputs(parameters: &[f64], lengths: &[usize], size: usize) -> Vec<Vec<f64>> {
    let lstm = Reference::new(INPUTS, HIDDEN, Activation::Tanh);
    let readout = Readout { hidden_size: HIDDEN, output_size: size };
    let (of_lstm, of_readout) = parameters.split_at(lstm.params_len());
    let zeros = [0.0; HIDDEN];
    let of = |x: &Vec<f32>| {
        let h = lstm.forward(of_lstm, &widen(x), &zeros, &zeros).h;
        readout.forward(of_readout, &h)
    };
    inputs(lengths).iter().map(of).collect()
}

#[test]
fn gradients_of_parameters() {
    let lengths = [5, 2, 6];
    for kind in Kind::ALL {
        let owns: Vec<Own> = (0..).zip(lengths).map(|(n, len)| kind.draw(20 + n, len)).collect();
        for (reduction, is_masked) in [(Mean, true), (MeanOverSequences, false)] {
            let parameters = widen(model(kind, isas()[0], 1).parameters().as_slice());
            let of = |parameters: &[f64]| {
                let y = outputs(parameters, &lengths, kind.outputs());
                kind.reference(&y, &owns, is_masked, reduction)
            };
            let expected = of(&parameters);
            let f_error = 1e-14 * (1.0 + expected.abs());
            let slopes = gradient_with_error(of, &parameters, 1e-4, f_error);
            let largest = slopes.iter().fold(0.0f64, |most, slope| most.max(slope.value.abs()));
            let placed = Placed::new(Layout::BatchFirst(7), &lengths, &[]);
            let targets = placed.targets(kind, &owns, is_masked);
            let x = Layout::BatchFirst(7).joined(&inputs(&lengths), INPUTS, f32::NAN);
            for &isa in isas() {
                let mut model = model(kind, isa, 1);
                let mut workspace = model.training_workspace(&placed.schedule).unwrap();
                let loss = kind.loss(&targets, reduction);
                let value = model.gradients(&mut workspace, &x, &*loss, Accumulate::No).unwrap();
                let what = format!("{kind:?}, {reduction:?} on {isa}");
                crate::assert_near(&what, value, expected, 1e-5 * (1.0 + expected.abs()));
                // Each element is a sum over some 20 rows of products of some 10 rounded factors.
                let bound = 200.0 * f64::from(f32::EPSILON) * largest;
                let gradients = workspace.gradients().as_slice();
                assert_eq!(gradients.len(), slopes.len());
                for (at, (&given, slope)) in gradients.iter().zip(&slopes).enumerate() {
                    let what = format!("gradient {at}, {what}");
                    crate::assert_near(&what, given.into(), slope.value, bound + slope.error);
                }
                let again = model.evaluate(&mut workspace, &x, &*loss).unwrap();
                assert_eq!(again.to_bits(), value.to_bits(), "{what}");
            }
        }
    }
}

/// Losses that are sums over rows have the same bits in a pass that a budget divides; the others are
/// refused there.
#[test]
fn parts_have_the_bits_of_the_whole() {
    let lengths = [40, 0, 17, 33];
    let schedules = [
        Placed::new(Layout::Packed, &lengths, &[]),
        Placed::new(Layout::TimeMajor(40), &[40, 40], &[]),
        Placed::new(Layout::TimeMajor(40), &lengths, &[(0, 7), (3, 30)]),
    ];
    let mut refused = 0;
    for kind in Kind::ALL {
        for placed in &schedules {
            let lengths: Vec<usize> = placed.given.iter().map(Vec::len).collect();
            let owns: Vec<Own> =
                (0..).zip(&lengths).map(|(n, &len)| kind.draw(20 + n, len)).collect();
            let targets = placed.targets(kind, &owns, true);
            let loss = kind.loss(&targets, Mean);
            let x = uniform(3, placed.schedule.given_rows() * INPUTS, 1.0);
            for (&isa, threads) in isas().iter().zip([1, 2, 1]) {
                let mut model = model(kind, isa, threads);
                let mut whole = model.training_workspace(&placed.schedule).unwrap();
                let expected = model.gradients(&mut whole, &x, &*loss, Accumulate::No).unwrap();
                let budget = whole.bytes() / 3;
                let training = model.training(&placed.schedule).with_budget(budget);
                let mut small = training.workspace().unwrap();
                let given = model.gradients(&mut small, &x, &*loss, Accumulate::No);
                let what = format!("{kind:?}, {}, {isa}", placed.name);
                if !kind.is_of_rows() {
                    let Err(Error::Mismatch { what: "loss", .. }) = given else {
                        panic!("{given:?}, {what}")
                    };
                    refused += 1;
                    continue;
                }
                assert_eq!(given.unwrap().to_bits(), expected.to_bits(), "{what}");
                assert_bits(&what, small.gradients().as_slice(), whole.gradients().as_slice());
            }
        }
    }
    assert!(refused > 0);
}
