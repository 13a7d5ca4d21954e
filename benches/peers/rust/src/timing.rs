//! A round of timed passes, the same for contenders in every language.

use crate::problem::{Contender, Fallible};
use serde_json::{Value, json};
use std::time::Instant;

/// Passes for at least `seconds`. The first warms the caches up and is not counted,
/// unless it takes so long that it has to do.
pub fn round(contender: &mut dyn Contender, seconds: f64) -> Fallible<Value> {
    let start = Instant::now();
    contender.pass()?;
    let first = start.elapsed().as_secs_f64();
    // So many passes between two looks at the clock that looking takes no time.
    let calls = (0.002 / first).ceil().max(1.0) as u32;
    let mut samples = Vec::new();
    if first >= 2.0 {
        samples.push(first);
    }
    while samples.is_empty() || start.elapsed().as_secs_f64() < first + seconds {
        let sample = Instant::now();
        for _ in 0..calls {
            contender.pass()?;
        }
        samples.push(sample.elapsed().as_secs_f64() / f64::from(calls));
    }
    samples.sort_by(f64::total_cmp);
    Ok(json!({
        "best": samples[0],
        "median": samples[samples.len() / 2],
        "passes": samples.len() * calls as usize,
    }))
}
