//! Training passes, streams, networks and optimisers at small sizes, one case of each kind, short
//! enough for Miri. Miri finds memory of a workspace that is used by two borrowers at once, and
//! memory that is read before it is written. `scripts/miri.sh` runs the suite there. The kernels
//! have a suite of the same name, which calls each entry with slices of its own.

mod common;

use bptt::{
    Accumulate, Activation, Adam, Candidate, Dense, Embedding, Format, Isa, Lstm, Model, Network,
    Reset, Runtime, Schedule, Sgd, SoftmaxCrossEntropy, SquaredError, Tokens, clip_elements,
};
use bptt_reference::sample::uniform;
use common::{Alpha, Data, Kind, Options, Rig, assert_bits, filled, isas};

/// One kind for each kernel and for each way that a pass can go.
fn kinds() -> Vec<Kind> {
    let (candidate, hard) = (Candidate::Tanh, common::Hard::NONE);
    let options =
        |peepholes, coupled, projected| Options { candidate, peepholes, coupled, projected, hard };
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

/// The outputs of a stream: the first step by itself, then the rest.
fn streamed(model: &Model, data: &Data) -> Vec<f32> {
    let mut stream = model.stream(data.batch).unwrap();
    stream.set_state(&data.initial()).unwrap();
    let (x, mut y) = (&data.inputs.x, filled(data.steps * data.state()));
    stream.step(&x[..data.input()], &mut y[..data.state()]).unwrap();
    stream.forward(&x[data.input()..], &mut y[data.state()..]).unwrap();
    y
}

/// A pass and a stream of a kind, which must agree. The kind's place in the list decides whether
/// there is noise, and whether weights are in fewer bits.
fn runs(isa: Isa, data: &Data, threads: usize, place: usize) {
    let mut rig = Rig::with_threads(isa, data, threads);
    let pass = rig.run(data);
    assert_bits("y", &streamed(&rig.model, data), &pass.h);
    let format = match place % 3 {
        0 => {
            let noisy = data.clone().noisy(7 << 17);
            let pass = Rig::with_threads(isa, &noisy, threads).run(&noisy);
            return assert!(pass.params.iter().all(|g| g.is_finite()));
        }
        1 => Format::Bf16,
        _ => Format::Int8,
    };
    let narrow = rig.model.quantised(format).unwrap();
    assert!(streamed(&narrow, data).iter().all(|y| y.is_finite()));
}

fn layers(threads: usize) {
    let kinds = kinds().into_iter().enumerate();
    for (place, kind) in kinds.filter(|(place, _)| threads == 1 || place % 4 == 0) {
        for &isa in isas() {
            // One vector of units and one unit more.
            let hidden = isa.lanes() + 1;
            println!("{kind:?} on {isa}, threads {threads}");
            with_layer!(kind, (2, hidden), |layer| {
                let data = Data::draw(layer, 1 + place % 3, 3, 1, 0.5).begun(3);
                runs(isa, &data, threads, place)
            });
        }
    }
}

/// A model with drawn parameters.
fn drawn(network: &Network, isa: Isa, threads: usize) -> Model {
    bptt_kernels::team::set_cores(8);
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.5);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa).threads(threads)).unwrap()
}

/// A dense layer, its loss and its gradients, from which optimisers make a step.
fn dense(threads: usize) {
    for &isa in isas() {
        for (rows, inputs, outputs) in [(13, 3, 2), (1, 5, 17)] {
            let network = Network::new(Dense::new(inputs, outputs).unwrap());
            let mut model = drawn(&network, isa, threads);
            let training = model.training(Schedule::dense(rows, 1)).with_input_gradients();
            let mut workspace = training.workspace().unwrap();
            let x = uniform(2, rows * inputs, 1.0);
            model.forward(&mut workspace, &x).unwrap();
            let classes: Vec<u32> = (0..rows).map(|row| (row % outputs) as u32).collect();
            let loss = SoftmaxCrossEntropy::mean(&classes);
            let before = model.evaluate(&mut workspace, &x, &loss).unwrap();
            for accumulate in [Accumulate::No, Accumulate::Yes] {
                // Miri rounds a logarithm at random.
                let loss = model.gradients(&mut workspace, &x, &loss, accumulate).unwrap();
                assert!((loss - before).abs() < 1e-9);
            }
            assert!(workspace.input_gradients().unwrap().iter().all(|g| g.is_finite()));
            clip_elements(workspace.gradients_mut().as_mut_slice(), 0.5).unwrap();
            let mut sgd = Sgd::new(1e-2).with_momentum(0.5).unwrap();
            model.train(&mut workspace, &x, &loss, &mut sgd.clip_norm(1.0)).unwrap();
            model.train(&mut workspace, &x, &loss, &mut Adam::new(1e-3)).unwrap();
            assert!(model.evaluate(&mut workspace, &x, &loss).unwrap() < before);
        }
    }
}

/// Several blocks, whose gradients take turns in two buffers, with the state carried on, and a
/// stream.
fn networks(threads: usize) {
    for &isa in isas() {
        let network = Network::new(Embedding::new(5, 3).unwrap())
            .then(Lstm::new(3, 4).unwrap())
            .then(Dense::new(4, 6).unwrap())
            .then(Dense::new(6, 2).unwrap());
        let mut model = drawn(&network, isa, threads);
        let (steps, batch) = (3, 2);
        let training = model.training(Schedule::dense(steps, batch)).with_state_gradients();
        let mut workspace = training.workspace().unwrap();
        let tokens: Vec<u32> = (0..steps as u32 * batch as u32).map(|n| n * 3 % 5).collect();
        let targets = uniform(3, steps * batch * 2, 1.0);
        let loss = SquaredError::mean(&targets);
        let x = Tokens(&tokens);
        let y = model.forward(&mut workspace, x).unwrap().to_vec();
        let mut streamed = filled(y.len());
        model.stream(batch).unwrap().forward(x, &mut streamed).unwrap();
        assert_bits("y", &streamed, &y);
        workspace.carry_state().unwrap();
        let before = model.gradients(&mut workspace, x, &loss, Accumulate::No).unwrap();
        assert!(workspace.state_gradients().unwrap().as_slice().iter().all(|g| g.is_finite()));
        model.train(&mut workspace, x, &loss, &mut Sgd::new(1e-2)).unwrap();
        assert!(model.evaluate(&mut workspace, x, &loss).unwrap() < before);
    }
}

/// One thread, which never calls rayon.
mod alone {
    #[test]
    fn layers() {
        super::layers(1);
    }

    #[test]
    fn dense() {
        super::dense(1);
    }

    #[test]
    fn networks() {
        super::networks(1);
    }
}

/// Two threads; rayon's queues use pointers in ways that Miri's stricter rules forbid.
mod threads {
    #[test]
    fn layers() {
        super::layers(2);
    }

    #[test]
    fn dense() {
        super::dense(2);
    }

    #[test]
    fn networks() {
        super::networks(2);
    }
}
