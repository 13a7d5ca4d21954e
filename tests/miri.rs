//! Plans, streams, readout and optimisers at small sizes, one case of each kind: short enough
//! for Miri, which sees where what an arena grants is used by two at once, and where memory is
//! read that nobody has written. `scripts/miri.sh` runs it there. The kernels have a suite of
//! that name too, of each entry on slices of its own.

mod common;

use bptt::{
    Accumulate, Activation, Adam, AdamConfig, Candidate, Format, Isa, Purpose, Readout,
    ReadoutGradients, ReadoutParameters, Reduction, Reset, Sgd, SgdConfig, Stream, Targets,
    Weights, clip_elements, clip_global_norm,
};
use bptt_reference::sample::uniform;
use common::{Alpha, Data, Kind, Options, Rig, Subject, assert_bits, filled, isas};

/// A kind of each kernel and of each way that passes go.
fn kinds() -> Vec<Kind> {
    let candidate = Candidate::Tanh;
    let options =
        |peepholes, coupled, projected| Options { candidate, peepholes, coupled, projected };
    vec![
        Kind::Vanilla(Activation::Relu),
        Kind::Leaky(Activation::Tanh, Alpha::Learned),
        Kind::Skip(Activation::Tanh, &[1, 3]),
        Kind::Clockwork(Activation::Tanh, &[1, 2, 4]),
        Kind::Gru(Reset::After, candidate),
        Kind::LateGru(Reset::Before, Candidate::Logistic),
        Kind::Lstm(options(true, true, false)),
        Kind::Lstm(options(true, false, true)),
        Kind::NormedSkip(Activation::Tanh, &[1, 3]),
        Kind::NormedGru(Reset::After, candidate),
        Kind::NormedLstm(options(true, false, true)),
    ]
}

/// The outputs of a stream, the first step by itself and then the rest.
fn streamed<C: Subject>(mut stream: Stream<C>, weights: &Weights<C>, data: &Data<C>) -> Vec<f32> {
    stream.set_state(data.initial().unwrap()).unwrap();
    let (x, mut y) = (&data.inputs.x, filled(data.steps * data.state()));
    stream.step(weights, &x[..data.input()], &mut y[..data.state()]).unwrap();
    stream.forward(weights, &x[data.input()..], &mut y[data.state()..]).unwrap();
    y
}

/// A pass and a stream, which agree; as the kind's place in the list has it, with noise or
/// with weights of fewer bits besides.
fn runs<C: Subject>(isa: Isa, data: &Data<C>, threads: usize, place: usize) {
    let mut rig = Rig::with_threads(isa, data, threads);
    let pass = rig.run(data);
    let stream = || data.layer.stream(data.batch, isa).unwrap().with_threads(threads).unwrap();
    assert_bits("y", &streamed(stream(), &rig.weights, data), &pass.h);
    let format = match place % 3 {
        0 => {
            let noisy = data.clone().noisy(7 << 17);
            let pass = Rig::with_threads(isa, &noisy, threads).run(&noisy);
            return assert!(pass.params.iter().all(|g| g.is_finite()));
        }
        1 => Format::Bf16,
        _ => Format::Int8,
    };
    let narrow = data.layer.pack_inference(&data.parameters(), format, isa).unwrap();
    assert!(streamed(stream(), &narrow, data).iter().all(|y| y.is_finite()));
}

fn layers(threads: usize) {
    let kinds = kinds().into_iter().enumerate();
    for (place, kind) in kinds.filter(|(place, _)| threads == 1 || place % 4 == 0) {
        for &isa in isas() {
            // A vector of units and one more.
            let hidden = isa.lanes() + 1;
            println!("{kind:?} on {isa}, threads {threads}");
            with_layer!(kind, (2, hidden), |layer| {
                let data = Data::draw(layer, 1 + place % 3, 3, 1, 0.5).begun(3);
                runs(isa, &data, threads, place)
            });
        }
    }
}

/// A layer on top, its loss and its gradients, from which optimisers go a step.
fn readout() {
    for &isa in isas() {
        for (rows, inputs, outputs) in [(13, 3, 2), (1, 5, 17)] {
            let readout = Readout::new(inputs, outputs).unwrap();
            let mut parameters = readout.parameters().unwrap();
            let values = uniform(1, readout.parameter_count(), 0.5);
            parameters.as_mut_slice().copy_from_slice(&values);
            let purpose = Purpose::TrainingWithInputGradient;
            let mut weights = readout.pack(&parameters, purpose, isa).unwrap();
            let plan = readout.plan(rows, isa).unwrap();
            let mut arena = plan.allocate().unwrap();
            let (h, mut o) = (uniform(2, rows * inputs, 1.0), filled(rows * outputs));
            plan.forward(&weights, &h, &mut o, &mut arena).unwrap();
            let classes: Vec<u32> = (0..rows).map(|row| (row % outputs) as u32).collect();
            let targets = Targets { classes: &classes, mask: None, reduction: Reduction::Mean };
            let before = plan.evaluate(&weights, &h, targets, &mut arena).unwrap();
            // Miri rounds a logarithm one way or the other.
            let loss = plan.loss(&weights, &h, targets, &mut arena).unwrap();
            assert!((loss - before).abs() < 1e-9);

            let mut gradients = readout.parameters().unwrap();
            let mut dh = filled(h.len());
            for accumulate in [Accumulate::No, Accumulate::Yes] {
                let (parameters, dh) = (&mut gradients, Some(&mut dh[..]));
                let to = ReadoutGradients { parameters, accumulate, dh };
                plan.backward(&weights, &h, &mut arena, to).unwrap();
            }
            descend(isa, &mut parameters, &mut gradients);
            weights.update(&parameters).unwrap();
            assert!(plan.evaluate(&weights, &h, targets, &mut arena).unwrap() < before);
        }
    }
}

fn descend(isa: Isa, parameters: &mut ReadoutParameters, gradients: &mut ReadoutParameters) {
    let gradients = gradients.as_mut_slice();
    clip_elements(gradients, 0.5).unwrap();
    clip_global_norm(&mut [&mut *gradients], 1.0).unwrap();
    let config = SgdConfig { learning_rate: 1e-2, momentum: 0.5 };
    let mut sgd = Sgd::new(gradients.len(), config, isa).unwrap();
    sgd.step(parameters.as_mut_slice(), gradients).unwrap();
    let mut adam = Adam::new(gradients.len(), AdamConfig::default(), isa).unwrap();
    adam.step(parameters.as_mut_slice(), gradients).unwrap();
}

/// One thread, which never touches rayon.
mod alone {
    #[test]
    fn layers() {
        super::layers(1);
    }

    #[test]
    fn readout() {
        super::readout();
    }
}

/// Two; how rayon's queues use pointers is beyond Miri's stricter rules.
mod threads {
    #[test]
    fn layers() {
        super::layers(2);
    }
}
