//! Inputs that drive every non-linearity to its limit, and ∞ itself: a step has the limit that its
//! equations have, and no NaN that they have not.

use crate::common::{Alpha, Data, Kind, Rig, Subject, filled, isas};
use crate::with_layer;
use bptt::{Activation, Candidate, Leak, Leaky, Network, Runtime};
use bptt_reference::cells::{Cell as Equations, Inputs, Layer as ReferenceLayer};
use bptt_reference::sample::uniform;

const INPUTS: [f32; 14] = [
    40.0,
    88.0,
    89.0,
    104.0,
    710.0,
    3e38,
    f32::INFINITY,
    -40.0,
    -88.0,
    -89.0,
    -104.0,
    -710.0,
    -3e38,
    f32::NEG_INFINITY,
];

/// The first step of a layer each of whose sums is an input, with W = 0, from the zero state or from a given one.
fn one_step(layer: Subject, x: f32, batch: usize, state: f32) -> Data {
    let mut data = Data::made(layer, batch, 1, |k, len| match k {
        // The input that a late layer uses is the one that waits in its state.
        2 | 8 => vec![x; len],
        3 | 4 => uniform(k, len, state),
        _ => vec![0.0; len],
    });
    let mut parameters = data.parameters();
    let inputs = layer.input_size();
    let weights = parameters.tensor_mut("0.weight_ih").unwrap();
    weights.chunks_mut(inputs).enumerate().for_each(|(row, weights)| weights[row % inputs] = 1.0);
    for (name, seed) in
        [("bias_hn", 6), ("rho", 6), ("weight_peephole", 6), ("weight_hr", 7), ("lambda", 6)]
    {
        if let Ok(own) = parameters.tensor_mut(&format!("0.{name}")) {
            own.copy_from_slice(&uniform(seed, own.len(), 0.5));
        }
    }
    data.inputs.params = parameters.as_slice().to_vec();
    data
}

/// A step of a network, which is the data's layer or has its parameters, together with the
/// reference.
fn check_step(network: &Network, data: &Data, reference: &ReferenceLayer) {
    let widened: Inputs<Vec<f64>> =
        data.inputs.map(|part| part.iter().map(|&x| f64::from(x)).collect());
    let expected = reference.run::<f64>(&widened, None);
    for &isa in isas() {
        for threads in [1, 3] {
            let mut rig = rig(network, Runtime::new(isa).threads(threads), data);
            let given = rig.forward(data);
            let mut stream = rig.model.stream(data.batch).unwrap();
            stream.set_state(&data.initial()).unwrap();
            let mut stepped = filled(given.h.len());
            stream.step(&data.inputs.x, &mut stepped).unwrap();
            for h in [&given.h, &stepped] {
                for (&h, &expected) in h.iter().zip(&expected.h) {
                    let near = (f64::from(h) - expected).abs() <= 1e-6 * (1.0 + expected.abs());
                    // The equations of an unbounded candidate say 0 · ∞ where its gate is shut.
                    let undefined = expected.is_nan() && data.layer.kind.is_scan();
                    assert!(
                        f64::from(h) == expected || near || undefined,
                        "{h} instead of {expected} of x {} on {isa}: {network:?}",
                        data.inputs.x[0]
                    );
                }
            }
        }
    }
}

fn rig(network: &Network, runtime: Runtime, data: &Data) -> Rig {
    bptt_kernels::team::set_cores(8);
    let mut model = network.model(data.parameters(), runtime).unwrap();
    let workspace = model.training_workspace(data.schedule()).unwrap();
    Rig { model, workspace }
}

/// Whether an open gate shuts out a candidate without a bound.
fn has_shut_relu(kind: Kind) -> bool {
    match kind {
        Kind::Gru(_, phi) | Kind::HardGru(_, phi, _) => phi == Candidate::Relu,
        Kind::Lstm(options) => options.coupled && options.candidate == Candidate::Relu,
        _ => false,
    }
}

#[test]
fn a_step_has_the_limit_of_its_equations() {
    for kind in Kind::all().into_iter().filter(|kind| *kind == kind.plain()) {
        for x in INPUTS {
            // (1 − u) ⊙ n of a GRU and i ⊙ g of coupled gates are 0 · ∞ there.
            if x == f32::INFINITY && has_shut_relu(kind) {
                continue;
            }
            for batch in [1, 13] {
                for state in [0.0, 0.75] {
                    with_layer!(kind, (1, 19), |layer| {
                        let data = one_step(layer, x, batch, state);
                        check_step(&layer.network(), &data, &data.reference());
                    });
                }
            }
        }
    }
}

/// Units that keep much, little or nothing of their state, and whose input has no bound.
#[test]
fn leaky_units_have_it_where_their_input_is_infinite() {
    for alpha in [0.0, 1e-30, 0.3, 0.5, 0.9, 0.999_999_94] {
        for activation in [Activation::Relu, Activation::Identity, Activation::Tanh] {
            for x in INPUTS {
                for batch in [1, 13] {
                    let kind = Kind::Leaky(activation, Alpha::Layer);
                    let data = one_step(Subject { kind, inputs: 1, hidden: 19 }, x, batch, 0.75);
                    // The same layer with another α.
                    let layer = Leaky::new(1, 19, activation, Leak::Layer(alpha)).unwrap();
                    let Equations::Leaky(phi, _) = data.layer.equations() else { panic!() };
                    let cell = Equations::Leaky(phi, vec![alpha; 19]);
                    let reference = ReferenceLayer { cell, ..data.reference() };
                    check_step(&Network::new(layer), &data, &reference);
                }
            }
        }
    }
}

/// An infinite gradient of the state reaches the input as (1 − α) times it.
#[test]
fn leaky_units_pass_an_infinite_gradient_on() {
    for &isa in isas() {
        for batch in [1, 13] {
            let kind = Kind::Leaky(Activation::Identity, Alpha::Layer);
            let mut data = one_step(Subject { kind, inputs: 1, hidden: 19 }, 0.5, batch, 0.75);
            data.inputs.dy.fill(f32::INFINITY);
            let mut rig = Rig::new(isa, &data);
            let dz = rig.run(&data).dz;
            assert!(dz.iter().all(|&dz| dz == f32::INFINITY), "{dz:?} on {isa}");
        }
    }
}
