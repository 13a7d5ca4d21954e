//! Draws text from a model, byte by byte.

use super::Failure;
use super::args::Options;
use bptt::{Model, Tokens};
use rand::{RngExt, rngs::StdRng};
use std::io::Write;

/// Draws `count` bytes that continue the prompt, and prints them.
pub fn sample(model: &Model, o: &Options, bytes: usize, rng: &mut StdRng) -> Result<(), Failure> {
    let (mut stream, mut scores) = (model.stream(1)?, vec![0.0; model.output_size()]);
    let mut text = o.prompt.as_bytes().to_vec();
    for at in 0..o.prompt.len() + bytes {
        if at >= o.prompt.len() {
            text.push(draw(&scores, o.temperature.into(), rng));
        }
        stream.step(Tokens(&[text[at].into()]), &mut scores)?;
    }
    Ok(writeln!(std::io::stdout(), "{}", printable(&text[o.prompt.len()..]))?)
}

/// Draws a byte with the probabilities softmax(scores / temperature).
pub fn draw(scores: &[f32], temperature: f64, rng: &mut StdRng) -> u8 {
    let likelier = |&a: &usize, &b: &usize| scores[a].total_cmp(&scores[b]);
    let best = (0..scores.len()).rev().max_by(likelier).unwrap_or(0);
    if temperature == 0.0 {
        return best as u8;
    }
    let weight = |score: &f32| (f64::from(score - scores[best]) / temperature).exp();
    let mut left = rng.random::<f64>() * scores.iter().map(weight).sum::<f64>();
    let drawn = scores.iter().position(|score| {
        left -= weight(score);
        left < 0.0
    });
    drawn.unwrap_or(best) as u8
}

/// Makes bytes fit for a terminal: invalid UTF-8 is replaced, and control characters except line
/// feed and tab are escaped.
pub fn printable(bytes: &[u8]) -> String {
    let escaped = |c: char| match c {
        c if c.is_control() && !"\n\t".contains(c) => c.escape_default().to_string(),
        c => c.to_string(),
    };
    String::from_utf8_lossy(bytes).chars().map(escaped).collect()
}
