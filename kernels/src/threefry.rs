//! Random numbers by counter: Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random
//! numbers: as easy as 1, 2, 3"). A number is a function of a key and a counter alone, so each
//! thread computes the numbers that it needs, in any order, and none are stored. The function
//! consists of additions, rotations and exclusive ors, which all vectors have. Must not know what
//! the numbers are for.

use crate::simd::{Kernel, MAX_LANES, Simd};

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
const ROUNDS: usize = 20;
const PARITY: u32 = 0x1BD1_1BDA;

/// Returns the two random numbers of `key` and `counter`.
///
/// ```
/// use bptt_kernels::threefry;
///
/// // A test vector of the authors'.
/// let key = [0x1319_8a2e, 0x0370_7344];
/// assert_eq!(threefry(key, [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
/// ```
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let mut blocks = counter.map(|word| [word]);
    encipher(key, &mut blocks, 1);
    blocks.map(|[word]| word)
}

/// Replaces the first `lanes` counters by their random numbers.
#[inline(always)]
fn encipher<const N: usize>(key: [u32; 2], [a, b]: &mut [[u32; N]; 2], lanes: usize) {
    let schedule = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    for lane in 0..lanes {
        a[lane] = a[lane].wrapping_add(schedule[0]);
        b[lane] = b[lane].wrapping_add(schedule[1]);
    }
    for round in 0..ROUNDS {
        for lane in 0..lanes {
            a[lane] = a[lane].wrapping_add(b[lane]);
            b[lane] = b[lane].rotate_left(ROTATIONS[round % ROTATIONS.len()]) ^ a[lane];
        }
        if round % 4 == 3 {
            let nth = round / 4 + 1;
            for lane in 0..lanes {
                a[lane] = a[lane].wrapping_add(schedule[nth % 3]);
                b[lane] = b[lane].wrapping_add(schedule[(nth + 1) % 3]).wrapping_add(nth as u32);
            }
        }
    }
}

/// Returns a number in [0, 1) made of the 24 high bits of `word`.
#[inline(always)]
pub fn unit_interval(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// Draws two numbers in [0, 1) for each of `LANES` units from `first`: the numbers of the counter
/// (unit, 0).
pub(crate) struct Draw<'a> {
    pub key: [u32; 2],
    pub first: usize,
    pub to: &'a mut [[f32; MAX_LANES]; 2],
}

impl Kernel for Draw<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let mut blocks = [[0; MAX_LANES]; 2];
        for lane in 0..S::LANES {
            blocks[0][lane] = (self.first as u32).wrapping_add(lane as u32);
        }
        encipher(self.key, &mut blocks, S::LANES);
        for word in 0..2 {
            for lane in 0..S::LANES {
                self.to[word][lane] = unit_interval(blocks[word][lane]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Test vectors that the authors publish with their code.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([!0; 2], [!0; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
    }

    #[test]
    fn vectors_are_the_same_numbers() {
        for isa in Isa::available() {
            let mut drawn = [[-1.0; MAX_LANES]; 2];
            isa.enter(Draw { key: [7, 9], first: 40, to: &mut drawn });
            for lane in 0..isa.lanes() {
                let expected = threefry([7, 9], [40 + lane as u32, 0]).map(unit_interval);
                assert_eq!(drawn.map(|row| row[lane]), expected, "{isa}");
            }
        }
    }
}
