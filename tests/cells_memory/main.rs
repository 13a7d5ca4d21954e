//! How much passes and streams allocate: as many bytes as documented when they are made, and
//! nothing after that.

mod bytes;
#[path = "../common/mod.rs"]
mod common;
mod formulas;
mod once_set_up;
mod refused;

use allocation_counter::measure;
use bptt::{Dense, Embedding, Network};
use common::{Kind, Options, Subject, gru, lstm};
use formulas::{Part, Sizes};

/// The allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

/// Without this test the suite would pass with a counter that does not count.
#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 10]))), 1);
}

/// Networks of several blocks, with the quantities of their formulas.
fn networks() -> Vec<(Network, Vec<Part>)> {
    let of = |kind, inputs, hidden| Part::Layer(Sizes::of(&Subject { kind, inputs, hidden }));
    let projected = Options { projected: true, ..Options::NONE };
    let (reset, candidate) = (bptt::Reset::After, bptt::Candidate::Tanh);
    let dense = |inputs, outputs| Dense::new(inputs, outputs).unwrap();
    let dense_part = |inputs, outputs| Part::Dense { inputs, outputs };
    let embedding_part = |tokens, outputs| Part::Embedding { tokens, outputs };
    let gru_kind = Kind::Gru(reset, candidate);
    vec![
        (Network::new(dense(7, 3)), vec![dense_part(7, 3)]),
        (
            Network::new(Embedding::new(11, 6).unwrap())
                .then(lstm(Options::NONE, 6, 40))
                .then(dense(40, 11)),
            vec![embedding_part(11, 6), of(Kind::LSTM, 6, 40), dense_part(40, 11)],
        ),
        // One token too many for a table, and the largest number that has one.
        (
            Network::new(Embedding::new(4 * 46 + 1, 6).unwrap()).then(lstm(Options::NONE, 6, 40)),
            vec![embedding_part(4 * 46 + 1, 6), of(Kind::LSTM, 6, 40)],
        ),
        (
            Network::new(Embedding::new(4 * 46, 6).unwrap()).then(lstm(Options::NONE, 6, 40)),
            vec![embedding_part(4 * 46, 6), of(Kind::LSTM, 6, 40)],
        ),
        (
            Network::new(dense(5, 20))
                .then(gru(reset, candidate, 20, 33))
                .then(lstm(projected, 33, 16))
                .then(dense(8, 100))
                .then(gru(reset, candidate, 100, 3)),
            vec![
                dense_part(5, 20),
                of(gru_kind, 20, 33),
                of(Kind::Lstm(projected), 33, 16),
                dense_part(8, 100),
                of(gru_kind, 100, 3),
            ],
        ),
    ]
}
