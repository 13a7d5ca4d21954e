//! Workspaces for inference: they have the bits of streams and of training without noise, in less
//! memory, and refuse what needs a backward pass.

mod common;

use bptt::{
    Accumulate, Bidirectional, Dense, Dropout, Embedding, Error, Format, Gru, Isa, Lstm, Memory,
    MinGru, Model, Network, Noise, OutputRecurrent, Regularisation, Regularised, Reset, Reversed,
    Runtime, Schedule, Sgd, Slstm, SoftmaxCrossEntropy, SquaredError, Stack, Tokens, Workspace,
};
use bptt_kernels::AlignedBuffer;
use bptt_reference::sample::uniform;
use common::tree::model_of;
use common::{
    Kind, Layout, Sequence, Subject, assert_bits, draw_list, drawn_model, filled, isas, joined,
};

/// More rows than a stretch of time has, and sequences that end in each stretch.
const LENGTHS: [usize; 7] = [50, 0, 71, 23, 1, 80, 71];

const LAYOUTS: [Layout; 3] = [Layout::Packed, Layout::BatchFirst(85), Layout::TimeMajor(80)];

/// Outputs and last state of a sequence in a stream of its own.
fn streamed(model: &Model, sequence: &Sequence) -> [Vec<f32>; 2] {
    let mut stream = model.stream(1).unwrap();
    stream.set_state(&sequence.state).unwrap();
    let mut y = filled(sequence.dy.len());
    if !y.is_empty() {
        stream.forward(&sequence.x, &mut y).unwrap();
    }
    [y, stream.state_slice().to_vec()]
}

fn are_as_streamed(subject: &Subject, noise: Regularisation, isa: Isa, seed: u64) {
    let network = subject.network_with(noise);
    let start = if matches!(subject.kind, Kind::Clockwork(..)) { 3 } else { 0 };
    let sequences = draw_list(subject, &LENGTHS, seed, start);
    let alone = drawn_model(&network, Runtime::new(isa));
    let expected: Vec<_> = sequences.iter().map(|one| streamed(&alone, one)).collect();
    let x: Vec<_> = sequences.iter().map(|sequence| sequence.x.clone()).collect();
    for (layout, threads) in LAYOUTS.into_iter().zip([1, 3, 2]) {
        let what = format!("{subject:?}, {noise:?}, {layout:?}, {threads} threads on {isa}");
        let model = drawn_model(&network, Runtime::new(isa).threads(threads));
        let inference = model.inference(layout.schedule(&LENGTHS));
        let bytes = inference.bytes().unwrap();
        let mut workspace = inference.workspace().unwrap();
        assert_eq!(workspace.bytes(), bytes, "{what}");
        workspace.set_state(&joined(&model, sequences.iter().map(|one| &one.state))).unwrap();
        // Noise that a pass for training would draw.
        workspace.set_noise(Noise { seed: 5, ..Noise::default() });
        let x = layout.joined(&x, subject.input_size(), f32::NAN);
        let y = model.forward(&mut workspace, &x).unwrap().to_vec();
        let last = workspace.last_state().unwrap();
        for (n, [of_stream, state]) in expected.iter().enumerate() {
            let own = layout.of(&y, &LENGTHS, n, subject.output_size());
            assert_bits(&format!("y {n}, {what}"), &own, of_stream);
            assert_bits(&what, last.sequence(n).unwrap().as_slice(), state);
        }
    }
}

#[test]
fn sequences_are_as_in_streams() {
    bptt_kernels::team::set_cores(8);
    for (nth, kind) in Kind::all().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 4 + 7 * (nth % 3) };
        for &isa in isas() {
            are_as_streamed(&subject, Regularisation::none(), isa, nth as u64);
            if kind.takes_noise() {
                let cell = if subject.equations().has_state() { 0.2 } else { 0.0 };
                let noise = Regularisation::none().with_dropout(0.3);
                let noise = noise.and_then(|noise| noise.with_zoneout(0.4, cell)).unwrap();
                are_as_streamed(&subject, noise, isa, nth as u64);
            }
        }
    }
}

/// Blocks in both directions and in reverse, whose outputs all stay in the workspace.
#[test]
fn sequences_of_one_length_have_the_bits_of_training() {
    for &isa in isas() {
        // Rows of 256 floats, which a stretch has further apart.
        let lstm = || Lstm::new(5, 64).unwrap().with_peepholes().unwrap();
        let coupled = Lstm::new(128, 64).unwrap().with_coupled_gates();
        let network = Network::new(Bidirectional::new(lstm(), lstm()))
            .then(Bidirectional::new(Slstm::new(128, 64, 2).unwrap(), coupled).summed())
            .then(Reversed::new(MinGru::new(64, 128).unwrap()))
            .then(Dense::new(128, 3).unwrap());
        for threads in [1, 2] {
            let mut model = drawn_model(&network, Runtime::new(isa).threads(threads));
            let schedule = Schedule::dense(250, 4);
            let x = uniform(1, 250 * 4 * 5, 1.0);
            let mut training = model.training_workspace(&schedule).unwrap();
            let mut inference = model.inference_workspace(&schedule).unwrap();
            assert!(2 * inference.bytes() < training.bytes());
            model.forward(&mut training, &x).unwrap();
            model.forward(&mut inference, &x).unwrap();
            for block in 0..4 {
                let name = format!("{block}.y");
                let [given, expected] =
                    [&inference, &training].map(|space| space.activations(&name).unwrap());
                assert_bits(&name, given, expected);
            }
            let [given, expected] = [&inference, &training].map(|w| w.last_state().unwrap());
            assert_bits("the last state", given.as_slice(), expected.as_slice());
        }
    }
}

/// Only outputs grow with the steps, by a row for each block.
#[test]
fn memory_grows_by_outputs_alone() {
    for kind in Kind::all() {
        let subject = Subject { kind, inputs: 3, hidden: 16 };
        let layer = subject.network();
        let output = layer.output_size();
        let model =
            drawn_model(&layer.then(Dense::new(output, 16).unwrap()), Runtime::best().unwrap());
        let bytes = |steps| model.inference(Schedule::dense(steps, 4)).bytes().unwrap();
        let floats = (bytes(3600) - bytes(1200)) / 4;
        let moves = match kind {
            // A clockwork keeps what it adds up at each move.
            Kind::Clockwork(..) => subject.floats_of_steps(9600) - 9600 * output,
            _ => 0,
        };
        assert_eq!(floats, 9600 * (output + 16) + moves, "{kind:?}");
    }
}

/// Memory in which each f32 is NaN.
fn memory_of(bytes: usize) -> Memory {
    let mut buffer = AlignedBuffer::try_new(bytes / 4).unwrap();
    buffer.fill(f32::NAN);
    buffer.into()
}

/// A workspace carries its state on, and serves another schedule.
#[test]
fn a_long_sequence_in_parts_has_the_bits_of_one_pass() {
    let network = Network::new(Embedding::new(11, 5).unwrap())
        .then(Lstm::new(5, 18).unwrap())
        .then(Gru::new(18, 9, Reset::After).unwrap())
        .with_learned_state();
    let model = drawn_model(&network, Runtime::best().unwrap());
    let tokens: Vec<u32> = (0..300).map(|n| n * 7 % 11).collect();
    let mut whole = model.inference_workspace(Schedule::dense(300, 1)).unwrap();
    let expected = model.forward(&mut whole, Tokens(&tokens)).unwrap();
    let mut part = model.inference_workspace(Schedule::dense(120, 1)).unwrap();
    let mut y = model.forward(&mut part, Tokens(&tokens[..120])).unwrap().to_vec();
    part.carry_state().unwrap();
    y.extend_from_slice(model.forward(&mut part, Tokens(&tokens[120..240])).unwrap());
    let state = part.last_state().unwrap();
    part.replan(Schedule::dense(60, 1)).unwrap();
    part.set_state(&state).unwrap();
    y.extend_from_slice(model.forward(&mut part, Tokens(&tokens[240..])).unwrap());
    assert_bits("y", &y, expected);
    let error = part.replan(Schedule::dense(400, 1)).unwrap_err();
    assert!(error.to_string().contains("its memory"), "{error}");

    let inference = model.inference(Schedule::dense(300, 1));
    let memory = inference.bytes().unwrap();
    let error = inference.workspace_in(memory_of(memory - 64)).unwrap_err();
    assert!(matches!(error, Error::Value { what: "the workspace", .. }), "{error}");
    let inference = model.inference(Schedule::dense(300, 1));
    let mut given = inference.workspace_in(memory_of(memory + 64)).unwrap();
    let y = model.forward(&mut given, Tokens(&tokens)).unwrap();
    assert_bits("in memory that was handed in", y, whole.outputs().unwrap());
}

/// The loss of validation data, whole and with outputs in chunks, is that of a training workspace.
#[test]
fn losses_have_the_bits_of_training() {
    let network = Network::new(Embedding::new(40, 5).unwrap())
        .then(
            Regularised::new(
                Lstm::new(5, 18).unwrap(),
                Regularisation::none().with_dropout(0.3).unwrap(),
            )
            .unwrap(),
        )
        .then(Dropout::new(18, 0.5).unwrap())
        .then(Dense::new(18, 40).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let schedule = Schedule::packed(&[9, 30, 1]).unwrap();
    let (tokens, classes) = ([3; 40], [2; 40]);
    let loss = SoftmaxCrossEntropy::mean(&classes);
    let mut training = model.training_workspace(&schedule).unwrap();
    let expected = model.evaluate(&mut training, Tokens(&tokens), &loss).unwrap();
    let mut whole = model.inference_workspace(&schedule).unwrap();
    assert_eq!(model.evaluate(&mut whole, Tokens(&tokens), &loss), Ok(expected));
    let mut chunks = model.inference(&schedule).with_chunked_outputs(16).workspace().unwrap();
    assert!(chunks.bytes() < whole.bytes());
    let in_chunks = model.evaluate(&mut chunks, Tokens(&tokens), &loss).unwrap();
    let training = model.training(&schedule).with_chunked_outputs(16);
    let mut training = training.workspace().unwrap();
    assert_eq!(model.evaluate(&mut training, Tokens(&tokens), &loss), Ok(in_chunks));
    let error = model.forward(&mut chunks, Tokens(&tokens)).unwrap_err();
    assert!(error.to_string().contains("chunks"), "{error}");
}

/// Both directions with weights in fewer bits, which no training workspace takes.
#[test]
fn quantised_networks_have_the_bits_of_rounded_weights() {
    let (inputs, units) = (4, 9);
    let gru = || Gru::new(inputs, units, Reset::After).unwrap();
    let network = Network::new(Bidirectional::new(gru(), gru()));
    let schedule = Schedule::packed(&[30, 3, 12]).unwrap();
    let x = uniform(1, 45 * inputs, 1.0);
    for &isa in isas() {
        let whole = drawn_model(&network, Runtime::new(isa));
        for format in [Format::Bf16, Format::Int8] {
            let mut rounded = whole.parameters().clone();
            for direction in ["forward", "reverse"] {
                for (name, depth) in [("weight_ih", inputs), ("weight_hh", units)] {
                    let tensor = rounded.tensor_mut(&format!("0.{direction}.{name}")).unwrap();
                    for row in tensor.chunks_mut(depth) {
                        let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                        row.iter_mut().for_each(|w| *w = format.rounded(*w, largest));
                    }
                }
            }
            let rounded = model_of(&network, Runtime::new(isa), rounded.as_slice());
            let narrow = whole.quantised(format).unwrap();
            let y = |model: &Model| {
                let mut workspace = model.inference_workspace(&schedule).unwrap();
                model.forward(&mut workspace, &x).unwrap().to_vec()
            };
            assert_bits(&format!("{format:?} on {isa}"), &y(&narrow), &y(&rounded));
        }
    }
}

/// Steps that each run as a pass of their own, in one memory.
#[test]
fn outputs_that_are_read_again() {
    let inner = Gru::new(2, 7, Reset::After).unwrap();
    let stack = Stack::new(inner).then(Dense::new(7, 2).unwrap());
    let network = Network::new(OutputRecurrent::new(stack).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let schedule = Schedule::packed(&[7, 2, 9]).unwrap();
    let x = uniform(2, 18 * 2, 1.0);
    for forced in [0.0, 1.0] {
        let mut training = model.training_workspace(&schedule).unwrap();
        let mut inference = model.inference_workspace(&schedule).unwrap();
        let [given, expected] = [&mut inference, &mut training].map(|workspace| {
            workspace.set_teacher_forcing(forced).unwrap();
            model.forward(workspace, &x).unwrap().to_vec()
        });
        assert_bits("y", &given, &expected);
    }
}

/// Everything that a workspace for inference refuses, and what it says.
#[test]
fn a_backward_pass_is_refused() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = drawn_model(&network, Runtime::best().unwrap());
    let mut workspace = model.inference_workspace(Schedule::dense(5, 1)).unwrap();
    let (x, targets) = ([0.5; 10], [0.25; 15]);
    let loss = SquaredError::mean(&targets);
    let expected = model.forward(&mut workspace, &x).unwrap().to_vec();
    let parameters = model.parameters().clone();
    let mut sgd = Sgd::new(0.1);
    let is_refused = |error: Error| {
        let text = error.to_string();
        assert!(matches!(error, Error::Mismatch { what: "workspace", .. }), "{text}");
        assert!(text.contains("for inference") && text.contains("for training"), "{text}");
    };
    is_refused(model.backward(&mut workspace, &x, &loss, Accumulate::No).unwrap_err());
    is_refused(model.gradients(&mut workspace, &x, &loss, Accumulate::Yes).unwrap_err());
    is_refused(model.train(&mut workspace, &x, &loss, &mut sgd).unwrap_err());
    is_refused(model.update(&mut workspace, &mut sgd).unwrap_err());
    is_refused(workspace.set_last_gradient(Some(&model.state(1).unwrap())).unwrap_err());
    assert_eq!(workspace.set_last_gradient(None), Ok(()));
    assert_eq!(model.parameters().as_slice(), parameters.as_slice());
    assert_eq!(workspace.outputs().unwrap(), expected);
    assert!(workspace.gradients().as_slice().is_empty());

    // Gates and cell states are not kept.
    for name in ["0.gates", "0.c", "0.preactivation_gradients"] {
        let error = workspace.activations(name).unwrap_err();
        assert!(matches!(error, Error::Value { what: "activations", .. }), "{error}");
    }
    let no_source = model.inference(Schedule::dense(5, 1)).with_source(Schedule::dense(2, 1));
    assert!(matches!(no_source.bytes(), Err(Error::Mismatch { .. })));
    let refused = |workspace: Result<Workspace, Error>| workspace.unwrap_err();
    assert!(matches!(
        refused(model.inference_workspace(Schedule::dense(0, 1))),
        Error::Value { .. }
    ));
}
