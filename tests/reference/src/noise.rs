//! Masks of dropout and zoneout, drawn by Threefry-2x32 of 20 rounds (Salmon et al. 2011), one number at a time.

/// The masks of a pass; what is empty is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Masks {
    /// What share of h₋ the recurrent products see, `[B, R]`.
    pub seen: Vec<f64>,
    /// What share of h and c a step keeps of those before, `[τ, B, R]` and `[τ, B, H]`.
    pub kept: [Vec<f64>; 2],
}

/// What they are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The probability of dropout.
    pub dropout: f32,
    /// Those of zoneout, of h and c.
    pub zoneout: [f32; 2],
    /// Seed, first step and first sequence.
    pub seed: u64,
    /// The number of the first step.
    pub step: u64,
    /// The number of the first sequence.
    pub sequence: u64,
}

fn threefry(key: u64, counter: u64) -> u64 {
    let halves = |word: u64| (word as u32, (word >> 32) as u32);
    let (k0, k1) = halves(key);
    let keys = [k0, k1, k0 ^ k1 ^ 0x1BD1_1BDA];
    let (mut a, mut b) = halves(counter);
    for round in 0..=20u32 {
        if round % 4 == 0 {
            let nth = round / 4;
            a = a.wrapping_add(keys[nth as usize % 3]);
            b = b.wrapping_add(keys[(nth as usize + 1) % 3]).wrapping_add(nth);
        }
        if round < 20 {
            a = a.wrapping_add(b);
            b = b.rotate_left([13, 15, 26, 6, 17, 29, 16, 24][round as usize % 8]) ^ a;
        }
    }
    u64::from(a) | u64::from(b) << 32
}

/// The first or the second number in [0, 1) of a block.
fn number(block: u64, which: u32) -> f32 {
    let word = (block >> (32 * which)) as u32;
    (word >> 8) as f32 / (1 << 24) as f32
}

impl Draw {
    /// The masks of a pass of so many steps and sequences, with R and H units.
    pub fn masks(&self, steps: usize, batch: usize, outputs: usize, hidden: usize) -> Masks {
        let mut masks = Masks::default();
        if self.dropout > 0.0 {
            for n in 0..batch as u64 {
                let key = threefry(self.seed, self.sequence + n);
                for unit in 0..outputs as u64 {
                    let dropped = number(threefry(key, unit | 1 << 32), 0) < self.dropout;
                    let scale = f64::from(1.0 / (1.0 - self.dropout));
                    masks.seen.push(if dropped { 0.0 } else { scale });
                }
            }
        }
        if self.zoneout != [0.0; 2] {
            for (which, units) in [(0, outputs), (1, hidden)] {
                for t in 0..steps as u64 {
                    for n in 0..batch as u64 {
                        let key = threefry(threefry(self.seed, self.step + t), self.sequence + n);
                        let drawn =
                            (0..units as u64).map(|unit| number(threefry(key, unit), which as u32));
                        let kept = drawn.map(|u| f64::from(u8::from(u < self.zoneout[which])));
                        masks.kept[which].extend(kept);
                    }
                }
            }
        }
        masks
    }

    /// Those of inference: what is kept is what it is on average, and all is seen.
    pub fn expected(&self, steps: usize, batch: usize, outputs: usize, hidden: usize) -> Masks {
        let rows = if self.zoneout == [0.0; 2] { 0 } else { steps * batch };
        let [h, c] = self.zoneout.map(f64::from);
        Masks { seen: Vec::new(), kept: [vec![h; rows * outputs], vec![c; rows * hidden]] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of many draws are as often in each of 16 equal parts of [0, 1) as chance has it, and so are those of
    /// neighbours: χ² of 15 and 255 degrees of freedom.
    #[test]
    fn draws_are_even_and_neighbours_independent() {
        let at = |t: u64, n: u64, unit: u64, which| {
            number(threefry(threefry(threefry(3, t), n), unit), which)
        };
        let bin = |u: f32| (u * 16.0) as usize;
        let mut single = [0u32; 16];
        // With the next unit, sequence, step, and the other state.
        let mut pairs = [[0u32; 256]; 4];
        let mut total = 0;
        for t in 0..32 {
            for n in 0..32 {
                for unit in 0..64 {
                    let here = bin(at(t, n, unit, 0));
                    single[here] += 1;
                    total += 1;
                    let others = [
                        at(t, n, unit + 1, 0),
                        at(t, n + 1, unit, 0),
                        at(t + 1, n, unit, 0),
                        at(t, n, unit, 1),
                    ];
                    for (pairs, other) in pairs.iter_mut().zip(others) {
                        pairs[here * 16 + bin(other)] += 1;
                    }
                }
            }
        }
        let chi2 = |counts: &[u32]| {
            let expected = f64::from(total) / counts.len() as f64;
            counts
                .iter()
                .map(|&count| (f64::from(count) - expected).powi(2) / expected)
                .sum::<f64>()
        };
        // Each is exceeded by chance once in a hundred thousand.
        assert!(chi2(&single) < 50.5, "{}", chi2(&single));
        for pairs in pairs {
            assert!(chi2(&pairs) < 363.0, "{}", chi2(&pairs));
        }
    }
}
