//! Blocks whose kernels are none of a cell's: attention, normalisation between layers, and the sLSTM.

use super::Log;
use super::hash::Hash;
use crate::common::Given;
use bptt::{
    Accumulate, Attention, AttentionWrapper, Dense, Encoder, ForgetGate, Gru, Inputs, Isa, Keys,
    LayerNormalization, Network, Reset, Runtime, Schedule, Slstm, Stack,
};
use bptt_reference::sample::uniform;

/// Targets and sources of different lengths.
const TARGETS: [usize; 3] = [4, 9, 6];
const SOURCES: [usize; 3] = [7, 1, 11];

pub fn run(isa: Isa, log: &mut Log) {
    for (name, network) in networks() {
        let of = |threads| pass(&network, Runtime::new(isa).threads(threads));
        let hashes = of(1);
        log.expect(of(3) == hashes, name, isa, "on three threads");
        log.add(name, isa, &hashes);
    }
}

/// Networks whose vectors are partly filled.
fn networks() -> Vec<(&'static str, Network)> {
    let dense = |inputs, outputs| Dense::new(inputs, outputs).unwrap();
    let gru = |inputs, hidden| Gru::new(inputs, hidden, Reset::After).unwrap();
    let slstm = |heads, forget| Slstm::new(5, 36, heads).unwrap().with_forget(forget);
    let with = |network: Network, encoder: Encoder| network.with_encoder(encoder).unwrap();
    let additive = Attention::additive(19, 21, 11).unwrap();
    let wrapped = AttentionWrapper::new(Stack::new(gru(5 + 21, 19)), additive).unwrap();
    vec![
        ("slstm/logistic", Network::new(slstm(2, ForgetGate::Logistic))),
        ("slstm/exponential", Network::new(slstm(3, ForgetGate::Exponential))),
        (
            "layer-normalization",
            Network::new(LayerNormalization::new(5).unwrap())
                .then(dense(5, 37))
                .then(LayerNormalization::new(37).unwrap()),
        ),
        (
            "attention/dot",
            with(
                Network::new(gru(5, 21)).then(Attention::dot(21).unwrap()),
                Encoder::new(gru(5, 21)),
            ),
        ),
        (
            "attention/general",
            with(
                Network::new(gru(5, 9)).then(Attention::general(9, 21).unwrap()),
                Encoder::new(gru(5, 21)),
            ),
        ),
        (
            "attention/additive",
            with(Network::new(wrapped), Encoder::new(gru(5, 21)).then(Keys::new(21, 11).unwrap())),
        ),
    ]
}

fn pass(network: &Network, runtime: Runtime) -> Vec<(&'static str, u32)> {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.4);
    parameters.as_mut_slice().copy_from_slice(&values);
    let mut model = network.model(parameters, runtime).unwrap();
    let [targets, sources] = [TARGETS, SOURCES].map(|lengths| Schedule::packed(&lengths).unwrap());
    let rows = |schedule: &Schedule| schedule.given_rows();
    let (x, source) = (uniform(2, rows(&targets) * 5, 1.0), uniform(3, rows(&sources) * 5, 1.0));
    let dy = uniform(4, rows(&targets) * network.output_size(), 1.0);
    let training = model.training(&targets).with_input_gradients();
    let (training, inputs) = match network.encoder() {
        Some(_) => (training.with_source(&sources), Inputs::new(&x).with_source(&source)),
        None => (training, Inputs::new(&x)),
    };
    let mut workspace = training.workspace().unwrap();
    let y = model.forward(&mut workspace, inputs).unwrap().to_vec();
    let last = workspace.last_state().unwrap();
    model.backward(&mut workspace, inputs, &Given(&dy), Accumulate::No).unwrap();
    vec![
        ("outputs", Hash::of(&[&y])),
        ("state", Hash::of(&[last.as_slice()])),
        ("dx", Hash::of(&[workspace.input_gradients().unwrap()])),
        ("weights", Hash::of(&[workspace.gradients().as_slice()])),
    ]
}
