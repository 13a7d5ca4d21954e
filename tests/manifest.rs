//! The names, shapes and places of parameters and states, for every layer with every option, and
//! for networks.

mod common;

use bptt::blocks::Block;
use bptt::{Delayed, Dense, Embedding, Error, Gru, LayerNorm, Lstm, Manifest, Network, Reset};
use common::{Kind, Subject};

/// Asserts that tensors follow each other without gaps or overlaps, are as large as their shapes,
/// and all have different names.
#[track_caller]
fn assert_tiles(manifest: &Manifest) {
    let mut end = 0;
    for tensor in manifest.tensors() {
        assert_eq!(tensor.range().start, end, "{} in {manifest}", tensor.name());
        assert_eq!(tensor.range().len(), tensor.shape().iter().product::<usize>());
        assert!(tensor.shape().iter().all(|&size| size > 0), "{manifest}");
        end = tensor.range().end;
        let same = manifest.tensors().iter().filter(|other| other.name() == tensor.name());
        assert_eq!(same.count(), 1, "{manifest}");
        assert_eq!(manifest.find(tensor.name()), Some(tensor));
    }
    assert_eq!(manifest.len(), end);
}

#[test]
fn tensors_of_every_layer_tile_their_buffer() {
    for kind in Kind::all() {
        let subject = Subject { kind, inputs: 3, hidden: 7 };
        let manifest = subject.network().manifest().unwrap();
        assert_tiles(&manifest);
        assert!(manifest.tensors().iter().all(|tensor| tensor.name().starts_with("0.")));
        let state = subject.network().state(5).unwrap();
        assert_tiles(state.manifest());
        let carried = if subject.equations().history() == 0 { "0.c" } else { "0.h" };
        assert!(state.manifest().find(carried).is_some(), "{kind:?}");
        assert_eq!(state.as_slice().len(), state.manifest().len());
        let parameters = subject.network().parameters().unwrap();
        assert_eq!(parameters.as_slice().len(), manifest.len());
        assert!(parameters.as_slice().as_ptr().addr().is_multiple_of(64), "a line of the cache");
    }
}

/// The shapes must be those in the documentation of the layers.
#[test]
fn tensors_have_the_shapes_of_the_pages() {
    let of = |block: Network| block.manifest().unwrap().to_string();
    let lstm = Lstm::new(3, 4).unwrap();
    assert_eq!(of(Network::new(lstm)), "0.weight_ih [16, 3], 0.weight_hh [16, 4], 0.bias [16]");
    let all = lstm.with_peepholes().unwrap().with_coupled_gates().with_projection(2).unwrap();
    let expected = "0.weight_ih [12, 3], 0.weight_hh [12, 2], 0.bias [12], \
                    0.weight_peephole [2, 4], 0.weight_hr [2, 4]";
    assert_eq!(of(Network::new(all)), expected);
    let gru = Gru::new(3, 4, Reset::After).unwrap();
    let expected = "0.weight_ih [12, 3], 0.weight_hh [12, 4], 0.bias [12], 0.bias_hn [4], \
                    0.gain [3, 4], 0.gain_hn [4]";
    assert_eq!(of(Network::new(LayerNorm::new(gru).unwrap())), expected);
    let late = Network::new(Delayed::new(all).unwrap()).state(5).unwrap();
    assert_eq!(late.manifest().to_string(), "0.h [5, 2], 0.c [5, 4], 0.x [5, 3]");
}

#[test]
fn blocks_of_a_network_have_names_of_their_own() {
    let network = Network::new(Embedding::new(10, 3).unwrap())
        .then(Lstm::new(3, 4).unwrap())
        .then(Lstm::new(4, 4).unwrap())
        .then(Dense::new(4, 2).unwrap());
    let manifest = network.manifest().unwrap();
    assert_tiles(&manifest);
    let shapes: Vec<_> = ["0.weight", "1.weight_ih", "2.weight_ih", "3.weight", "3.bias"]
        .map(|name| manifest.find(name).map(|tensor| tensor.shape().to_vec()).unwrap_or_default())
        .to_vec();
    assert_eq!(shapes, [vec![10, 3], vec![16, 3], vec![16, 4], vec![2, 4], vec![2]]);
    assert_tiles(network.state(2).unwrap().manifest());

    let error = network.parameters().unwrap().tensor("1.weight_hr").unwrap_err().to_string();
    assert!(error.contains("1.weight_hr") && error.contains("1.weight_hh [16, 4]"), "{error}");
}

/// A block may not declare a name twice, or more than fits the address space.
#[test]
fn a_name_is_declared_once() {
    let mut manifest = Manifest::default();
    manifest.declare("a", &[2, 3]).unwrap();
    let error = manifest.declare("a", &[1]).unwrap_err();
    assert_eq!(error.to_string(), "tensor is a, expected a name that no other tensor has");
    let error = manifest.declare("b", &[usize::MAX / 2, 4]).unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "the tensors" });
    let range = manifest.within("inner", |manifest| manifest.declare("a", &[4])).unwrap();
    assert_eq!((range, manifest.find("inner.a").unwrap().range()), (6..10, 6..10));
    manifest.declare("b", &[]).unwrap();
    assert_eq!((manifest.len(), manifest.tensors().len()), (11, 3));
}

/// Blocks report the sizes that their parameters have.
#[test]
fn configurations_name_kind_and_sizes() {
    let config = Lstm::new(3, 16).unwrap().with_coupled_gates().config();
    let expected = "Lstm { input_size: 3, hidden_size: 16, candidate: tanh, peepholes: false, \
                    coupled_gates: true, forget_bias: 1 }";
    assert_eq!(config.to_string(), expected);
    let config = LayerNorm::new(Gru::new(2, 5, Reset::Before).unwrap()).unwrap().config();
    let expected = "LayerNorm { layer: Gru { input_size: 2, hidden_size: 5, reset: before, \
                    candidate: tanh }, epsilon: 0.00001 }";
    assert_eq!(config.to_string(), expected);
}
