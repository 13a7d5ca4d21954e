//! The model to beat: an n-gram model of order 3, which predicts a byte from up to three bytes
//! before it.
//!
//! It uses interpolated modified Kneser–Ney smoothing (Chen and Goodman 1999), with the discounts
//! that they derive from the counts. For the longest context it counts how often a byte came after
//! it, and for shorter contexts after how many different bytes the context and the byte came; below
//! them all, the 256 bytes are equally likely. Witten–Bell smoothing and absolute discounting
//! predicted this repository's text less well.

use std::collections::{BTreeMap, HashMap};

/// The number of earlier bytes from which a byte is predicted.
pub const ORDER: usize = 3;

/// The model.
pub struct NGram<'a> {
    /// The bytes that came after each context of [`ORDER`] bytes or fewer, with their counts.
    pub counts: HashMap<&'a [u8], BTreeMap<u8, u32>>,
    /// The discounts of the counts 1, 2, and 3 or more, by the length of the context.
    discounts: [[f64; 3]; ORDER + 1],
}

impl<'a> NGram<'a> {
    /// Fits the model to a text.
    pub fn fit(text: &'a [u8]) -> Self {
        let mut counts: HashMap<&[u8], BTreeMap<u8, u32>> = HashMap::new();
        let mut discounts = [[0.0; 3]; ORDER + 1];
        for window in text.windows(ORDER + 1) {
            *counts.entry(&window[..ORDER]).or_default().entry(window[ORDER]).or_default() += 1;
        }
        for length in (0..=ORDER).rev() {
            let mut of_count = [0.0; 5];
            let of_length = counts.iter().filter(|(context, _)| context.len() == length);
            for (context, seen) in of_length.map(|(k, v)| (*k, v.clone())).collect::<Vec<_>>() {
                for (byte, count) in seen {
                    of_count.get_mut(count as usize).into_iter().for_each(|n| *n += 1.0);
                    let Some(shorter) = context.get(1..) else { continue };
                    *counts.entry(shorter).or_default().entry(byte).or_default() += 1;
                }
            }
            discounts[length] = Self::discounts(of_count);
        }
        Self { counts, discounts }
    }

    /// How many counts are 1, 2, 3 and 4.
    fn discounts(of_count: [f64; 5]) -> [f64; 3] {
        let y = of_count[1] / (of_count[1] + 2.0 * of_count[2]);
        [1, 2, 3].map(|count| {
            let c = count as f64;
            let discount = c - (c + 1.0) * y * of_count[count + 1] / of_count[count];
            // If one of these numbers is 0, or they are very unusual, the formula gives no usable
            // discount.
            if discount.is_finite() { discount.clamp(0.1, c - 0.1) } else { 0.5 * c }
        })
    }

    /// The probability of a byte after others, of which the last [`ORDER`] count.
    pub fn probability(&self, before: &[u8], byte: u8) -> f64 {
        let mut probability = 1.0 / 256.0;
        for (length, discounts) in self.discounts.iter().enumerate().take(before.len() + 1) {
            let Some(seen) = self.counts.get(&before[before.len() - length..]) else { break };
            let discount = |count: &u32| discounts[(*count).min(3) as usize - 1];
            let kept = seen.get(&byte).map_or(0.0, |count| f64::from(*count) - discount(count));
            let freed: f64 = seen.values().map(discount).sum();
            probability = (kept + freed * probability) / f64::from(seen.values().sum::<u32>());
        }
        probability
    }

    /// Bits per byte over blocks, each by itself, without its first byte.
    pub fn bits_per_byte(&self, blocks: &[Vec<u8>]) -> f64 {
        let bits = |block: &Vec<u8>| -> f64 {
            let before = |at: usize| &block[at.saturating_sub(ORDER)..at];
            (1..block.len()).map(|at| -self.probability(before(at), block[at]).log2()).sum()
        };
        let scored: usize = blocks.iter().map(|block| block.len() - 1).sum();
        blocks.iter().map(bits).sum::<f64>() / scored as f64
    }
}
