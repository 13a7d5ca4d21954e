//! States in files come back to the bit, and a file that is no state of the network is refused.

use crate::common::{assert_bits, filled, isas};
use crate::{BATCH, clockwork, drawn, drawn_model};
use bptt::{Embedding, Error, Gru, Lstm, Model, Network, Reset, Schedule, Tokens};

/// A network of several layers, whose tensors are in another order than that of their names.
fn of_tokens() -> Network {
    Network::new(Embedding::new(11, 4).unwrap())
        .then(Lstm::new(4, 6).unwrap())
        .then(Gru::new(6, 2, Reset::Before).unwrap())
        .then(clockwork())
}

/// A sequence in parts, between which the state was in a file, has the bits of one pass.
#[test]
fn parts_with_the_state_in_a_file_between_are_as_one() {
    let dir = std::env::temp_dir().join(format!("bptt-states-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("state.safetensors");
    for &isa in isas() {
        let mut model = drawn_model(&of_tokens(), isa);
        let tokens: Vec<u32> = (0..12 * BATCH as u32).map(|n| n * 7 % 11).collect();
        let mut expected = filled(12 * BATCH * 4);
        let mut whole = model.stream(BATCH).unwrap();
        whole.forward(Tokens(&tokens), &mut expected).unwrap();
        let parts = tokens.chunks(4 * BATCH).zip(expected.chunks(4 * BATCH * 4));
        let mut workspace = model.training_workspace(Schedule::dense(4, BATCH)).unwrap();
        for (nth, (x, expected)) in parts.enumerate() {
            // In a stream and in a pass by turns; each begins with the state in the file.
            let state =
                if nth == 0 { model.state(BATCH) } else { model.load_state(&path) }.unwrap();
            let mut y = filled(expected.len());
            if nth == 1 {
                workspace.set_state(&state).unwrap();
                y.copy_from_slice(model.forward(&mut workspace, Tokens(x)).unwrap());
                workspace.last_state().unwrap().save(&path).unwrap();
            } else {
                let mut stream = model.stream(BATCH).unwrap();
                stream.set_state(&state).unwrap();
                stream.forward(Tokens(x), &mut y).unwrap();
                stream.state().unwrap().save(&path).unwrap();
            }
            assert_bits("y", &y, expected);
        }
        assert_eq!(model.load_state(&path).unwrap(), whole.state().unwrap());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn files_that_are_no_state_of_the_network_are_refused() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let model = drawn_model(&network, isas()[0]);
    let other = drawn_model(&Network::new(Lstm::new(2, 4).unwrap()), isas()[0]);
    let gru = drawn_model(&Network::new(Gru::new(2, 3, Reset::After).unwrap()), isas()[0]);
    let text =
        |model: &Model, bytes: &[u8]| model.state_of_safetensors(bytes).unwrap_err().to_string();
    let bytes = drawn(&model, 2, 3).to_safetensors().unwrap();
    for len in 0..bytes.len() {
        let error = text(&model, &bytes[..len]);
        assert!(error.contains("expected a whole file of safetensors"), "{len}: {error}");
    }
    assert_eq!(text(&other, &bytes), "tensor 0.h: F32 [2, 3], expected F32 [2, 4]");
    assert_eq!(text(&gru, &bytes), "tensor 0.c: in the file, expected one of 0.h [2, 3]");
    let of_gru = drawn(&gru, 2, 3).to_safetensors().unwrap();
    assert_eq!(text(&model, &of_gru), "tensor 0.c: missing, expected F32 [2, 3]");
    let parameters = model.to_safetensors().unwrap();
    let error = text(&model, &parameters);
    assert!(error.starts_with("the number batch of a state: not given, expected 1 to"), "{error}");
    let error = Model::of_safetensors(&bytes, model.runtime()).unwrap_err().to_string();
    assert!(error.contains("without blocks"), "{error}");

    // Numbers that no state has. They have the lengths of those in the file.
    let changed = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    let error = text(&model, &changed("\"batch\":\"2\"", "\"batch\":\"0\""));
    assert!(error.starts_with("the number batch of a state: 0, expected 1 to"), "{error}");
    let error = text(&model, &changed("\"batch\":\"2\"", "\"batch\":\"9\""));
    assert_eq!(error, "tensor 0.h: F32 [2, 3], expected F32 [9, 3]");
    let error = text(&model, &changed("\"step\":\"0\"", "\"step\":\"-\""));
    assert_eq!(error, "the number step of a state: -, expected 0 to 9223372036854775807");

    let missing = std::env::temp_dir().join("bptt-no/such/state.safetensors");
    assert!(matches!(model.load_state(&missing), Err(Error::Io { .. })));
    assert!(matches!(model.state(1).unwrap().save(&missing), Err(Error::Io { .. })));
}
