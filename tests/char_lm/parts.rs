//! The parts of the example, each by itself.

use super::example::args::Options;
use super::example::corpus::{Corpus, MOST_HELD_OUT, repository_text, split};
use super::example::generate::{draw, printable};
use super::example::ngram::{NGram, ORDER};
use super::example::train::{self, LAST_RATE, STEPS, WARM_UP, bits_per_byte, network, rate};
use bptt::{Accumulate, Error, Model, Runtime, Schedule, SoftmaxCrossEntropy, Tokens};
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};

const TRUTH: &[u8] = b"It is a truth universally acknowledged, that a single man.";

const CAT: &[u8] = b"the cat sat on the mat; the dog sat on the log; the cat ate the rat.\n";

fn model(embedding: usize, hidden: usize, threads: usize) -> Model {
    let runtime = Runtime::best().unwrap().threads(threads);
    let network = train::network([embedding, hidden]).unwrap();
    network.init(&mut StdRng::seed_from_u64(5), runtime).unwrap()
}

#[test]
fn every_byte_is_on_one_side() {
    for len in [1000, 40_960, 1_000_000, 3_000_001] {
        let text: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let (train, held_out) = split(&text);
        let bytes: usize = held_out.iter().map(Vec::len).sum();
        assert_eq!(train.len() + bytes, len);
        assert!((2..=MOST_HELD_OUT).contains(&held_out.len()), "{len}");
        assert!(bytes * 9 <= len, "{len}");
        assert!(held_out.iter().all(|block| block.len() == held_out[0].len()));
    }
}

#[test]
fn the_repository_has_a_text() {
    let text = repository_text().unwrap();
    for here in [
        &include_bytes!("parts.rs")[..],
        include_bytes!("../../examples/char_lm/corpus.rs"),
        include_bytes!("../../Cargo.toml"),
    ] {
        assert!(text.windows(here.len()).any(|window| window == here));
    }
}

#[test]
fn drawn_as_often_as_the_softmax_says() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut scores = [f32::NEG_INFINITY; 256];
    (scores[7], scores[200]) = (0.0, 3.0_f32.ln());
    let mut often = |temperature| {
        let drawn = (0..20_000).filter(|_| draw(&scores, temperature, &mut rng) == 200);
        drawn.count() as f64 / 20_000.0
    };
    assert_eq!(often(0.0), 1.0);
    assert!((often(1.0) - 0.75).abs() < 0.02);
    assert!((often(0.5) - 0.9).abs() < 0.02);
    assert_eq!(often(1e-300), 1.0);
}

#[test]
fn nothing_that_drives_a_terminal() {
    assert_eq!(
        printable(b"a\tb\n\x1b[31m\r\xff\xc2\x9b\x00"),
        "a\tb\n\\u{1b}[31m\\r\u{fffd}\\u{9b}\\u{0}"
    );
}

#[test]
fn blocks_side_by_side_do_not_touch() {
    let model = model(3, 9, 1);
    for len in [2, STEPS + 1, 2 * STEPS + 17] {
        let block = |from: u8| (0..len).map(|i| from.wrapping_mul(i as u8)).collect();
        let blocks: Vec<Vec<u8>> = [3, 7, 190].map(block).into();
        let together = bits_per_byte(&model, &blocks).unwrap();
        let alone: f64 =
            blocks.iter().map(|b| bits_per_byte(&model, std::slice::from_ref(b)).unwrap()).sum();
        assert!((together - alone / 3.0).abs() < 1e-9, "{len}");
    }
}

#[test]
fn an_indifferent_model_needs_eight_bits() {
    let network = network([3, 9]).unwrap();
    let model = network.model(network.parameters().unwrap(), Runtime::best().unwrap()).unwrap();
    let bits = bits_per_byte(&model, &[b"whatever it is".to_vec()]).unwrap();
    assert!((bits - 8.0).abs() < 1e-6);
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let mut model = model(5, 7, 1);
    let (batch, steps) = (2, 6);
    let rows = |after: usize| -> Vec<u32> {
        (0..steps * batch).map(|row| TRUTH[row % 2 * 20 + 3 + row / 2 + after].into()).collect()
    };
    let (x, classes) = (rows(0), rows(1));
    let mut workspace = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
    let mut run = |name: &str, at: usize, by: f32| {
        let before = model.parameters().clone();
        model.change(|p| p.tensor_mut(name).map(|tensor| tensor[at] += by)).unwrap();
        let loss = SoftmaxCrossEntropy::sum(&classes);
        let loss = model.gradients(&mut workspace, Tokens(&x), &loss, Accumulate::No).unwrap();
        model
            .change(|p| {
                *p = before;
                Ok::<(), Error>(())
            })
            .unwrap();
        (loss, workspace.gradients().tensor(name).unwrap()[at])
    };
    // An entry of the embedding of "i", which the chunks contain, one of U, and one of V.
    let (i, n) = (usize::from(b'i'), usize::from(b'n'));
    for (name, at) in [("0.weight", 5 * i + 2), ("1.weight_ih", 3), ("2.weight", 7 * n)] {
        let (_, gradient) = run(name, at, 0.0);
        let slope = (run(name, at, 1e-2).0 - run(name, at, -1e-2).0) / 2e-2;
        assert!(slope != 0.0, "{name}");
        assert!((slope - f64::from(gradient)).abs() < 1e-3, "{name}: {slope} {gradient}");
    }
}

#[test]
fn threads_change_no_bit() {
    let corpus =
        Corpus { name: String::new(), train: TRUTH.to_vec(), held_out: vec![TRUTH.to_vec()] };
    // Passes that are long enough for two threads, so that helpers come in some of them.
    let arguments = "char_lm --quiet --updates 4 --batch 40 --steps 6 --clip 0.1";
    let options = Options::parse_from(arguments.split(' '));
    let trained = |threads| {
        let mut model = model(20, 80, threads);
        train::train(&mut model, &corpus, &options).unwrap();
        (bits_per_byte(&model, &corpus.held_out).unwrap(), model.parameters().as_slice().to_vec())
    };
    let alone = trained(1);
    assert_ne!(alone.1, model(20, 80, 1).parameters().as_slice());
    for threads in [2, 3, 5] {
        assert_eq!(alone, trained(threads));
    }
}

#[test]
fn the_rate_rises_and_falls() {
    assert!(rate(0.0) > 0.0 && rate(0.0) < 0.02);
    assert!(rate(WARM_UP) > 0.99);
    assert!((rate(1.0) - LAST_RATE).abs() < 1e-12);
    assert!((rate(7.0) - LAST_RATE).abs() < 1e-12);
}

#[test]
fn probabilities_sum_to_one_after_anything() {
    let long: Vec<u8> = (0..5000_u32).map(|i| (i * i % 97) as u8).collect();
    for text in [CAT, &long, b"aaaa", b"abc", b""] {
        let model = NGram::fit(text);
        for before in [&b""[..], b"t", b"he", b"the", b"xth", b"aaa", b"xyz", &[0, 1, 4], &[0; 3]] {
            let all = (0..=255).map(|byte| model.probability(before, byte));
            assert!(all.clone().all(|p| p > 0.0), "{before:?}");
            let sum: f64 = all.sum();
            assert!((sum - 1.0).abs() < 1e-12, "{before:?}: {sum}");
        }
    }
}

#[test]
fn context_helps() {
    let text = CAT.repeat(20);
    let model = NGram::fit(&text);
    let bits = |order: usize| {
        let score = |at: usize| -model.probability(&text[at - order..at], text[at]).log2();
        (ORDER..text.len()).map(score).sum::<f64>() / (text.len() - ORDER) as f64
    };
    assert!(bits(3) < bits(2) && bits(2) < bits(1) && bits(1) < bits(0) && bits(0) < 8.0);
}

#[test]
fn shorter_contexts_count_what_came_before() {
    // "a" occurs more often, but only after "x".
    let model = NGram::fit(b"xaxaxaxaxaxaxaxaxaxabxbyb");
    let [all, after_x] = [&b""[..], b"x"].map(|context| {
        let seen = &model.counts[context];
        [b'a', b'b', b'z'].map(|byte| seen.get(&byte).copied().unwrap_or(0))
    });
    assert_eq!(all, [1, 3, 0]);
    assert_eq!(after_x, [1, 1, 0]);
}
