//! Text drawn from a model, byte by byte.

use super::model::{BYTES, Model};
use bptt::{Error, Layer};
use rand::{RngExt, rngs::StdRng};

/// Draws `count` bytes that go on from `prompt`.
pub fn generate(
    model: &Model,
    prompt: &[u8],
    count: usize,
    temperature: f64,
    rng: &mut StdRng,
) -> Result<Vec<u8>, Error> {
    let mut stream = model.lstm.stream(1, model.isa)?;
    let mut x = vec![0.0; model.embedding_size()];
    let mut scores = [0.0; BYTES];
    let mut feed = |byte: u8, scores: &mut [f32]| {
        model.embed(std::iter::once(byte), &mut x);
        stream.predict(&model.lstm_weights, &model.readout_weights, &x, scores)
    };
    for &byte in prompt {
        feed(byte, &mut scores)?;
    }
    let mut text = Vec::new();
    for _ in 0..count {
        let byte = draw(&scores, temperature, rng);
        text.push(byte);
        feed(byte, &mut scores)?;
    }
    Ok(text)
}

/// A byte with probability softmax(scores / temperature).
fn draw(scores: &[f32; BYTES], temperature: f64, rng: &mut StdRng) -> u8 {
    let mut best = 0;
    for (byte, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = byte;
        }
    }
    if temperature == 0.0 {
        return best as u8;
    }
    let top = f64::from(scores[best]);
    let weights = scores.map(|score| ((f64::from(score) - top) / temperature).exp());
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (byte, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return byte as u8;
        }
    }
    best as u8
}

/// Bytes as text for a terminal: invalid UTF-8 replaced, control characters escaped
/// but for line feed and tab.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => text.push(c),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn drawn_as_often_as_the_softmax_says() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut scores = [f32::NEG_INFINITY; BYTES];
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
}
