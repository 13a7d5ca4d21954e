//! Layer normalisation where it could magnify rounding: rows of equal values, rows far from zero,
//! and rows of large values.

use crate::common::{Kind, Subject, assert_bits, fewer, filled, isas, vanilla};
use crate::with_layer;
use bptt::{
    Accumulate, Activation, Init, Isa, LayerNorm, Network, Parameters, Runtime, Schedule, Skip,
};
use bptt_reference::sample::uniform;
use rand::{SeedableRng, rngs::SmallRng};

const SIZES: [usize; 11] = [7, 16, 33, 257, 1, 2, 8, 9, 100, 256, 1000];
const BATCHES: [(usize, usize); 3] = [(1, 1), (13, 1), (13, 3)];

/// A network of one layer, and its parameters.
#[derive(Debug)]
struct Case {
    network: Network,
    parameters: Parameters,
}

impl Case {
    /// A network with drawn parameters.
    fn drawn(network: Network, init: Init, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let model = network.init_with(init, &mut rng, Runtime::new(isas()[0])).unwrap();
        Self { network, parameters: model.parameters().clone() }
    }

    /// A layer that outputs x̂ of the sums `a`, which are its weights from one input of 1.
    fn shows(a: &[f32], epsilon: f32) -> Self {
        let layer = LayerNorm::new(vanilla(Activation::Identity, 1, a.len())).unwrap();
        let network = Network::new(layer.with_epsilon(epsilon).unwrap());
        let mut parameters = network.parameters().unwrap();
        parameters.tensor_mut("0.weight_ih").unwrap().copy_from_slice(a);
        parameters.tensor_mut("0.gain").unwrap().fill(1.0);
        Self { network, parameters }
    }
}

/// h of all steps, from a pass and from a stream, which must have the same bits, and the gradients
/// of parameters and inputs.
fn pass(
    isa: Isa,
    case: &Case,
    (batch, threads): (usize, usize),
    x: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let inputs = case.network.manifest().unwrap().find("0.weight_ih").unwrap().shape()[1];
    let (steps, runtime) = (x.len() / batch / inputs, Runtime::new(isa).threads(threads));
    let mut model = case.network.model(case.parameters.clone(), runtime).unwrap();
    let training = model.training(Schedule::dense(steps, batch)).with_input_gradients();
    let mut workspace = training.workspace().unwrap();
    let h = model.forward(&mut workspace, x).unwrap().to_vec();

    let mut y = filled(h.len());
    let mut stream = model.stream(batch).unwrap();
    stream.forward(x, &mut y).unwrap();
    assert_bits("h of a stream", &y, &h);
    stream.reset();
    let (i, o) = (batch * inputs, batch * model.output_size());
    for (x, y) in x.chunks(i).zip(y.chunks_mut(o)) {
        stream.step(x, y).unwrap();
    }
    assert_bits("h of single steps", &y, &h);

    let dy = uniform(3, h.len(), 1.0);
    let loss = |y: &mut [f32]| {
        y.copy_from_slice(&dy);
        0.0
    };
    model.backward(&mut workspace, x, &loss, Accumulate::No).unwrap();
    let dx = workspace.input_gradients().unwrap();
    (h, [workspace.gradients().as_slice(), dx].concat())
}

#[test]
fn rows_of_equal_values_become_zeros() {
    for &isa in isas() {
        for &hidden in fewer(&SIZES, 4) {
            for value in [123.4, -1234.567, 1234.0, 0.1, 1.1e15, 3e38] {
                let case = Case::shows(&vec![value; hidden], 1e-5);
                for (batch, threads) in BATCHES {
                    let x = vec![1.0; 2 * batch];
                    let (h, gradients) = pass(isa, &case, (batch, threads), &x);
                    for x in h {
                        assert_eq!(x, 0.0, "{hidden} values of {value} on {isa}");
                    }
                    // The gradient of x is a sum of products with the value.
                    let sum_is_finite = value.abs() < 1e30;
                    let count = if sum_is_finite { gradients.len() } else { 4 * hidden };
                    assert!(gradients[..count].iter().all(|g| g.is_finite()), "{value} on {isa}");
                }
            }
        }
    }
}

/// For each cell: parameters that make all sums of a gate equal give the results of sums that are
/// 0.
#[test]
fn each_cell_normalises_them_so() {
    fn run(layer: Subject, hidden: usize) {
        let none = Init::Uniform { limit: 0.0 };
        let zeros = Case::drawn(layer.network(), none, 1);
        let mut equal = Case { network: layer.network(), parameters: zeros.parameters.clone() };
        equal.parameters.tensor_mut("0.weight_ih").unwrap().fill(123.4);
        for &isa in isas() {
            for (batch, threads) in BATCHES {
                let x = vec![1.0; 3 * batch];
                let (h, gradients) = pass(isa, &equal, (batch, threads), &x);
                let (expected, _) = pass(isa, &zeros, (batch, threads), &x);
                assert_bits("h", &h, &expected);
                assert!(gradients.iter().all(|g| g.is_finite()), "{layer:?}, H {hidden} on {isa}");
            }
        }
    }
    for kind in Kind::all().into_iter().filter(|kind| *kind != kind.plain()) {
        for hidden in [1, 7, 33, 100] {
            with_layer!(kind, (1, hidden), |layer| run(layer, hidden));
        }
    }
}

/// Sums that are all further from zero by an amount that f32 adds to them exactly have the same x̂
/// and the same gradients, except for the input.
#[test]
fn an_offset_changes_no_bit() {
    for &isa in isas() {
        for &hidden in fewer(&SIZES, 4) {
            let near: Vec<f32> = uniform(hidden as u64, hidden, 1.0)
                .iter()
                .map(|a| (a * 256.0).round() / 256.0)
                .collect();
            let far: Vec<f32> = near.iter().map(|a| a + 4096.0).collect();
            for (batch, threads) in BATCHES {
                let x = vec![1.0; 2 * batch];
                let [(near, _), (far, _)] =
                    [&near, &far].map(|a| pass(isa, &Case::shows(a, 1e-5), (batch, threads), &x));
                assert_bits("h", &far, &near);
            }
        }
    }
}

/// x̂ is within a few roundings of its f64 value, whatever the first value of a row is.
#[test]
fn rows_are_normalised_as_in_f64() {
    for &isa in isas() {
        for &hidden in fewer(&SIZES, 4) {
            for (seed, offset, first) in
                [(1, 0.0, 0.0), (2, 1e4, 0.0), (3, 0.0, 1e3), (4, -1e6, 7.0)]
            {
                let mut a: Vec<f32> =
                    uniform(seed, hidden, 1.0).iter().map(|a| a + offset).collect();
                a[0] += first;
                let (h, _) = pass(isa, &Case::shows(&a, 1e-2), (1, 1), &[1.0]);
                let count = hidden as f64;
                let mean = a.iter().map(|&a| f64::from(a)).sum::<f64>() / count;
                let squares = a.iter().map(|&a| (f64::from(a) - mean).powi(2)).sum::<f64>();
                let deviation = (squares / count + 1e-2).sqrt();
                // The error is some roundings of the largest deviation from the mean.
                let most = a.iter().fold(0.0f64, |m, &a| m.max((f64::from(a) - mean).abs()));
                let bound = 16.0 * f64::from(f32::EPSILON) * (1.0 + most / deviation);
                for (&h, &a) in h.iter().zip(&a) {
                    let expected = (f64::from(a) - mean) / deviation;
                    let off = (f64::from(h) - expected).abs();
                    assert!(
                        off <= bound,
                        "{h} for {expected}, H {hidden}, {offset}, {first}, {isa}"
                    );
                }
            }
        }
    }
}

/// Inputs of 10¹⁵: states and gradients are finite. ε is negligible beside them, so x̂ is that of
/// inputs of 10³.
#[test]
fn large_inputs_stay_finite() {
    let skip = Skip::new(3, 40, Activation::Identity, &[1, 3]).unwrap();
    let network = Network::new(LayerNorm::new(skip).unwrap());
    let mut case = Case::drawn(network, Init::Glorot, 2);
    case.parameters.tensor_mut("0.weight_hh").unwrap().fill(0.0);
    for &isa in isas() {
        for (batch, threads) in BATCHES {
            let [(near, _), (far, gradients)] = [1e3f32, 1e15].map(|scale| {
                let x: Vec<f32> =
                    uniform(5, 4 * batch * 3, 1.0).iter().map(|x| x * scale).collect();
                pass(isa, &case, (batch, threads), &x)
            });
            assert!(gradients.iter().all(|g| g.is_finite()), "{isa}");
            for (near, far) in near.iter().zip(far) {
                assert!((near - far).abs() <= 2e-5, "{far} instead of {near} on {isa}");
            }
        }
    }
}
